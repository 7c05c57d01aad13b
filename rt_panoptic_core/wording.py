"""Numbers in words and in cells of tables."""

from __future__ import annotations

import math
from pathlib import Path


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 frame``, ``2 frames``; ``plural`` where it is more than an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def percent(share: float | None, unknown: str = "–") -> str:
    """``share`` in percent with one decimal; ``unknown`` for None and nan, where nothing was measured."""
    return unknown if share is None or math.isnan(share) else f"{100 * share:.1f}"


def megabytes(path: Path) -> str:
    """Size of the file at ``path``: ``5.9 MB``, of a million bytes each."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


def not_installed(purpose: str, module: str, extra: str) -> str:
    """What to do where ``purpose`` needs a missing ``module``, which the package's ``extra`` brings."""
    return (
        f"{purpose} needs the module {module}, which is not installed: pip install {module}, or "
        f"pip install -r requirements/{extra}.txt; it is in the extra [{extra}] of rt-panoptic"
    )
