"""Panoptic quality: how well segments are found (RQ) and how well they fit (SQ); PQ = SQ · RQ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import TaxonomyError
from rt_panoptic_core.evaluation.matching import SegmentMatches, match_segments
from rt_panoptic_core.evaluation.overlaps import Segment, overlaps

if TYPE_CHECKING:
    # Scoring files needs no taxonomy, and its YAML takes a while to import.
    from rt_panoptic_core.taxonomy import Taxonomy

ClassCounts: TypeAlias = tuple[int, int, int, float]
"""tp, fp, fn, and the sum of the matches' IoU of one class."""

# A double in (0.5, 1] is a whole multiple of 2^-53, and every larger one of a power above it: sums of
# matched IoUs as integers of this unit are exact, so their order and grouping cannot matter.
_IOU_UNITS = 1 << 53


@dataclass(frozen=True)
class ClassQuality:
    """Panoptic quality of one class, in [0, 1]; nan where the class never occurs on either side."""

    class_id: int
    name: str
    is_thing: bool
    pq: float
    sq: float
    rq: float
    tp: int
    fp: int
    fn: int


@dataclass(frozen=True)
class MeanQuality:
    """Mean over the ``n`` classes that occur on either side, in [0, 1]; nan where none does."""

    pq: float
    sq: float
    rq: float
    n: int
    tp: int
    fp: int
    fn: int


@dataclass(frozen=True)
class PanopticQualityResult:
    """Panoptic quality over all classes, over things, over stuff, and of each class by class id."""

    all: MeanQuality
    things: MeanQuality
    stuff: MeanQuality
    per_class: tuple[ClassQuality, ...]


