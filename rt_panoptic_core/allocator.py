"""The C library's allocator, told that image-sized buffers come and go with every frame."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024
_KEPT = 512 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Whether freed memory now stays with the process for the next frame's buffers.

    By default glibc gives blocks of megabytes back to the kernel when they are freed, and the kernel
    hands out zeroed pages again for the next frame, one fault for each 4 KiB. Measured in the node at
    1920x1080 between two processes on a virtual machine: 10 ms for a message, and 3.7 ms with this.
    False where the library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, _KEPT)
    )
