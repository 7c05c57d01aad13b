"""camera_info from intrinsics, or from the YAML file that ROS's camera calibration writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from sensor_msgs.msg import CameraInfo

from rt_panoptic_core.camera_intrinsics import CameraIntrinsics
from rt_panoptic_core.errors import ConfigError


def from_intrinsics(camera: CameraIntrinsics) -> CameraInfo:
    """camera_info of a pinhole camera without distortion."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    return CameraInfo(
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def from_yaml(path: str | os.PathLike[str]) -> CameraInfo:
    """camera_info of a calibration file: image_width, image_height, camera_matrix and so on.

    Raises:
        ConfigError: the file cannot be read, or a key is missing or of another length; it is named.
    """
    try:
        data: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"calibration {os.fspath(path)}: not a readable YAML file: {error}"
        ) from error
    try:
        return CameraInfo(
            height=int(data["image_height"]),
            width=int(data["image_width"]),
            distortion_model=str(data["distortion_model"]),
            d=[float(v) for v in data["distortion_coefficients"]["data"]],
            k=[float(v) for v in data["camera_matrix"]["data"]],
            r=[float(v) for v in data["rectification_matrix"]["data"]],
            p=[float(v) for v in data["projection_matrix"]["data"]],
        )
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"calibration {os.fspath(path)}: {type(error).__name__}: {error}; it must be as "
            "camera_calibration writes it (image_width, camera_matrix: {data: [9 numbers]}, …)"
        ) from error
