"""The bytes of ROS image messages to RGB arrays and back, the same for the node and for bags.

Works on the plain fields of ``sensor_msgs/Image`` and ``sensor_msgs/CompressedImage``, so it needs
no ROS. Colours follow cv_bridge and the viewers: ``8UC3`` and ``8UC4`` are BGR and BGRA, 16 bits
become 8 by ``round(v / 257)``, Bayer patterns are named by the first two pixels of the first two
rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.compressed_size import JPEG_SIGNATURE, jpeg_components
from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.png_chunks import PNG_SIGNATURE, check_chunks

try:
    from kornia_rs.io import decode_image_jpegturbo
except ImportError:
    decode_image_jpegturbo = None

Buffer: TypeAlias = "bytes | bytearray | memoryview | npt.NDArray[np.uint8]"
"""What holds the data of a message; ``array.array('B')``, rclpy's own, works as well."""

UInt8Array: TypeAlias = npt.NDArray[np.uint8]

COMPRESSED_SIGNATURES = (JPEG_SIGNATURE, PNG_SIGNATURE)
"""How the data begins that :func:`decode_compressed` decodes."""

# Encoding -> (bytes per pixel, cvtColor code to RGB or None where it is RGB already).
_PACKED_8: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "8UC4": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    # OpenCV names a Bayer pattern by the second row's second and third pixel, ROS by the first.
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
    # "yuv422" and "yuv422_yuy2" are the older names of the two after them.
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}

# Encoding -> (channels of 16 bits, the 8-bit encoding it is converted through).
_PACKED_16: dict[str, tuple[int, str]] = {
    "mono16": (1, "mono8"),
    "16UC1": (1, "mono8"),
    "rgb16": (3, "rgb8"),
    "bgr16": (3, "bgr8"),
    "rgba16": (4, "rgba8"),
    "bgra16": (4, "bgra8"),
    "bayer_rggb16": (1, "bayer_rggb8"),
    "bayer_bggr16": (1, "bayer_bggr8"),
    "bayer_gbrg16": (1, "bayer_gbrg8"),
    "bayer_grbg16": (1, "bayer_grbg8"),
}

# A plane of luma, then one of half its height with the two chromas interleaved.
_SEMI_PLANAR: dict[str, int] = {
    "nv12": cv2.COLOR_YUV2RGB_NV12,
    "nv21": cv2.COLOR_YUV2RGB_NV21,
}

_PLANES: dict[str, type[np.generic]] = {
    "mono8": np.uint8,
    "8UC1": np.uint8,
    "8SC1": np.int8,
    "mono16": np.uint16,
    "16UC1": np.uint16,
    "16SC1": np.int16,
    "32SC1": np.int32,
    "32FC1": np.float32,
    "64FC1": np.float64,
}

ENCODINGS: tuple[str, ...] = (*_PACKED_8, *_PACKED_16, *_SEMI_PLANAR)
"""Encodings that :func:`decode_image` takes."""

COMPRESSED_FORMATS: tuple[str, ...] = ("jpeg", "png")
"""Formats that :func:`decode_compressed` takes."""

_ENCODED_PLANES: dict[np.dtype[np.generic], str] = {
    np.dtype(np.uint8): "mono8",
    np.dtype(np.uint16): "mono16",
    np.dtype(np.int32): "32SC1",
    np.dtype(np.float32): "32FC1",
}


