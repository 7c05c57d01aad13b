"""Pixels from the outlines of COCO's instance annotations: polygons and run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import DatasetError

Mask: TypeAlias = npt.NDArray[np.bool_]
_Value = TypeVar("_Value", bound=np.generic)

_FARTHEST = 1e8
"""No corner of an outline may lie farther out: no picture reaches there, and no sum of such overflows."""


class Region(NamedTuple):
    """Some pixels of a picture: ``mask`` bool [h, w], its corner at (``top``, ``left``) of the picture."""

    top: int
    left: int
    mask: Mask

    def of(self, picture: npt.NDArray[_Value]) -> npt.NDArray[_Value]:
        """The part of ``picture`` [H, W] that ``mask`` lies on: a view, to be painted with it."""
        height, width = self.mask.shape
        return picture[self.top : self.top + height, self.left : self.left + width]


def outlined_region(segmentation: Any, size: tuple[int, int]) -> Region:
    """The pixels of a ``segmentation``; the mask is as large as it must be, for most objects are small.

    Args:
        segmentation: polygons ``[[x1, y1, x2, y2, …], …]`` in pixels, of which all parts belong to it, or
            run lengths ``{"size": [H, W], "counts": …}`` down the columns, off and on by turns; ``counts``
            is a list of numbers, or the text that COCO's tools shorten them to.
        size: (H, W) of the picture.

    Raises:
        DatasetError: it is neither, or its numbers make no sense.
    """
    if isinstance(segmentation, dict):
        return Region(0, 0, _from_runs(segmentation, size))
    if not isinstance(segmentation, list) or not segmentation:
        raise DatasetError(
            "it has no outline ('segmentation': polygons or run lengths); draw it, take the annotation out, "
            "or write its box as a polygon of four corners and train with losses.supervision=boxes and "
            "losses.mask=0 (docs/training.md, Outlines)"
        )
    polygons = [_corners(polygon) for polygon in segmentation]
    limit = np.array((size[1], size[0]), dtype=np.float64)
    low = np.floor(np.clip(np.min([p.min(axis=0) for p in polygons], axis=0), 0, limit))
    high = np.ceil(np.clip(np.max([p.max(axis=0) for p in polygons], axis=0), 0, limit))
    width, height = (int(length) for length in high - low)
    mask = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        mask |= polygon_mask(polygon - low, (height, width))
    return Region(int(low[1]), int(low[0]), mask)


def lies_outside(segmentation: Any, size: tuple[int, int]) -> bool:
    """Whether ``segmentation`` is of polygons that all lie beyond one side of a picture: none is seen.

    Args:
        segmentation: as for :func:`outlined_region`; False for what that refuses.
        size: (H, W) of the picture.
    """
    if not isinstance(segmentation, list) or not segmentation:
        return False
    height, width = size
    for polygon in segmentation:
        try:
            # Nearly always the first corner is inside, and a data set has a million outlines.
            if 0 < polygon[0] < width and 0 < polygon[1] < height:
                return False
            x, y = _corners(polygon).T
        except (DatasetError, TypeError, LookupError):
            return False
        if x.min() < width and x.max() > 0 and y.min() < height and y.max() > 0:
            return False
    return True


def polygon_mask(corners: npt.NDArray[np.float64], size: tuple[int, int]) -> Mask:
    """Pixels whose centres lie inside of a closed polygon by the even-odd rule, bool [H, W].

    OpenCV's filling takes the pixels on the boundary too: half a pixel more on every side.

    Args:
        corners: float64 [N, 2], x and y in pixels; the centre of pixel (0, 0) is (0.5, 0.5).
        size: (H, W); what lies outside is cut off.
    """
    height, width = size
    turns = np.zeros((height, width + 1), dtype=bool)
    ends = np.roll(corners, -1, axis=0)
    upwards = corners[:, 1] > ends[:, 1]
    top, bottom = (
        np.where(upwards[:, None], ends, corners),
        np.where(upwards[:, None], corners, ends),
    )
    # The rows whose centres an edge passes: each edge takes its upper end, so that none counts twice.
    first = np.ceil(np.clip(top[:, 1], 0, height) - 0.5).astype(np.int64)
    counts = np.ceil(np.clip(bottom[:, 1], 0, height) - 0.5).astype(np.int64) - first
    edges = np.repeat(np.arange(len(corners)), counts)
    rows = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    above, below = top[edges], bottom[edges]
    share = (rows + 0.5 - above[:, 1]) / (below[:, 1] - above[:, 1])
    crossings = above[:, 0] + share * (below[:, 0] - above[:, 0])
    columns = np.ceil(np.clip(crossings, 0, width) - 0.5).astype(np.int64)
    np.logical_xor.at(turns, (rows, columns), True)
    # Left of a pixel there is an odd number of edges exactly where it is inside.
    return np.logical_xor.accumulate(turns, axis=1)[:, :width]


def _corners(polygon: Any) -> npt.NDArray[np.float64]:
    # nan is below nothing.
    numbers = isinstance(polygon, list) and all(
        type(value) in (int, float) and abs(value) < _FARTHEST for value in polygon
    )
    if not numbers or len(polygon) < 6 or len(polygon) % 2:
        raise DatasetError(
            "a polygon of its outline is no list of three corners or more, x1, y1, x2, y2, …, in pixels"
        )
    return np.array(polygon, dtype=np.float64).reshape(-1, 2)


def _from_runs(runs: dict[str, Any], size: tuple[int, int]) -> Mask:
    if runs.get("size") != list(size):
        raise DatasetError(
            f"its run lengths are of a picture of (height, width) {runs.get('size')!r}, not {list(size)}"
        )
    counts = runs.get("counts")
    lengths = _lengths(counts) if isinstance(counts, str) else counts
    height, width = size
    if (
        not isinstance(lengths, list)
        or not all(type(length) is int and length >= 0 for length in lengths)
        or sum(lengths) != height * width
    ):
        raise DatasetError(f"its run lengths do not add up to {height} x {width} pixels")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _lengths(text: str) -> Sequence[int] | None:
    """The numbers of a shortened text, None where it is none.

    Every character holds five bits from the lowest on, and a sixth where more follow; the last one's fifth
    bit is the sign. From the fourth number on it is the difference from the last but one.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return None if shift else lengths
