"""Two evaluations of the same frames: what changed, and whether chance alone could have done it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import ConfigError, DatasetError
from rt_panoptic_core.evaluation.latency_change import LatencyChange
from rt_panoptic_core.evaluation.record import EvaluationRecord, FrameRecord
from rt_panoptic_core.evaluation.total_changes import TotalChanges, total_changes

Float: TypeAlias = npt.NDArray[np.float64]
Bool: TypeAlias = npt.NDArray[np.bool_]

ERROR_RATE = 0.05
"""A difference counts as real where chance alone would make it less often than this."""

FEWEST_UNITS = 6
"""The least number of independent units with which anything can be real: 2 / 2**n < :data:`ERROR_RATE`."""

_SHOWN = 5
_BATCH = 250
_OF_PIXELS = ("mIoU", "pixel accuracy")


@dataclass(frozen=True)
class Change:
    """One measure in both evaluations, in [0, 1]; nan where it does not exist.

    Attributes:
        name: of the measure, or of the class.
        before: value in the first evaluation.
        after: value in the second.
        low: lower end of the 95 % interval of ``after - before``; nan where the measure exists in less
            than :data:`FEWEST_UNITS` units (frames, or blocks of them): not even their whole range
            would hold the truth so often.
        high: its upper end.
        p: probability of a difference at least so far from zero if there were none, never below what
            the number of units allows (:func:`smallest_probability`); for classes corrected for their
            number (Holm); 1 where both values are equal in every unit, nan where the measure is missing
            on one side or exists in one unit only.
        least: the smallest ``p`` that could have come out of the units in which the measure exists, for
            classes after the same correction; nan where the measure is missing on one side.
    """

    name: str
    before: float
    after: float
    low: float
    high: float
    p: float
    least: float

    @property
    def difference(self) -> float:
        """``after - before``."""
        return self.after - self.before

    @property
    def is_real(self) -> bool:
        """Whether chance alone would make so large a difference less than once in twenty times."""
        return self.p < ERROR_RATE

    @property
    def has_too_few_frames(self) -> bool:
        """Whether no difference, however large, could have been real in so few frames or blocks."""
        return self.least >= ERROR_RATE


@dataclass(frozen=True)
class Comparison:
    """What changed from one evaluation to another.

    Attributes:
        frames: frames that both have.
        samples: resamples that intervals and probabilities come from.
        block: consecutive frames that were drawn together.
        mixed: whether one evaluation is of a model and the other of files. Their pixels are counted in
            different ways, so neither mIoU, pixel accuracy nor IoU is compared.
        frames_of_other_truth: in how many of the frames the true segments differ, or the pixels of a
            class; there a change is one of the ground truth as well.
        overall: PQ, SQ, RQ over all classes, PQ of things and stuff, and where both measured them mIoU
            and pixel accuracy.
        pq: PQ by class, classes that occur only.
        iou: semantic IoU by class, likewise; empty where it was not measured.
        totals: AP, boundary PQ and recall, without intervals.
        latency: where frames were timed in both.
    """

    frames: int
    samples: int
    block: int
    mixed: bool
    frames_of_other_truth: int
    overall: tuple[Change, ...]
    pq: tuple[Change, ...]
    iou: tuple[Change, ...]
    totals: TotalChanges
    latency: LatencyChange | None


def compare(
    before: EvaluationRecord,
    after: EvaluationRecord,
    *,
    samples: int = 10000,
    block: int = 1,
    seed: int = 0,
    common_frames: bool = False,
) -> Comparison:
    """Changes from ``before`` to ``after`` with a paired bootstrap over frames.

    Frames are drawn with replacement, the same ones for both evaluations, and the measures are taken
    anew from their summed counts; the spread of the differences gives interval and probability. Frames
    of a film resemble their neighbours: draw them in blocks of some seconds, or chance looks smaller
    than it is. Few frames, or blocks, cannot tell a difference from chance: see
    :func:`smallest_probability`.

    Args:
        before: the first evaluation.
        after: the second, of the same frames and classes.
        samples: resamples to draw, at least 100.
        block: consecutive frames to draw together, at least 1.
        seed: of the drawing; the same seed gives the same comparison.
        common_frames: compare the frames that both have instead of refusing if they differ.

    Raises:
        ConfigError: ``samples`` or ``block`` is out of range.
        DatasetError: other classes, other frames, a frame named twice, or none in common.
    """
    if [c.name for c in before.classes] != [c.name for c in after.classes]:
        raise DatasetError(
            "the two evaluations have different classes: "
            f"{_names([c.name for c in before.classes])} and "
            f"{_names([c.name for c in after.classes])}"
        )
    pairs = _pairs(before, after, common_frames)
    draws = _draws(samples, len(pairs), block, seed)
    is_thing = np.array([c.is_thing for c in before.classes])
    counts = [_segment_counts([pair[side] for pair in pairs], len(is_thing)) for side in (0, 1)]
    pixels = [_pixel_counts([pair[side] for pair in pairs], len(is_thing)) for side in (0, 1)]
    mixed = before.is_of_files != after.is_of_files
    has_pixels = not mixed and all(side.any() for side in pixels)
    observed = [
        _measures(s.sum(axis=0), p.sum(axis=0), is_thing)
        for s, p in zip(counts, pixels, strict=True)
    ]
    drawn: list[tuple[Float, Float, Float]] = []
    for weights in draws:
        first, second = (
            _measures(_weighted(weights, s), _weighted(weights, p), is_thing)
            for s, p in zip(counts, pixels, strict=True)
        )
        drawn.append((second[0] - first[0], second[1] - first[1], second[2] - first[2]))
    overall, pq, iou = (np.concatenate([part[i] for part in drawn]) for i in range(3))
    titles = ["PQ", "SQ", "RQ", "PQ things", "PQ stuff", *_OF_PIXELS]
    class_names = [c.name for c in before.classes]
    of_all, of_pq, of_iou = _class_evidence(counts, pixels, is_thing, block)
    return Comparison(
        frames=len(pairs),
        samples=samples,
        block=block,
        mixed=mixed,
        frames_of_other_truth=_frames_of_other_truth(counts, pixels, is_thing, mixed),
        overall=tuple(
            change
            for change in _changes(titles, observed[0][0], observed[1][0], overall, of_all)
            if has_pixels or change.name not in _OF_PIXELS
        ),
        pq=corrected(_changes(class_names, observed[0][1], observed[1][1], pq, of_pq)),
        iou=corrected(_changes(class_names, observed[0][2], observed[1][2], iou, of_iou))
        if has_pixels
        else (),
        totals=total_changes(
            before, after, same_frames=len(pairs) == len(before.frames) == len(after.frames)
        ),
        latency=LatencyChange.of(pairs),
    )


def compare_means(
    names: Sequence[str],
    before: Float,
    after: Float,
    *,
    samples: int = 10000,
    block: int = 1,
    seed: int = 0,
) -> tuple[Change, ...]:
    """Changes of means over frames, with the paired bootstrap of :func:`compare`.

    A frame counts for a measure where it has a value on both sides; measures without such a frame are left
    out.

    Args:
        names: of the K measures.
        before: float64 [F, K], a row for each frame in order; nan where it has no value.
        after: likewise, of the same frames.
        samples, block, seed: as for :func:`compare`.

    Raises:
        ConfigError: ``samples`` or ``block`` is out of range.
    """
    draws = _draws(samples, len(before), block, seed)
    known = ~(np.isnan(before) | np.isnan(after))
    sides = [np.where(known, side, 0.0) for side in (before, after)]
    counts = known.astype(np.float64)

    def means(weights: Float) -> list[Float]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return [weights @ side / (weights @ counts) for side in sides]

    observed = [mean[0] for mean in means(np.ones((1, len(before))))]
    drawn = [second - first for first, second in map(means, draws)]
    evidence = _Evidence.of(known, known & (before != after), block)
    return _changes(names, observed[0], observed[1], np.concatenate(drawn), evidence)


def independent_units(frames: int, block: int) -> int:
    """How many units that say something of their own there are: whole blocks of ``frames``, at least 1."""
    return max(1, frames // block)


def smallest_probability(units: int) -> float:
    """The least two-sided probability that ``units`` differing units can honestly give: 2 / 2**units.

    If the two evaluations were alike, each unit could as well have come out the other way round. Of the
    2**units ways in which all could have, the one that was observed and its mirror image are two. A
    bootstrap does not know that: it cannot draw what it never saw, and with one frame is certain.
    """
    return min(1.0, 2.0 * 0.5**units)


def _draws(samples: int, frames: int, block: int, seed: int) -> Iterator[Float]:
    """All resamples, some at a time: float64 [n, frames] as :func:`_draw` makes them.

    Raises:
        ConfigError: ``samples`` or ``block`` is out of range.
    """
    if samples < 100:
        raise ConfigError(f"{samples} resamples: take 100 or more")
    if block < 1:
        raise ConfigError(f"blocks of {block} frames: take 1 or more")
    if block > frames:
        raise ConfigError(f"blocks of {block} frames, but there are {frames} frames")
    random = np.random.default_rng(seed)
    return (
        _draw(random, min(_BATCH, samples - start), frames, block)
        for start in range(0, samples, _BATCH)
    )


def _pairs(
    before: EvaluationRecord, after: EvaluationRecord, common_frames: bool
) -> list[tuple[FrameRecord, FrameRecord]]:
    sides = []
    for title, record in (("first", before), ("second", after)):
        by_name = {frame.name: frame for frame in record.frames}
        if len(by_name) != len(record.frames):
            raise DatasetError(f"the {title} evaluation names a frame twice; they cannot be paired")
        sides.append(by_name)
    first, second = sides
    only_first = [name for name in first if name not in second]
    only_second = [name for name in second if name not in first]
    if (only_first or only_second) and not common_frames:
        raise DatasetError(
            "the two evaluations are not of the same frames: "
            f"{len(only_first)} only in the first ({_names(only_first)}), "
            f"{len(only_second)} only in the second ({_names(only_second)}); "
            "evaluate on the same frames, or compare those in common (--common-frames)"
        )
    pairs = [(frame, second[name]) for name, frame in first.items() if name in second]
    if not pairs:
        raise DatasetError("the two evaluations have no frame in common")
    return pairs


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) or "none"
    return shown + (", …" if len(names) > _SHOWN else "")


def _segment_counts(frames: Sequence[FrameRecord], classes: int) -> Float:
    """float64 [F, C, 4]: tp, fp, fn, sum of IoU."""
    table = np.zeros((len(frames), classes, 4))
    for row, frame in enumerate(frames):
        for class_id, values in frame.segments.items():
            table[row, class_id] = values
    return table


def _pixel_counts(frames: Sequence[FrameRecord], classes: int) -> Float:
    """float64 [F, C, 3]: tp, fp, fn in pixels."""
    table = np.zeros((len(frames), classes, 3))
    for row, frame in enumerate(frames):
        for class_id, values in frame.pixels.items():
            table[row, class_id] = values
    return table


def _frames_of_other_truth(
    segments: Sequence[Float], pixels: Sequence[Float], is_thing: Bool, mixed: bool
) -> int:
    """In how many frames the two sides, [F, C, 4] and [F, C, 3], do not have the same truth.

    Matched and missed together are what there is to find, whatever was predicted; crowds are neither.
    """
    true_segments = [side[..., 0] + side[..., 2] for side in segments]
    unequal = true_segments[0] != true_segments[1]
    if mixed:
        # Of stuff, files may have several segments where a model's evaluation has one; of things, data
        # without instances has none.
        has_things = all(side[:, is_thing].any() for side in true_segments)
        differs = unequal[:, is_thing].any(axis=1) & has_things
    else:
        differs = unequal.any(axis=1)
        if all(side.any() for side in pixels):
            true_pixels = [side[..., 0] + side[..., 2] for side in pixels]
            differs |= (true_pixels[0] != true_pixels[1]).any(axis=1)
    return int(np.count_nonzero(differs))


def _draw(random: np.random.Generator, samples: int, frames: int, block: int) -> Float:
    """float64 [samples, frames]: how often each frame was drawn, blocks wrapping round at the end."""
    blocks = -(-frames // block)
    starts = random.integers(frames, size=(samples, blocks))
    drawn = (starts[:, :, None] + np.arange(block)) % frames
    drawn = drawn.reshape(samples, -1)[:, :frames]
    weights = np.zeros((samples, frames))
    np.add.at(weights, (np.arange(samples)[:, None], drawn), 1.0)
    return weights


def _weighted(weights: Float, counts: Float) -> Float:
    """float64 [samples, C, k]: counts summed over the frames as often as each was drawn."""
    flat = counts.reshape(len(counts), -1)
    return (weights @ flat).reshape(len(weights), *counts.shape[1:])


def _measures(segments: Float, pixels: Float, is_thing: Bool) -> tuple[Float, Float, Float]:
    """Overall measures [..., 7], PQ [..., C] and IoU [..., C] from counts [..., C, 4] and [..., C, 3]."""
    tp, fp, fn, iou = (segments[..., i] for i in range(4))
    with np.errstate(invalid="ignore", divide="ignore"):
        total = tp + 0.5 * fp + 0.5 * fn
        present = total > 0
        pq = np.where(present, iou / total, np.nan)
        sq = np.where(present, np.where(tp > 0, iou / tp, 0.0), np.nan)
        rq = np.where(present, tp / total, np.nan)
        union = pixels.sum(axis=-1)
        semantic = np.where(union > 0, pixels[..., 0] / union, np.nan)
        right = pixels[..., 0].sum(axis=-1)
        true = right + pixels[..., 2].sum(axis=-1)
        accuracy = np.where(true > 0, right / true, np.nan)
    overall = np.stack(
        [
            _mean(pq),
            _mean(sq),
            _mean(rq),
            _mean(pq[..., is_thing]),
            _mean(pq[..., ~is_thing]),
            _mean(semantic),
            accuracy,
        ],
        axis=-1,
    )
    return overall, pq, semantic


def _mean(values: Float) -> Float:
    """Mean over the last axis without nan; nan where nothing else is."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    mean: Float = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


