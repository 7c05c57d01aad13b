"""Comparing two evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from rt_panoptic_core.errors import ConfigError, DatasetError
from rt_panoptic_core.evaluation.comparison import compare, compare_means, smallest_probability
from rt_panoptic_core.evaluation.record import ClassRecord, EvaluationRecord, FrameRecord

CLASSES = (ClassRecord("car", True, (0, 0, 1)), ClassRecord("road", False, (0, 0, 2)))


FILES = {"ground_truth": "truth.json", "predictions": "predictions.json"}


def record(frames, subject=None) -> EvaluationRecord:
    return EvaluationRecord(subject or {}, CLASSES, {}, tuple(frames))


def frames(cars: list[tuple[int, int, int, float]], road: float = 0.9):
    """Frames with these counts of cars, and road found with this IoU."""
    return [
        FrameRecord(f"f{i}", {0: car, 1: (1, 0, 0, road)}, {0: (5, 1, 1), 1: (90, 2, 1)})
        for i, car in enumerate(cars)
    ]


def noisy(seed: int, gain: float, count: int = 60) -> EvaluationRecord:
    random = np.random.default_rng(seed)
    base = np.random.default_rng(1).uniform(0.55, 0.9, size=count)
    iou = np.clip(base + random.normal(scale=0.02, size=count) + gain, 0.51, 1.0)
    return record(frames([(1, 1, 1, float(value)) for value in iou]))


def change(changes, name):
    return next(c for c in changes if c.name == name)


def test_values_are_those_of_all_frames_together():
    before = record(frames([(1, 0, 0, 0.8), (0, 1, 1, 0.0)]))
    after = record(frames([(1, 0, 0, 0.8), (1, 0, 0, 0.6)]))
    result = compare(before, after, samples=100)
    car = change(result.pq, "car")
    assert (car.before, car.after) == pytest.approx((0.8 / 2, 1.4 / 2))
    overall = change(result.overall, "PQ")
    assert overall.difference == pytest.approx(((0.7 + 0.9) - (0.4 + 0.9)) / 2)
    assert change(result.overall, "RQ").before == pytest.approx((0.5 + 1.0) / 2)
    assert change(result.overall, "SQ").after == pytest.approx((0.7 + 0.9) / 2)
    assert change(result.overall, "PQ stuff").after == pytest.approx(0.9)
    # Pixels: 10 of 14 and 180 of 186 on both sides.
    miou = change(result.overall, "mIoU")
    assert (miou.before, miou.difference) == pytest.approx(((10 / 14 + 180 / 186) / 2, 0.0))
    assert change(result.overall, "pixel accuracy").before == pytest.approx(190 / 194)


def test_the_same_run_twice_is_no_difference():
    result = compare(noisy(0, 0), noisy(0, 0))
    for item in (*result.overall, *result.pq, *result.iou):
        assert (item.difference, item.low, item.high, item.p) == (0.0, 0.0, 0.0, 1.0)
        assert not item.is_real


def test_a_real_gain_is_told_from_noise():
    gain = compare(noisy(0, 0.0), noisy(5, 0.05))
    car = change(gain.pq, "car")
    assert car.is_real
    assert car.low > 0
    # Half of the cars are matched: the gain in IoU counts half.
    assert car.difference == pytest.approx(0.025, abs=0.005)
    assert car.low <= car.difference <= car.high
    noise = compare(noisy(0, 0.0), noisy(7, 0.0))
    assert not change(noise.pq, "car").is_real


def test_swapping_the_runs_mirrors_everything():
    there, back = compare(noisy(0, 0), noisy(5, 0.02)), compare(noisy(5, 0.02), noisy(0, 0))
    for one, other in zip(there.pq, back.pq, strict=True):
        assert one.difference == -other.difference
        assert (one.low, one.high, one.p) == pytest.approx((-other.high, -other.low, other.p))


def test_frames_are_paired_by_name_not_by_place():
    before, after = noisy(0, 0), noisy(5, 0.05)
    shuffled = record(after.frames[::-1])
    assert str(compare(before, shuffled)) == str(compare(before, after))


def test_probabilities_of_classes_are_corrected_for_their_number():
    before, after = noisy(0, 0.0), noisy(5, 0.05)
    result = compare(before, after)
    # Two classes; the smaller probability is doubled. PQ of things is the car's alone, uncorrected.
    assert change(result.pq, "car").p == pytest.approx(2 * change(result.overall, "PQ things").p)


def test_blocks_widen_the_interval_of_a_film():
    # The gain comes in two scenes of thirty frames each: up in one, down in the other.
    base = [(1, 0, 0, 0.8)] * 60
    moved = [(1, 0, 0, 0.9)] * 30 + [(1, 0, 0, 0.72)] * 30
    single = change(compare(record(frames(base)), record(frames(moved))).pq, "car")
    blocks = change(compare(record(frames(base)), record(frames(moved)), block=10).pq, "car")
    assert blocks.high - blocks.low > 2 * (single.high - single.low)


def test_a_class_on_one_side_only_and_one_on_neither():
    before = record([FrameRecord("a", {0: (1, 0, 0, 0.7)}), FrameRecord("b", {})])
    after = record([FrameRecord("a", {0: (1, 0, 0, 0.7)}), FrameRecord("b", {})])
    result = compare(before, after, samples=100)
    assert [c.name for c in result.pq] == ["car"]
    assert result.iou == ()
    assert "mIoU" not in [c.name for c in result.overall]
    after = record([FrameRecord("a", {1: (0, 1, 0, 0.0)}), FrameRecord("b", {})])
    road = change(compare(before, after, samples=100).pq, "road")
    assert np.isnan(road.before)
    # What is not there on one side has no difference, and so no probability of one.
    assert np.isnan(road.difference)
    assert np.isnan(road.p)


def worse(count: int, of: int = 0) -> tuple[EvaluationRecord, EvaluationRecord]:
    """Evaluations of ``of`` frames (or ``count``), the second worse in the first ``count`` of them."""
    good, bad = (2, 0, 0, 1.8), (1, 1, 1, 0.6)
    same = [good] * (max(count, of) - count)
    return record(frames([good] * count + same)), record(frames([bad] * count + same))


def test_one_frame_tells_nothing():
    for first, second in (worse(1), worse(0, of=1)):
        result = compare(first, second, samples=200)
        for item in (*result.overall, *result.pq, *result.iou):
            assert np.isnan([item.low, item.high, item.p]).all()
            assert not item.is_real
        assert not np.isnan(change(result.overall, "PQ").difference)


@pytest.mark.parametrize(("count", "real"), [(2, False), (5, False), (6, True)])
def test_what_is_real_needs_six_frames_that_differ(count, real):
    least = smallest_probability(count)
    assert least == 2 / 2**count
    few = change(compare(*worse(count)).overall, "PQ things")
    assert few.p == pytest.approx(least)
    assert few.is_real == real
    assert np.isnan(few.low) != real
    # Frames in which the two are the same add nothing; but the interval exists.
    many = change(compare(*worse(count, of=60)).overall, "PQ things")
    assert many.p >= least
    assert many.is_real == real
    assert not np.isnan(many.low)


def test_a_class_of_few_frames_is_judged_by_those():
    first, second = worse(5)
    others = [FrameRecord(f"g{i}", {1: (1, 0, 0, 0.9)}) for i in range(60)]
    result = compare(record([*first.frames, *others]), record([*second.frames, *others]))
    assert change(result.pq, "car").p == pytest.approx(2 * smallest_probability(5))
    assert np.isnan(change(result.pq, "car").low)
    assert change(result.pq, "road").low == 0


def test_too_few_frames_are_told_from_a_small_difference():
    first, second = worse(5)
    others = [FrameRecord(f"g{i}", {1: (1, 0, 0, 0.9)}) for i in range(60)]
    result = compare(record([*first.frames, *others]), record([*second.frames, *others]))
    car, road = change(result.pq, "car"), change(result.pq, "road")
    assert car.least == pytest.approx(2 * smallest_probability(5))
    assert car.has_too_few_frames
    assert not road.has_too_few_frames
    # In five frames of sixty that have it: they could have differed everywhere.
    assert not change(compare(*worse(5, of=60)).pq, "car").has_too_few_frames


@pytest.mark.parametrize(("count", "too_few"), [(6, True), (7, False)])
def test_what_is_too_few_goes_by_the_corrected_probability(count, too_few):
    # Six frames could give 0.03, and of two classes twice that.
    result = compare(*worse(count))
    assert change(result.pq, "car").has_too_few_frames == too_few
    assert not change(result.overall, "PQ things").has_too_few_frames


def test_frames_of_another_truth_are_counted():
    first, second = worse(8)
    # Found or missed, true and false: the predictions are others, the truth is one.
    assert compare(first, second, samples=100).frames_of_other_truth == 0
    relabelled = [
        FrameRecord(f.name, {**f.segments, 0: (2, 0, 1, 1.8)}, f.pixels) if i < 3 else f
        for i, f in enumerate(second.frames)
    ]
    assert compare(first, record(relabelled), samples=100).frames_of_other_truth == 3
    # Of road 90 pixels are found and 1 is missed: the truth has 91.
    for missed, expected in ((41, 0), (42, 8)):
        seen = [
            FrameRecord(f.name, f.segments, {**f.pixels, 1: (50, 9, missed)}) for f in second.frames
        ]
        assert compare(first, record(seen), samples=100).frames_of_other_truth == expected


def test_stuff_that_files_count_otherwise_is_no_other_truth():
    first, second = worse(8)
    parts = [FrameRecord(f.name, {**f.segments, 1: (2, 0, 1, 1.8)}, {}) for f in second.frames]
    assert compare(first, record(parts, FILES), samples=100).frames_of_other_truth == 0
    cars = [FrameRecord(f.name, {**f.segments, 0: (3, 0, 0, 2.8)}, {}) for f in second.frames]
    assert compare(first, record(cars, FILES), samples=100).frames_of_other_truth == 8
    # A model is not asked for things where the data has no instances.
    semantic = [FrameRecord(f.name, {1: f.segments[1]}, f.pixels) for f in first.frames]
    assert compare(record(semantic), record(cars, FILES)).frames_of_other_truth == 0


def test_latency_is_the_median_of_the_frames_timed_on_both_sides():
    times = [(10.0, 20.0), (30.0, 15.0), (12.0, None), (14.0, 28.0)]
    sides = [
        [FrameRecord(f"f{i}", {1: (1, 0, 0, 0.9)}, {}, pair[side]) for i, pair in enumerate(times)]
        for side in (0, 1)
    ]
    latency = compare(*map(record, sides), samples=100).latency
    assert (latency.frames, latency.before, latency.after) == (3, 14.0, 20.0)
    assert latency.ratio == pytest.approx(20 / 14)
    assert compare(*worse(8), samples=100).latency is None


def test_a_block_counts_once():
    twelve, thirteen = (change(compare(*worse(n), block=3).overall, "RQ") for n in (12, 13))
    # The rest of a block belongs to the one before it.
    assert twelve.p == thirteen.p == pytest.approx(smallest_probability(4))
    whole = change(compare(*worse(12), block=12).overall, "RQ")
    assert np.isnan([whole.low, whole.p]).all()


def test_matches_that_only_fit_better_are_no_change_of_recognition():
    result = compare(noisy(0, 0.0), noisy(5, 0.05))
    assert change(result.overall, "SQ").is_real
    assert change(result.overall, "RQ").p == 1.0


def test_pixels_of_a_model_are_not_compared_with_those_of_files():
    first, second = worse(8)
    scored = record(second.frames, FILES)
    for sides in ((first, scored), (scored, first)):
        mixed = compare(*sides, samples=100)
        assert mixed.mixed
        assert mixed.iou == ()
        assert not {"mIoU", "pixel accuracy"} & {item.name for item in mixed.overall}
        assert change(mixed.overall, "PQ").is_real
    files = compare(record(first.frames, FILES), scored, samples=100)
    assert not files.mixed
    assert files.iou
    assert not compare(first, second, samples=100).mixed


def test_other_frames_are_refused_unless_the_common_ones_will_do():
    before, after = noisy(0, 0), noisy(5, 0.1)
    shorter = record(after.frames[:40])
    with pytest.raises(DatasetError, match=r"20 only in the first \(f40, f41"):
        compare(before, shorter)
    assert compare(before, shorter, common_frames=True, samples=100).frames == 40
    with pytest.raises(DatasetError, match="no frame in common"):
        compare(before, record([]), common_frames=True)


def test_what_cannot_be_compared_is_refused():
    other = EvaluationRecord({}, CLASSES[:1], {}, ())
    with pytest.raises(DatasetError, match="different classes"):
        compare(noisy(0, 0), other)
    twice = record([*frames([(1, 0, 0, 0.8)]), *frames([(1, 0, 0, 0.8)])])
    with pytest.raises(DatasetError, match="names a frame twice"):
        compare(twice, twice)
    with pytest.raises(ConfigError, match="100"):
        compare(noisy(0, 0), noisy(0, 0), samples=10)
    for block in (0, 61):
        with pytest.raises(ConfigError, match="blocks"):
            compare(noisy(0, 0), noisy(0, 0), block=block)


def test_means_are_compared_frame_by_frame():
    random = np.random.default_rng(0)
    before = random.normal(size=(60, 3))
    after = before + np.array([0.5, 0.0, 0.0])
    after[:30, 2] = np.nan
    changes = compare_means(["gain", "none", "half known"], before, after, samples=400, block=5)
    gain, none, half = changes
    assert gain.difference == pytest.approx(0.5)
    assert (gain.low, gain.high) == (pytest.approx(0.5), pytest.approx(0.5))
    assert gain.is_real
    assert none.difference == 0
    assert not none.is_real
    # Only frames with a value on both sides count.
    assert half.before == pytest.approx(before[30:, 2].mean())
    assert half.difference == 0


def test_means_of_few_frames_have_no_probability_either():
    before = np.zeros((12, 2))
    after = before + 1
    after[1:, 1] = np.nan
    full, one = compare_means(["full", "one"], before, after, samples=200, block=3)
    assert full.p == pytest.approx(smallest_probability(4))
    assert np.isnan([full.low, one.low, one.p]).all()
    assert (full.difference, one.difference) == (1.0, 1.0)


def test_a_measure_that_no_frame_has_is_left_out():
    values = np.full((8, 2), np.nan)
    values[:, 1] = 1.0
    (known,) = compare_means(["missing", "known"], values, values, samples=100)
    assert known.name == "known"
    with pytest.raises(ConfigError, match="blocks of 9 frames"):
        compare_means(["missing", "known"], values, values, samples=100, block=9)
