"""Id maps as the PNGs of COCO panoptic: a pixel's id is ``R + 256 G + 65536 B``.

Decoding is where scoring and training on such files spend their time. The Rust decoder of kornia-rs is
three to nine times as fast as libpng on id maps and is used where it is installed; OpenCV otherwise,
and for palettes and alpha channels.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.files import check_no_stream, write_bytes
from rt_panoptic_core.png_chunks import PNG_SIGNATURE, check_chunks

try:
    from kornia_rs.io import decode_image_png_u8
except ImportError:
    decode_image_png_u8 = None

MAX_ID = 0xFFFFFF
"""The largest id that three bytes hold."""

Ids: TypeAlias = npt.NDArray[np.int32]

_Decoder: TypeAlias = "Callable[[bytes, tuple[int, int], str], npt.NDArray[np.uint8]]"
_fast_decoder: _Decoder | None = decode_image_png_u8

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_HEADER_END = 33
_PNG_COLOR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}
# Colours with three bytes of meaning; in a grey picture the three would be one and the same.
_PNG_ID_COLOR_TYPES = (2, 3, 6)
_PNG_RGB = 2
# Written with each row as its difference from the row above, a PNG is read twice as fast as with OpenCV's
# default, the difference from the left, where every pixel waits for the one before it. It is a tenth smaller,
# too. OpenCV before 4.12 cannot be told.
_PNG_WAY: list[int] = (
    [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    if hasattr(cv2, "IMWRITE_PNG_FILTER")
    else []
)
# Deflate makes 1032 bytes of one at most: a header that promises more is damaged, or meant to harm.
_MOST_INFLATION = 1032


class _Header(NamedTuple):
    """What a PNG's header says."""

    width: int
    height: int
    color_type: int


def ids_to_rgb(ids: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
    """Colours of ids: uint8 [H, W, 3] from integers [H, W] in 0 … 16777215.

    Raises:
        ImageError: an id is out of range.
    """
    return _colours(ids, cv2.COLOR_RGBA2RGB)


def rgb_to_ids(rgb: npt.NDArray[np.uint8]) -> Ids:
    """Ids of colours: int32 [H, W] from uint8 [H, W, 3]; ``R + 256 G + 65536 B``."""
    return _ids(rgb, cv2.COLOR_RGB2RGBA)


def read_ids(path: str | os.PathLike[str]) -> Ids:
    """Ids of a panoptic PNG: int32 [H, W]. The alpha channel of an RGBA file is ignored.

    Raises:
        ImageError: the file is missing, no PNG, cut short, damaged, of 16 bits, or grey; it is named.
    """
    name = os.fspath(path)
    try:
        check_no_stream(name)
        # Thousands of times: Path takes its time, and so does a buffer for what is read in one piece.
        with open(name, "rb", buffering=0) as file:  # noqa: PTH123
            data = file.read()
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such picture") from None
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a zero byte, or letters that no file name has
        raise ImageError(f"{name!r} is no name of a file: {error}") from error
    header = _read_header(data, name)
    if _fast_decoder is None or header.color_type != _PNG_RGB or not data.endswith(_PNG_END):
        check_chunks(data, name)
    return _decode(data, header, name)


def encode_ids(ids: npt.NDArray[np.integer[Any]]) -> bytes:
    """The bytes of a PNG (8-bit RGB) that holds ``ids``, integers [H, W].

    Raises:
        ImageError: an id does not fit a colour.
    """
    done, data = cv2.imencode(".png", _colours(ids, cv2.COLOR_RGBA2BGR), _PNG_WAY)
    if not done:
        raise ImageError(f"ids of shape {list(ids.shape)} cannot be encoded as PNG")
    return bytes(data.tobytes())


def write_ids(path: str | os.PathLike[str], ids: npt.NDArray[np.integer[Any]]) -> None:
    """Write ``ids``, integers [H, W], as a panoptic PNG, atomically.

    Raises:
        ImageError: an id does not fit a colour.
        OSError: the file cannot be written.
    """
    write_bytes(path, encode_ids(ids))


def _colours(ids: npt.NDArray[np.integer[Any]], conversion: int) -> npt.NDArray[np.uint8]:
    """Ids as uint8 [H, W, 3]; ``conversion`` is from RGBA."""
    if not ids.size:
        return np.zeros((*ids.shape, 3), dtype=np.uint8)
    if ids.min() < 0 or ids.max() > MAX_ID:
        raise ImageError(
            f"segment ids {int(ids.min())} to {int(ids.max())} do not fit a colour; "
            f"they must be 0 to {MAX_ID}"
        )
    # The three low bytes of little-endian words are the colour.
    words = np.ascontiguousarray(ids, dtype="<u4").view(np.uint8).reshape(*ids.shape, 4)
    return np.asarray(cv2.cvtColor(words, conversion), dtype=np.uint8)


def _decode(data: bytes, header: _Header, name: str) -> Ids:
    """The ids of a PNG whose header is known to be good."""
    if _fast_decoder is not None and header.color_type == _PNG_RGB:
        try:
            pixels = _fast_decoder(data, (header.height, header.width), "rgb")
        except Exception as error:
            raise ImageError(f"{name}: cannot be decoded; the PNG is damaged: {error}") from error
        conversion = cv2.COLOR_RGB2RGBA
    else:
        try:
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise ImageError(f"{name}: cannot be decoded: {error.err}") from error
        if decoded is None:
            raise ImageError(f"{name}: cannot be decoded; the PNG is damaged")
        pixels, conversion = np.asarray(decoded, dtype=np.uint8), cv2.COLOR_BGR2RGBA
    return _ids(pixels, conversion)


def _ids(pixels: npt.NDArray[np.uint8], conversion: int) -> Ids:
    """Ids of colours uint8 [H, W, 3]; ``conversion`` is to RGBA."""
    # With a fourth byte a pixel is one little-endian word, which is faster than any sum of three; the
    # words are made in place, for fresh memory costs more than the work on it.
    ids = np.empty(pixels.shape[:2], dtype="<i4")
    if not ids.size:
        return ids
    cv2.cvtColor(pixels, conversion, dst=ids.view(np.uint8).reshape(*ids.shape, 4))
    ids &= np.int32(MAX_ID)
    return ids


def _read_header(data: bytes, name: str) -> _Header:
    """What the header says, if it promises ids: 8-bit colours, and no more than so few bytes hold."""
    if not data.startswith(PNG_SIGNATURE):
        raise ImageError(f"{name}: not a PNG; panoptic ids need one, lossless")
    if len(data) < _HEADER_END:
        raise ImageError(f"{name}: the PNG is cut short")
    kind, width, height, bits, color_type = struct.unpack_from(">4sIIBB", data, 12)
    if kind != b"IHDR":
        raise ImageError(f"{name}: the PNG is damaged: it does not begin with its header")
    if bits == 16:
        raise ImageError(
            f"{name}: a PNG of 16 bits; panoptic ids are 8-bit RGB (R + 256 G + 65536 B). "
            "Convert it, for example with rt_panoptic_core.panoptic_format.write_ids"
        )
    if color_type not in _PNG_ID_COLOR_TYPES:
        raise ImageError(
            f"{name}: a {_PNG_COLOR_TYPES.get(color_type, 'strange')} PNG; "
            "panoptic ids are 8-bit RGB (R + 256 G + 65536 B)"
        )
    if height * (3 * width + 1) > _MOST_INFLATION * len(data) and color_type == _PNG_RGB:
        raise ImageError(f"{name}: the PNG cannot hold the {width}x{height} pixels it claims")
    return _Header(width, height, color_type)