class _Evidence(NamedTuple):
    """In how many units each of K measures exists, and in how many its two sides differ; int64 [K]."""

    existing: npt.NDArray[np.int64]
    differing: npt.NDArray[np.int64]

    @classmethod
    def of(cls, exists: Bool, differs: Bool, block: int) -> _Evidence:
        """From bool [F, K] by frame; a rest shorter than a block belongs to the last whole one."""
        starts = np.arange(independent_units(len(exists), block)) * block
        existing, differing = (
            np.logical_or.reduceat(frames, starts, axis=0).sum(axis=0, dtype=np.int64)
            for frames in (exists, differs)
        )
        return cls(existing, differing)


def _class_evidence(
    segments: Sequence[Float], pixels: Sequence[Float], is_thing: Bool, block: int
) -> tuple[_Evidence, _Evidence, _Evidence]:
    """Of what :func:`_measures` gives, from the counts of both sides, [F, C, 4] and [F, C, 3]."""

    def overall(by_class: Bool, matches: Bool, by_pixel: Bool) -> Bool:
        quality = by_class.any(axis=1)
        things, stuff = by_class[:, is_thing].any(axis=1), by_class[:, ~is_thing].any(axis=1)
        parts = [quality, quality, matches.any(axis=1), things, stuff]
        return np.stack([*parts, *[by_pixel.any(axis=1)] * len(_OF_PIXELS)], axis=1)

    exists: Bool = np.any(segments[0] + segments[1], axis=2)
    has_pixels: Bool = np.any(pixels[0] + pixels[1], axis=2)
    unequal = segments[0] != segments[1]
    differs: Bool = np.any(unequal, axis=2)
    # RQ knows how many matches there are, not how well they fit.
    matches_differ: Bool = np.any(unequal[..., :3], axis=2)
    pixels_differ: Bool = np.any(pixels[0] != pixels[1], axis=2)
    return (
        _Evidence.of(
            overall(exists, exists, has_pixels),
            overall(differs, matches_differ, pixels_differ),
            block,
        ),
        _Evidence.of(exists, differs, block),
        _Evidence.of(has_pixels, pixels_differ, block),
    )


