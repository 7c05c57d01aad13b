"""How the segments of two id maps overlap: what every measure here counts from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Segment(NamedTuple):
    """What a measure knows of a segment: class id, area in pixels, and whether it is a crowd region."""

    class_id: int
    area: int
    is_crowd: bool = False


@dataclass(frozen=True)
class Overlaps:
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
        """Shared pixels by ``(truth id, predicted id)``; made once, so not to be changed."""
        return self._by_ids

    @cached_property
    def _by_ids(self) -> dict[tuple[int, int], int]:
        pairs = zip(self.truth_ids.tolist(), self.predicted_ids.tolist(), strict=True)
        return dict(zip(pairs, self.pixels.tolist(), strict=True))


# What three bytes hold of an id, and 16 bits of a count: with both a pair takes 64 bits.
_COLOURS = 1 << 24
_PACKED_PIXELS = 1 << 16

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
    starts = _run_starts(truth, predicted)
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1] = truth.size - starts[-1]
    return _by_pair(_taken(truth, starts), _taken(predicted, starts), lengths)


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


def _taken(
    ids: npt.NDArray[np.integer[Any]], places: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """int64 ids at the ``places`` of a flat map."""
    # Places are known to be inside, so that nothing has to be checked: half of the time of ids[places].
    return ids.take(places, mode="clip").astype(np.int64, copy=False)


def _run_starts(
    truth: npt.NDArray[np.integer[Any]], predicted: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.int64]:
    """Where a run of equal pairs begins: rising places in two flat maps, the first of them 0."""
    size = truth.size
    changes = np.zeros(-(-size // 8) * 8, dtype=bool)
    changes[0] = True
    np.not_equal(truth[1:], truth[:-1], out=changes[1:size])
    changes[1:size] |= predicted[1:] != predicted[:-1]
    # Few of eight neighbours have a change among them: looking through words first saves most looks.
    words = changes.view(np.uint64)
    places = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words[places].view(np.bool_))
    starts: npt.NDArray[np.int64] = (places[inside >> 3] << 3) + (inside & 7)
    return starts


def _by_pair(
    truth: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    pixels: npt.NDArray[np.int64],
) -> Overlaps:
    """Pixels summed over equal pairs of ids."""
    if max(truth.max(), predicted.max()) < _COLOURS and pixels.max() < _PACKED_PIXELS:
        # Pair and count fit one word: sorting words is many times faster than sorting by a key.
        words = (truth << 40 | predicted << 16 | pixels).view(np.uint64)
        words.sort()
        keys, counts = words >> 16, (words & (_PACKED_PIXELS - 1)).view(np.int64)
        shift = 24
    else:
        keys = (truth << 32 | predicted).view(np.uint64)
        order = np.argsort(keys)
        keys, counts = keys[order], pixels[order]
        shift = 32
    is_first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    firsts = np.flatnonzero(is_first)
    pairs = keys[firsts].view(np.int64)
    return Overlaps(pairs >> shift, pairs & ((1 << shift) - 1), np.add.reduceat(counts, firsts))


def _totals(ids: npt.NDArray[np.int64], pixels: npt.NDArray[np.int64]) -> dict[int, int]:
    totals: dict[int, int] = {}
    for key, count in zip(ids.tolist(), pixels.tolist(), strict=True):
        totals[key] = totals.get(key, 0) + count
    return dict(sorted(totals.items()))
