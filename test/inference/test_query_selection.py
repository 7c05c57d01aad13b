import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_panoptic_core.inference.boxes import box_iou
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.query_selection import (
    Detected,
    fixed_suppression,
    greedy_suppression,
    level_candidates,
    select_candidates,
    select_queries,
)

PUBLISHED = InferenceConfig.preset("published")


def logit(probability):
    return math.log(probability / (1 - probability))


def level(probabilities, centerness, offsets=(1.0, 1.0, 1.0, 1.0)):
    """(box_logits, box_offsets, centerness) from probabilities [T][h][w] and [h][w]."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    c = torch.tensor(centerness, dtype=torch.float64)
    o = torch.tensor(offsets).reshape(4, 1, 1).expand(4, *c.shape)
    return torch.logit(p).float(), o, torch.logit(c).float().unsqueeze(0)


def by_score(detected):
    order = detected.scores.argsort(descending=True)
    alive = [i for i in order.tolist() if detected.scores[i] > 0]
    return [
        (round(detected.scores[i].item(), 4), detected.things[i].item(), detected.boxes[i].tolist())
        for i in alive
    ]


def test_the_threshold_comes_before_centerness_and_no_root_is_taken():
    """0.07 * 0.1 stays though it is below 0.06; 0.05 * 0.9 goes though its score is higher."""
    found = level_candidates(*level([[[0.07, 0.05]]], [[0.1, 0.9]]), 8, PUBLISHED)
    assert by_score(found) == [(0.007, 0, [3, 3, 5, 5])]


def test_a_location_may_stand_for_several_classes():
    found = level_candidates(*level([[[0.5]], [[0.02]], [[0.4]]], [[0.5]]), 16, PUBLISHED)
    assert by_score(found) == [(0.25, 0, [7, 7, 9, 9]), (0.2, 2, [7, 7, 9, 9])]


def test_boxes_are_decoded_at_the_levels_locations():
    found = level_candidates(
        *level([[[0.01, 0.01], [0.01, 0.9]]], [[0.5] * 2] * 2, (1.0, 2.0, 3.0, 4.0)), 32, PUBLISHED
    )
    # Column 1, row 1 at stride 32: (48, 48).
    assert by_score(found) == [(0.45, 0, [47, 46, 51, 52])]


def test_at_most_so_many_candidates_a_level():
    probabilities = torch.linspace(0.1, 0.9, 12).reshape(1, 3, 4).tolist()
    config = InferenceConfig.preset("published", candidates_per_level=5)
    found = level_candidates(*level(probabilities, [[0.5] * 4] * 3), 8, config)
    expected = torch.linspace(0.1, 0.9, 12)[-5:] * 0.5
    torch.testing.assert_close(found.scores.sort().values, expected, atol=1e-5, rtol=0)


def test_levels_are_merged_by_score_and_clipped_to_the_image():
    levels = [
        level([[[0.3, 0.9]]], [[0.5, 0.5]], (100.0,) * 4),
        level([[[0.8]]], [[0.5]], (2.0,) * 4),
    ]
    found = select_candidates(
        [x[0] for x in levels],
        [x[1] for x in levels],
        [x[2] for x in levels],
        (8, 16),
        (10, 16),
        PUBLISHED,
    )
    assert found.scores.tolist() == pytest.approx([0.45, 0.4, 0.15], abs=1e-6)
    assert found.boxes.tolist() == [[0, 0, 15, 9], [6, 6, 10, 9], [0, 0, 15, 9]]


def detected(*rows):
    """Candidates from (score, thing, x1, y1, x2, y2) by falling score."""
    values = torch.tensor([[float(v) for v in row] for row in rows])
    return Detected(values[:, 2:], values[:, 1].long(), values[:, 0])


def queries(candidates, **changes):
    found = select_queries(candidates, InferenceConfig.preset("published", **changes))
    return [round(s, 4) for s in found.scores.tolist() if s > 0]


def test_weaker_boxes_of_a_class_that_overlap_are_suppressed():
    # Two boxes of 10 x 10 shifted by 2: IoU 80 / 120 = 0.67; by 3: 70 / 130 = 0.54.
    candidates = detected(
        (0.9, 0, 0, 0, 10, 10),
        (0.8, 0, 2, 0, 12, 10),
        (0.7, 0, -3, 0, 7, 10),
        (0.6, 1, 2, 0, 12, 10),
    )
    assert queries(candidates) == [0.9, 0.7, 0.6]
    assert queries(candidates, nms_threshold=0.5) == [0.9, 0.6]
    # The last is equal to the second but for its class: that one goes over all classes.
    assert queries(candidates, nms_threshold=0.7) == [0.9, 0.8, 0.7]


def test_a_suppressed_box_suppresses_nothing():
    # b overlaps a, c overlaps b but not a: c stays.
    candidates = detected((0.9, 0, 0, 0, 10, 10), (0.8, 0, 2, 0, 12, 10), (0.7, 0, 4, 0, 14, 10))
    assert queries(candidates) == [0.9, 0.7]


def test_an_iou_at_the_threshold_does_not_suppress():
    # IoU exactly 60 / 100.
    candidates = detected((0.9, 0, 0, 0, 10, 10), (0.8, 0, 0, 0, 6, 10))
    assert queries(candidates) == [0.9, 0.8]


def test_nearly_equal_boxes_of_two_classes_leave_one():
    # 98 / 100 = 0.98 is above 0.97; 96 / 100 is not.
    candidates = detected((0.9, 0, 0, 0, 100, 10), (0.8, 1, 0, 0, 98, 10), (0.7, 2, 0, 0, 96, 10))
    assert queries(candidates) == [0.9, 0.7]


def test_the_best_hundred_are_left_padded_with_nothing():
    rows = [(1 - i / 200, 0, 20 * i, 0, 20 * i + 10, 10) for i in range(120)]
    config = InferenceConfig.preset("published")
    found = select_queries(detected(*rows), config)
    assert found.scores.tolist() == pytest.approx([row[0] for row in rows[:100]])
    few = select_queries(detected(*rows[:3]), config)
    assert few.boxes.shape == (100, 4)
    assert few.things.shape == few.scores.shape == (100,)
    assert (few.scores > 0).sum() == 3
    assert not few.scores[3:].any()


def test_candidates_of_score_zero_are_no_queries_and_suppress_nothing():
    candidates = detected((0.9, 0, 0, 0, 10, 10), (0.0, 0, 50, 0, 60, 10), (0.0, 0, 50, 0, 60, 10))
    assert queries(candidates) == [0.9]


boxes = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.integers(1, 30)).map(
        lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=100)
@given(boxes, st.sampled_from([0.1, 0.3, 0.6, 0.97]))
def test_fixed_suppression_equals_greedy_with_as_many_rounds_as_boxes(rows, threshold):
    values = torch.tensor(rows, dtype=torch.float32)
    overlaps = box_iou(values, values) > threshold
    alive = torch.ones(len(rows), dtype=torch.bool)
    expected = greedy_suppression(overlaps, alive)
    assert torch.equal(fixed_suppression(overlaps, alive, len(rows)), expected)


@settings(max_examples=100)
@given(boxes, st.data())
def test_twelve_rounds_are_enough_for_crowds(rows, data):
    """Forty boxes within 70 pixels at the method's threshold."""
    values = torch.tensor(rows, dtype=torch.float32)
    overlaps = box_iou(values, values) > 0.6
    alive = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    expected = greedy_suppression(overlaps, alive)
    assert torch.equal(fixed_suppression(overlaps, alive, 12), expected)


@given(st.integers(1, 30))
def test_a_chain_needs_as_many_rounds_as_it_has_links(length):
    """Each box overlaps the one before only: greedy keeps every second."""
    overlaps = torch.eye(length, dtype=torch.bool)
    for row in range(1, length):
        overlaps[row, row - 1] = overlaps[row - 1, row] = True
    alive = torch.ones(length, dtype=torch.bool)
    expected = [row % 2 == 0 for row in range(length)]
    assert greedy_suppression(overlaps, alive).tolist() == expected
    assert fixed_suppression(overlaps, alive, length).tolist() == expected


def test_greedy_by_hand():
    overlaps = torch.tensor(
        [
            [True, True, False, False],
            [True, True, True, False],
            [False, True, True, True],
            [False, False, True, True],
        ]
    )
    everyone = torch.ones(4, dtype=torch.bool)
    assert greedy_suppression(overlaps, everyone).tolist() == [True, False, True, False]
    without_first = torch.tensor([False, True, True, True])
    assert greedy_suppression(overlaps, without_first).tolist() == [False, True, False, True]
