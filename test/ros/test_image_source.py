"""The image source: what it publishes from a folder, a video and a generated street."""

from __future__ import annotations

import time
from itertools import pairwise

import cv2
import numpy as np
import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rt_panoptic_core.datasets.generated_streets import StreetSequence

MODULE = "rt_panoptic_ros.image_source"


@pytest.fixture
def folder(tmp_path):
    for name, value in (("a", 10), ("b", 20)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((6, 8, 3), (value, 0, 0), np.uint8))
    return tmp_path


def test_a_folder_in_order_and_again(start, probe, folder):
    start(
        *("-r", "image:=/folder/image", "-p", f"source:={folder}", "-p", "rate:=10"),
        *("-p", "frame_id:=front"),
        module=MODULE,
    )
    images = probe.subscribe(Image, "/folder/image")
    probe.wait(lambda: len(images) >= 5, "five images of two")
    first = images[0]
    assert (first.height, first.width, first.encoding) == (6, 8, "rgb8")
    assert first.header.frame_id == "front"
    # OpenCV wrote blue; the third channel of rgb8 is blue.
    values = [image.data[2] for image in images]
    assert set(values) == {10, 20}
    assert all(a != b for a, b in pairwise(values))
    stamps = [image.header.stamp.sec * 10**9 + image.header.stamp.nanosec for image in images]
    assert stamps == sorted(stamps)


def test_a_picture_that_cannot_be_read_is_named_once_and_skipped(start, probe, folder):
    (folder / "aa.jpg").write_text("nope")
    node = start(
        *("-r", "image:=/skip/image", "-p", f"source:={folder}", "-p", "rate:=10.0"),
        module=MODULE,
    )
    images = probe.subscribe(Image, "/skip/image")
    probe.wait(lambda: len(images) >= 6, "six images of two")
    values = [image.data[2] for image in images]
    assert set(values) == {10, 20}
    assert all(a != b for a, b in pairwise(values))
    node.stop()
    assert node.log.count("aa.jpg") == 1
    assert "skipped" in node.log
    assert node.log.count("publishing") == 1


def test_a_folder_of_which_nothing_can_be_read_is_an_error(start, probe, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_text("nope")
    node = start("-p", f"source:={tmp_path}", module=MODULE)
    node.wait_log("remove it, or make it anew; trying again every 2 s")
    # Past the next try.
    begun = time.monotonic()
    probe.wait(lambda: time.monotonic() > begun + 2.5, "the next try")
    node.stop()
    assert node.log.count("a.jpg") == 1
    assert "publishing" not in node.log


def test_the_second_image_comes_an_interval_after_the_first(start, probe, folder):
    start(
        *("-r", "image:=/pace/image", "-p", f"source:={folder}", "-p", "rate:=2.0"),
        # The first one waits for the subscriber.
        *("-p", "ahead:=1"),
        module=MODULE,
    )
    images = probe.subscribe(Image, "/pace/image")
    probe.wait(lambda: len(images) >= 3, "three images")
    stamps = [m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in images[:3]]
    assert all(b - a > 0.3 for a, b in pairwise(stamps)), stamps


def test_compressed_in_another_size(start, probe, folder):
    start(
        *("-r", "image:=/small/image", "-p", f"source:={folder}", "-p", "rate:=50.0"),
        *("-p", "compressed:=true", "-p", "size:=12x16"),
        module=MODULE,
    )
    images = probe.subscribe(CompressedImage, "/small/image/compressed")
    probe.wait(lambda: images, "an image")
    assert cv2.imdecode(np.frombuffer(images[0].data, np.uint8), -1).shape == (12, 16, 3)


def test_a_video(start, probe, tmp_path):
    from rt_panoptic_core.visualization.video import VideoWriter

    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 25) as writer:
        for _ in range(3):
            writer.write(np.full((64, 96, 3), 200, np.uint8))
    start("-r", "image:=/video/image", "-p", f"source:={path}", module=MODULE)
    images = probe.subscribe(Image, "/video/image")
    probe.wait(lambda: len(images) >= 4, "the video, and again")
    assert (images[0].height, images[0].width) == (64, 96)
    assert abs(images[0].data[0] - 200) < 6


