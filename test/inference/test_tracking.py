import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.inference.tracking import MAX_ID, InstanceTracker

CAR, PERSON, ROAD = 13, 11, 0
SIZE = (120, 240)


def frame(*objects, size=SIZE):
    """Result with rectangles ``(x1, y1, x2, y2)`` or ``(class_id, x1, y1, x2, y2)``, ids from 1."""
    semantic = np.full(size, ROAD, dtype=np.uint8)
    instance = np.zeros(size, dtype=np.uint16)
    segments = []
    for number, item in enumerate(objects, start=1):
        class_id, x1, y1, x2, y2 = item if len(item) == 5 else (CAR, *item)
        semantic[max(y1, 0) : y2, max(x1, 0) : x2] = class_id
        instance[max(y1, 0) : y2, max(x1, 0) : x2] = number
        box = (float(x1), float(y1), float(x2), float(y2))
        area = int((instance == number).sum())
        segments.append(Segment(number, class_id, True, 1 - number / 100, area, box))
    segments.append(Segment(0, ROAD, False, 1.0, int((semantic == ROAD).sum()), None))
    return PanopticResult(semantic, instance, segments)


def ids(result):
    return [segment.id for segment in result.instances]


def test_ids_stay_when_the_order_of_instances_changes():
    tracker = InstanceTracker()
    assert ids(tracker.update(frame((10, 10, 50, 40), (100, 10, 140, 40)))) == [1, 2]
    second = tracker.update(frame((102, 10, 142, 40), (12, 10, 52, 40)))
    assert ids(second) == [2, 1]
    assert second.instance[20, 120] == 2
    assert second.instance[20, 30] == 1
    assert second.instance[100, 100] == 0


def test_result_is_complete_and_the_input_is_left_alone():
    tracker = InstanceTracker()
    tracker.update(frame((10, 10, 50, 40)))
    given_result = frame((100, 10, 140, 40), (10, 10, 50, 40))
    before = given_result.instance.copy()
    result = tracker.update(given_result)
    assert ids(result) == [2, 1]
    assert np.array_equal(given_result.instance, before)
    assert ids(given_result) == [1, 2]
    assert result.semantic is given_result.semantic
    assert result.instance.dtype == np.uint16
    assert result.segments[-1] == given_result.segments[-1]
    assert [s.score for s in result.segments] == [s.score for s in given_result.segments]
    for segment in result.instances:
        assert (result.instance == segment.id).sum() == segment.area


def test_a_new_object_gets_a_new_id():
    tracker = InstanceTracker()
    tracker.update(frame((10, 10, 50, 40)))
    assert ids(tracker.update(frame((180, 60, 220, 90), (10, 10, 50, 40)))) == [2, 1]


def test_another_class_is_another_object():
    tracker = InstanceTracker()
    tracker.update(frame((CAR, 10, 10, 50, 40)))
    assert ids(tracker.update(frame((PERSON, 10, 10, 50, 40)))) == [2]


def test_an_object_out_of_sight_is_remembered_for_a_while():
    tracker = InstanceTracker(memory=0.25)
    tracker.update(frame((10, 10, 50, 40)), time=5.0)
    tracker.update(frame(), time=5.1)
    assert ids(tracker.update(frame((10, 10, 50, 40)), time=5.25)) == [1]
    tracker.update(frame(), time=5.3)
    assert ids(tracker.update(frame((10, 10, 50, 40)), time=5.51)) == [2]


def test_frames_without_times_are_a_tenth_of_a_second_apart():
    tracker = InstanceTracker(memory=0.25)
    tracker.update(frame((10, 10, 50, 40)))
    tracker.update(frame())
    assert ids(tracker.update(frame((10, 10, 50, 40)))) == [1]
    for _ in range(2):
        tracker.update(frame())
    assert ids(tracker.update(frame((10, 10, 50, 40)))) == [2]


