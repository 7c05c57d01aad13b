"""Results as messages, without a node."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from std_msgs.msg import Header

from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_ros import messages

CITYSCAPES = Taxonomy.load("cityscapes")
CAR, PERSON, ROAD = (CITYSCAPES.class_id(name) for name in ("car", "person", "road"))

# A car (id 700) in two parts behind a person (id 3), and a car of one pixel in the corner (id 65535).
INSTANCE = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 700, 3, 700, 700, 0],
        [0, 0, 3, 700, 0, 0],
        [0, 0, 3, 0, 0, 65535],
    ],
    dtype=np.uint16,
)


def thing(number, class_id, score, box):
    area = np.count_nonzero(np.equal(INSTANCE, number))
    return Segment(number, class_id, True, score, area, box)


RESULT = PanopticResult(
    semantic=np.where(INSTANCE == 3, PERSON, np.where(INSTANCE > 0, CAR, ROAD)).astype(np.uint8),
    instance=INSTANCE,
    segments=[
        thing(3, PERSON, 0.9, (1.6, 0.2, 3.4, 4.0)),
        thing(700, CAR, 0.8, (0.4, 0.3, 5.6, 4.0)),
        thing(65535, CAR, 0.5, None),
        Segment(0, ROAD, False, 1.0, 12, None),
    ],
)


def test_an_instances_box_is_the_smallest_around_its_pixels():
    message = messages.to_instances(Header(frame_id="camera"), RESULT, CITYSCAPES)
    assert (message.header.frame_id, message.height, message.width) == ("camera", 4, 6)
    found = {
        one.instance_id: (one.box.x_offset, one.box.y_offset, one.box.width, one.box.height)
        for one in message.instances
    }
    assert list(found) == [3, 700, 65535]
    assert found == {3: (2, 1, 1, 3), 700: (1, 1, 4, 2), 65535: (5, 3, 1, 1)}
    assert [one.area for one in message.instances] == [3, 4, 1]
    assert not any(one.box.do_rectify for one in message.instances)


def test_a_result_without_instances_has_none():
    empty = PanopticResult(np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint16))
    message = messages.to_instances(Header(), empty, CITYSCAPES)
    assert (message.height, message.width, message.instances) == (2, 3, [])


def test_a_detections_box_is_the_detections():
    if not messages.HAVE_VISION_MSGS:
        pytest.skip("vision_msgs is not installed")
    person, car = messages.to_detections(Header(), RESULT, CITYSCAPES).detections
    assert (person.id, car.id) == ("3", "700")
    assert car.bbox.center.position.x == pytest.approx(3.0)
    assert (car.bbox.size_x, car.bbox.size_y) == pytest.approx((5.2, 3.7))
