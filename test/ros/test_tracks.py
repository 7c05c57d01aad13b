"""Instance ids of a running node: what they stay with, what they end with, and that all topics agree."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from rt_panoptic_ros.calibration import from_intrinsics
from rt_panoptic_ros.labelled_cloud import POINT
from rt_panoptic_ros.messages import to_image
from rt_panoptic_ros.msg import PanopticInstanceArray
from rt_panoptic_ros.srv import SegmentImage

HEIGHT, WIDTH = 40, 120
LEFT, RIGHT = (10, 10, 30, 30), (80, 10, 100, 30)
NAME = "/tracked"
TENTH = 100_000_000


class Pinhole:
    fx, fy, cx, cy = 50.0, 50.0, 60.0, 20.0
    height, width = HEIGHT, WIDTH


def street(*cars, height=HEIGHT, width=WIDTH):
    """RGB of a road with cars; the engine numbers them from 1 in the order given."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(cars):
        pixels[y1:y2, x1:x2] = (13, 255 - number, 0)
    return pixels


class Drive:
    """A camera whose frames are a tenth of a second apart, and what the node answers to each."""

    def __init__(self, probe):
        self._probe = probe
        self._publisher = probe.publisher(Image, "/drive/image")
        self.stamp = 0

    def send(self, *cars, seconds=0.1, topics, extra=None, **size):
        """The messages of ``topics`` for a frame that is ``seconds`` later than the last one."""
        self.stamp += round(seconds * 1e9)
        message = to_image(Image().header, street(*cars, **size))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self.stamp, 10**9)
        message.header.frame_id = "camera"

        def answers():
            # Until it is answered: the same frame twice changes no id.
            self._publisher.publish(message)
            if extra is not None:
                extra(message.header)
            end = [[m for m in heard if of(m) == message.header.stamp] for heard in topics]
            return end if all(end) else None

        return [found[0] for found in self._probe.wait(answers, f"answers to {cars}")]


def of(message):
    """Stamp of a message; of a MarkerArray that of its first marker."""
    first = message.markers[0] if hasattr(message, "markers") else message
    return first.header.stamp


@pytest.fixture(scope="module")
def node(start, probe):
    running = start(
        *("-r", f"__node:={NAME[1:]}", "-r", "image:=/drive/image"),
        *("-p", "publish.panoptic:=true", "-p", "depth.enabled:=true"),
        *("-r", "depth:=/drive/depth", "-r", "camera_info:=/drive/info"),
        *("-p", "diagnostics.period:=0.1"),
    )
    probe.wait_active(NAME)
    return running


@pytest.fixture
def drive(node, probe):
    """A camera that begins a new scene, long after all frames before it."""
    found = Drive(probe)
    found.stamp = probe.next_stamp() * 100 * 10**9
    yield found
    probe.unsubscribe_all()


@pytest.fixture
def follow(drive, probe):
    """follow(*cars, ...): the ids of the cars in the next frame, in the order given."""
    instances = probe.subscribe(PanopticInstanceArray, f"{NAME}/instances")

    def follow(*cars, **options):
        (answer,) = drive.send(*cars, topics=[instances], **options)
        by_place = {(i.box.x_offset, i.box.y_offset): i.instance_id for i in answer.instances}
        return [by_place[car[0], car[1]] for car in cars]

    return follow


def pixels_of(message, dtype):
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width)


def moved(car, by):
    return (car[0] + by, car[1], car[2] + by, car[3])


def test_an_id_stays_with_its_car_whatever_number_the_engine_gives_it(follow):
    left, right = follow(LEFT, RIGHT)
    assert follow(moved(RIGHT, 2), moved(LEFT, 2)) == [right, left]
    assert follow(moved(LEFT, 4), moved(RIGHT, 4)) == [left, right]
    third = (50, 5, 70, 15)
    new, *known = follow(third, moved(LEFT, 6), moved(RIGHT, 6))
    assert known == [left, right]
    assert new not in (left, right)


def test_every_topic_has_the_same_id_in_the_same_frame(drive, probe):
    kinds = {
        "instance": Image,
        "panoptic": Image,
        "instances": PanopticInstanceArray,
        "points": PointCloud2,
        "markers": MarkerArray,
    }
    topics = [probe.subscribe(kind, f"{NAME}/{topic}") for topic, kind in kinds.items()]
    depths = probe.publisher(Image, "/drive/depth")
    infos = probe.publisher(CameraInfo, "/drive/info")

    def with_depth(header):
        info = from_intrinsics(Pinhole)
        info.header = header
        infos.publish(info)
        depths.publish(to_image(header, np.full((HEIGHT, WIDTH), 10, np.float32)))

    seen = []
    for cars in ((LEFT, RIGHT), (RIGHT, LEFT), (moved(LEFT, 3), moved(RIGHT, 3))):
        frame = dict(zip(kinds, drive.send(*cars, topics=topics, extra=with_depth), strict=True))
        instance = pixels_of(frame["instance"], np.uint16)
        ids = instance[15, 20], instance[15, 90]
        assert (pixels_of(frame["panoptic"], np.int32) & 0xFFFF == instance).all()
        boxes = {i.instance_id: i.box.x_offset for i in frame["instances"].instances}
        assert boxes == {ids[0]: min(cars)[0], ids[1]: max(cars)[0]}
        points = np.frombuffer(frame["points"].data, POINT)
        # The left car is left of the optical axis.
        assert set(points["instance"][(points["label"] == 13) & (points["x"] < 0)]) == {ids[0]}
        cubes = {m.id: m for m in frame["markers"].markers if m.ns == "box"}
        names = {m.id: m.text for m in frame["markers"].markers if m.ns == "name"}
        assert set(cubes) == set(ids)
        assert cubes[ids[0]].pose.position.x < 0 < cubes[ids[1]].pose.position.x
        assert names[ids[0]].endswith(f"#{ids[0]}")
        seen.append(ids)
    assert len(set(seen)) == 1
    assert 0 not in seen[0]