def test_a_slow_camera_breaks_no_track():
    """What was in the frame before is continued however short the memory, for two seconds."""
    tracker = InstanceTracker(memory=0.0)
    tracker.update(frame((10, 10, 50, 40)), time=5.0)
    assert ids(tracker.update(frame((10, 10, 50, 40)), time=7.0)) == [1]
    assert ids(tracker.update(frame((10, 10, 50, 40)), time=9.1)) == [2]


def test_memory_may_change_between_frames():
    tracker = InstanceTracker()
    tracker.update(frame((10, 10, 50, 40)), time=5.0)
    tracker.update(frame(), time=5.1)
    tracker.memory = 0.2
    assert ids(tracker.update(frame((10, 10, 50, 40)), time=5.3)) == [2]
    with pytest.raises(ValueError, match="0 or more seconds"):
        tracker.memory = float("nan")


def test_an_object_is_found_where_its_velocity_leads_behind_an_obstacle():
    tracker = InstanceTracker()
    for step in range(3):
        tracker.update(frame((10 + 20 * step, 10, 40 + 20 * step, 40)))
    for _ in range(4):
        tracker.update(frame())
    # Seven steps after the start: 150. Without the velocity it would be sought at 50.
    assert ids(tracker.update(frame((150, 10, 180, 40)))) == [1]


def test_times_scale_the_velocity():
    tracker = InstanceTracker()
    for step in range(3):
        tracker.update(frame((10 + 10 * step, 10, 30 + 10 * step, 40)), time=100 + 0.1 * step)
    # Half a second later at 100 pixels per second.
    assert ids(tracker.update(frame((80, 10, 100, 40)), time=100.7)) == [1]


def test_a_fast_small_object_is_found_though_its_boxes_do_not_meet():
    # Boxes of 10 x 40, mean side 20, at 10 and 45. Widened by 20 to each side they are 50 x 80 and share
    # a width of 15: 15 / (50 + 50 - 15) is 0.18.
    tracker = InstanceTracker(min_box_overlap=0.17)
    tracker.update(frame((10, 10, 20, 50)))
    assert ids(tracker.update(frame((45, 10, 55, 50)))) == [1]
    tracker = InstanceTracker(min_box_overlap=0.18)
    tracker.update(frame((10, 10, 20, 50)))
    assert ids(tracker.update(frame((45, 10, 55, 50)))) == [2]


def test_who_is_nearer_goes_before_who_is_far():
    """The far reach is tried only with what the near one leaves over."""
    tracker = InstanceTracker()
    tracker.update(frame((10, 10, 20, 30), (21, 10, 31, 30)))
    # Both moved on by 5; each is also within far reach of the other.
    assert ids(tracker.update(frame((26, 10, 36, 30), (15, 10, 25, 30)))) == [2, 1]


def test_all_are_paired_together_and_not_the_best_pair_first():
    """Two people walk on by 10: the second comes nearer to where the first was than to where it was."""
    tracker = InstanceTracker()
    tracker.update(frame((40, 10, 50, 50), (22, 10, 32, 50)))
    # Widened to 22: moved by 10 they share 12 of 32, 0.375 each. 32 and 40 share 14 of 30, 0.47, and
    # 2 of 18 of their masks: more than each, less than both.
    assert ids(tracker.update(frame((50, 10, 60, 50), (32, 10, 42, 50)))) == [1, 2]


def test_who_is_new_is_moved_on_as_the_camera_moves():
    """A camera that turns: all known objects move by 40 a frame, and so does the newcomer."""
    places = [(40 + 70 * i, 10 + 5 * i, 60 + 70 * i, 30 + 5 * i) for i in range(5)]

    def turned(by, boxes):
        return [(x1 + by, y1, x2 + by, y2) for x1, y1, x2, y2 in boxes]

    tracker = InstanceTracker()
    size = (120, 640)
    by = 0
    # Slowly at first, so that they are followed at all.
    for step, faster in enumerate((0, 5, 15, 25, 35, 40)):
        by += faster
        last = tracker.update(frame(*turned(by, places), size=size), time=0.1 * step)
    newcomer = (20, 80, 30, 90)
    first = tracker.update(frame(*turned(by + 40, places), newcomer, size=size), time=0.6)
    assert ids(first)[:5] == ids(last)
    # 40 is four times its width: out of reach but for the camera's motion.
    moved = turned(40, [newcomer])
    second = tracker.update(frame(*turned(by + 80, places), *moved, size=size), time=0.7)
    assert ids(second) == ids(first)


