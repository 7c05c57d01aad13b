"""A legend: the classes of a result with their colours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.inference.result import PanopticResult, label_areas
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.visualization.text import Label, text_scale

_BACKGROUND = (24, 24, 24)
_ABSENT_TEXT = (120, 120, 120)

_ALL_SHOWN = 24
"""Taxonomies of up to so many classes have a place for each of them, whether it occurs or not: in a video
a legend that follows what is in view would jump about."""


class LegendEntry(NamedTuple):
    """A class of the legend, its text, and whether it occurs (otherwise it is dimmed)."""

    class_id: int
    text: str
    present: bool = True


def legend_entries(result: PanopticResult, taxonomy: Taxonomy) -> list[LegendEntry]:
    """The legend of ``result``, by class id: all classes, or of a large taxonomy those that occur.

    A thing's name follows the number of its instances where there are any: ``'3 car'``, ``'road'``.
    """
    areas = label_areas(result.semantic)
    counts = np.zeros(256, dtype=np.int64)
    for segment in result.instances:
        counts[segment.class_id] += 1
    return [
        LegendEntry(
            category.class_id,
            f"{counts[category.class_id]} {category.name}"
            if counts[category.class_id]
            else category.name,
            bool(areas[category.class_id]),
        )
        for category in taxonomy
        if areas[category.class_id] or len(taxonomy) <= _ALL_SHOWN
    ]


def draw_legend(
    entries: Sequence[LegendEntry],
    taxonomy: Taxonomy,
    width: int,
    *,
    scale: float | None = None,
    max_height: int | None = None,
) -> npt.NDArray[np.uint8]:
    """A strip, uint8 [h, width, 3] RGB, of ``entries`` beside their colours.

    Args:
        entries: in the order in which they stand, row by row.
        taxonomy: gives the colours, and the width of the columns.
        width: pixels; as many columns as fit.
        scale: font scale; by ``width`` when None.
        max_height: entries that would need more are left out, and a last one says how many.
    """
    if scale is None:
        scale = text_scale(width * 9 // 16)
    if not entries:
        return np.zeros((0, width, 3), dtype=np.uint8)
    longest, height = _label_size(taxonomy, scale)
    row_height = height + 2
    cell = min(width, longest + height + 4)
    columns = max(1, width // cell)
    cell = width // columns
    rows = -(-len(entries) // columns)
    shown = len(entries)
    if max_height is not None and rows * row_height > max_height:
        rows = max(0, max_height // row_height)
        shown = max(0, rows * columns - 1)
    strip = np.full((rows * row_height, width, 3), _BACKGROUND, dtype=np.uint8)
    for place in range(min(rows * columns, len(entries))):
        x, y = place % columns * cell, place // columns * row_height
        if place >= shown:
            Label(f"+ {len(entries) - shown} more", _BACKGROUND, scale).draw(strip, x, y)
            break
        class_id, text, present = entries[place]
        red, green, blue = taxonomy[class_id].color
        if not present:
            red, green, blue = (c // 3 + 16 for c in (red, green, blue))
        cv2.rectangle(
            strip, (x + 3, y + 3), (x + height - 2, y + height - 2), (red, green, blue), cv2.FILLED
        )
        label = Label(text, _BACKGROUND, scale, None if present else _ABSENT_TEXT)
        label.draw(strip, x + height, y)
    return strip


@lru_cache(maxsize=16)
def _label_size(taxonomy: Taxonomy, scale: float) -> tuple[int, int]:
    """Width of the widest label that ``taxonomy`` may need, with two digits for things, and height."""
    labels = [Label(f"00 {c.name}" if c.is_thing else c.name, _BACKGROUND, scale) for c in taxonomy]
    return max(label.width for label in labels), max(label.height for label in labels)
