"""A folder of images in one size: what int8 is calibrated on, and what a benchmark shows its engines."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import EngineError, ImageError
from rt_panoptic_core.image_files import IMAGE_SUFFIXES, read_image

CALIBRATION_IMAGES = 64
"""At most so many images of the folder are used, spread evenly over it."""


def calibration_images(
    folder: str | os.PathLike[str], size: tuple[int, int]
) -> list[npt.NDArray[np.uint8]]:
    """Images uint8 [1, H, W, 3] RGB of ``folder`` resized to ``size`` (H, W), by name.

    Raises:
        EngineError: there is no such folder, it has no image, or one of them cannot be decoded.
    """
    path = check_image_folder(folder)
    files = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
    )
    if not files:
        raise EngineError(f"{path}: it holds no image ({', '.join(IMAGE_SUFFIXES)})")
    if len(files) > CALIBRATION_IMAGES:
        chosen = np.linspace(0, len(files) - 1, CALIBRATION_IMAGES).round().astype(int)
        files = [files[index] for index in chosen]
    return [_read(file, size) for file in files]


def check_image_folder(folder: str | os.PathLike[str]) -> Path:
    """``folder`` if there is such a folder, whatever is in it.

    Raises:
        EngineError: there is none.
    """
    path = Path(folder)
    if not path.is_dir():
        what = "it is no folder" if path.exists() else "there is no such folder"
        raise EngineError(f"{path}: {what}; name a folder of images")
    return path


def _read(file: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    try:
        image = read_image(file)
    except ImageError as error:
        raise EngineError(f"{error}; remove it from the folder") from error
    height, width = size
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)[None]
