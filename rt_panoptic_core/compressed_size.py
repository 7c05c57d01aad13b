"""What a compressed image says of itself, without decoding it: a huge one is refused before."""

from __future__ import annotations

import struct
from typing import Any

from rt_panoptic_core.png_chunks import PNG_SIGNATURE

JPEG_SIGNATURE = b"\xff\xd8"
"""How a JPEG begins."""

_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))


def compressed_size(data: Any) -> tuple[int, int] | None:
    """(height, width) in pixels that a JPEG or PNG says it has; None where it cannot be told.

    Args:
        data: the file's bytes, any buffer.
    """
    content = memoryview(data).cast("B")
    if bytes(content[:8]) == PNG_SIGNATURE and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return height, width
    frame = _jpeg_frame(content)
    return None if frame is None else frame[:2]


def jpeg_components(data: Any) -> int | None:
    """Number of a JPEG's components: 1 grey, 3 colour, 4 CMYK; None where it cannot be told.

    Args:
        data: the file's bytes, any buffer.
    """
    frame = _jpeg_frame(memoryview(data).cast("B"))
    return None if frame is None else frame[2]


def _jpeg_frame(content: memoryview) -> tuple[int, int, int] | None:
    """(height, width, components): walk a JPEG's markers to the start of frame, which holds them."""
    if bytes(content[:2]) != JPEG_SIGNATURE:
        return None
    position = 2
    while position + 10 <= len(content):
        if content[position] != 0xFF:
            return None
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _ALONE:
            position += 2
        elif marker in _SIZE_MARKERS:
            height, width, components = struct.unpack(">HHB", content[position + 5 : position + 10])
            return height, width, components
        else:
            (length,) = struct.unpack(">H", content[position + 2 : position + 4])
            position += 2 + length
    return None
