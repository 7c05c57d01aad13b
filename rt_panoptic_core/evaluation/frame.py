"""One image, its truth and its prediction, made comparable once for all measures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.sample import PanopticSample
from rt_panoptic_core.errors import DatasetError, ImageError
from rt_panoptic_core.evaluation.matching import SegmentMatches, match_segments
from rt_panoptic_core.evaluation.overlaps import Overlaps, Segment, overlaps
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.panoptic_format import Ids, measure_segments, own_ids
from rt_panoptic_core.taxonomy import Taxonomy

_FIRST_INSTANCE = 256
"""True segment ids: class id + 1 for stuff, from here on instances in the annotation's order."""


@dataclass(frozen=True)
class Frame:
    """Truth and prediction of one image as id maps with their segments; id 0 is void.

    Attributes:
        sample: the image with its truth.
        result: what was predicted for it.
        taxonomy: the label set of both.
        truth_ids: int32 [H, W], the ids of ``truth``.
        predicted_ids: int32 [H, W], the ids of ``predicted``.
        overlap: their joint histogram.
        truth: the true segments by id.
        predicted: the predicted segments by id.
        instance_rows: place in ``sample.instances`` by true segment id, instances only.
    """

    sample: PanopticSample
    result: PanopticResult
    taxonomy: Taxonomy
    truth_ids: Ids
    predicted_ids: Ids
    overlap: Overlaps
    truth: dict[int, Segment]
    predicted: dict[int, Segment]
    instance_rows: dict[int, int]

    @classmethod
    def of(cls, sample: PanopticSample, result: PanopticResult, taxonomy: Taxonomy) -> Frame:
        """Frame of a sample and the result for its image.

        Thing pixels without an instance are void on either side. In data without instances
        (``sample.has_instances`` False) the true things of a class are one crowd region.

        Raises:
            ImageError: the result is of another size than the truth.
            DatasetError: the truth contradicts itself: an instance that is not annotated, a class that
                the taxonomy lacks.
        """
        if result.semantic.shape != sample.semantic.shape:
            height, width = sample.semantic.shape
            given_height, given_width = result.semantic.shape
            raise ImageError(
                f"{sample.name}: the result has {given_width}x{given_height} pixels, "
                f"the truth {width}x{height}"
            )
        truth_ids, rows = _truth_ids(sample, taxonomy)
        predicted_ids = own_ids(result.semantic, result.instance, taxonomy)
        overlap = overlaps(truth_ids, predicted_ids)
        truth = {}
        for truth_id, area in overlap.truth_areas().items():
            if truth_id in rows:
                annotation = sample.instances[rows[truth_id]]
                truth[truth_id] = Segment(annotation.class_id, area, annotation.is_crowd)
            elif truth_id:
                class_id = truth_id - 1
                truth[truth_id] = Segment(class_id, area, bool(taxonomy.is_thing[class_id]))
        predicted = {
            predicted_id: Segment((predicted_id >> 16) - 1, area)
            for predicted_id, area in overlap.predicted_areas().items()
            if predicted_id
        }
        return cls(
            sample, result, taxonomy, truth_ids, predicted_ids, overlap, truth, predicted, rows
        )

    @cached_property
    def matches(self) -> SegmentMatches:
        """What became of every segment. In data without instances things appear nowhere in it."""
        found = match_segments(self.overlap, self.truth, self.predicted)
        return found if self.sample.has_instances else self.without_things(found)

    def without_things(self, matches: SegmentMatches) -> SegmentMatches:
        """``matches`` less everything of thing classes."""
        is_thing = self.taxonomy.is_thing
        return SegmentMatches(
            [match for match in matches.matched if not is_thing[match.class_id]],
            [key for key in matches.missed if not is_thing[self.truth[key].class_id]],
            [key for key in matches.spurious if not is_thing[self.predicted[key].class_id]],
            [key for key in matches.ignored if not is_thing[self.predicted[key].class_id]],
        )

    @cached_property
    def scores(self) -> dict[int, float]:
        """Score of every predicted instance by its id in ``predicted``."""
        return {
            (segment.class_id + 1) << 16 | segment.id: segment.score
            for segment in self.result.segments
            if segment.is_thing
        }


def compared_as(result: PanopticResult, counts_as: npt.NDArray[np.uint8] | None) -> PanopticResult:
    """``result`` with each class replaced by the one it is compared as; ``result`` itself for None.

    For data that tells fewer classes apart than the model: CamVid calls a truck a car and a wall a
    building, and a model that knows better must not be punished for it.

    Args:
        counts_as: uint8 [256], class id by predicted class id.
    """
    if counts_as is None:
        return result
    segments = [replace(s, class_id=int(counts_as[s.class_id])) for s in result.segments]
    return replace(result, semantic=counts_as[result.semantic], segments=segments)


def _truth_ids(sample: PanopticSample, taxonomy: Taxonomy) -> tuple[Ids, dict[int, int]]:
    """Id map of the truth, and by id of each instance its place in ``sample.instances``."""
    base = np.zeros(256, dtype=np.int32)
    base[: len(taxonomy)] = np.arange(1, len(taxonomy) + 1)
    if sample.has_instances:
        base[taxonomy.is_thing] = 0
    unknown = np.ones(256, dtype=bool)
    unknown[: len(taxonomy)] = False
    unknown[255] = False
    present = np.bincount(sample.semantic.reshape(-1), minlength=256) > 0
    if (present & unknown).any():
        raise DatasetError(
            f"{sample.name}: class id {int(np.flatnonzero(present & unknown)[0])} is not in "
            f"taxonomy {taxonomy.name!r} of {len(taxonomy)} classes"
        )
    ids: Ids = base[sample.semantic]
    if not sample.has_instances or not sample.instances:
        _refuse_unannotated(sample, np.zeros(0, dtype=np.int64))
        return ids, {}
    annotated = np.array([annotation.id for annotation in sample.instances], dtype=np.int64)
    _refuse_unannotated(sample, annotated)
    for annotation in sample.instances:
        if not 0 <= annotation.class_id < len(taxonomy):
            raise DatasetError(
                f"{sample.name}: instance {annotation.id} is of class {annotation.class_id}, which "
                f"taxonomy {taxonomy.name!r} of {len(taxonomy)} classes lacks"
            )
    order = np.argsort(annotated)
    inside = np.flatnonzero(sample.instance)
    values = sample.instance.reshape(-1)[inside]
    place = order[np.searchsorted(annotated[order], values)]
    ids.reshape(-1)[inside] = place + _FIRST_INSTANCE
    return ids, {_FIRST_INSTANCE + row: row for row in range(len(annotated))}


def _refuse_unannotated(sample: PanopticSample, annotated: npt.NDArray[np.int64]) -> None:
    if not sample.has_instances:
        return
    present = measure_segments(sample.instance).ids
    strange = np.setdiff1d(present, annotated)
    if len(strange):
        raise DatasetError(
            f"{sample.name}: instance {int(strange[0])} is in the map but not in 'instances'"
        )
