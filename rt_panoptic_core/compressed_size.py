"""Size of a compressed image from its first bytes, so that a huge one is refused before it is decoded."""

from __future__ import annotations

import struct
from typing import Any

_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))


def compressed_size(data: Any) -> tuple[int, int] | None:
    """(height, width) in pixels that a JPEG or PNG says it has; None where it cannot be told.

    Args:
        data: the file's bytes, any buffer.
    """
    content = memoryview(data).cast("B")
    if bytes(content[:8]) == b"\x89PNG\r\n\x1a\n" and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return height, width
    if bytes(content[:2]) == b"\xff\xd8":
        return _jpeg_size(content)
    return None


def _jpeg_size(content: memoryview) -> tuple[int, int] | None:
    """Walk the markers to the start of frame, which holds the size."""
    position = 2
    while position + 9 <= len(content):
        if content[position] != 0xFF:
            return None
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _ALONE:
            position += 2
        elif marker in _SIZE_MARKERS:
            height, width = struct.unpack(">HH", content[position + 5 : position + 9])
            return height, width
        else:
            (length,) = struct.unpack(">H", content[position + 2 : position + 4])
            position += 2 + length
    return None
