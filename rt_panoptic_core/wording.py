"""Numbers and values in words and in cells of tables."""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Any

_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 200


def shown(value: Any) -> str:
    """``value`` as Python writes it, cut where it is long: in YAML a few lines can stand for billions."""
    return _REPR.repr(value)


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
