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
    folder: str | os.PathLike[str] | None, size: tuple[int, int]
) -> list[npt.NDArray[np.uint8]]:
    """Images uint8 [1, H, W, 3] RGB of ``folder`` resized to ``size`` (H, W), by name.

    Raises:
        EngineError: no folder is given, it has no image, or one of them cannot be decoded.
    """
    if folder is None:
        raise EngineError(
            "int8 is calibrated on images: name a folder of some 20 to 100 images like those the engine "
            "will see (--calibration FOLDER). 'rt-panoptic export' with it puts the engine into the cache, "
            "for whatever runs it here"
        )
    path = Path(folder)
    if not path.is_dir():
        raise EngineError(f"{path}: no such folder of calibration images")
    files = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
    )
    if not files:
        raise EngineError(f"{path}: it holds no image ({', '.join(IMAGE_SUFFIXES)})")
    if len(files) > CALIBRATION_IMAGES:
        chosen = np.linspace(0, len(files) - 1, CALIBRATION_IMAGES).round().astype(int)
        files = [files[index] for index in chosen]
    return [_read(file, size) for file in files]


def _read(file: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    try:
        image = read_image(file)
    except ImageError as error:
        raise EngineError(f"{error}; remove it from the calibration images") from error
    height, width = size
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)[None]
