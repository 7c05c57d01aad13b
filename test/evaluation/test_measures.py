"""Semantic IoU, instance AP, boundary PQ, recall by size and distance, on frames made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample
from rt_panoptic_core.errors import ConfigError, DatasetError, ImageError, TaxonomyError
from rt_panoptic_core.evaluation.boundary_quality import BoundaryQuality
from rt_panoptic_core.evaluation.boundary_regions import boundary_region, boundary_width
from rt_panoptic_core.evaluation.evaluation import Evaluation
from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.evaluation.instance_ap import (
    InstanceAP,
    instances_of_detections,
    instances_of_frame,
)
from rt_panoptic_core.evaluation.instance_recall import InstanceRecall
from rt_panoptic_core.evaluation.record import EvaluationRecord
from rt_panoptic_core.evaluation.semantic_iou import SemanticIoU, class_pixels
from rt_panoptic_core.inference.result import Detections, PanopticResult, Segment
from rt_panoptic_core.taxonomy import Taxonomy

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, SKY, PERSON, CAR, BICYCLE = (
    CITYSCAPES.class_id(name) for name in ("road", "sky", "person", "car", "bicycle")
)
CLASS_BY_LABEL = {24: PERSON, 26: CAR, 33: BICYCLE}

# (id, x1, y1, x2, y2): instances as Cityscapes numbers them; 26 alone is a group of cars. Road
# elsewhere, void from column 60 on.
TRUTH = [
    (26000, 2, 2, 22, 12),
    (26001, 30, 2, 50, 12),
    (26002, 2, 20, 12, 26),
    (26, 30, 20, 60, 35),
    (24000, 2, 40, 12, 60),
    (24001, 20, 40, 30, 60),
]
# (label, score, x1, y1, x2, y2): a good one, its duplicate, a shifted one, one on an instance that is
# too small to count, on the group, on void, across void, good, shifted, on nothing, of a class that
# is not in the truth.
PREDICTIONS = [
    (26, 0.9, 2, 2, 22, 11),
    (26, 0.8, 3, 2, 22, 12),
    (26, 0.7, 33, 2, 53, 12),
    (26, 0.6, 2, 20, 12, 26),
    (26, 0.5, 32, 22, 42, 32),
    (26, 0.4, 60, 50, 70, 60),
    (26, 0.3, 62, 2, 78, 10),
    (24, 0.9, 2, 40, 12, 58),
    (24, 0.35, 21, 41, 32, 62),
    (24, 0.2, 50, 40, 60, 60),
    (33, 0.5, 50, 40, 60, 60),
]


def street(depth: bool = False) -> PanopticSample:
    """TRUTH as a sample; every instance's depth is its number in the list times 10 m."""
    semantic = np.full((70, 80), ROAD, np.uint8)
    semantic[:, 60:] = 255
    instance = np.zeros((70, 80), np.int32)
    metres = np.full((70, 80), np.inf, np.float32)
    annotations = []
    for number, (key, x1, y1, x2, y2) in enumerate(TRUTH):
        label = key if key < 1000 else key // 1000
        semantic[y1:y2, x1:x2] = CLASS_BY_LABEL[label]
        instance[y1:y2, x1:x2] = key
        metres[y1:y2, x1:x2] = 10 * number + 1
        annotations.append(InstanceAnnotation(key, CLASS_BY_LABEL[label], key < 1000))
    image = np.zeros((70, 80, 3), np.uint8)
    return PanopticSample(
        "street", image, semantic, instance, tuple(annotations), depth=metres if depth else None
    )


def as_result(sample: PanopticSample, score: float = 1.0) -> PanopticResult:
    """The truth as a result without the groups, instances numbered from 1."""
    instance = np.zeros(sample.instance.shape, np.uint16)
    segments = []
    for number, annotation in enumerate(sample.instances, start=1):
        if not annotation.is_crowd:
            mask = sample.instance == annotation.id
            instance[mask] = number
            area = int(mask.sum())
            segments.append(Segment(number, annotation.class_id, True, score, area, None))
    return PanopticResult(sample.semantic.copy(), instance, segments)


def frame(sample: PanopticSample | None = None, result: PanopticResult | None = None) -> Frame:
    sample = street() if sample is None else sample
    return Frame.of(sample, as_result(sample) if result is None else result, CITYSCAPES)


# --- semantic IoU


