"""The Fast DDS profile with a shared-memory segment that large images fit in."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Read by Fast DDS 2 and Fast DDS 3."""


def profile_path() -> Path | None:
    """config/fastdds/large_images.xml of the source tree or the installed package; None where it is not."""
    beside = Path(__file__).resolve().parent.parent / "config" / "fastdds" / "large_images.xml"
    if beside.is_file():
        return beside
    try:
        from ament_index_python.packages import get_package_share_directory

        share = Path(get_package_share_directory("rt_panoptic_ros"))
    except (ImportError, LookupError):
        return None
    installed = share / "config" / "fastdds" / "large_images.xml"
    return installed if installed.is_file() else None


def profile_environment() -> dict[str, str]:
    """Environment variables that make Fast DDS use the profile; none where the user chose one."""
    path = profile_path()
    if path is None or any(os.environ.get(name) for name in VARIABLES):
        return {}
    return dict.fromkeys(VARIABLES, str(path))


def use_profile() -> None:
    """Use the profile in this process; to be called before rclpy.init."""
    os.environ.update(profile_environment())
