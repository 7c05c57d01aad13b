"""Image messages to RGB arrays. The bytes are :mod:`rt_panoptic_core.image_codec`'s business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.compressed_size import compressed_size
from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.image_codec import ENCODINGS, decode_compressed, decode_depth, decode_image

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage, Image

NO_LIMIT = float("inf")


def to_rgb(
    message: Image | CompressedImage, *, max_megapixels: float = NO_LIMIT
) -> npt.NDArray[np.uint8]:
    """The picture of ``message``: uint8 [H, W, 3] RGB, contiguous.

    An ``rgb8`` image without padding is a view of the message's data; everything else is new. An encoding
    that the package does not know is left to cv_bridge where that is installed.

    Raises:
        ImageError: unknown encoding, no pixels, too many, or data that do not fit; the reason is named.
    """
    if not hasattr(message, "encoding"):
        size = compressed_size(message.data)
        if size is not None:
            check_megapixels(*size, max_megapixels)
        return decode_compressed(message.format, message.data)
    check_megapixels(message.height, message.width, max_megapixels)
    if message.encoding.strip() not in ENCODINGS:
        bridged = _through_cv_bridge(message)
        if bridged is not None:
            return bridged
    pixels = decode_image(
        message.encoding,
        message.height,
        message.width,
        message.step,
        message.is_bigendian,
        message.data,
    )
    return np.ascontiguousarray(pixels)


def to_depth(message: Image) -> npt.NDArray[np.float32]:
    """Depth in metres along the optical axis, float32 [H, W]; NaN (or ≤ 0, ±inf) where there is none.

    Raises:
        ImageError: neither 16UC1 (millimetres) nor 32FC1 (metres), or data that do not fit.
    """
    return decode_depth(
        message.encoding,
        message.height,
        message.width,
        message.step,
        message.is_bigendian,
        message.data,
    )


def check_megapixels(height: int, width: int, limit: float) -> None:
    """Accept an image size of at most ``limit`` million pixels.

    Raises:
        ImageError: there are more.
    """
    if height * width > limit * 1e6:
        raise ImageError(
            f"image of {width}x{height} has {height * width / 1e6:.1f} megapixels; the limit is "
            f"{limit:g} (parameter input.max_megapixels)"
        )


def _through_cv_bridge(message: Any) -> npt.NDArray[np.uint8] | None:
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except Exception:  # noqa: BLE001 - a cv_bridge built for another NumPy fails in many ways
        return None
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, "rgb8"), dtype=np.uint8)
    except (CvBridgeError, TypeError, ValueError, KeyError, RuntimeError):
        return None