def test_semantic_iou_by_hand():
    measure = SemanticIoU(("a", "b", "c", "d"))
    truth = np.array([[0, 0, 0, 1, 1, 255, 255, 2]], np.uint8)
    guess = np.array([[0, 0, 1, 1, 255, 0, 3, 2]], np.uint8)
    confusion = measure.update(truth, guess)
    # True class in the rows; the last column is unlabelled. Void in the truth counts nowhere.
    assert confusion.tolist() == [[2, 1, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0] * 5]
    result = measure.result()
    # a: 2 of 3; b: 1 right, 1 false, 1 missed; c: 1 of 1; d occurs nowhere.
    assert result.per_class[:3].tolist() == [2 / 3, 1 / 3, 1.0]
    assert math.isnan(result.per_class[3])
    assert result.mean_iou == pytest.approx(2 / 3)
    assert result.pixel_accuracy == pytest.approx(4 / 6)
    assert class_pixels(confusion) == {0: (2, 0, 1), 1: (1, 1, 1), 2: (1, 0, 0)}


def test_semantic_iou_merges_and_resets():
    one, two, both = (SemanticIoU(("a", "b")) for _ in range(3))
    pairs = [
        (np.array([[0, 1]], np.uint8), np.array([[0, 0]], np.uint8)),
        (np.array([[1, 1]], np.uint8), np.array([[1, 0]], np.uint8)),
    ]
    one.update(*pairs[1])
    two.update(*pairs[0])
    for pair in pairs:
        both.update(*pair)
    one.merge(two)
    assert np.array_equal(one.result().confusion, both.result().confusion)
    one.reset()
    assert math.isnan(one.result().mean_iou)
    with pytest.raises(TaxonomyError):
        one.merge(SemanticIoU(("a",)))


def test_semantic_iou_refuses_unknown_classes_and_sizes():
    measure = SemanticIoU(("a",))
    with pytest.raises(ImageError, match="prediction: class id 7"):
        measure.update(np.zeros((1, 2), np.uint8), np.full((1, 2), 7, np.uint8))
    with pytest.raises(ImageError, match="shape"):
        measure.update(np.zeros((1, 2), np.uint8), np.zeros((2, 1), np.uint8))


# --- frames


def test_a_thing_without_instance_is_void_on_both_sides():
    sample = street()
    unmarked = PanopticSample(
        "unmarked", sample.image, sample.semantic, np.zeros_like(sample.instance)
    )
    made = frame(unmarked, PanopticResult(sample.semantic, np.zeros((70, 80), np.uint16), []))
    assert {segment.class_id for segment in made.truth.values()} == {ROAD}
    assert {segment.class_id for segment in made.predicted.values()} == {ROAD}
    assert [match.iou for match in made.matches.matched] == [1.0]


def test_without_instances_things_are_counted_nowhere_but_are_no_void():
    sample = street()
    semantics_only = PanopticSample(
        "semantics", sample.image, sample.semantic, np.zeros_like(sample.instance), (), False
    )
    result = as_result(sample)
    result.semantic[:, :] = ROAD
    result.instance[:, :] = 0
    made = frame(semantics_only, result)
    road = int((sample.semantic == ROAD).sum())
    labelled = int((sample.semantic != 255).sum())
    assert [match.iou for match in made.matches.matched] == [road / labelled]
    assert made.matches.missed == made.matches.spurious == []
    evaluation = Evaluation(CITYSCAPES)
    evaluation.update(made)
    results = evaluation.record({}).results
    assert "instances" not in results
    assert results["panoptic"]["things"]["n"] == 0


def test_truth_that_contradicts_itself_is_named():
    sample = street()
    with pytest.raises(DatasetError, match="street: instance 26 is in the map"):
        frame(PanopticSample("street", sample.image, sample.semantic, sample.instance))
    strange = sample.semantic.copy()
    strange[0, 0] = 77
    with pytest.raises(DatasetError, match="class id 77"):
        frame(PanopticSample("s", sample.image, strange, sample.instance, sample.instances))
    wrong = (*sample.instances[:-1], InstanceAnnotation(24001, 40))
    with pytest.raises(DatasetError, match="of class 40"):
        frame(PanopticSample("s", sample.image, sample.semantic, sample.instance, wrong))
    small = PanopticResult(np.zeros((3, 4), np.uint8), np.zeros((3, 4), np.uint16), [])
    with pytest.raises(ImageError, match="street: the result has 4x3 pixels, the truth 80x70"):
        frame(sample, small)


# --- instance AP


def detections() -> Detections:
    masks = np.zeros((len(PREDICTIONS), 70, 80), bool)
    for mask, (_, _, x1, y1, x2, y2) in zip(masks, PREDICTIONS, strict=True):
        mask[y1:y2, x1:x2] = True
    return Detections(
        np.zeros((len(PREDICTIONS), 4), np.float32),
        np.array([CLASS_BY_LABEL[entry[0]] for entry in PREDICTIONS]),
        np.array([entry[1] for entry in PREDICTIONS], np.float32),
        masks,
    )


