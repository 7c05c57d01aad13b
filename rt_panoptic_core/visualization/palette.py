"""Colours of classes, and shades by which instances of one class can be told apart."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.taxonomy import Taxonomy

SHADES = 64
"""Entries of a class in the table: its own colour for instance 0, and 63 shades that repeat."""

# Additive recurrence that spreads consecutive points over the unit cube (the golden ratio's kin in
# three dimensions), so that instances with ids that follow one another look different.
_STEP = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)

_HUE_RANGE = 0.13
"""Width of the shades' hues around the class's own, in turns: they stay in its family."""
_VALUES = (0.5, 1.0)
_SATURATIONS = (0.45, 1.0)


def instance_shade(color: tuple[int, int, int], instance_id: int) -> tuple[int, int, int]:
    """RGB colour of instance ``instance_id`` of a class whose colour is ``color``.

    Instance 0 (no instance) has the class's colour. Every other id has a shade near it in hue that
    differs in hue, saturation and lightness from those of the ids around it; id and id + 63 share
    one.
    """
    place = instance_id if instance_id < SHADES else (instance_id - 1) % (SHADES - 1) + 1
    if place == 0:
        return color
    hue, saturation, _ = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    a, b, c = ((0.5 + place * step) % 1.0 for step in _STEP)
    low, high = _VALUES
    value = low + (high - low) * a
    if saturation > 0.05:
        hue = (hue + _HUE_RANGE * (b - 0.5)) % 1.0
        low, high = _SATURATIONS
        saturation = low + (high - low) * c
    else:
        # A grey class has no hue to vary around; faint tints of all hues keep it greyish.
        hue, saturation = b, 0.1 + 0.25 * c
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


@lru_cache(maxsize=8)
def shade_table(taxonomy: Taxonomy) -> npt.NDArray[np.uint32]:
    """uint32 [256 * 64], the colour of ``class_id * 64 + shade`` as the bytes R, G, B, alpha.

    ``shade`` is 0 for a pixel without an instance and ``(id - 1) % 63 + 1`` for instance ``id``.
    Alpha is 255 for the taxonomy's classes and 0 for all other values, 255 (unlabelled) among them.
    """
    table = np.zeros((256, SHADES, 4), dtype=np.uint8)
    for category in taxonomy:
        shades = [instance_shade(category.color, shade) for shade in range(SHADES)]
        table[category.class_id, :, :3] = shades
        table[category.class_id, :, 3] = 255
    packed = table.reshape(-1, 4).view(np.uint32).reshape(-1)
    packed.flags.writeable = False
    return packed


def text_color(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on ``background`` (RGB; WCAG relative luminance)."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in background)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Contrast with white is 1.05 / (L + 0.05), with black (L + 0.05) / 0.05: equal at L = 0.179.
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
