"""What this process has of the machine: CPU cores and memory."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_threads() -> int:
    """CPU cores that this process may use; macOS cannot say and counts all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resident_memory() -> int | None:
    """Bytes of this process that are in memory; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
