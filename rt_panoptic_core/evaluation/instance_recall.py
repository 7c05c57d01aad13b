"""Recall of instances by their size, and by their distance where the truth has depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import TaxonomyError
from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.panoptic_format import measure_segments
from rt_panoptic_core.taxonomy import Taxonomy

SIZE_EDGES = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Between bins of size: square root of the visible area, in pixels."""

DISTANCE_EDGES = (5.0, 10.0, 20.0, 30.0, 50.0, 80.0)
"""Between bins of distance: median depth of the visible pixels, in metres."""

Counts: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RecallBins:
    """Recall in bins.

    Attributes:
        edges: upper edges of all bins but the last, which is open; a bin holds its lower edge.
        truth: int64 [C, B], true instances by class id and bin.
        found: int64 [C, B], how many of them were matched.
    """

    edges: tuple[float, ...]
    truth: Counts
    found: Counts

    def recall(self) -> npt.NDArray[np.float64]:
        """Recall over all classes by bin, float64 [B]; nan in an empty bin."""
        total = self.truth.sum(axis=0)
        with np.errstate(invalid="ignore"):
            return np.where(total > 0, self.found.sum(axis=0) / np.maximum(total, 1), np.nan)

    def labels(self, unit: str) -> list[str]:
        """The bins in words: ``< 8 px``, ``8–16 px``, …, ``≥ 256 px``."""
        edges = [f"{edge:g}" for edge in self.edges]
        between = [f"{low}–{high} {unit}" for low, high in pairwise(edges)]
        return [f"< {edges[0]} {unit}", *between, f"≥ {edges[-1]} {unit}"]


class InstanceRecall:
    """Recall of instances over a stream of images, in bins of size and of distance.

    An instance is found when panoptic quality calls it a true positive. Crowd regions count nowhere,
    nor do images without instances.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        size_edges: Sequence[float] = SIZE_EDGES,
        distance_edges: Sequence[float] = DISTANCE_EDGES,
    ) -> None:
        self.class_names = taxonomy.names
        self.size_edges = tuple(size_edges)
        self.distance_edges = tuple(distance_edges)
        self.reset()

    def reset(self) -> None:
        """Forget everything counted."""
        classes = len(self.class_names)
        self._sizes = np.zeros((2, classes, len(self.size_edges) + 1), dtype=np.int64)
        self._distances = np.zeros((2, classes, len(self.distance_edges) + 1), dtype=np.int64)

    def update(self, frame: Frame) -> None:
        """Count one image."""
        if not frame.sample.has_instances:
            return
        found = {match.truth_id for match in frame.matches.matched}
        counted = {
            truth_id: segment
            for truth_id, segment in frame.truth.items()
            if truth_id in frame.instance_rows and not segment.is_crowd
        }
        distances = _median_depths(frame) if frame.sample.depth is not None else {}
        for truth_id, segment in counted.items():
            size_bin = np.searchsorted(self.size_edges, segment.area**0.5, side="right")
            sides = (0, 1) if truth_id in found else (0,)
            for side in sides:
                self._sizes[side, segment.class_id, size_bin] += 1
            if truth_id in distances:
                distance_bin = np.searchsorted(
                    self.distance_edges, distances[truth_id], side="right"
                )
                for side in sides:
                    self._distances[side, segment.class_id, distance_bin] += 1

    def merge(self, other: InstanceRecall) -> None:
        """Add all that ``other`` counted.

        Raises:
            TaxonomyError: ``other`` has other classes or bins.
        """
        mine = (self.class_names, self.size_edges, self.distance_edges)
        if mine != (other.class_names, other.size_edges, other.distance_edges):
            raise TaxonomyError("recall over other classes or bins cannot be merged into this one")
        self._sizes += other._sizes
        self._distances += other._distances

    def by_size(self) -> RecallBins:
        """Recall by the square root of the visible area, in pixels."""
        return RecallBins(self.size_edges, self._sizes[0].copy(), self._sizes[1].copy())

    def by_distance(self) -> RecallBins | None:
        """Recall by distance in metres; None where no image had depth."""
        if not self._distances[0].any():
            return None
        return RecallBins(self.distance_edges, self._distances[0].copy(), self._distances[1].copy())


def _median_depths(frame: Frame) -> dict[int, float]:
    """Median depth in metres by true instance id, over the pixels that have any."""
    depth = frame.sample.depth
    assert depth is not None
    medians = {}
    table = measure_segments(frame.truth_ids)
    for truth_id, (x1, y1, x2, y2) in zip(table.ids.tolist(), table.boxes.tolist(), strict=True):
        if truth_id in frame.instance_rows:
            inside = frame.truth_ids[y1:y2, x1:x2] == truth_id
            values = depth[y1:y2, x1:x2][inside]
            values = values[np.isfinite(values) & (values > 0)]
            if values.size:
                medians[truth_id] = float(np.median(values))
    return medians