def _changes(
    names: Sequence[str], before: Float, after: Float, drawn: Float, evidence: _Evidence
) -> tuple[Change, ...]:
    """Changes of the measures that exist on either side; ``drawn`` [samples, len(names)]."""
    changes = []
    for column, name in enumerate(names):
        first, second = float(before[column]), float(after[column])
        if np.isnan(first) and np.isnan(second):
            continue
        differences = drawn[:, column]
        differences = differences[~np.isnan(differences)]
        low = high = p = least = float("nan")
        if differences.size:
            least = smallest_probability(int(evidence.existing[column]))
        if differences.size and evidence.existing[column] >= FEWEST_UNITS:
            low, high = (float(v) for v in np.percentile(differences, [2.5, 97.5]))
        if differences.size and evidence.existing[column] > 1:
            # One is added to both counts: a resample that was not drawn is no proof of never.
            below = (1 + np.count_nonzero(differences <= 0)) / (1 + differences.size)
            above = (1 + np.count_nonzero(differences >= 0)) / (1 + differences.size)
            lowest = smallest_probability(int(evidence.differing[column]))
            p = float(min(1.0, max(lowest, 2 * min(below, above))))
        changes.append(Change(name, first, second, low, high, p, least))
    return tuple(changes)


def corrected(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """The changes with their probabilities, where they have one, corrected for how many there are (Holm)."""
    known = [index for index, change in enumerate(changes) if change.p == change.p]
    values = [changes[index].p for index in known]
    raised = list(changes)
    for place, (index, p) in enumerate(zip(known, _holm(values), strict=True)):
        change = changes[index]
        # What the correction would have left of this class's smallest, all others as they are.
        least = _holm([*values[:place], change.least, *values[place + 1 :]])[place]
        raised[index] = replace(change, p=p, least=least)
    return tuple(raised)


def _holm(values: Sequence[float]) -> list[float]:
    """Probabilities after Holm's correction, in the order of ``values``."""
    raised = [0.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, min(1.0, values[index] * (len(values) - rank)))
        raised[index] = largest
    return raised
