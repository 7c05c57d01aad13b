"""Boundary regions of segments.

The boundary region of a segment is all its pixels within ``distance`` of a pixel outside it, in
Chebyshev distance, the picture's edge being outside.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.evaluation.overlaps import Overlaps, overlaps
from rt_panoptic_core.panoptic_format import VOID

BOUNDARY_RATIO = 0.02
"""Boundary width as a share of the image's diagonal: COCO's and the public script's default."""

CITYSCAPES_BOUNDARY_RATIO = 0.005
"""The same for Cityscapes, whose pictures are large and whose outlines are fine."""

INTERIOR = (1 << 31) - 1
"""Stands in a boundary map where a segment's pixel is not of its boundary region."""


def boundary_width(height: int, width: int, ratio: float) -> int:
    """Width of the boundary region in pixels, at least 1."""
    return max(1, round(ratio * math.hypot(height, width)))


def boundary_overlaps(
    truth_ids: npt.NDArray[np.integer[Any]],
    predicted_ids: npt.NDArray[np.integer[Any]],
    ratio: float = BOUNDARY_RATIO,
) -> Overlaps:
    """Joint histogram of two boundary maps.

    A boundary map holds a segment's id in its boundary region, :data:`INTERIOR` in the rest of it, and
    0 on void.
    """
    height, width = truth_ids.shape
    distance = boundary_width(height, width, ratio)
    return overlaps(_boundary_map(truth_ids, distance), _boundary_map(predicted_ids, distance))


def boundary_region(ids: npt.NDArray[np.integer[Any]], distance: int) -> npt.NDArray[np.bool_]:
    """Whether a pixel is of its segment's boundary region: bool [H, W].

    The same as ``distance`` erosions of every segment's mask by 3x3 and the difference to the mask, but
    for all segments at once: a pixel is in the region when anywhere in the square of ``2 distance + 1``
    around it two neighbours differ.

    Args:
        ids: integers [H, W].
        distance: pixels, at least 1.
    """
    height, width = ids.shape
    # left[y, x]: pixels x - 1 and x differ, the outside differing from everything; above likewise.
    left = np.ones((height, width + 1), dtype=np.uint8)
    np.not_equal(ids[:, 1:], ids[:, :-1], out=left[:, 1:-1].view(bool))
    above = np.ones((height + 1, width), dtype=np.uint8)
    np.not_equal(ids[1:], ids[:-1], out=above[1:-1].view(bool))
    long, short = 2 * distance + 1, 2 * distance
    across = _maximum(left, (long, short), (distance - 1, distance))
    down = _maximum(above, (short, long), (distance, distance - 1))
    region: npt.NDArray[np.bool_] = np.bitwise_or(across[:, :width], down[:height]).view(np.bool_)
    return region


def _maximum(
    marks: npt.NDArray[np.uint8], window: tuple[int, int], anchor: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    # Given out loud: by default OpenCV's rim is the smallest value of the type, which is 0 as well.
    rim = cv2.BORDER_CONSTANT
    kernel = np.ones(window, dtype=np.uint8)
    grown = cv2.dilate(marks, kernel, anchor=anchor, borderType=rim, borderValue=0)
    return np.asarray(grown, dtype=np.uint8)


def _boundary_map(ids: npt.NDArray[np.integer[Any]], distance: int) -> npt.NDArray[np.integer[Any]]:
    marked = ids.astype(np.int64)
    marked[~boundary_region(ids, distance) & (ids != VOID)] = INTERIOR
    return marked
