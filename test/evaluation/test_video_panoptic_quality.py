"""Video panoptic quality on films of a few pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation_pictures import id_map

from rt_panoptic_core.errors import ConfigError, TaxonomyError
from rt_panoptic_core.evaluation.overlaps import Segment
from rt_panoptic_core.evaluation.panoptic_quality import PanopticQuality
from rt_panoptic_core.evaluation.video_panoptic_quality import VideoPanopticQuality

# Class 0 is a car, class 1 is road; letters from "r" on are road.
NAMES, IS_THING = ("car", "road"), (True, False)


def parts(text: str) -> tuple[np.ndarray, dict[int, Segment]]:
    ids = id_map(text)
    values, areas = np.unique(ids[ids > 0], return_counts=True)
    segments = {
        int(v): Segment(int(v >= ord("r")), int(a)) for v, a in zip(values, areas, strict=True)
    }
    return ids, segments


def film(measure: VideoPanopticQuality, *frames: tuple[str, str]) -> None:
    measure.start_sequence()
    for truth, guess in frames:
        measure.update(*parts(truth), *parts(guess))


def test_windows_of_one_frame_are_panoptic_quality():
    frames = [("aarrr", "aaarr"), ("rraaa", "rrraa"), ("bbrrr", "rrrrr")]
    video = VideoPanopticQuality(NAMES, IS_THING, windows=(1,))
    film(video, *frames)
    still = PanopticQuality(NAMES, IS_THING)
    for truth, guess in frames:
        still.update(*parts(truth), *parts(guess))
    assert str(video.result().windows[1]) == str(still.result())


def test_a_changed_id_breaks_the_tube_but_no_frame():
    measure = VideoPanopticQuality(NAMES, IS_THING, windows=(1, 2))
    film(measure, ("aarr", "aarr"), ("aarr", "bbrr"))
    windows = measure.result().windows
    assert windows[1].all.pq == 1.0
    # The true car has 4 pixels; two predicted tubes share 2 of them each: IoU one half is no match.
    assert (windows[2].per_class[0].tp, windows[2].per_class[0].fp) == (0, 2)
    assert windows[2].per_class[0].fn == 1
    assert windows[2].per_class[1].pq == 1.0
    result = measure.result()
    assert result.things == pytest.approx((1.0 + 0.0) / 2)
    assert result.stuff == 1.0
    assert result.vpq == pytest.approx((1.0 + 0.5) / 2)


def test_iou_is_over_all_pixels_of_the_window():
    # Frame 1: intersection 1, union 4; frame 2: 4 of 4. Together 5 of 8: a match, as frame 1 is not.
    measure = VideoPanopticQuality(NAMES, IS_THING, windows=(2,))
    film(measure, ("aaaarr", "arrrrr"), ("aaaarr", "aaaarr"))
    car = measure.result().windows[2].per_class[0]
    assert (car.tp, car.sq) == (1, 5 / 8)


def test_an_id_that_changes_its_class_is_two_tubes():
    measure = VideoPanopticQuality(NAMES, IS_THING, windows=(2,))
    measure.start_sequence()
    ids = id_map("aa")
    car, road = {ord("a"): Segment(0, 2)}, {ord("a"): Segment(1, 2)}
    measure.update(ids, car, ids, car)
    measure.update(ids, car, ids, road)
    window = measure.result().windows[2]
    assert (window.per_class[0].tp, window.per_class[0].fp, window.per_class[0].fn) == (0, 1, 1)
    assert window.per_class[1].fp == 1


def test_windows_slide_and_never_cross_sequences():
    measure = VideoPanopticQuality(NAMES, IS_THING, windows=(1, 3, 4))
    film(measure, *[("aarr", "aarr")] * 4)
    film(measure, *[("aarr", "aarr")] * 2)
    windows = measure.result().windows
    assert [windows[k].per_class[0].tp for k in (1, 3, 4)] == [6, 2, 1]


def test_a_sequence_too_short_for_a_window_adds_nothing():
    measure = VideoPanopticQuality(NAMES, IS_THING, windows=(1, 5))
    film(measure, ("aarr", "aarr"))
    result = measure.result()
    assert math.isnan(result.windows[5].all.pq)
    assert result.vpq == 1.0


def test_merge_is_the_sum_of_sequences_and_reset_forgets():
    one, two, both = (VideoPanopticQuality(NAMES, IS_THING, windows=(1, 2)) for _ in range(3))
    first, second = [("aarr", "aaar"), ("raar", "raar")], [("brrr", "crrr"), ("bbrr", "ccrr")]
    film(one, *second)
    film(two, *first)
    film(both, *first)
    film(both, *second)
    one.merge(two)
    assert str(one.result()) == str(both.result())
    one.reset()
    assert math.isnan(one.result().vpq)
    with pytest.raises(TaxonomyError, match="windows"):
        one.merge(VideoPanopticQuality(NAMES, IS_THING, windows=(1,)))


@pytest.mark.parametrize("windows", [(), (0, 1)])
def test_windows_without_a_frame_are_refused(windows):
    with pytest.raises(ConfigError, match="1 frame"):
        VideoPanopticQuality(NAMES, IS_THING, windows=windows)
