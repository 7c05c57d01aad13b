"""A running node's answers: every result topic, every encoding, who gets what."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image

from rt_panoptic_ros.messages import to_image
from rt_panoptic_ros.msg import PanopticInstanceArray

CAR = 13


@pytest.fixture(scope="module")
def node(start, probe):
    running = start(
        *("-r", "image:=/camera/image", "-p", "publish.panoptic:=true"),
        *("-p", "publish.confidence:=true", "-p", "diagnostics.period:=0.1"),
        # The car is instance 1 in every test; tracks have tests of their own.
        *("-p", "tracking.enabled:=false"),
    )
    probe.wait_active()
    return running


@pytest.fixture(autouse=True)
def nobody_listens_afterwards(probe):
    yield
    probe.unsubscribe_all()


def stamped(probe, message, frame_id="camera_optical_frame"):
    message.header.stamp.sec = probe.next_stamp()
    message.header.stamp.nanosec = 123
    message.header.frame_id = frame_id
    return message


def pixels_of(message, dtype=np.uint8):
    channels = {"rgb8": 3}.get(message.encoding, 1)
    values = np.frombuffer(message.data, dtype).reshape(message.height, message.width, channels)
    return values[..., 0] if channels == 1 else values


def test_every_result_has_the_inputs_stamp_frame_and_size(node, probe, picture):
    topics = {
        "semantic": (Image, "mono8"),
        "instance": (Image, "mono16"),
        "panoptic": (Image, "32SC1"),
        "confidence": (Image, "mono8"),
        "overlay": (Image, "rgb8"),
        "instances": (PanopticInstanceArray, None),
        "overlay/compressed": (CompressedImage, None),
    }
    listened = {t: probe.subscribe(kind, f"/rt_panoptic/{t}") for t, (kind, _) in topics.items()}
    message = stamped(probe, to_image(Image().header, picture(class_id=7)), "front_camera")
    answers = dict(zip(topics, probe.answers(message, *listened.values()), strict=True))

    for topic, answer in answers.items():
        assert answer.header == message.header, topic
        if topic != "overlay/compressed":
            assert (answer.height, answer.width) == (8, 12), topic
        if topics[topic][1]:
            assert answer.encoding == topics[topic][1]
    semantic, instance = pixels_of(answers["semantic"]), pixels_of(answers["instance"], np.uint16)
    assert semantic[0, 0] == 7
    assert (semantic[1:4, 2:5] == CAR).all()
    assert instance.sum() == 9
    assert (instance[1:4, 2:5] == 1).all()
    packed = pixels_of(answers["panoptic"], np.int32)
    assert packed[0, 0] == 7 << 16
    assert packed[1, 2] == (CAR << 16) | 1
    assert (pixels_of(answers["confidence"]) == 204).all()
    (car,) = answers["instances"].instances
    assert (car.instance_id, car.class_id, car.class_name, car.area) == (1, CAR, "car", 9)
    assert (car.box.x_offset, car.box.y_offset, car.box.width, car.box.height) == (2, 1, 3, 3)
    assert car.score == pytest.approx(0.3)
    jpeg = cv2.imdecode(np.frombuffer(answers["overlay/compressed"].data, np.uint8), -1)
    assert jpeg.shape == (8, 12, 3)


def test_detections_and_label_info_come_where_vision_msgs_is_installed(node, probe, picture):
    vision = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")
    late = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    labels = probe.subscribe(vision.LabelInfo, "/rt_panoptic/label_info", late)
    probe.wait(lambda: labels, "label_info for a late subscriber")
    names = {c.class_id: c.class_name for c in labels[0].class_map}
    assert names[CAR] == "car"
    assert names[255] == "unlabelled"
    assert len(names) == 20

    detections = probe.subscribe(vision.Detection2DArray, "/rt_panoptic/detections")
    message = stamped(probe, to_image(Image().header, picture()))
    (answer,) = probe.answers(message, detections)
    assert answer.header == message.header
    (car,) = answer.detections
    assert car.id == "1"
    assert car.results[0].hypothesis.class_id == "car"
    assert (car.bbox.center.position.x, car.bbox.center.position.y) == (3.5, 2.5)
    assert (car.bbox.size_x, car.bbox.size_y) == (3.0, 3.0)


def test_boxes_are_the_smallest_around_the_visible_pixels(start, probe, picture):
    start(
        *("-r", "__node:=boxes", "-r", "image:=/boxes/image", "-p", "tracking.enabled:=true"),
        FAKE_BOX="1.25",
    )
    probe.wait_active("/boxes")
    instances = probe.subscribe(PanopticInstanceArray, "/boxes/instances")
    (answer,) = probe.answers(
        stamped(probe, to_image(Image().header, picture())), instances, topic="/boxes/image"
    )
    (car,) = answer.instances
    # The detection's box is (0.75, -0.25) to (6.25, 5.25); the pixels are columns 2 to 4, rows 1 to 3.
    assert (car.box.x_offset, car.box.y_offset, car.box.width, car.box.height) == (2, 1, 3, 3)
    assert car.area == 9


def wide(pixels):
    """Rows padded by 5 bytes."""
    return np.pad(pixels.reshape(pixels.shape[0], -1), ((0, 0), (0, 5)), constant_values=99)


GRAY = np.full((8, 12), 9, np.uint8)
RGB = np.full((8, 12, 3), (9, 20, 30), np.uint8)
RGBA = np.dstack([RGB, np.full((8, 12), 77, np.uint8)])
# 9 grey is Y = 9 * 219 / 255 + 16 = 23.7; back it is 9 again for Y = 24 (rounded).
LUMA, CHROMA = 24, 128
UYVY = np.tile(np.array([CHROMA, LUMA], np.uint8), (8, 12)).reshape(8, 24)
YUYV = np.tile(np.array([LUMA, CHROMA], np.uint8), (8, 12)).reshape(8, 24)
NV12 = np.vstack([np.full((8, 12), LUMA, np.uint8), np.full((4, 12), CHROMA, np.uint8)])

ENCODINGS = {
    "rgb8": RGB,
    "bgr8": RGB[..., ::-1],
    "rgba8": RGBA,
    "bgra8": RGBA[..., [2, 1, 0, 3]],
    "mono8": GRAY,
    "8UC1": GRAY,
    "8UC3": RGB[..., ::-1],
    "8UC4": RGBA[..., [2, 1, 0, 3]],
    "yuv422": UYVY,
    "uyvy": UYVY,
    "yuv422_yuy2": YUYV,
    "yuyv": YUYV,
    "nv12": NV12,
    "bayer_rggb8": GRAY,
    "bayer_bggr8": GRAY,
    "bayer_gbrg8": GRAY,
    "bayer_grbg8": GRAY,
}


@pytest.mark.parametrize("padded", [False, True], ids=["tight", "padded"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_means_the_same_picture(node, probe, encoding, padded):
    rows = np.ascontiguousarray(ENCODINGS[encoding]).reshape(len(ENCODINGS[encoding]), -1)
    rows = wide(rows) if padded else rows
    message = Image(height=8, width=12, encoding=encoding, step=rows.shape[1])
    message.data = array("B", rows.tobytes())
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    (answer,) = probe.answers(stamped(probe, message), semantic)
    assert (pixels_of(answer) == 9).all()


@pytest.mark.parametrize("is_bigendian", [0, 1])
def test_mono16_in_both_byte_orders(node, probe, is_bigendian):
    values = np.full((8, 12), 9 * 257, dtype=">u2" if is_bigendian else "<u2")
    message = Image(height=8, width=12, encoding="mono16", step=24, is_bigendian=is_bigendian)
    message.data = array("B", values.tobytes())
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    (answer,) = probe.answers(stamped(probe, message), semantic)
    assert (pixels_of(answer) == 9).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_compressed_images(start, probe, picture, suffix):
    start(
        *("-r", "__node:=compressed", "-r", "image:=/camera/small"),
        *("-p", "input.transport:=compressed"),
    )
    probe.wait_active("/compressed")
    _, content = cv2.imencode(suffix, np.full((8, 12, 3), 9, np.uint8))
    message = CompressedImage(format="jpeg", data=array("B", content.tobytes()))
    semantic = probe.subscribe(Image, "/compressed/semantic")
    # A remapping of the base name moves the compressed topic with it.
    (answer,) = probe.answers(
        stamped(probe, message),
        semantic,
        topic="/camera/small/compressed",
    )
    assert (pixels_of(answer) == 9).all()


def test_without_a_subscriber_nothing_is_computed(node, probe, picture, diagnosis):
    seen = diagnosis()
    probe.unsubscribe_all()
    seen = diagnosis()
    publisher = probe.publisher(Image, "/camera/image")
    message = stamped(probe, to_image(Image().header, picture()))
    probe.wait(
        lambda: seen.status("output") is not None and seen.value("output", "subscribed") == "",
        "idle",
    )
    before, results = seen.count("input", "dropped: no subscriber"), seen.value("output", "results")

    def dropped():
        publisher.publish(message)
        return seen.count("input", "dropped: no subscriber") >= before + 5

    probe.wait(dropped, "images that nobody wants")
    assert seen.value("output", "results") == results
    assert seen.status("output").message == "idle: no subscriber"

    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    probe.wait(lambda: seen.value("output", "subscribed") == "semantic", "the match")
    probe.answers(stamped(probe, message), semantic)


def test_a_subscriber_of_best_effort_is_served_too(node, probe, picture):
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic", qos_profile_sensor_data)
    probe.answers(stamped(probe, to_image(Image().header, picture())), semantic)


def test_size_and_encoding_may_change_in_mid_stream(node, probe, picture):
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    for pixels in (picture(3), picture(4, 20, 30), np.full((5, 7), 5, np.uint8), picture(6)):
        (answer,) = probe.answers(stamped(probe, to_image(Image().header, pixels)), semantic)
        assert (answer.height, answer.width) == pixels.shape[:2]
        assert pixels_of(answer)[0, 0] == pixels.reshape(-1)[0]
