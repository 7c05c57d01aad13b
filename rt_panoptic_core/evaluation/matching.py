"""Which predicted segment finds which true one: the rule that all panoptic measures share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rt_panoptic_core.evaluation.overlaps import Overlaps, Segment
from rt_panoptic_core.panoptic_format import VOID

MATCH_IOU = 0.5
"""A match needs a larger IoU than this; so no segment can match two."""


class Match(NamedTuple):
    """A true positive."""

    truth_id: int
    predicted_id: int
    class_id: int
    iou: float


class SegmentMatches(NamedTuple):
    """What became of every segment of an image.

    Attributes:
        matched: the true positives.
        missed: ids of true segments that nothing matched: the false negatives.
        spurious: ids of predicted segments that matched nothing: the false positives.
        ignored: ids of predicted segments that matched nothing and lie mostly on void or on a crowd of
            their class: they count as nothing.
    """

    matched: list[Match]
    missed: list[int]
    spurious: list[int]
    ignored: list[int]


def match_segments(
    overlap: Overlaps,
    truth: Mapping[int, Segment],
    predicted: Mapping[int, Segment],
    boundary: Overlaps | None = None,
) -> SegmentMatches:
    """Matches of an image's segments as panopticapi finds them.

    A true and a predicted segment match if they are of one class, the true one is no crowd, and their
    IoU is over 0.5, void pixels of the truth left out of the union. A predicted segment without a match
    is ignored when more than half of it lies on void and on the crowd region of its class; of several
    crowd regions of a class the last in ``truth`` counts, as in panopticapi.

    Args:
        overlap: shared pixels of true and predicted ids; 0 is void on both sides.
        truth: the true segments by id. Their areas may differ from the map's (panopticapi takes them
            from the JSON) and are what the union is made of.
        predicted: the predicted segments by id.
        boundary: shared pixels of the segments' boundary regions; then the smaller of mask IoU and
            boundary IoU stands for the IoU (boundary PQ, Cheng et al., CVPR 2021).
    """
    shared = overlap.as_dict()
    limit = None if boundary is None else _BoundaryIou(boundary)
    matched: list[Match] = []
    truth_matched: set[int] = set()
    predicted_matched: set[int] = set()
    for (truth_id, predicted_id), intersection in shared.items():
        true = truth.get(truth_id)
        if true is None or true.is_crowd:
            continue
        guess = predicted.get(predicted_id)
        if guess is None or true.class_id != guess.class_id:
            continue
        union = guess.area + true.area - intersection - shared.get((VOID, predicted_id), 0)
        iou = intersection / union
        if limit is not None:
            iou = min(iou, limit(truth_id, predicted_id))
        if iou > MATCH_IOU:
            matched.append(Match(truth_id, predicted_id, true.class_id, iou))
            truth_matched.add(truth_id)
            predicted_matched.add(predicted_id)
    missed = []
    crowd_by_class: dict[int, int] = {}
    for truth_id, true in truth.items():
        if truth_id in truth_matched:
            continue
        if true.is_crowd:
            crowd_by_class[true.class_id] = truth_id
        else:
            missed.append(truth_id)
    spurious: list[int] = []
    ignored: list[int] = []
    for predicted_id, guess in predicted.items():
        if predicted_id in predicted_matched:
            continue
        uncounted = shared.get((VOID, predicted_id), 0)
        if guess.class_id in crowd_by_class:
            uncounted += shared.get((crowd_by_class[guess.class_id], predicted_id), 0)
        (ignored if uncounted / guess.area > 0.5 else spurious).append(predicted_id)
    return SegmentMatches(matched, missed, spurious, ignored)


class _BoundaryIou:
    """IoU of two segments' boundary regions, void pixels of the truth left out of the union."""

    def __init__(self, overlap: Overlaps) -> None:
        self._shared = overlap.as_dict()
        self._truth_areas = overlap.truth_areas()
        self._predicted_areas = overlap.predicted_areas()

    def __call__(self, truth_id: int, predicted_id: int) -> float:
        intersection = self._shared.get((truth_id, predicted_id), 0)
        if not intersection:
            return 0.0
        union = (
            self._predicted_areas[predicted_id]
            + self._truth_areas[truth_id]
            - intersection
            - self._shared.get((VOID, predicted_id), 0)
        )
        return intersection / union
