"""How the segments of two id maps overlap: what every measure here counts from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Segment(NamedTuple):
    """What a measure knows of a segment: class id, area in pixels, and whether it is a crowd region."""

    class_id: int
    area: int
    is_crowd: bool = False


class Overlaps(NamedTuple):
    """Pixels that pairs of ids share; only pairs that share any, by rising ids.

    Attributes:
        truth_ids: int64 [K].
        predicted_ids: int64 [K].
        pixels: int64 [K].
    """

    truth_ids: npt.NDArray[np.int64]
    predicted_ids: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.int64]

    def predicted_areas(self) -> dict[int, int]:
        """Area of every predicted id, void included."""
        return _totals(self.predicted_ids, self.pixels)

    def truth_areas(self) -> dict[int, int]:
        """Area of every true id, void included."""
        return _totals(self.truth_ids, self.pixels)

    def as_dict(self) -> dict[tuple[int, int], int]:
        """Shared pixels by ``(truth id, predicted id)``."""
        pairs = zip(self.truth_ids.tolist(), self.predicted_ids.tolist(), strict=True)
        return dict(zip(pairs, self.pixels.tolist(), strict=True))


_NONE = Overlaps(*(np.zeros(0, dtype=np.int64) for _ in range(3)))


def overlaps(
    truth_ids: npt.NDArray[np.integer[Any]], predicted_ids: npt.NDArray[np.integer[Any]]
) -> Overlaps:
    """Joint histogram of two id maps.

    Neighbours along a row mostly have the same pair of ids, so the maps are cut into runs first and
    only the runs are sorted: some thousands of them instead of all pixels.

    Args:
        truth_ids: integers of any shape, in 0 … 2^31 - 1.
        predicted_ids: integers of the same shape, in 0 … 2^31 - 1.
    """
    truth, predicted = truth_ids.reshape(-1), predicted_ids.reshape(-1)
    if not truth.size:
        return _NONE
    changes = np.empty(truth.size, dtype=bool)
    changes[0] = True
    np.not_equal(truth[1:], truth[:-1], out=changes[1:])
    changes[1:] |= predicted[1:] != predicted[:-1]
    starts = np.flatnonzero(changes)
    lengths = np.diff(starts, append=truth.size)
    return _by_pair(truth[starts].astype(np.int64), predicted[starts].astype(np.int64), lengths)


def add_overlaps(parts: Iterable[Overlaps]) -> Overlaps:
    """Joint histogram of several maps taken as one, from the histogram of each."""
    listed = [part for part in parts if len(part.pixels)]
    if not listed:
        return _NONE
    return _by_pair(
        np.concatenate([part.truth_ids for part in listed]),
        np.concatenate([part.predicted_ids for part in listed]),
        np.concatenate([part.pixels for part in listed]),
    )


def _by_pair(
    truth: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    pixels: npt.NDArray[np.int64],
) -> Overlaps:
    """Pixels summed over equal pairs of ids."""
    keys = (truth << 32) | predicted
    order = np.argsort(keys)
    keys = keys[order]
    firsts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    pairs = keys[firsts]
    return Overlaps(pairs >> 32, pairs & 0xFFFFFFFF, np.add.reduceat(pixels[order], firsts))


def _totals(ids: npt.NDArray[np.int64], pixels: npt.NDArray[np.int64]) -> dict[int, int]:
    totals: dict[int, int] = {}
    for key, count in zip(ids.tolist(), pixels.tolist(), strict=True):
        totals[key] = totals.get(key, 0) + count
    return dict(sorted(totals.items()))
