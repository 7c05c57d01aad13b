"""What can go wrong in a set-up: each found as early as possible and told in one line with the way out."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import sysconfig
from pathlib import Path

GIGABYTE = 10**9
# Installed size on disk with what pip unpacks on the way, measured and rounded up.
NEEDED_CPU, NEEDED_CUDA = 4 * GIGABYTE, 12 * GIGABYTE


class SetUpError(Exception):
    """One line for the person at the terminal."""


def check_path(root: Path) -> None:
    """Refuse folders that shells, CMake or PATH-like variables take apart."""
    bad = re.search(r"[\s:;,$'\"`\\&|<>()*?\[\]#]", str(root))
    if bad:
        kind = "a space" if bad.group().isspace() else f"the character {bad.group()!r}"
        raise SetUpError(
            f"the path '{root}' has {kind} in it, which CMake and search paths cannot hold: "
            "move the clone to a path without"
        )
    try:
        str(root).encode()
    except UnicodeEncodeError:
        raise SetUpError(
            f"the path '{root}' is no UTF-8, or the locale is not: move the clone to a path of plain "
            "letters, or set a UTF-8 locale (export LC_ALL=C.UTF-8)"
        ) from None


def check_distribution(ros_distribution: str | None) -> None:
    """Refuse what is no name of a ROS distribution: a folder is called after it."""
    if ros_distribution is not None and not re.fullmatch(r"[A-Za-z0-9_]+", ros_distribution):
        raise SetUpError(
            f"ROS_DISTRO is '{ros_distribution}', which is no name of a ROS 2 distribution: source the "
            "setup.bash of one, or unset ROS_DISTRO to use ROS 2 from wheels"
        )


def check_sourced(ros_distribution: str | None) -> None:
    """Refuse a ROS distribution that is named, as some containers do, but not sourced."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    index = "share/ament_index/resource_index/packages/rclpy"
    if ros_distribution is None or any(Path(p, index).exists() for p in prefixes if p):
        return
    setup = Path("/opt/ros", ros_distribution, "setup.bash")
    way = f"source {setup}" if setup.exists() else "install it and source its setup.bash"
    raise SetUpError(
        f"ROS_DISTRO is '{ros_distribution}', but this ROS 2 is not there: no folder on "
        f"AMENT_PREFIX_PATH has its rclpy: {way}, or unset ROS_DISTRO to use ROS 2 from wheels"
    )


def check_platform(ros_distribution: str | None) -> None:
    if sys.platform != "linux":
        raise SetUpError(
            f"runs on Linux, this is {platform.system()}: use a Linux machine or container"
        )
    if ros_distribution is None and platform.machine() != "x86_64":
        raise SetUpError(
            f"ROS 2 comes as wheels for x86_64 only, this machine is {platform.machine()}: install "
            "ROS 2, source its setup.bash and try again"
        )


def missing_parts() -> list[tuple[str, str]]:
    """What has to come from the system and is not there: in words, and Debian's package of it."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    parts = []
    compiler = os.environ.get("CXX", "").strip()
    if compiler and not shutil.which(compiler.split()[0]):
        raise SetUpError(f"CXX names '{compiler}', which is not there: correct or unset CXX")
    if not compiler and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        parts.append(("a C++ compiler", "g++"))
    # Distributions split these two off from Python.
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        parts.append((f"the headers of {sys.executable}", f"{python}-dev"))
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        parts.append((f"the module venv of {sys.executable}", f"{python}-venv"))
    return parts


def check_parts() -> None:
    """Refuse in one line with all that is missing, so that one installation brings it."""
    parts = missing_parts()
    if parts:
        words, packages = zip(*parts, strict=True)
        raise SetUpError(
            f"missing on this machine: {', '.join(words)}: install it "
            f"(Debian, Ubuntu: sudo apt install {' '.join(packages)})"
        )


def check_disk(folder: Path, needed: int) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SetUpError(
            f"{free / GIGABYTE:.1f} GB are free under {folder}, the environment takes about "
            f"{needed / GIGABYTE:.0f} GB: make room, or clone to a larger disk"
        )
    if not os.access(folder, os.W_OK):
        raise SetUpError(f"{folder} cannot be written: clone to a folder of your own")


_NO_NETWORK = (
    r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|ProxyError"
    r"|Network is unreachable|Connection refused|ConnectTimeoutError|Read timed out|SSLError"
    r"|Connection reset|ConnectionError|IncompleteRead"
)
# Found in the output of pip or colcon -> what is wrong and the way out. The first match counts.
_EXPLANATIONS = [
    (r"No space left on device", "the disk is full: make room and run it again"),
    (r"Disk quota exceeded", "your disk quota is used up: make room and run it again"),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "the package index shows a certificate that is not trusted here, as some proxies do: give "
        "pip the one to trust (PIP_CERT=/path/of/ca.crt) and run it again",
    ),
    (
        _NO_NETWORK,
        "the package index cannot be reached: check network and proxy (pip's own settings apply) "
        "and run it again; what is there already is kept",
    ),
    (
        r"ReadTimeoutError",
        "the package index is too slow: run it again, or set PIP_DEFAULT_TIMEOUT",
    ),
    (
        r"No matching distribution found for (?P<what>\S+)",
        "the package index has no {what} for this Python: try another (PANOPTIC_PYTHON=python3.12)",
    ),
    (
        r"fatal error: Python\.h",
        "Python's headers are missing: install them (Debian, Ubuntu: sudo apt install python3-dev)",
    ),
    (
        r"CMAKE_CXX_COMPILER|is not able to compile a simple test program",
        "the C++ compiler does not work: install a complete one (Debian, Ubuntu: "
        "sudo apt install g++)",
    ),
    (
        r"(?:Killed|ENOMEM|Cannot allocate memory)",
        "memory ran out: close other programs and run it again",
    ),
]


def explain(output: str) -> str | None:
    """One line about a failed pip or colcon run, from its output; None if nothing known is in it."""
    for pattern, words in _EXPLANATIONS:
        match = re.search(pattern, output)
        if match:
            return words.format(**match.groupdict())
    return None
