"""The image that goes in: what is accepted as one."""

from __future__ import annotations

from typing import Any

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
            f"image: {image.dtype} {list(image.shape)}; it must be uint8 [H, W, 3], RGB{_way_out(image)}"
        )
    return image.shape[0], image.shape[1]


def _way_out(image: npt.NDArray[Any]) -> str:
    """How to make an RGB image of ``image``, with the way there in front; empty where that is not known."""
    channels = image.shape[2] if image.ndim == 3 else 1
    ways = []
    if image.dtype.kind == "f":
        ways.append("(image * 255).astype(np.uint8), if its values are from 0 to 1")
    elif image.dtype == np.uint16:
        ways.append("(image // 257).astype(np.uint8)")
    if image.ndim == 2 or (image.ndim == 3 and channels == 1):
        ways.append("cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)")
    elif image.ndim == 3 and channels == 4:
        ways.append("image[..., :3], if it is RGBA")
    elif image.ndim == 3 and channels != 3 and image.shape[0] == 3:
        ways.append("image.transpose(1, 2, 0)")
    elif image.ndim == 4:
        ways.append("one image at a time: image[0]")
    return f"; {'; '.join(ways)}" if ways else ""