def decode_image(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool | int, data: Buffer
) -> UInt8Array:
    """RGB image of a ``sensor_msgs/Image``'s fields: uint8 [height, width, 3].

    For ``rgb8`` this is a view of ``data``: nothing is copied, it is read-only where ``data`` is,
    and its rows are ``step`` bytes apart. Every other encoding gives a new contiguous array.

    Args:
        encoding: one of :data:`ENCODINGS`; spaces around it are ignored.
        height: rows.
        width: columns.
        step: bytes from one row to the next; at least a row's, more where rows are padded.
        is_bigendian: whether 16-bit samples have their high byte first.
        data: at least ``height * step`` bytes (one and a half times that for nv12 and nv21).

    Raises:
        ImageError: unknown encoding, no pixels, ``step`` or ``data`` too small, or odd size where
            pixels share their chroma.
    """
    encoding = encoding.strip()
    _check_size(height, width, encoding)
    if encoding in _PACKED_8:
        bytes_per_pixel, code = _PACKED_8[encoding]
        rows = _rows(encoding, height, width * bytes_per_pixel, step, data)
        if encoding.startswith(("yuv", "uyvy")):
            _check_even(encoding, height, width, width)
        pixels = rows.reshape(height, width, bytes_per_pixel) if bytes_per_pixel > 1 else rows
        return pixels if code is None else _convert(pixels, code, encoding)
    if encoding in _PACKED_16:
        channels, narrow_encoding = _PACKED_16[encoding]
        rows = _rows(encoding, height, width * channels * 2, step, data)
        narrow = _high_bits(_typed(rows, np.dtype(np.uint16), is_bigendian))
        return decode_image(narrow_encoding, height, width, width * channels, False, narrow)
    if encoding in _SEMI_PLANAR:
        _check_even(encoding, height, width, height, width)
        rows = _rows(encoding, height + height // 2, width, step, data)
        return _convert(rows, _SEMI_PLANAR[encoding], encoding)
    raise ImageError(f"encoding {encoding!r} is not supported; one of {', '.join(ENCODINGS)}")


def decode_compressed(image_format: str, data: Buffer, *, oriented: bool = False) -> UInt8Array:
    """RGB image of a ``sensor_msgs/CompressedImage``'s fields: uint8 [H, W, 3], contiguous.

    The content decides, not ``image_format`` (drivers leave it empty, or write ``rgb8; jpeg
    compressed bgr8``): it only helps the error's wording. A rotation in EXIF is not applied unless
    ``oriented``: a camera's pixels would no longer fit camera_info, while a photo should stand upright.

    Raises:
        ImageError: empty, neither JPEG nor PNG, cut off, or damaged.
    """
    content = np.frombuffer(data, dtype=np.uint8)
    if not content.size:
        raise ImageError(f"compressed image of format {image_format!r} is empty: it has no data")
    head = content[:8].tobytes()
    if not head.startswith(COMPRESSED_SIGNATURES):
        raise ImageError(
            f"compressed image of format {image_format!r} is neither jpeg nor png "
            f"(it starts with {head.hex(' ')}); publish one of the two"
        )
    if head.startswith(JPEG_SIGNATURE):
        kind = "jpeg"
        if (upright := _strict_jpeg(content.tobytes(), oriented=oriented)) is not None:
            return upright
    else:
        kind = "png"
        check_chunks(content.data, "compressed image")
    flags = cv2.IMREAD_COLOR if oriented else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(content, flags)
    except cv2.error as error:
        raise ImageError(f"compressed image: the {kind} cannot be decoded: {error.err}") from error
    if pixels is None:
        raise ImageError(
            f"compressed image: the {kind} of {content.size} bytes is damaged and cannot be decoded"
        )
    return _convert(np.asarray(pixels, dtype=np.uint8), cv2.COLOR_BGR2RGB, kind)


# The decoder behind OpenCV paints what is missing in grey, writes a line to standard error and calls it a
# success; a robot must not. This one, the same but strict, refuses it.
_jpeg_decoder: Callable[[bytes, str], UInt8Array] | None = decode_image_jpegturbo

_CMYK = 4
# Cameras write their EXIF first, in a segment of 64 KB at most.
_EXIF_WITHIN = 1 << 17


def _strict_jpeg(data: bytes, *, oriented: bool) -> UInt8Array | None:
    """RGB of a JPEG in which nothing is missing; None where only OpenCV can decode it, or turn it.

    Raises:
        ImageError: it is cut off or damaged.
    """
    end = data.rfind(b"\xff\xd9")
    if end < 0:
        raise ImageError(f"compressed image: the jpeg of {len(data)} bytes is cut off")
    if _jpeg_decoder is None or jpeg_components(data) == _CMYK:
        return None
    try:
        pixels = _jpeg_decoder(data, "rgb")
    except Exception as error:  # of no kind of its own
        # Some cameras fill the data up in front of its end.
        filled = data[:end].rstrip(b"\0") + data[end:]
        if len(filled) < len(data):
            return _strict_jpeg(filled, oriented=oriented)
        raise ImageError(
            f"compressed image: the jpeg of {len(data)} bytes is damaged: some of it cannot be decoded"
        ) from error
    return None if oriented and b"Exif" in data[:_EXIF_WITHIN] else pixels


def decode_plane(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool | int, data: Buffer
) -> npt.NDArray[np.generic]:
    """Values of a one-channel image as they are: labels, ids, depth; [height, width].

    The dtype is the encoding's (mono8 and 8UC1 uint8, mono16 and 16UC1 uint16, 16SC1 int16, 32SC1
    int32, 32FC1 float32, 64FC1 float64). A view of ``data`` where the byte order allows.

    Raises:
        ImageError: not a one-channel encoding, no pixels, ``step`` or ``data`` too small.
    """
    encoding = encoding.strip()
    _check_size(height, width, encoding)
    if encoding not in _PLANES:
        raise ImageError(
            f"encoding {encoding!r} does not hold one value a pixel; one of {', '.join(_PLANES)}"
        )
    dtype = np.dtype(_PLANES[encoding])
    return _typed(_rows(encoding, height, width * dtype.itemsize, step, data), dtype, is_bigendian)


def decode_depth(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool | int, data: Buffer
) -> npt.NDArray[np.float32]:
    """Depth in metres along the optical axis: float32 [height, width] (REP 118).

    16UC1 (and mono16) holds millimetres with 0 for no measurement, which becomes NaN; 32FC1 holds
    metres, which stay as they are.

    Raises:
        ImageError: another encoding, no pixels, ``step`` or ``data`` too small.
    """
    if encoding.strip() not in ("16UC1", "mono16", "32FC1"):
        raise ImageError(f"depth of encoding {encoding!r} is not supported; one of 16UC1, 32FC1")
    plane = decode_plane(encoding, height, width, step, is_bigendian, data)
    if plane.dtype == np.float32:
        return plane.astype(np.float32, copy=False)
    metres = plane.astype(np.float32) * np.float32(0.001)
    metres[plane == 0] = np.nan
    return metres


def encode_array(array: npt.NDArray[np.generic]) -> tuple[str, int, memoryview]:
    """``encoding``, ``step`` and bytes of a ``sensor_msgs/Image`` that holds ``array``.

    uint8 [H, W, 3] is rgb8, [H, W] uint8 mono8, uint16 mono16, int32 32SC1, float32 32FC1. In the
    machine's byte order (:data:`IS_BIGENDIAN`); no copy of a contiguous array.

    Raises:
        ImageError: another shape or dtype, or no pixels.
    """
    if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8:
        encoding = "rgb8"
    elif array.ndim == 2 and array.dtype in _ENCODED_PLANES:
        encoding = _ENCODED_PLANES[array.dtype]
    else:
        raise ImageError(
            f"array of shape {list(array.shape)} and dtype {array.dtype} has no image encoding; "
            "uint8 [H, W, 3], or [H, W] of uint8, uint16, int32 or float32"
        )
    _check_size(array.shape[0], array.shape[1], encoding)
    contiguous = np.ascontiguousarray(array)
    return encoding, contiguous.strides[0], contiguous.data.cast("B")


def encode_compressed(
    image: UInt8Array, image_format: str = "jpeg", *, quality: int = 90
) -> tuple[str, bytes]:
    """``format`` and bytes of a ``sensor_msgs/CompressedImage`` that holds ``image``.

    The format is worded as image_transport does: ``rgb8; jpeg compressed bgr8``.

    Args:
        image: uint8 [H, W, 3] RGB, or [H, W] uint8 or (png only) uint16.
        image_format: ``jpeg`` or ``png``.
        quality: of a jpeg, 1 to 100.

    Raises:
        ImageError: another format, shape or dtype.
    """
    if image_format not in COMPRESSED_FORMATS:
        raise ImageError(f"compressed format {image_format!r}; one of jpeg, png")
    encoding, _, _ = encode_array(image)
    if encoding not in ("rgb8", "mono8") and (encoding, image_format) != ("mono16", "png"):
        raise ImageError(
            f"an image of encoding {encoding!r} cannot be compressed to {image_format}"
        )
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if encoding == "rgb8" else image
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality] if image_format == "jpeg" else []
    done, content = cv2.imencode(f".{image_format}", pixels, parameters)
    if not done:
        raise ImageError(f"the image of shape {list(image.shape)} could not be compressed")
    stored = "bgr8" if encoding == "rgb8" else encoding
    return f"{encoding}; {image_format} compressed {stored}", content.tobytes()


