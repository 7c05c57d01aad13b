"""Messages without ROS."""

from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from rt_panoptic_core.bags.messages import (
    INSTANCES,
    LABEL_INFO,
    camera_info_message,
    deserialize,
    header,
    image_message,
    instances_message,
    label_info_message,
    read_label_info,
    read_plane,
    read_result,
    serialize,
    stamp_ns,
    typestore,
)
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.taxonomy import Taxonomy

MSG = Path(__file__).parents[2] / "msg"


@pytest.mark.parametrize("name", ["PanopticInstance", "PanopticInstanceArray"])
def test_the_types_are_those_of_the_interfaces(name):
    files = get_typestore(Stores.ROS2_JAZZY)
    for file in sorted(MSG.glob("*.msg")):
        full_name = f"rt_panoptic_ros/msg/{file.stem}"
        files.register(get_types_from_msg(file.read_text(encoding="utf-8"), full_name))
    own = f"rt_panoptic_ros/msg/{name}"
    assert typestore().hash_rihs01(own) == files.hash_rihs01(own)


def test_a_stamp_survives_to_the_nanosecond():
    stamp = 1_700_000_000_123_456_789
    message = image_message(np.zeros((1, 1), dtype=np.uint8), header(stamp, "camera"))
    back = deserialize(serialize(message), "sensor_msgs/msg/Image")
    assert stamp_ns(back.header) == stamp
    assert back.header.frame_id == "camera"


def test_a_result_survives_but_for_its_confidence(street):
    result = street.segment(street.scene(3).image)
    head = header(5, "camera")
    message = instances_message(result, street.taxonomy, head)
    back = deserialize(serialize(message), INSTANCES)
    assert [entry.class_name for entry in back.instances] == ["car", "car"]
    planes = [
        read_plane(deserialize(serialize(image_message(p, head)), "sensor_msgs/msg/Image"))
        for p in (result.semantic, result.instance)
    ]
    again = read_result(*planes, back, street.taxonomy)
    np.testing.assert_array_equal(again.semantic, result.semantic)
    np.testing.assert_array_equal(again.instance, result.instance)
    assert again.segments == result.segments


def test_a_box_is_that_of_the_visible_pixels():
    instance = np.zeros((6, 9), np.uint16)
    instance[1:4, 2] = instance[3, 2:8] = 7
    detected = Segment(7, 0, True, 0.5, 8, (1.5, 0.2, 8.9, 5.7))
    result = PanopticResult(np.zeros((6, 9), np.uint8), instance, [detected])
    message = instances_message(result, Taxonomy.load("cityscapes"), header(0, "camera"))
    box = message.instances[0].box
    assert (box.x_offset, box.y_offset, box.width, box.height) == (2, 1, 6, 3)


def test_label_info_names_every_class_and_the_unlabelled_one():
    taxonomy = Taxonomy.load("cityscapes")
    message = label_info_message(taxonomy, header(0, ""), threshold=0.5)
    back = deserialize(serialize(message), LABEL_INFO)
    assert back.class_map[-1].class_id == 255
    assert read_label_info(back) == dict(enumerate(taxonomy.names))


def test_camera_info_is_a_pinhole():
    message = camera_info_message((480, 640), (500, 510), (320, 240), header(0, "c"))
    assert message.k.reshape(3, 3).tolist() == [[500, 0, 320], [0, 510, 240], [0, 0, 1]]
    assert message.p.reshape(3, 4)[:, :3].tolist() == message.k.reshape(3, 3).tolist()


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x00\x00", b"\x00\x01\x00\x00" + b"\xff" * 40])
def test_damaged_bytes_are_an_error_of_ours(data):
    with pytest.raises(BagError, match="sensor_msgs/msg/Image"):
        deserialize(data, "sensor_msgs/msg/Image")


def test_an_unknown_type_is_named():
    with pytest.raises(BagError, match="robot_msgs/msg/Mood"):
        deserialize(b"\x00\x01\x00\x00", "robot_msgs/msg/Mood")