def test_detections_have_the_track_as_their_id(drive, probe):
    vision = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")
    topics = [
        probe.subscribe(vision.Detection2DArray, f"{NAME}/detections"),
        probe.subscribe(PanopticInstanceArray, f"{NAME}/instances"),
    ]
    for cars in ((LEFT, RIGHT), (RIGHT, LEFT)):
        detections, instances = drive.send(*cars, topics=topics)
        assert [d.id for d in detections.detections] == [
            str(i.instance_id) for i in instances.instances
        ]


def test_a_car_comes_back_from_behind_something_with_its_id(follow):
    (car,) = follow(LEFT)
    for _ in range(5):
        assert follow() == []
    assert follow(moved(LEFT, 2)) == [car]


def test_tracking_memory_is_how_long_that_may_take(follow, probe):
    (car,) = follow(LEFT)
    assert probe.set_parameter("tracking.memory", 0.3, NAME).successful
    for _ in range(4):
        follow()
    (other,) = follow(LEFT)
    assert other != car
    assert probe.set_parameter("tracking.memory", 1.0, NAME).successful


def test_missing_and_uneven_frames_break_no_track(follow):
    (car,) = follow(LEFT)
    place = LEFT[0]
    # 20 pixels a second: a frame after a tenth, half a second, a thirtieth ...
    for seconds in (0.1, 0.5, 0.033, 0.3, 1.2, 0.1):
        place += 20 * seconds
        x = round(place)
        assert follow((x, 10, x + 20, 30), seconds=seconds) == [car]


def test_a_recording_that_begins_again_is_a_new_scene_with_new_ids(follow):
    first = follow(LEFT, RIGHT)
    follow(LEFT, RIGHT, seconds=5.0)
    again = follow(LEFT, RIGHT, seconds=-4.95)
    assert len({*first, *again}) == 4


def test_frames_that_overtake_each_other_are_not(follow):
    ids = follow(LEFT, RIGHT)
    assert follow(LEFT, RIGHT, seconds=-0.03) == ids
    assert follow(LEFT, RIGHT) == ids


def test_a_changed_size_and_a_long_gap_are_new_scenes(follow):
    (first,) = follow(LEFT)
    (second,) = follow(LEFT, width=WIDTH + 20)
    (third,) = follow(LEFT, width=WIDTH + 20, seconds=10.0)
    assert len({first, second, third}) == 3


def test_without_tracking_instances_are_numbered_from_1_in_each_frame(follow, probe):
    tracked = follow(LEFT, RIGHT)
    assert probe.set_parameter("tracking.enabled", False, NAME).successful
    assert follow(LEFT, RIGHT) == [1, 2]
    assert follow(RIGHT, LEFT) == [1, 2]
    assert probe.set_parameter("tracking.enabled", True, NAME).successful
    again = follow(RIGHT, LEFT)
    assert len({*tracked, *again}) == 4
    assert follow(LEFT, RIGHT) == again[::-1]


def test_after_a_pause_ids_are_new(follow, drive, probe):
    before = follow(LEFT, RIGHT)
    assert probe.transition("deactivate", NAME)
    assert probe.transition("activate", NAME)
    probe.publisher(Image, "/drive/image")
    again = follow(LEFT, RIGHT)
    assert len({*before, *again}) == 4


def test_the_service_numbers_its_one_image_and_disturbs_no_track(follow, probe):
    ids = follow(LEFT, RIGHT)
    request = SegmentImage.Request(image=to_image(Image().header, street((50, 5, 70, 15))))
    response = probe.call(SegmentImage, f"{NAME}/segment", request)
    assert [i.instance_id for i in response.instances.instances] == [1]
    assert follow(RIGHT, LEFT) == ids[::-1]


def test_cars_without_stamps_are_followed_too(drive, probe):
    instances = probe.subscribe(PanopticInstanceArray, f"{NAME}/instances")
    publisher = probe.publisher(Image, "/drive/image")

    def first_is(first, other):
        """Ids of two cars in an answer to a frame in which ``first`` is the engine's first."""
        message = to_image(Image().header, street(first, other))

        def answered():
            publisher.publish(message)
            return [m for m in instances if m.instances[0].box.x_offset == first[0]]

        found = probe.wait(answered, "an answer")[0].instances
        return [instance.instance_id for instance in found]

    ids = first_is(LEFT, RIGHT)
    assert first_is(RIGHT, LEFT) == ids[::-1]


def test_what_nobody_asks_for_is_not_tracked(drive, probe):
    """Twenty seconds of classes alone: whoever asks for instances then meets cars that nobody followed."""
    instances = probe.subscribe(PanopticInstanceArray, f"{NAME}/instances")
    (answer,) = drive.send(LEFT, topics=[instances])
    (before,) = answer.instances
    probe.unsubscribe_all()
    semantic = probe.subscribe(Image, f"{NAME}/semantic")
    probe.wait(lambda: not probe.node.count_subscribers(f"{NAME}/instances"), "nobody to listen")
    for _ in range(20):
        drive.send(LEFT, seconds=1.0, topics=[semantic])
    instances = probe.subscribe(PanopticInstanceArray, f"{NAME}/instances")
    (answer,) = drive.send(LEFT, topics=[instances])
    (after,) = answer.instances
    assert after.instance_id != before.instance_id