def test_masks_tell_apart_what_boxes_cannot():
    """Two instances of one box, left and right halves of it, in either order."""
    box = (40.0, 40.0, 80.0, 80.0)

    def halves(order):
        instance = np.zeros(SIZE, dtype=np.uint16)
        instance[40:80, 40:60], instance[40:80, 60:80] = order
        semantic = np.where(instance > 0, CAR, ROAD).astype(np.uint8)
        segments = [Segment(i, CAR, True, 0.9, 800, box) for i in (1, 2)]
        return PanopticResult(semantic, instance, segments)

    tracker = InstanceTracker()
    assert tracker.update(halves((1, 2))).instance[50, 50] == 1
    assert tracker.update(halves((2, 1))).instance[50, 50] == 1


def test_who_was_seen_last_goes_before_who_comes_back():
    tracker = InstanceTracker()
    tracker.update(frame((100, 10, 140, 40)))
    tracker.update(frame((10, 10, 50, 40)))
    for x in (40, 70):
        result = tracker.update(frame((x, 10, x + 40, 40)))
    assert ids(result) == [2]
    # Exactly on the lost object's place, but the moving one must be there by now as well.
    assert ids(tracker.update(frame((100, 10, 140, 40)))) == [2]


def test_each_track_is_continued_once():
    tracker = InstanceTracker()
    tracker.update(frame((10, 10, 50, 40)))
    assert sorted(ids(tracker.update(frame((8, 10, 48, 40), (14, 10, 54, 40))))) == [1, 2]


@pytest.mark.parametrize("second", [4.7, 7.1], ids=["back", "long gap"])
def test_time_that_jumps_begins_a_new_scene(second):
    tracker = InstanceTracker()
    tracker.update(frame((10, 10, 50, 40)), time=5.0)
    assert ids(tracker.update(frame((10, 10, 50, 40)), time=second)) == [2]


@pytest.mark.parametrize("second", [5.0, 4.9], ids=["the same moment", "out of order"])
def test_frames_of_one_moment_or_out_of_order_continue(second):
    tracker = InstanceTracker()
    for step in range(3):
        tracker.update(frame((10 + 10 * step, 10, 30 + 10 * step, 40)), time=4.8 + 0.1 * step)
    assert ids(tracker.update(frame((32, 10, 52, 40)), time=second)) == [1]
    # The velocity of 100 pixels a second is unharmed: 0.4 s later it is found 40 pixels on.
    assert ids(tracker.update(frame((70, 10, 90, 40)), time=5.4)) == [1]


def test_another_image_size_begins_a_new_scene():
    tracker = InstanceTracker()
    tracker.update(frame((10, 10, 50, 40)))
    assert ids(tracker.update(frame((10, 10, 50, 40), size=(100, 200)))) == [2]
    assert ids(tracker.update(frame((10, 10, 50, 40), size=(100, 200)))) == [2]


def test_forgetting_begins_a_new_scene_and_ids_go_on():
    tracker = InstanceTracker()
    tracker.update(frame((10, 10, 50, 40)))
    tracker.forget()
    assert ids(tracker.update(frame((10, 10, 50, 40)))) == [2]


def test_reset_forgets():
    tracker = InstanceTracker()
    tracker.update(frame((10, 10, 50, 40)))
    tracker.update(frame((180, 10, 220, 40)))
    tracker.reset()
    assert ids(tracker.update(frame((180, 10, 220, 40)))) == [1]


def test_ids_begin_anew_after_the_last_one_and_leave_out_those_in_use():
    tracker = InstanceTracker(memory=0.0)
    steady = (10, 80, 60, 110)
    tracker.update(frame(steady))
    tracker._next_id = MAX_ID
    assert ids(tracker.update(frame(steady, (10, 10, 50, 40)))) == [1, MAX_ID]
    assert ids(tracker.update(frame(steady, (180, 10, 220, 40)))) == [1, 2]
    assert tracker.update(frame(steady)).instance[90, 30] == 1


