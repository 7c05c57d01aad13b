"""Whether a PNG is whole, by its own checksums."""

from __future__ import annotations

import struct
import zlib

from rt_panoptic_core.errors import ImageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""How a PNG begins."""


def check_chunks(data: bytes | memoryview, name: str) -> None:
    """Accept a PNG that is whole: OpenCV fills in what is missing, or complains on standard error.

    Args:
        data: all of the file, which begins with :data:`PNG_SIGNATURE`.
        name: of the file, for errors.

    Raises:
        ImageError: it is damaged or lacks its end.
    """
    position = len(PNG_SIGNATURE)
    view = memoryview(data)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(view[position + 4 : end]) != checksum:
            raise ImageError(f"{name}: the PNG is damaged (checksum of {kind.decode('latin-1')})")
        if kind == b"IEND":
            return
        position = end + 4
    raise ImageError(f"{name}: the PNG is cut short")
