"""Pictures as cameras write them."""

import struct


def with_orientation(jpeg: bytes, orientation: int, *, order: str = "<") -> bytes:
    """``jpeg`` with an EXIF that says ``orientation`` (1 to 8), in a byte ``order`` of struct."""
    mark = b"II" if order == "<" else b"MM"
    tiff = mark + struct.pack(f"{order}HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
