import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_panoptic_core.datasets.outlines import outlined_region, polygon_mask
from rt_panoptic_core.errors import DatasetError

SIZE = (7, 9)
# What COCO's own tool makes of RING: the numbers, and the text that it shortens them to.
RING = np.zeros(SIZE, bool)
RING[2:5, 3:8] = True
RING[3, 5] = False
RING_LENGTHS = [23, 3, 4, 3, 4, 1, 1, 1, 4, 3, 4, 3, 9]
RING_TEXT = "g03400NM032005"


def whole(region, size=SIZE):
    picture = np.zeros(size, bool)
    region.of(picture)[region.mask] = True
    return picture


def test_run_lengths_go_down_the_columns():
    for counts in (RING_LENGTHS, RING_TEXT):
        region = outlined_region({"size": list(SIZE), "counts": counts}, SIZE)
        assert (whole(region) == RING).all()


def test_a_polygon_takes_the_pixels_whose_centres_are_inside():
    picture = whole(outlined_region([[1, 1, 4, 1, 4, 3, 1, 3]], SIZE))
    assert np.argwhere(picture).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    # A shift by less than half a pixel changes nothing, by more one column.
    for shift, left in ((0.4, 1), (0.6, 2)):
        moved = whole(
            outlined_region([[1 + shift, 1, 4 + shift, 1, 4 + shift, 3, 1 + shift, 3]], SIZE)
        )
        assert np.flatnonzero(moved.any(axis=0)).tolist() == [left, left + 1, left + 2]


def test_parts_belong_together_and_what_sticks_out_is_cut_off():
    square = [-5, -5, 2, -5, 2, 2, -5, 2]
    picture = whole(outlined_region([square, [7, 5, 99, 5, 99, 99, 7, 99]], SIZE))
    assert picture[:2, :2].all()
    assert picture[5:, 7:].all()
    assert picture.sum() == 8
    assert not whole(outlined_region([[20, 20, 30, 20, 30, 30]], SIZE)).any()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=12))
def test_inside_is_where_a_ray_crosses_an_odd_number_of_edges(corners):
    mask = polygon_mask(np.array(corners, dtype=np.float64), (20, 20))
    expected = np.zeros((20, 20), bool)
    for row in range(20):
        y = row + 0.5
        crossings = [
            x1 + (y - y1) / (y2 - y1) * (x2 - x1)
            for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True)
            if (y1 <= y) != (y2 <= y)
        ]
        for column in range(20):
            expected[row, column] = sum(x <= column + 0.5 for x in crossings) % 2
    near = np.abs(mask ^ expected).sum()
    # A crossing that falls on a centre may be rounded to either side.
    assert near <= 1


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([], "no outline"),
        (None, "no outline"),
        ("M 1 1", "no outline"),
        ([[1, 2, 3, 4]], "three corners"),
        ([[1, 2, 3, 4, 5, 6, 7]], "three corners"),
        ([[1, 2, 3, 4, 5, float("nan")]], "three corners"),
        ([[1, 2, 3, 4, 5, "6"]], "three corners"),
        ([[1, 2, 3, 4, 5, True]], "three corners"),
        ([[1, 2, 3, 4, 5, 10**400]], "three corners"),
        ([[-1e308, -1e308, 1e308, -1e308, 1e308, 1e308]], "three corners"),
        ([1, 2, 3, 4, 5, 6], "three corners"),
        ({"size": [9, 7], "counts": RING_LENGTHS}, r"\[9, 7\], not \[7, 9\]"),
        ({"size": [7, 9]}, "do not add up"),
        ({"size": [7, 9], "counts": [1, 2]}, "do not add up"),
        ({"size": [7, 9], "counts": [64, -1]}, "do not add up"),
        ({"size": [7, 9], "counts": [10**30]}, "do not add up"),
        ({"size": [7, 9], "counts": RING_TEXT[:-1]}, "do not add up"),
        ({"size": [7, 9], "counts": RING_TEXT + "o"}, "do not add up"),
        ({"size": [7, 9], "counts": "ä"}, "do not add up"),
        ({"size": [7, 9], "counts": "o" * 10_000}, "do not add up"),
    ],
)
def test_what_makes_no_sense_is_refused(segmentation, words):
    with pytest.raises(DatasetError, match=words):
        outlined_region(segmentation, SIZE)


def test_corners_far_away_cost_nothing():
    low, high = -99_999_999, 99_999_999.5
    region = outlined_region([[low, low, high, low, high, high, low, high]], SIZE)
    assert whole(region).all()
