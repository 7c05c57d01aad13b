"""Words that depend on numbers."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 frame``, ``2 frames``; ``plural`` where it is more than an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
