"""The recorder writes what a node shows, in real time, with the node's own counts."""

from __future__ import annotations

import re
import time

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rt_panoptic_ros.messages import to_image
from rt_panoptic_ros.msg import PanopticInstance, PanopticInstanceArray
from rt_panoptic_ros.recorder import Summary

MODULE = "rt_panoptic_ros.recorder"


def header(nanoseconds: int) -> Header:
    made = Header(frame_id="camera")
    made.stamp.sec, made.stamp.nanosec = divmod(nanoseconds, 10**9)
    return made


def diagnostics(images: int, dropped: int) -> DiagnosticArray:
    values = {"images": images, "dropped: bad image": 1, "dropped: no subscriber": dropped - 1}
    counts = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    engine = [KeyValue(key="state", value="active"), KeyValue(key="engine", value="abacus fp32")]
    return DiagnosticArray(
        status=[
            DiagnosticStatus(name="rt_panoptic: input", values=counts),
            DiagnosticStatus(name="rt_panoptic: engine", values=engine),
            # Of another node: must not be mixed in.
            DiagnosticStatus(name="other: input", values=[KeyValue(key="images", value="9999")]),
        ]
    )


def test_video_still_and_summary(probe, start, tmp_path):
    video = tmp_path / "new" / "drive.mp4"
    recorder = start(
        "-p", f"output:={video}", "-p", "seconds:=0.4", "-p", "fps:=20.0", module=MODULE
    )
    overlays = probe.publisher(Image, "/rt_panoptic/overlay")
    instances = probe.publisher(PanopticInstanceArray, "/rt_panoptic/instances")
    reports = probe.publisher(DiagnosticArray, "/diagnostics")

    def publish(number: int, stamp: int, found: int) -> None:
        picture = np.full((32, 48, 3), (20 * number, 100, 100), np.uint8)
        overlays.publish(to_image(header(stamp), picture))
        instances.publish(PanopticInstanceArray(instances=[PanopticInstance()] * found))

    # The first waited for the engine; recording begins with images stamped after it came.
    publish(0, time.time_ns() - 5 * 10**9, 0)
    reports.publish(diagnostics(images=10, dropped=7))
    # Five frames at 10 Hz of stamps, until 0.4 s lie between the first and the last receipt.
    sent = 0
    end = time.monotonic() + 20
    begin = None
    while recorder.process.poll() is None:
        assert time.monotonic() < end, recorder.log
        now = time.time_ns()
        if begin is None or now >= begin + sent * 10**8:
            begin = begin or now
            sent += 1
            publish(sent, begin + sent * 10**8, 3 if sent == 2 else 1)
            reports.publish(diagnostics(images=10 + 2 * sent, dropped=7 + sent))
        probe.wait(lambda: True, "")
    summary = recorder.log.strip().splitlines()[-1]
    match = re.match(
        r"(\d+) frames in 0\.\d s \(\d+\.\d fps\), latency p50 (-?\d+) ms p95 (-?\d+) ms, "
        r"(\d+) of (\d+) images dropped, \d\.\d instances a frame, abacus fp32: (\S+)$",
        summary,
    )
    assert match, recorder.log
    frames, p50, p95, _, _ = map(int, match.groups()[:5])
    assert 2 <= frames <= sent
    assert p50 <= p95
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FPS) == 20
    # 10 Hz of stamps in a video of 20 frames a second: each once more, but the last.
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2 * frames - 1
    still = cv2.imread(str(video.with_suffix(".png")))
    assert still.shape == (32, 48, 3)
    assert match[6] == str(video)


def test_nothing_to_record_is_an_error_and_leaves_no_file(probe, start, tmp_path):
    recorder = start(*("-p", f"output:={tmp_path / 'x.mp4'}", "-p", "node:=/silent"), module=MODULE)
    probe.publisher(Image, "/silent/overlay")
    probe.wait(lambda: list(tmp_path.glob(".x.*")), "the video is begun")
    probe.publisher(DiagnosticArray, "/diagnostics")
    code, _ = recorder.stop()
    assert code == 1
    assert "no frame was written" in recorder.log
    assert not list(tmp_path.iterdir())


def test_refused_parameters_end_it_with_one_line(start, tmp_path):
    for name, value, words in [
        ("output", str(tmp_path / "x.avi"), "videos are written as .mp4"),
        ("fps", "0.0", "it must be above 0"),
    ]:
        recorder = start("-p", f"{name}:={value}", module=MODULE)
        assert recorder.process.wait(30) == 2
        assert words in recorder.log
    assert not list(tmp_path.iterdir())


def test_summary_in_one_line():
    summary = Summary(
        frames=101,
        seconds=10.0,
        latencies=(0.010,) * 95 + (0.030,) * 6,
        images=110,
        dropped=9,
        instances=2.46,
        engine="openvino bf16",
    )
    assert str(summary) == (
        "101 frames in 10.0 s (10.0 fps), latency p50 10 ms p95 30 ms, "
        "9 of 110 images dropped, 2.5 instances a frame, openvino bf16"
    )
