import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rt_panoptic_core.inference.boxes import (
    box_correlation,
    box_iou,
    clip_to_image,
    decode,
    guarded_giou,
)

# Multiples of 1/8 are exact in float32, so that equal is equal.
coordinates = st.integers(-8 * 500, 8 * 500).map(lambda v: v / 8)
sides = st.integers(1, 8 * 400).map(lambda v: v / 8)
boxes = st.tuples(coordinates, coordinates, sides, sides).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)


def iou(a, b):
    return box_iou(torch.tensor([a]), torch.tensor([b])).item()


def giou(a, b):
    return guarded_giou(torch.tensor([a]), torch.tensor([b])).item()


def test_iou_by_hand():
    a = torch.tensor([[0.0, 0, 10, 10], [5, 5, 15, 15]])
    b = torch.tensor([[0.0, 0, 10, 10], [0, 0, 5, 10], [10, 0, 20, 10]])
    # Row 1 and column 0: 25 of 100 + 100 - 25; row 1 and column 1: touching at one line; column 2: 5 x 5.
    expected = [[1, 0.5, 0], [25 / 175, 0, 25 / 175]]
    torch.testing.assert_close(box_iou(a, b), torch.tensor(expected))


def test_boxes_are_continuous():
    """No pixel is added to a width: 2 wide and 1 wide, half of it shared."""
    assert iou((0.0, 0, 2, 1), (1.0, 0, 2, 1)) == pytest.approx(0.5)


def test_iou_of_boxes_without_area_is_zero():
    assert iou((3.0, 3, 3, 9), (3.0, 3, 3, 9)) == 0
    assert iou((3.0, 3, 3, 9), (0.0, 0, 10, 10)) == 0


def test_published_correlation_by_hand():
    # Equal boxes: (I + 1) / (U + 1) - (C - U) / C with I = U = 100 and C = 100 + 1e-7.
    assert giou((0.0, 0, 10, 10), (0.0, 0, 10, 10)) == pytest.approx(1)
    # I = 50, U = 100, C = 100: 51 / 101.
    assert giou((0.0, 0, 10, 10), (0.0, 0, 5, 10)) == pytest.approx(51 / 101)
    # I = 25, U = 175, C = 225: 26 / 176 - 50 / 225.
    assert giou((0.0, 0, 10, 10), (5.0, 5, 15, 15)) == pytest.approx(26 / 176 - 50 / 225)
    # Apart: I = 0, U = 200, C = 400: 1 / 201 - 200 / 400. Negative, so no mask.
    assert giou((0.0, 0, 10, 10), (30.0, 0, 40, 10)) == pytest.approx(1 / 201 - 0.5)
    # The guards: two empty boxes in one place, I = U = 0 and C = 1e-7: 1 / 1 - 1.
    assert giou((3.0, 3, 3, 3), (3.0, 3, 3, 3)) == pytest.approx(0)


def test_correlation_by_name():
    a, b = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 5, 15, 15]])
    assert torch.equal(box_correlation(a, b, "iou"), box_iou(a, b))
    assert torch.equal(box_correlation(a, b, "giou"), guarded_giou(a, b))


@given(boxes, boxes)
def test_iou_is_symmetric_and_within_bounds(a, b):
    assert iou(a, b) == iou(b, a)
    assert 0 <= iou(a, b) <= 1
    assert giou(a, b) == giou(b, a)
    assert -1 < giou(a, b) <= 1


@given(boxes)
def test_a_box_overlaps_itself_fully(a):
    assert iou(a, a) == pytest.approx(1, abs=1e-6)
    assert giou(a, a) == pytest.approx(1, abs=1e-5)


@given(boxes, boxes, coordinates, coordinates)
def test_iou_does_not_depend_on_the_place(a, b, dx, dy):
    def move(box):
        return (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)

    assert iou(move(a), move(b)) == pytest.approx(iou(a, b), abs=1e-6)
    assert giou(move(a), move(b)) == pytest.approx(giou(a, b), abs=1e-5)


@given(boxes, boxes)
def test_iou_equals_counting_cells(a, b):
    """Against exact arithmetic in units of 1/8."""
    x1, y1, x2, y2 = (round(8 * v) for v in a)
    u1, v1, u2, v2 = (round(8 * v) for v in b)
    inter = max(0, min(x2, u2) - max(x1, u1)) * max(0, min(y2, v2) - max(y1, v1))
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - inter
    assert iou(a, b) == pytest.approx(inter / union, abs=1e-6)
    around = (max(x2, u2) - min(x1, u1)) * (max(y2, v2) - min(y1, v1))
    expected = (inter / 64 + 1) / (union / 64 + 1) - (around - union) / around
    assert giou(a, b) == pytest.approx(expected, abs=1e-5)


@given(boxes, boxes)
def test_giou_is_at_most_iou_where_the_guard_does_not_matter(a, b):
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    assert giou(a, b) <= iou(a, b) + 2 / (1 + area / 2)


@given(boxes, coordinates, coordinates)
def test_decode_inverts_the_offsets_of_eq_8(box, x, y):
    location = torch.tensor([x, y])
    offsets = torch.tensor([x - box[0], y - box[1], box[2] - x, box[3] - y])
    assert decode(location, offsets).tolist() == list(box)


def test_decode_by_hand():
    locations = torch.tensor([[4.0, 4], [12, 4]])
    offsets = torch.tensor([[1.0, 2, 3, 4], [12, 4, 0.5, 0]])
    assert decode(locations, offsets).tolist() == [[3, 2, 7, 8], [0, 0, 12.5, 4]]


def test_query_boxes_are_clipped_to_the_last_pixel():
    """[0, W - 1] x [0, H - 1], as published."""
    box = torch.tensor([[-5.0, -1, 700, 300], [3, 4, 5, 6], [900, 500, 950, 600]])
    assert clip_to_image(box, 200, 640).tolist() == [
        [0, 0, 639, 199],
        [3, 4, 5, 6],
        [639, 199, 639, 199],
    ]


def test_nan_stays_where_it_is():
    a = torch.tensor([[0.0, 0, 10, 10], [math.nan, 0, 10, 10]])
    assert box_iou(a, a)[0, 0] == 1