def test_a_generated_street_with_depth_and_camera_info(start, probe):
    start(
        *("-r", "image:=/street/image", "-r", "depth:=/street/depth"),
        *("-r", "camera_info:=/street/camera_info", "-p", "size:=64x128"),
        module=MODULE,
    )
    images = probe.subscribe(Image, "/street/image")
    depths = probe.subscribe(Image, "/street/depth")
    infos = probe.subscribe(CameraInfo, "/street/camera_info")
    probe.wait(lambda: images and depths and infos, "all three", 60)
    assert images[-1].encoding == "rgb8"
    assert depths[-1].encoding == "32FC1"
    assert (infos[-1].height, infos[-1].width) == (64, 128)
    assert infos[-1].k[0] > 0
    stamps = {m.header.stamp.nanosec for m in images}
    assert all(d.header.stamp.nanosec in stamps for d in depths[1:])


def test_a_missing_source_is_named_and_waited_for(start, probe, folder, tmp_path):
    missing = tmp_path / "later"
    node = start(
        *("-r", "image:=/later/image", "-p", f"source:={missing}", "-p", "rate:=50.0"),
        module=MODULE,
    )
    node.wait_log(f"source '{missing}': neither 'generated' nor a folder or video that exists")
    images = probe.subscribe(Image, "/later/image")
    # It tried again by now, and said nothing of it: the next word comes after a minute.
    begun = time.monotonic()
    probe.wait(lambda: time.monotonic() > begun + 2.5, "the next try")
    assert node.log.count("that exists") == 1
    assert "trying again every 2 s" in node.log
    missing.mkdir()
    (folder / "a.png").rename(missing / "a.png")
    probe.wait(lambda: images, "an image once the folder is there")
    code, seconds = node.stop()
    assert code == 0
    assert seconds < 2.0
    assert "Traceback" not in node.log


def test_a_source_without_a_frame_is_an_error_and_tried_again_in_peace(start, tmp_path):
    empty = tmp_path / "empty.avi"
    cv2.VideoWriter(str(empty), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32)).release()
    node = start("-p", f"source:={empty}", module=MODULE)
    node.wait_log(f"{empty}: no frame can be read: damaged, or of a codec that OpenCV lacks here")
    node.wait_log("OUT.mp4; trying again every 2 s")
    node.stop()
    assert node.log.count("no frame can be read") == 1


def test_a_single_picture_is_published_at_the_rate_as_well(start, probe, folder):
    (folder / "b.png").unlink()
    node = start(
        *("-r", "image:=/single/image", "-p", f"source:={folder}", "-p", "rate:=20.0"),
        module=MODULE,
    )
    images = probe.subscribe(Image, "/single/image")
    probe.wait(lambda: len(images) >= 8, "the picture eight times")
    stamps = [m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in images[:8]]
    # A busy machine makes gaps longer and the next ones shorter, but seven take a third of a second.
    assert stamps[-1] - stamps[0] > 0.25
    node.stop()
    assert node.log.count("publishing") == 1


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("rate:=-1", "parameter rate: -1"),
        ("size:=tiny", "size 'tiny': it must be HEIGHTxWIDTH"),
        ("calibration:=/none.yaml", "/none.yaml: not a readable YAML file"),
    ],
)
def test_a_bad_parameter_ends_it_with_the_reason(start, argument, reason):
    node = start("-p", argument, module=MODULE)
    assert node.process.wait(20) == 2
    assert reason in node.log
    assert "Traceback" not in node.log


def test_images_made_ahead_wait_for_a_subscriber(start, probe):
    source = start(
        *("-r", "image:=/ahead/image", "-p", "size:=64x128", "-p", "rate:=100.0"),
        *("-p", "ahead:=4"),
        module=MODULE,
    )
    source.wait_log("4 images are ready")
    images = probe.subscribe(Image, "/ahead/image")
    # More than were made ahead: the drive goes on behind them.
    probe.wait(lambda: len(images) >= 8, "eight images")
    drive = iter(StreetSequence(0, (64, 128), fps=100.0))
    beginning = [next(drive).image.tobytes() for _ in range(12)]
    places = [beginning.index(bytes(image.data)) for image in images[:8]]
    # Both sides see each other at slightly different times, so the first may be lost.
    assert places[0] < 4
    assert places == sorted(set(places))