class PanopticQuality:
    """Panoptic quality over a stream of images (Kirillov et al., CVPR 2019), as panopticapi counts it.

    ::

        quality = PanopticQuality.for_taxonomy(taxonomy)
        for sample, result in pairs:
            quality.add(Frame.of(sample, result, taxonomy).matches)
        print(quality.result().all.pq)

    Counting is in integers throughout: any order of images and any grouping of :meth:`merge` give the
    same result to the last bit.
    """

    def __init__(self, class_names: Sequence[str], is_thing: Sequence[bool]) -> None:
        """Start with nothing counted.

        Args:
            class_names: names by class id.
            is_thing: whether a class is a thing, by class id.
        """
        if len(class_names) != len(is_thing):
            raise TaxonomyError(f"{len(class_names)} class names but {len(is_thing)} thing flags")
        self.class_names = tuple(class_names)
        self.is_thing = tuple(bool(flag) for flag in is_thing)
        self.reset()

    @classmethod
    def for_taxonomy(cls, taxonomy: Taxonomy) -> PanopticQuality:
        """Quality over the classes of ``taxonomy``."""
        return cls(taxonomy.names, [category.is_thing for category in taxonomy])

    def reset(self) -> None:
        """Forget everything counted."""
        # tp, fp, fn by class, plain integers: an image adds to a few of them, where arrays are slow.
        self._counts = [[0, 0, 0] for _ in self.class_names]
        self._iou_units = [0] * len(self.class_names)

    def update(
        self,
        truth_ids: npt.NDArray[np.integer[Any]],
        truth: Mapping[int, Segment],
        predicted_ids: npt.NDArray[np.integer[Any]],
        predicted: Mapping[int, Segment],
    ) -> SegmentMatches:
        """Count one image and return its matches.

        Args:
            truth_ids: integers [H, W]; 0 is void.
            truth: the true segments by id.
            predicted_ids: integers [H, W]; 0 is void.
            predicted: the predicted segments by id.
        """
        matches = match_segments(overlaps(truth_ids, predicted_ids), truth, predicted)
        self.add(matches, truth, predicted)
        return matches

    def add(
        self,
        matches: SegmentMatches,
        truth: Mapping[int, Segment],
        predicted: Mapping[int, Segment],
    ) -> dict[int, ClassCounts]:
        """Count the matches of one image and return its own counts, as :meth:`counts` does.

        Args:
            matches: what became of the image's segments.
            truth: its true segments by id.
            predicted: its predicted segments by id.
        """
        image: dict[int, list[int]] = {}
        for match in matches.matched:
            counts = image.setdefault(match.class_id, [0, 0, 0, 0])
            counts[0] += 1
            counts[3] += int(match.iou * _IOU_UNITS)
        for predicted_id in matches.spurious:
            image.setdefault(predicted[predicted_id].class_id, [0, 0, 0, 0])[1] += 1
        for truth_id in matches.missed:
            image.setdefault(truth[truth_id].class_id, [0, 0, 0, 0])[2] += 1
        for class_id, counts in image.items():
            total = self._counts[class_id]
            total[0] += counts[0]
            total[1] += counts[1]
            total[2] += counts[2]
            self._iou_units[class_id] += counts[3]
        return {
            class_id: (tp, fp, fn, units / _IOU_UNITS)
            for class_id, (tp, fp, fn, units) in sorted(image.items())
        }

    def merge(self, other: PanopticQuality) -> None:
        """Add all that ``other`` counted.

        Raises:
            TaxonomyError: ``other`` counts other classes.
        """
        if (self.class_names, self.is_thing) != (other.class_names, other.is_thing):
            raise TaxonomyError(
                f"panoptic quality over {len(other.class_names)} classes cannot be merged into one "
                f"over {len(self.class_names)} classes: they are not the same"
            )
        self._counts = [
            [a + b for a, b in zip(own, more, strict=True)]
            for own, more in zip(self._counts, other._counts, strict=True)
        ]
        self._iou_units = [a + b for a, b in zip(self._iou_units, other._iou_units, strict=True)]

    def counts(self) -> dict[int, ClassCounts]:
        """``(tp, fp, fn, sum of the matches' IoU)`` by class id, classes with any count only."""
        return {
            class_id: (tp, fp, fn, self._iou_units[class_id] / _IOU_UNITS)
            for class_id, (tp, fp, fn) in enumerate(self._counts)
            if tp or fp or fn
        }

    def result(self) -> PanopticQualityResult:
        """PQ, SQ and RQ of all that was counted.

        Per class ``PQ = sum of IoU / (tp + fp / 2 + fn / 2)``, ``SQ = sum of IoU / tp`` (0 without a
        match), ``RQ = tp / (tp + fp / 2 + fn / 2)``; the means run over the classes with any count.
        """
        counts = [
            (tp, fp, fn, units / _IOU_UNITS)
            for (tp, fp, fn), units in zip(self._counts, self._iou_units, strict=True)
        ]
        per_class = tuple(
            ClassQuality(class_id, name, is_thing, *_ratios(*count), *count[:3])
            for class_id, (name, is_thing, count) in enumerate(
                zip(self.class_names, self.is_thing, counts, strict=True)
            )
        )
        things, stuff = (
            [count for count, flag in zip(counts, self.is_thing, strict=True) if flag is wanted]
            for wanted in (True, False)
        )
        return PanopticQualityResult(
            mean_quality(counts), mean_quality(things), mean_quality(stuff), per_class
        )


def mean_quality(counts: Iterable[ClassCounts]) -> MeanQuality:
    """PQ, SQ and RQ as the means over the classes with any count; nan where there is none."""
    counted = [count for count in counts if any(count[:3])]
    values = [_ratios(*count) for count in counted]

    def mean(place: int) -> float:
        return math.fsum(value[place] for value in values) / len(values) if values else math.nan

    tp, fp, fn = (sum(count[place] for count in counted) for place in range(3))
    return MeanQuality(mean(0), mean(1), mean(2), len(counted), int(tp), int(fp), int(fn))


def _ratios(tp: int, fp: int, fn: int, iou: float) -> tuple[float, float, float]:
    """PQ, SQ and RQ of one class; nan without any count."""
    if not tp + fp + fn:
        return math.nan, math.nan, math.nan
    segments = tp + 0.5 * fp + 0.5 * fn
    return iou / segments, (iou / tp if tp else 0.0), tp / segments