def test_ap_of_a_street_as_cityscapes_scripts_counts_it():
    measure = InstanceAP.for_taxonomy(CITYSCAPES)
    made = frame()
    measure.update(made.truth, instances_of_detections(made, detections()))
    result = measure.result()
    assert result.ap == pytest.approx(0.5791666666666666, rel=1e-12)
    assert result.ap50 == pytest.approx(0.8958333333333333, rel=1e-12)
    assert result.per_class[PERSON] == pytest.approx(0.6, rel=1e-12)
    assert result.per_class[CAR] == pytest.approx(0.5583333333333333, rel=1e-12)
    assert result.per_class_50[CAR] == pytest.approx(0.7916666666666666, rel=1e-12)
    # A bicycle was predicted, but there is none: it is out of the mean, not zero in it.
    assert math.isnan(result.per_class[BICYCLE])


def test_ap_does_not_depend_on_order_or_grouping():
    made = frame()
    guesses = instances_of_detections(made, detections())
    straight, one, two = (InstanceAP.for_taxonomy(CITYSCAPES) for _ in range(3))
    for _ in range(2):
        straight.update(made.truth, guesses)
    straight.update(made.truth, guesses[:4])
    one.update(made.truth, guesses[3::-1])
    two.update(made.truth, guesses[::-1])
    two.update(made.truth, guesses)
    one.merge(two)
    assert str(one.result()) == str(straight.result())
    one.reset()
    assert math.isnan(one.result().ap)


def test_ap_of_a_perfect_result_and_of_none():
    measure = InstanceAP.for_taxonomy(CITYSCAPES)
    made = frame()
    measure.update(made.truth, instances_of_frame(made))
    assert (measure.result().ap, measure.result().ap50) == (1.0, 1.0)
    measure.reset()
    measure.update(made.truth, [])
    assert measure.result().ap == 0.0


@pytest.mark.parametrize("whole_masks", [False, True])
def test_ap_takes_predictions_on_unlabelled_things_for_false(whole_masks):
    """As the benchmark does with caravans and trailers, while all else that is void excuses a prediction."""
    ids = np.zeros((40, 60), np.int32)
    result = PanopticResult(
        np.full(ids.shape, CAR, np.uint8),
        np.ones(ids.shape, np.uint16),
        [Segment(1, CAR, True, 0.9, ids.size, None)],
    )
    found = Detections(
        np.zeros((1, 4), np.float32),
        np.array([CAR]),
        np.array([0.9]),
        np.ones((1, *ids.shape), bool),
    )
    void = np.full(ids.shape, 255, np.uint8)
    caravan = np.zeros(ids.shape, bool)
    caravan[:30] = True
    for mask, void_pixels in ((None, 2400), (caravan, 600)):
        sample = PanopticSample("x", np.zeros((40, 60, 3), np.uint8), void, ids, (), True)
        made = Frame.of(replace(sample, unlabelled_things=mask), result, CITYSCAPES)
        guesses = instances_of_detections(made, found) if whole_masks else instances_of_frame(made)
        assert [guess.void for guess in guesses] == [void_pixels]
        assert made.matches.ignored == [*made.predicted]


# --- boundary PQ


@settings(max_examples=60)
@given(
    hnp.arrays(np.int32, (9, 11), elements=st.integers(0, 2)), st.integers(min_value=1, max_value=4)
)
def test_boundary_region_is_that_of_eroding_each_mask(ids, distance):
    region = boundary_region(ids, distance)
    for value in np.unique(ids):
        mask = np.pad((ids == value).astype(np.uint8), 1)
        inside = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
        assert np.array_equal(region & (ids == value), (ids == value) & (inside == 0))


def test_boundary_width_is_a_share_of_the_diagonal():
    assert boundary_width(1024, 2048, 0.005) == 11  # 2289.7 * 0.005 = 11.4
    assert boundary_width(30, 40, 0.02) == 1
    assert boundary_width(3, 4, 0.02) == 1


def test_boundary_pq_sees_what_area_hides():
    # A shift by one pixel: mask IoU 95 / 105; with a boundary 1 wide both squares have 36 pixels of
    # it, the sides along the shift share all but their ends.
    sample = PanopticSample(
        "box",
        np.zeros((20, 20, 3), np.uint8),
        np.full((20, 20), ROAD, np.uint8),
        np.zeros((20, 20), np.int32),
    )
    sample.semantic[5:15, 5:15] = SKY
    result = PanopticResult(np.roll(sample.semantic, 1, axis=1), np.zeros((20, 20), np.uint16), [])
    measure = BoundaryQuality(CITYSCAPES, ratio=0.02)
    made = frame(sample, result)
    measure.update(made)
    sky = {match.class_id: match for match in made.matches.matched}[SKY]
    assert sky.iou == 90 / 110
    # Shared: 9 of the top row, 9 of the bottom row; union 36 + 36 - 18. No match then.
    assert measure.result().per_class[SKY].tp == 0
    assert measure.result().per_class[SKY].fn == 1
    wide = BoundaryQuality(CITYSCAPES, ratio=0.11)
    wide.update(made)
    # Boundary 3 wide: 84 pixels each; the rings share 9*10 less what only one ring's hole covers:
    # inside the shared 9x10, the holes (4x4 at x 8..11 and 9..12) cover 4 * 5 = 20.
    assert wide.result().per_class[SKY].tp == 1
    assert wide.result().per_class[SKY].sq == 70 / (84 + 84 - 70)


