"""What two evaluations were made with, where it is not the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DIGEST = 16


def differing_entries(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    """Both sides' values, as text, of every entry that is not the same; a dash where a side has none."""
    return {
        key: (_shown(key, before.get(key)), _shown(key, after.get(key)))
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    }


def difference_lines(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Two lines, one a side, for every entry that is not the same: values below each other."""
    entries = differing_entries(before, after)
    width = max((len(key) for key in entries), default=0)
    lines = []
    for key, (first, second) in entries.items():
        lines.append(f"{key.replace('_', ' '):<{width}}  A  {first}")
        lines.append(f"{'':<{width}}  B  {second}")
    return lines


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "–"
    # Of a digest the beginning is enough to tell models apart.
    return str(value)[:_DIGEST] if key.endswith("sha256") else str(value)
