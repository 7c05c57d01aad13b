"""Average precision of instance masks as the Cityscapes benchmark counts it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import ImageError, TaxonomyError
from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.evaluation.overlaps import Segment
from rt_panoptic_core.inference.result import Detections
from rt_panoptic_core.panoptic_format import VOID
from rt_panoptic_core.taxonomy import Taxonomy

# Spelt as the benchmark spells it: 0.6 comes out as 0.6000000000000001, and an IoU may lie between.
OVERLAP_THRESHOLDS: npt.NDArray[np.float64] = np.arange(0.5, 1.0, 0.05, dtype=np.float64)
"""The ten IoU thresholds .5:.05:.95."""

SMALLEST_AREA = 100
"""True instances under this many pixels are ignored."""


class PredictedInstance(NamedTuple):
    """What AP knows of a predicted instance.

    Attributes:
        class_id: its class.
        score: its confidence.
        area: its pixels.
        void: how many of them the truth leaves unlabelled, single things of other classes not among them.
        shared: pixels shared with true segments of its class by their id, crowd regions included.
    """

    class_id: int
    score: float
    area: int
    void: int
    shared: dict[int, int]


@dataclass(frozen=True)
class InstanceAPResult:
    """Average precision, in [0, 1].

    Attributes:
        ap: mean over classes and the ten thresholds; nan where no class has a true instance.
        ap50: the same at IoU 0.5.
        per_class: AP by class id, things only; nan for a class without a true instance.
        per_class_50: the same at IoU 0.5.
    """

    ap: float
    ap50: float
    per_class: dict[int, float]
    per_class_50: dict[int, float]


@dataclass
class _ClassState:
    """What one class has collected; by threshold: scores of true and of false positives."""

    true_scores: list[list[float]] = field(default_factory=lambda: [[] for _ in OVERLAP_THRESHOLDS])
    false_scores: list[list[float]] = field(
        default_factory=lambda: [[] for _ in OVERLAP_THRESHOLDS]
    )
    missed: list[int] = field(default_factory=lambda: [0] * len(OVERLAP_THRESHOLDS))
    has_truth: bool = False


class InstanceAP:
    """Cityscapes AP over a stream of images.

    For each threshold a true instance of at least 100 pixels is found by the best scored prediction of
    its class with a strictly larger IoU; further ones are false positives. A prediction that finds
    nothing is a false positive unless a larger share of it than the threshold lies on void, crowd
    regions or small instances of its class. The area under precision over recall is summed in steps,
    not at COCO's 101 points, and the mean leaves out classes without a true instance.
    """

    def __init__(self, thing_ids: Iterable[int]) -> None:
        self.thing_ids = tuple(thing_ids)
        self.reset()

    @classmethod
    def for_taxonomy(cls, taxonomy: Taxonomy) -> InstanceAP:
        """AP over the things of ``taxonomy``."""
        return cls(taxonomy.thing_ids)

    def reset(self) -> None:
        """Forget everything counted."""
        self._classes = {class_id: _ClassState() for class_id in self.thing_ids}

    def update(
        self, truth: Mapping[int, Segment], predictions: Sequence[PredictedInstance]
    ) -> None:
        """Count one image.

        Args:
            truth: its true segments by id; those of stuff are skipped.
            predictions: its predicted instances; empty ones and those of stuff are skipped.
        """
        for class_id, state in self._classes.items():
            true = {key: seg for key, seg in truth.items() if seg.class_id == class_id}
            guesses = [
                guess for guess in predictions if guess.class_id == class_id and guess.area > 0
            ]
            if true or guesses:
                _count_image(state, true, guesses)

    def merge(self, other: InstanceAP) -> None:
        """Add all that ``other`` counted.

        Raises:
            TaxonomyError: ``other`` counts other classes.
        """
        if self.thing_ids != other.thing_ids:
            raise TaxonomyError("instance AP over other classes cannot be merged into this one")
        for class_id, state in self._classes.items():
            added = other._classes[class_id]
            for index in range(len(OVERLAP_THRESHOLDS)):
                state.true_scores[index].extend(added.true_scores[index])
                state.false_scores[index].extend(added.false_scores[index])
                state.missed[index] += added.missed[index]
            state.has_truth |= added.has_truth

    def result(self) -> InstanceAPResult:
        """AP of all that was counted."""
        table = np.full((len(self.thing_ids), len(OVERLAP_THRESHOLDS)), np.nan)
        for row, class_id in enumerate(self.thing_ids):
            state = self._classes[class_id]
            if state.has_truth:
                for column in range(len(OVERLAP_THRESHOLDS)):
                    table[row, column] = _average_precision(
                        state.true_scores[column], state.false_scores[column], state.missed[column]
                    )
        counted = table[~np.isnan(table[:, 0])] if len(table) else table
        return InstanceAPResult(
            ap=float(counted.mean()) if len(counted) else float("nan"),
            ap50=float(counted[:, 0].mean()) if len(counted) else float("nan"),
            per_class={c: float(table[row].mean()) for row, c in enumerate(self.thing_ids)},
            per_class_50={c: float(table[row, 0]) for row, c in enumerate(self.thing_ids)},
        )


def instances_of_frame(frame: Frame) -> list[PredictedInstance]:
    """The instances of a panoptic result, with the scores that its table gives them."""
    instances: dict[int, PredictedInstance] = {}
    for predicted_id, segment in frame.predicted.items():
        if frame.taxonomy.is_thing[segment.class_id]:
            score = frame.scores.get(predicted_id, 0.0)
            instances[predicted_id] = PredictedInstance(
                segment.class_id, score, segment.area, 0, {}
            )
    for (truth_id, predicted_id), pixels in frame.overlap.as_dict().items():
        guess = instances.get(predicted_id)
        if guess is None:
            continue
        if truth_id == VOID:
            instances[predicted_id] = guess._replace(void=pixels)
        elif frame.truth[truth_id].class_id == guess.class_id:
            guess.shared[truth_id] = pixels
    counted = frame.sample.unlabelled_things
    if counted is not None:
        ids, pixels_there = np.unique(frame.predicted_ids[counted], return_counts=True)
        for predicted_id, pixels in zip(ids.tolist(), pixels_there.tolist(), strict=True):
            guess = instances.get(predicted_id)
            if guess is not None:
                instances[predicted_id] = guess._replace(void=guess.void - pixels)
    return list(instances.values())


def instances_of_detections(frame: Frame, detections: Detections) -> list[PredictedInstance]:
    """Detections with their whole masks, which may overlap, against the truth of ``frame``.

    Raises:
        ImageError: the masks are of another size than the truth.
    """
    if detections.masks.shape[1:] != frame.truth_ids.shape:
        raise ImageError(
            f"{frame.sample.name}: masks of {detections.masks.shape[1:]} pixels, truth of "
            f"{frame.truth_ids.shape}"
        )
    instances = []
    for mask, class_id, score in zip(
        detections.masks, detections.class_ids, detections.scores, strict=True
    ):
        # True ids are small by construction (class id + 1, or 256 + place), so a histogram is cheap.
        histogram = np.bincount(frame.truth_ids[mask])
        shared = {
            int(truth_id): int(histogram[truth_id])
            for truth_id in np.flatnonzero(histogram)
            if truth_id != VOID and frame.truth[int(truth_id)].class_id == class_id
        }
        void = int(histogram[VOID]) if len(histogram) else 0
        if frame.sample.unlabelled_things is not None:
            void -= int(np.count_nonzero(frame.sample.unlabelled_things[mask]))
        instances.append(
            PredictedInstance(int(class_id), float(score), int(histogram.sum()), void, shared)
        )
    return instances


def _count_image(
    state: _ClassState, true: Mapping[int, Segment], guesses: Sequence[PredictedInstance]
) -> None:
    countable = [key for key, seg in true.items() if not seg.is_crowd and seg.area >= SMALLEST_AREA]
    state.has_truth |= bool(countable)
    ious = [
        {key: px / (true[key].area + guess.area - px) for key, px in guess.shared.items()}
        for guess in guesses
    ]
    uncounted = [_uncounted_share(guess, true) for guess in guesses]
    for index, threshold in enumerate(OVERLAP_THRESHOLDS):
        for key in countable:
            found = sorted(
                guess.score
                for guess, iou in zip(guesses, ious, strict=True)
                if iou.get(key, 0.0) > threshold
            )
            if found:
                state.true_scores[index].append(found.pop())
                state.false_scores[index].extend(found)
            else:
                state.missed[index] += 1
        for guess, iou, share in zip(guesses, ious, uncounted, strict=True):
            if share <= threshold and not any(value > threshold for value in iou.values()):
                state.false_scores[index].append(guess.score)


def _uncounted_share(guess: PredictedInstance, true: Mapping[int, Segment]) -> float:
    """Share of a prediction on void, crowd regions and small instances.

    A crowd region that is small besides counts twice, as in the benchmark's script.
    """
    pixels = guess.void
    for key, px in guess.shared.items():
        pixels += px * (int(true[key].is_crowd) + int(true[key].area < SMALLEST_AREA))
    return pixels / guess.area


def _average_precision(
    true_scores: Sequence[float], false_scores: Sequence[float], missed: int
) -> float:
    """Area under precision over recall, each step as wide as half the way to either neighbour."""
    if not true_scores:
        return 0.0
    true_sorted, false_sorted = np.sort(true_scores), np.sort(false_scores)
    thresholds = np.union1d(true_sorted, false_sorted)
    tp = len(true_sorted) - np.searchsorted(true_sorted, thresholds)
    fp = len(false_sorted) - np.searchsorted(false_sorted, thresholds)
    # A last, artificial point: nothing predicted, nothing wrong.
    precision = np.append(tp / (tp + fp), 1.0)
    recall = np.append(tp / (len(true_sorted) + missed), 0.0)
    around = np.concatenate(([recall[0]], recall, [0.0]))
    return float(np.dot(precision, 0.5 * (around[:-2] - around[2:])))