def test_boundary_pq_is_never_larger_and_merges():
    made = frame()
    other = frame(
        result=PanopticResult(np.roll(street().semantic, 1, 0), as_result(street()).instance, [])
    )
    one, two, both = (BoundaryQuality(CITYSCAPES, 0.05) for _ in range(3))
    one.update(other)
    two.update(made)
    both.update(made)
    both.update(other)
    one.merge(two)
    assert str(one.result()) == str(both.result())
    perfect = BoundaryQuality(CITYSCAPES)
    perfect.update(made)
    assert perfect.result().all.pq == 1.0
    with pytest.raises(TaxonomyError, match="ratio"):
        one.merge(BoundaryQuality(CITYSCAPES, 0.01))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        BoundaryQuality(CITYSCAPES, 0)
    one.reset()
    assert one.result().all.n == 0


# --- recall by size and distance


def test_recall_by_size_and_distance():
    sample = street(depth=True)
    result = as_result(sample)
    result.instance[result.instance == 2] = 0  # the second car is lost
    measure = InstanceRecall(CITYSCAPES, size_edges=(10, 15), distance_edges=(15, 45))
    measure.update(frame(sample, result))
    sizes = measure.by_size()
    # Cars of 200, 200 and 60 pixels, persons of 200 each: sides 14.1, 14.1, 7.7, 14.1, 14.1.
    assert sizes.truth[CAR].tolist() == [1, 2, 0]
    assert sizes.found[CAR].tolist() == [1, 1, 0]
    assert sizes.truth.sum(axis=0).tolist() == [1, 4, 0]
    assert sizes.recall()[:2].tolist() == [1.0, 0.75]
    assert math.isnan(sizes.recall()[2])
    assert sizes.labels("px") == ["< 10 px", "10–15 px", "≥ 15 px"]
    distances = measure.by_distance()
    # At 1, 11 and 21 m the cars, at 41 and 51 m the persons; the group of cars counts nowhere.
    assert distances is not None
    assert distances.truth.sum(axis=0).tolist() == [2, 2, 1]
    assert distances.found.sum(axis=0).tolist() == [1, 2, 1]


def test_recall_without_depth_merge_and_reset():
    one, two, both = (InstanceRecall(CITYSCAPES) for _ in range(3))
    for measure in (one, two, both, both):
        measure.update(frame())
    one.merge(two)
    assert np.array_equal(one.by_size().truth, both.by_size().truth)
    assert one.by_distance() is None
    with pytest.raises(TaxonomyError):
        one.merge(InstanceRecall(CITYSCAPES, size_edges=(1,)))
    one.reset()
    assert one.by_size().truth.sum() == 0


# --- all together


def test_evaluation_is_the_same_for_any_grouping(tmp_path):
    perfect = frame()
    lost = frame(result=PanopticResult(street().semantic, np.zeros((70, 80), np.uint16), []))
    straight, one, two = (Evaluation(CITYSCAPES) for _ in range(3))
    straight.update(perfect, latency_ms=1.0)
    straight.update(lost, latency_ms=3.0)
    one.update(perfect, latency_ms=1.0)
    two.update(lost, latency_ms=3.0)
    one.merge(two)
    record = straight.record({"model": "m"})
    assert str(one.record({"model": "m"})) == str(record)
    assert record.results["latency_ms"]["median"] == 2.0
    assert record.frames[0].quality() == 1.0
    assert record.frames[1].mean_iou() == 1.0
    record.write(tmp_path / "r.json")
    read = EvaluationRecord.read(tmp_path / "r.json")
    assert read.frames == record.frames
    assert read.classes == record.classes
    assert read.results["panoptic"]["all"] == record.results["panoptic"]["all"]
    with pytest.raises(TaxonomyError, match="boundary"):
        one.merge(Evaluation(CITYSCAPES, boundary_ratio=None))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "rt-panoptic evaluation 1", "classes": [1]}']
)
def test_what_is_no_record_is_refused_by_name(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DatasetError, match=r"r\.json"):
        EvaluationRecord.read(tmp_path / "r.json")
    with pytest.raises(DatasetError, match=r"absent\.json"):
        EvaluationRecord.read(tmp_path / "absent.json")
