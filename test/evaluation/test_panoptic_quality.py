"""Panoptic quality against hand-made cases, panopticapi's own numbers, and its properties."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from evaluation_pictures import ALL, CATEGORIES, COUNTS, IMAGES, STUFF, THINGS, id_map, segments
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt_panoptic_core.errors import TaxonomyError
from rt_panoptic_core.evaluation.matching import match_segments
from rt_panoptic_core.evaluation.overlaps import Segment, add_overlaps, overlaps
from rt_panoptic_core.evaluation.panoptic_quality import PanopticQuality
from rt_panoptic_core.panoptic_format import read_annotations, read_ids

SAMPLE_DATA = os.environ.get("PANOPTICAPI_SAMPLE_DATA")

NAMES = [category["name"] for category in CATEGORIES]
IS_THING = [bool(category["isthing"]) for category in CATEGORIES]


def quality_of(images) -> PanopticQuality:
    quality = PanopticQuality(NAMES, IS_THING)
    for truth, truth_categories, crowd, guess, guess_categories in images:
        quality.update(
            id_map(truth),
            segments(truth, truth_categories, crowd),
            id_map(guess),
            segments(guess, guess_categories),
        )
    return quality


def matches(truth, truth_categories, guess, guess_categories, crowd=""):
    found = match_segments(
        overlaps(id_map(truth), id_map(guess)),
        segments(truth, truth_categories, crowd),
        segments(guess, guess_categories),
    )
    names = "".join
    return (
        {chr(m.truth_id) + chr(m.predicted_id): m.iou for m in found.matched},
        names(map(chr, sorted(found.missed))),
        names(map(chr, sorted(found.spurious))),
        names(map(chr, sorted(found.ignored))),
    )


def test_overlaps_count_pairs():
    shared = overlaps(np.array([[1, 1, 2], [1, 2, 2]]), np.array([[5, 5, 5], [6, 5, 6]]))
    assert shared.as_dict() == {(1, 5): 2, (1, 6): 1, (2, 5): 2, (2, 6): 1}
    assert shared.truth_areas() == {1: 3, 2: 3}
    assert shared.predicted_areas() == {5: 4, 6: 2}
    assert add_overlaps([shared, shared]).as_dict()[(1, 6)] == 2


@given(
    hnp.arrays(np.int32, (4, 9), elements=st.sampled_from([0, 1, 255, 1 << 24, (1 << 31) - 1])),
    hnp.arrays(np.int32, (4, 9), elements=st.sampled_from([0, 3, (1 << 31) - 1])),
)
def test_overlaps_are_those_of_every_pixel(truth, guess):
    expected: dict[tuple[int, int], int] = {}
    for pair in zip(truth.ravel().tolist(), guess.ravel().tolist(), strict=True):
        expected[pair] = expected.get(pair, 0) + 1
    assert overlaps(truth, guess).as_dict() == expected


@pytest.mark.parametrize("last_id", [0xFFFFFF, 0x1000000, (1 << 31) - 1])
@pytest.mark.parametrize("width", [65535, 65536, 70001])
def test_overlaps_of_ids_and_runs_at_the_ends_of_their_ranges(last_id, width):
    # Runs of 2^16 pixels and more, and ids of more than three bytes, do not fit the short form.
    truth = np.array([[last_id], [0], [last_id]], np.int32).repeat(width, axis=1)
    guess = np.array([[0xFFFFFF], [0xFFFFFF], [1]], np.int32).repeat(width, axis=1)
    shared = overlaps(truth, guess)
    assert shared.truth_ids.tolist() == [0, last_id, last_id]
    assert shared.predicted_ids.tolist() == [0xFFFFFF, 1, 0xFFFFFF]
    assert shared.pixels.tolist() == [width, width, width]


@given(hnp.arrays(np.uint8, st.integers(1, 40), elements=st.integers(0, 2)), st.data())
def test_overlaps_of_any_length(truth, data):
    guess = data.draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, 2)))
    pairs = list(zip(truth.tolist(), guess.tolist(), strict=True))
    shared = overlaps(truth, guess).as_dict()
    assert shared == {pair: pairs.count(pair) for pair in pairs}
    assert list(shared) == sorted(shared)


def test_iou_of_one_half_is_no_match():
    # Intersection 2, union 4: strictly more than one half is needed.
    assert matches("aaa.", {"a": 1}, ".aab", {"a": 1, "b": 2})[0] == {"aa": 2 / 3}
    assert matches("aaa", {"a": 1}, "baa", {"a": 1, "b": 2})[0] == {"aa": 2 / 3}
    assert matches("aaaa", {"a": 1}, "aabb", {"a": 1, "b": 2}) == ({}, "a", "ab", "")


def test_void_in_the_truth_leaves_the_union():
    # Prediction of 4, 1 of it void: intersection 3, union 3.
    assert matches("aaa.", {"a": 1}, "aaaa", {"a": 1})[0] == {"aa": 1.0}
    # Void in the prediction does not: intersection 2, union 3.
    assert matches("aaa", {"a": 1}, "aa.", {"a": 1})[0] == {"aa": 2 / 3}


def test_another_class_is_no_match():
    assert matches("aaa", {"a": 1}, "aaa", {"a": 2}) == ({}, "a", "a", "")


def test_mostly_void_predictions_are_ignored():
    assert matches("a...", {"a": 1}, "bbbb", {"b": 2}) == ({}, "a", "", "b")
    # Exactly half is not more than half.
    assert matches("aa..", {"a": 1}, "bbbb", {"b": 2}) == ({}, "a", "b", "")


def test_crowd_is_never_missed_and_forgives_its_own_class_only():
    assert matches("aaab", {"a": 1, "b": 2}, "cccb", {"c": 1, "b": 2}, "a")[1:] == ("", "", "c")
    assert matches("aaab", {"a": 1, "b": 2}, "cccb", {"c": 2, "b": 2}, "a")[1:] == ("", "c", "")


def test_only_the_last_crowd_of_a_class_forgives():
    truth = {"a": 1, "b": 1}
    assert matches("aaabbb", truth, "ccc...", {"c": 1}, "ab")[1:] == ("", "c", "")
    assert matches("aaabbb", truth, "...ccc", {"c": 1}, "ab")[1:] == ("", "", "c")


def test_three_images_as_panopticapi_counts_them():
    quality = quality_of(IMAGES)
    for class_id, (tp, fp, fn, iou) in quality.counts().items():
        assert (tp, fp, fn) == COUNTS[class_id + 1][:3]
        assert iou == pytest.approx(COUNTS[class_id + 1][3], rel=1e-15)
    result = quality.result()
    for mean, expected in ((result.all, ALL), (result.things, THINGS), (result.stuff, STUFF)):
        assert (mean.pq, mean.sq, mean.rq) == pytest.approx(expected[:3], rel=1e-14)
        assert mean.n == expected[3]


def test_classes_that_never_occur_are_left_out_of_the_mean():
    quality = quality_of([("aab", {"a": 1, "b": 3}, "", "aab", {"a": 1, "b": 3})])
    result = quality.result()
    assert (result.all.pq, result.all.n) == (1.0, 2)
    assert math.isnan(result.per_class[1].pq)


def test_nothing_counted_is_nan_and_reset_forgets():
    quality = quality_of(IMAGES)
    quality.reset()
    assert quality.counts() == {}
    assert math.isnan(quality.result().all.pq)
    assert quality.result().all.n == 0


def test_other_classes_cannot_be_merged():
    with pytest.raises(TaxonomyError, match="cannot be merged"):
        quality_of(IMAGES).merge(PanopticQuality(["x"], [True]))


# Random images: ids 0 to 5 on both sides, the class of id i is classes[i].
PICTURES = hnp.arrays(np.int32, (6, 7), elements=st.integers(0, 5))
CLASSES = st.lists(st.integers(0, 3), min_size=6, max_size=6)


def random_segments(ids, classes):
    present, areas = np.unique(ids[ids > 0], return_counts=True)
    return {int(i): Segment(classes[i], int(a)) for i, a in zip(present, areas, strict=True)}


@given(PICTURES, CLASSES)
def test_a_prediction_equal_to_the_truth_is_perfect(ids, classes):
    quality = PanopticQuality(NAMES, IS_THING)
    found = random_segments(ids, classes)
    quality.update(ids, found, ids, found)
    result = quality.result()
    if found:
        assert (result.all.pq, result.all.sq, result.all.rq) == (1.0, 1.0, 1.0)
        assert (result.all.fp, result.all.fn) == (0, 0)
    else:
        assert math.isnan(result.all.pq)


@given(PICTURES, PICTURES, CLASSES, CLASSES, st.permutations(range(1, 6)))
def test_renaming_ids_changes_nothing(truth, guess, truth_classes, guess_classes, names):
    quality, renamed = (PanopticQuality(NAMES, IS_THING) for _ in range(2))
    true, guessed = random_segments(truth, truth_classes), random_segments(guess, guess_classes)
    quality.update(truth, true, guess, guessed)
    table = np.array([0, *(name * 1000 for name in names)], np.int32)
    renamed.update(
        table[truth],
        {int(table[i]): segment for i, segment in true.items()},
        table[guess],
        {int(table[i]): segment for i, segment in guessed.items()},
    )
    assert renamed.counts() == quality.counts()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(PICTURES, PICTURES, CLASSES, CLASSES), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_any_order_and_any_grouping_give_the_same_bits(images, random):
    in_order = PanopticQuality(NAMES, IS_THING)
    for truth, guess, a, b in images:
        in_order.update(truth, random_segments(truth, a), guess, random_segments(guess, b))
    shuffled = random.sample(images, len(images))
    groups = [PanopticQuality(NAMES, IS_THING) for _ in range(3)]
    for truth, guess, a, b in shuffled:
        group = random.choice(groups)
        group.update(truth, random_segments(truth, a), guess, random_segments(guess, b))
    random.shuffle(groups)
    groups[1].merge(groups[2])
    groups[0].merge(groups[1])
    assert groups[0].counts() == in_order.counts()
    assert str(groups[0].result()) == str(in_order.result())


@pytest.mark.skipif(
    SAMPLE_DATA is None,
    reason="PANOPTICAPI_SAMPLE_DATA does not name panopticapi's folder sample_data (not free to ship)",
)
@pytest.mark.parametrize(
    ("shift", "percent", "counts"),
    [
        (0, (100.0, 100.0, 100.0), (47, 0, 0)),
        (4, (67.2283, 69.9237, 83.4790), (39, 8, 8)),
        (8, (52.6495, 61.2358, 72.2028), (21, 26, 26)),
        (16, (30.6213, 33.8803, 43.7500), (7, 41, 40)),
    ],
)
def test_golden_values_of_shifted_sample_data(shift, percent, counts):
    folder = Path(SAMPLE_DATA or "")
    content = read_annotations(folder / "panoptic_examples.json")
    categories = list(content.categories.values())
    class_ids = {category["id"]: index for index, category in enumerate(categories)}
    quality = PanopticQuality(
        [category["name"] for category in categories],
        [bool(category["isthing"]) for category in categories],
    )
    for annotation in content.annotations:
        truth = read_ids(folder / "panoptic_examples" / annotation["file_name"])
        guess = np.roll(truth, shift, axis=1)
        areas = overlaps(truth, guess).predicted_areas()
        quality.update(
            truth,
            {
                s["id"]: Segment(class_ids[s["category_id"]], s["area"], s["iscrowd"] == 1)
                for s in annotation["segments_info"]
            },
            guess,
            {
                s["id"]: Segment(class_ids[s["category_id"]], areas[s["id"]])
                for s in annotation["segments_info"]
            },
        )
    mean = quality.result().all
    assert (100 * mean.pq, 100 * mean.sq, 100 * mean.rq) == pytest.approx(percent, abs=5e-5)
    assert (mean.tp, mean.fp, mean.fn, mean.n) == (*counts, 8)