IS_BIGENDIAN: bool = sys.byteorder == "big"
"""``is_bigendian`` of the images that :func:`encode_array` encodes."""


def _check_size(height: int, width: int, encoding: str) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"{encoding} image of {width}x{height} pixels has none".lstrip())


def _check_even(encoding: str, height: int, width: int, *sides: int) -> None:
    """Accept the image if all ``sides``, those along which pixels share their chroma, are even."""
    if any(side % 2 for side in sides):
        what = "size" if len(sides) == 2 else "width"
        raise ImageError(
            f"{encoding} image of {width}x{height}: its pixels share their chroma, so it must "
            f"be of even {what}"
        )


def _rows(encoding: str, height: int, row_bytes: int, step: int, data: Buffer) -> UInt8Array:
    """The image's bytes without the rows' padding: a uint8 view [height, row_bytes] of ``data``."""
    if step < row_bytes:
        raise ImageError(f"step {step} is less than the {row_bytes} bytes of a row of {encoding}")
    content = np.frombuffer(data, dtype=np.uint8)
    if content.size < height * step:
        raise ImageError(
            f"{encoding}: {content.size} bytes of data are less than {height} rows x step {step} = "
            f"{height * step}"
        )
    return content[: height * step].reshape(height, step)[:, :row_bytes]


def _typed(
    rows: UInt8Array, dtype: np.dtype[np.generic], is_bigendian: bool | int
) -> npt.NDArray[np.generic]:
    """``rows`` as samples of ``dtype``, in the machine's byte order."""
    samples = rows if dtype.itemsize == 1 else rows.view(dtype)
    swap = dtype.itemsize > 1 and bool(is_bigendian) != IS_BIGENDIAN
    return samples.byteswap() if swap else samples


def _high_bits(samples: npt.NDArray[np.generic]) -> UInt8Array:
    """uint16 to uint8 by ``round(v / 257)``: 0 to 0, 65535 to 255."""
    return np.asarray(cv2.convertScaleAbs(samples.view(np.uint16), alpha=1 / 257), dtype=np.uint8)


def _convert(pixels: UInt8Array, code: int, encoding: str) -> UInt8Array:
    try:
        return np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)
    except cv2.error as error:
        height, width = pixels.shape[:2]
        raise ImageError(
            f"{encoding} image of {width}x{height} cannot be converted: {error.err}"
        ) from error
