"""Image, depth and camera_info to a labelled cloud and markers, over DDS."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from visualization_msgs.msg import Marker, MarkerArray

from rt_panoptic_ros.calibration import from_intrinsics
from rt_panoptic_ros.labelled_cloud import POINT
from rt_panoptic_ros.messages import to_image

HEIGHT, WIDTH = 8, 12
CAR = (2, 1, 8, 5)


class Camera:
    fx, fy, cx, cy = 10.0, 10.0, 6.0, 4.0
    height, width = HEIGHT, WIDTH


@pytest.fixture(scope="module")
def node(start, probe):
    running = start(
        *("-p", "depth.enabled:=true", "-p", "diagnostics.period:=0.1"),
        # Stamps are seconds apart here, and the car is always instance 1; tracks have tests of their own.
        *("-p", "tracking.enabled:=false"),
        *("-r", "image:=/rgb/image", "-r", "depth:=/depth/image", "-r", "camera_info:=/rgb/info"),
    )
    probe.wait_active()
    return running


@pytest.fixture(autouse=True)
def as_before(probe):
    yield
    probe.unsubscribe_all()


@pytest.fixture
def send(node, probe, picture):
    """send(depth, offset_ms, info): publish image, camera_info and depth of one stamp or nearly so."""
    image_publisher = probe.publisher(Image, "/rgb/image")
    depth_publisher = probe.publisher(Image, "/depth/image")
    info_publisher = probe.publisher(CameraInfo, "/rgb/info")

    def send(depth, offset_ms=0, info=None, depth_first=False):
        header = Image().header
        header.stamp.sec, header.frame_id = probe.next_stamp(), "rgb_optical"
        info = info or from_intrinsics(Camera)
        info.header = header
        info_publisher.publish(info)
        depth_message = to_image(header, depth)
        if depth.dtype == np.uint16:
            depth_message.encoding = "16UC1"
        shifted = Image().header
        shifted.stamp.sec, shifted.stamp.nanosec = header.stamp.sec, offset_ms * 1_000_000
        depth_message.header = shifted
        image_message = to_image(header, picture(class_id=7, height=HEIGHT, width=WIDTH, car=CAR))
        pair = [
            lambda: image_publisher.publish(image_message),
            lambda: depth_publisher.publish(depth_message),
        ]
        for publish in reversed(pair) if depth_first else pair:
            publish()
        return header

    return send


def wait_for(probe, send, messages, *arguments, **options):
    def answered():
        header = send(*arguments, **options)
        end = 20
        for _ in range(end):
            probe._executor.spin_once(timeout_sec=0.02)
            found = [m for m in messages if m.header.stamp == header.stamp]
            if found:
                return found[0]
        return None

    return probe.wait(answered, "a cloud")


def points_of(cloud):
    return np.frombuffer(cloud.data, POINT)


def test_the_cloud_is_what_its_usual_reader_takes(probe, send, node):
    point_cloud2 = pytest.importorskip(
        "sensor_msgs_py.point_cloud2", reason="comes with ROS, not with its wheels"
    )
    points = probe.subscribe(PointCloud2, "/rt_panoptic/points")
    cloud = wait_for(probe, send, points, np.full((HEIGHT, WIDTH), 20, np.float32))
    read = point_cloud2.read_points(cloud, skip_nans=True)
    expected = points_of(cloud)
    assert len(read) == len(expected) == HEIGHT * WIDTH
    for name in ("x", "y", "z", "label", "instance", "score"):
        assert np.array_equal(read[name], expected[name]), name


@pytest.mark.parametrize("depth_first", [False, True], ids=["image first", "depth first"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16], ids=["32FC1 m", "16UC1 mm"])
def test_the_cloud_has_position_colour_class_instance_and_score(
    probe, send, node, dtype, depth_first
):
    points = probe.subscribe(PointCloud2, "/rt_panoptic/points")
    depth = np.full((HEIGHT, WIDTH), 20, dtype)
    depth = depth * 1000 if dtype == np.uint16 else depth
    cloud = wait_for(probe, send, points, depth, depth_first=depth_first)
    assert cloud.header.frame_id == "rgb_optical"
    assert [f.name for f in cloud.fields] == [*"xyz", "rgb", "label", "instance", "score"]
    assert [f.offset for f in cloud.fields] == [0, 4, 8, 12, 16, 18, 20]
    assert cloud.fields[4].datatype == PointField.UINT16
    assert (cloud.height, cloud.width, cloud.is_dense) == (1, HEIGHT * WIDTH, True)
    found = points_of(cloud)
    # Pixel (2, 1), the car's first: x = (2 - 6) / 10 * 20, y = (1 - 4) / 10 * 20.
    first = found[found["instance"] == 1][0]
    assert (first["x"], first["y"], first["z"]) == pytest.approx((-8.0, -6.0, 20.0))
    assert first["label"] == 13
    assert first["score"] == pytest.approx(0.3)
    assert first["rgb"] == 13 << 16 | 255 << 8
    assert (found["label"] == 7).sum() == HEIGHT * WIDTH - 24


def test_nan_depth_has_no_point_and_an_organized_cloud_has_the_images_shape(probe, send, node):
    points = probe.subscribe(PointCloud2, "/rt_panoptic/points")
    depth = np.full((HEIGHT, WIDTH), 20, np.float32)
    depth[0] = np.nan
    depth[1] = 500.0  # beyond points.max_range
    assert wait_for(probe, send, points, depth).width == (HEIGHT - 2) * WIDTH
    assert probe.set_parameter("points.organized", True).successful
    cloud = wait_for(probe, send, points, depth)
    assert (cloud.height, cloud.width, cloud.is_dense) == (HEIGHT, WIDTH, False)
    assert np.isnan(points_of(cloud)["z"].reshape(HEIGHT, WIDTH)[:2]).all()
    assert probe.set_parameter("points.organized", False).successful
    cloud = wait_for(probe, send, points, np.full((HEIGHT, WIDTH), np.nan, np.float32))
    assert (cloud.width, len(cloud.data)) == (0, 0)


def test_markers_are_a_box_a_centroid_and_a_name_for_each_instance(probe, send, node):
    markers = probe.subscribe(MarkerArray, "/rt_panoptic/markers")
    depth = np.full((HEIGHT, WIDTH), 20, np.float32)
    probe.wait(lambda: send(depth) and markers, "markers")
    erase, box, dot, name = markers[-1].markers
    assert erase.action == Marker.DELETEALL
    assert (box.type, box.ns, box.id, box.header.frame_id) == (Marker.CUBE, "box", 1, "rgb_optical")
    # Columns 2 … 7 and rows 1 … 4 at 20 m.
    assert (box.pose.position.x, box.pose.position.y, box.pose.position.z) == pytest.approx(
        (-3.0, -3.0, 20.0)
    )
    assert (box.scale.x, box.scale.y) == pytest.approx((10.0, 6.0))
    assert dot.type == Marker.SPHERE
    assert name.text == "car 0.30"


def test_approximate_sync_takes_the_nearest_within_the_tolerance(probe, send, node, diagnosis):
    points = probe.subscribe(PointCloud2, "/rt_panoptic/points")
    depth = np.full((HEIGHT, WIDTH), 20, np.float32)
    wait_for(probe, send, points, depth)
    seen = diagnosis()
    before = len(points)
    missed = seen.count("input", "no depth for the image")
    probe.wait(
        lambda: (
            send(depth, offset_ms=10) and seen.count("input", "no depth for the image") > missed + 1
        ),
        "images whose depth is 10 ms late to be counted",
    )
    assert len(points) == before
    assert probe.set_parameter("depth.sync", "approximate").successful
    wait_for(probe, send, points, depth, offset_ms=10)
    assert probe.set_parameter("depth.sync", "exact").successful


@pytest.mark.parametrize(
    ("depth", "info", "reason"),
    [
        (np.ones((4, 4), np.float32), None, "depth of 4x4 with an image of 12x8"),
        (np.ones((8, 12), np.uint8), None, "depth of encoding 'mono8' is not supported"),
        (
            np.ones((8, 12), np.float32),
            CameraInfo(height=480, width=640),
            "/rgb/info is of 640x480, the image of 12x8",
        ),
        (
            np.ones((8, 12), np.float32),
            CameraInfo(height=8, width=12),
            "no focal length in P or K: calibrate",
        ),
    ],
    ids=["depth size", "depth encoding", "camera_info size", "not calibrated"],
)
def test_bad_depth_is_counted_and_named_and_labels_go_on(
    probe, send, node, diagnosis, depth, info, reason
):
    points = probe.subscribe(PointCloud2, "/rt_panoptic/points")
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    seen = diagnosis()
    probe.wait(
        lambda: send(depth, info=info) and reason in seen.value("input", "last error"), reason
    )
    assert semantic
    good = np.full((HEIGHT, WIDTH), 20, np.float32)
    wait_for(probe, send, points, good)


def test_a_misnamed_depth_topic_is_named(start, probe, picture, diagnosis):
    node = start(
        *("-p", "depth.enabled:=true", "-p", "diagnostics.period:=0.1", "-r", "__node:=misnamed"),
        *("-r", "image:=/cam/image", "-r", "depth:=/cam/depht", "-r", "camera_info:=/cam/info"),
    )
    probe.wait_active("/misnamed")
    images, infos = probe.publisher(Image, "/cam/image"), probe.publisher(CameraInfo, "/cam/info")
    seen = diagnosis("misnamed")
    message = to_image(Image().header, picture())

    def said(text, level=DiagnosticStatus.WARN):
        message.header.stamp.sec = probe.next_stamp()
        images.publish(message)
        status = seen.status("input")
        return status and text in status.message and status.level == level

    # probe.publisher made camera_info's publisher; nothing came from it yet.
    depth = "no depth yet on /cam/depht: nobody publishes it"
    info = "no camera_info yet on /cam/info: nothing arrives from its publisher"
    points = probe.subscribe(PointCloud2, "/misnamed/points")
    probe.wait(lambda: said(f"{depth}; {info}"), "depth and camera_info to be missed")
    node.wait_log(f"no points: {depth}")
    node.wait_log(f"no points: {info}")
    infos.publish(from_intrinsics(Camera))
    probe.wait(lambda: said(depth) and not said(info), "only depth to be missed")
    assert seen.value("input", "depth topic") == "/cam/depht"
    assert (node.log.count(depth), points) == (1, [])
    probe.unsubscribe_all()