def test_no_id_is_given_again_before_all_others_were():
    """Flicker: a hundred new objects in each frame, for as many frames as use up all ids and more."""
    tracker = InstanceTracker(memory=10.0)
    given_last: dict[int, int] = {}
    count = 0
    boxes = [(x, y, x + 4, y + 4) for x in range(0, 240, 24) for y in range(0, 120, 12)]
    for step in range(MAX_ID // 100 + 20):
        # Of another class each time, so that none is continued.
        result = tracker.update(frame(*((step % 19, *box) for box in boxes)), time=0.1 * step)
        for number in ids(result):
            count += 1
            assert count - given_last.get(number, -MAX_ID) >= MAX_ID - 2000
            given_last[number] = count
    assert len(given_last) == MAX_ID


@pytest.mark.parametrize("number", [3, 300], ids=["few", "more than a byte"])
def test_pixels_of_no_segment_become_none(number):
    given_result = frame((10, 10, 50, 40))
    given_result.instance[100:110, 100:110] = number
    result = InstanceTracker().update(given_result)
    assert (result.instance[100:110, 100:110] == 0).all()
    assert (result.instance[10:40, 10:50] == 1).all()


def test_an_instance_without_a_box_is_found_by_its_mask():
    tracker = InstanceTracker()
    first = frame((10, 10, 50, 40))
    boxless = [Segment(1, CAR, True, 0.9, 1200, None), *first.segments[1:]]
    result = PanopticResult(first.semantic, first.instance, boxless)
    assert ids(tracker.update(result)) == [1]
    assert ids(tracker.update(result)) == [1]


@pytest.mark.parametrize(
    "options", [{"memory": -1.0}, {"min_box_overlap": 0}, {"min_mask_overlap": 1.5}]
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        InstanceTracker(**options)


rectangles = st.tuples(
    st.sampled_from([CAR, PERSON]),
    st.integers(-10, 200),
    st.integers(-10, 80),
    st.integers(4, 60),
    st.integers(4, 40),
).map(lambda v: (v[0], v[1], v[2], v[1] + v[3] + 10, v[2] + v[4] + 10))


@settings(max_examples=40)
@given(st.lists(st.lists(rectangles, max_size=6), min_size=1, max_size=5))
def test_ids_are_unique_positive_and_repeatable(scenes):
    first, second = InstanceTracker(), InstanceTracker()
    for scene in scenes:
        given_result = frame(*scene)
        result = first.update(given_result)
        assert len(set(ids(result))) == len(scene)
        assert all(1 <= i <= MAX_ID for i in ids(result))
        assert ids(second.update(given_result)) == ids(result)
        # The masks are the same; only their names differ.
        for old, new in zip(given_result.instances, result.instances, strict=True):
            assert np.array_equal(given_result.instance == old.id, result.instance == new.id)


def test_a_moving_camera_keeps_ids():
    """Twelve objects under a common, accelerating motion: no id changes while they are in view."""
    rng = np.random.default_rng(0)
    places = [(30 + 75 * (i % 4), 20 + 45 * (i // 4)) for i in range(12)]
    sizes = rng.integers(10, 30, (12, 2))
    tracker = InstanceTracker()
    known: dict[int, int] = {}
    for step in range(25):
        shift = 0.15 * step**2
        order = rng.permutation(12)
        objects, names = [], []
        for i in order:
            x, y = places[i][0] + round(shift), places[i][1] + step // 3
            box = (x, y, x + int(sizes[i][0]), y + int(sizes[i][1]))
            if box[2] < 640 and box[3] < 200:
                objects.append(box)
                names.append(i)
        result = tracker.update(frame(*objects, size=(200, 640)))
        for name, number in zip(names, ids(result), strict=True):
            assert known.setdefault(name, number) == number
    assert len(known) == 12


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(time):
    with pytest.raises(ConfigError, match=f"time {time}: it must be a finite number of seconds"):
        InstanceTracker().update(None, time)
