"""The image that goes in: what is accepted as one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import ImageError

MAX_PIXELS = 64 * 1024 * 1024
"""Largest image that a graph is built for."""


def check_rgb(image: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """(H, W) of ``image`` if it is uint8 [H, W, 3], whatever its size.

    Raises:
        ImageError: it is not; what it is and what it must be are named.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"image: {type(image).__name__}; it must be a uint8 array [H, W, 3], RGB")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(
            f"image: {image.dtype} {list(image.shape)}; it must be uint8 [H, W, 3], RGB"
        )
    return image.shape[0], image.shape[1]
