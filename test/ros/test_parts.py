"""The node's parts that need no DDS."""

from __future__ import annotations

import logging
import threading

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_panoptic_core.compressed_size import compressed_size
from rt_panoptic_core.errors import ConfigError, ImageError
from rt_panoptic_core.image_codec import decode_image
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_ros.core_log import core_log_to
from rt_panoptic_ros.depth_buffer import DepthBuffer
from rt_panoptic_ros.inbox import Inbox
from rt_panoptic_ros.model import thresholds_of
from rt_panoptic_ros.parameters import PARAMETERS
from rt_panoptic_ros.stamp_check import StampCheck
from rt_panoptic_ros.statistics import Drop, Input, Statistics, Trouble
from rt_panoptic_ros.throttled_log import ThrottledLog, kind_of
from rt_panoptic_ros.worker import Rate, Worker

WAIT = 10.0


def test_the_newest_frame_replaces_the_waiting_one():
    inbox: Inbox[int] = Inbox()
    assert [inbox.put_frame(n) for n in (1, 2, 3)] == [False, True, True]
    assert inbox.take() == 3
    assert not inbox.put_frame(4)


def test_requests_go_before_frames_and_keep_their_order():
    inbox: Inbox[int] = Inbox()
    called = []
    inbox.put_frame(1)
    for number in (2, 3):
        assert inbox.put_request(lambda number=number: called.append(number))
    inbox.take()()
    inbox.take()()
    assert called == [2, 3]
    assert inbox.take() == 1


def test_a_closed_inbox_takes_nothing_and_gives_back_its_requests():
    inbox: Inbox[int] = Inbox()
    inbox.put_request(print)
    inbox.put_frame(1)
    assert inbox.close() == [print]
    assert inbox.take() is None
    assert not inbox.put_request(print)
    assert not inbox.put_frame(2)
    assert inbox.close() == []


def test_closing_wakes_the_thread_that_waits():
    inbox: Inbox[int] = Inbox()
    taken = []
    thread = threading.Thread(target=lambda: taken.append(inbox.take()))
    thread.start()
    inbox.close()
    thread.join(WAIT)
    assert taken == [None]


def test_a_worker_goes_on_after_a_frame_that_raises():
    done, errors = threading.Event(), []

    def process(frame):
        if frame == "bad":
            raise ValueError("bad frame")
        done.set()

    def on_error(error):
        errors.append(str(error))
        worker.inbox.put_frame("good")

    worker = Worker(process, on_error)
    worker.inbox.put_frame("bad")
    assert done.wait(WAIT)
    assert errors == ["bad frame"]
    assert worker.stop(WAIT)


def test_a_worker_in_a_long_call_is_given_up():
    entered, leave = threading.Event(), threading.Event()

    def process(_frame):
        entered.set()
        leave.wait(WAIT)

    worker = Worker(process, print)
    worker.inbox.put_frame(1)
    assert entered.wait(WAIT)
    assert not worker.wait_idle(0.01)
    assert not worker.stop(0.01)
    freed_by = []
    worker.at_end(lambda: freed_by.append(threading.current_thread()))
    # What it works with is its own until it is done.
    assert freed_by == []
    leave.set()
    assert worker.stop(WAIT)
    assert [thread.name for thread in freed_by] == ["inference"]
    worker.at_end(lambda: freed_by.append(threading.current_thread()))
    assert freed_by[1] is threading.current_thread()


def test_the_rate_is_smoothed_and_begins_anew_after_a_pause():
    times = iter([0.0, 0.1, 0.2, 10.0, 10.5])
    rate = Rate(lambda: next(times))
    assert rate.tick() is None
    assert rate.tick() == pytest.approx(10.0)
    assert rate.tick() == pytest.approx(10.0)
    assert rate.tick() == pytest.approx(1 / 9.8)
    # 9.8 s, a tenth of the way to 0.5 s.
    assert rate.tick() == pytest.approx(1 / (9.8 - 0.93))


def test_throttled_messages_are_counted():
    now, written = [0.0], []
    log = ThrottledLog(written.append, period=10.0, clock=lambda: now[0])
    for _ in range(3):
        log("a", "first")
    log("b", "other")
    now[0] = 10.0
    log("a", "second")
    assert written == ["first", "other", "second (2 more like it since)"]


def test_faults_are_alike_when_they_come_from_one_line_whatever_their_numbers():
    def fault(step, size):
        try:
            decode_image("rgb8", 2, 2, step, False, bytes(size))
        except ImageError as error:
            return error

    kinds = [kind_of(fault(*sizes)) for sizes in ((5, 12), (4, 12), (6, 11), (6, 10))]
    assert kinds[0] == kinds[1] != kinds[2] == kinds[3]
    assert kind_of(ImageError("never raised")) != kinds[0]

    now, written = [0.0], []
    log = ThrottledLog(written.append, period=10.0, clock=lambda: now[0])
    for step, size in ((5, 12), (6, 11), (4, 12), (6, 10), (3, 12)):
        error = fault(step, size)
        log(kind_of(error), str(error))
    now[0] = 10.0
    log(kinds[2], "again")
    assert [line.partition(" ")[0] for line in written] == ["step", "rgb8:", "again"]
    # The two others with a small step are not like it.
    assert written[-1] == "again (1 more like it since)"


@pytest.mark.parametrize(
    ("stamp", "tolerance", "found"),
    [
        (100, 0, "a"),
        (101, 0, None),
        (140, 30, None),
        (140, 40, "a"),
        (160, 40, "b"),
        (250, 50, "b"),
    ],
)
def test_depth_is_found_by_stamp(stamp, tolerance, found):
    buffer: DepthBuffer[str] = DepthBuffer()
    buffer.add(100, "a")
    buffer.add(200, "b")
    assert buffer.find(stamp, tolerance) == found


def test_the_oldest_depth_goes():
    buffer: DepthBuffer[int] = DepthBuffer(size=2)
    for stamp in (1, 2, 3):
        buffer.add(stamp, stamp)
    assert buffer.find(1, 0) is None
    assert buffer.find(2, 0) == 2
    buffer.clear()
    assert buffer.find(2, 0) is None


@settings(max_examples=30)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([".jpg", ".png"]), st.booleans())
def test_the_size_of_a_compressed_image_is_told_before_decoding(height, width, suffix, progressive):
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)] if suffix == ".jpg" else []
    _, content = cv2.imencode(suffix, np.zeros((height, width, 3), np.uint8), options)
    assert compressed_size(content.tobytes()) == (height, width)


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"]))
def test_garbage_has_no_size_and_does_no_harm(tail, head):
    size = compressed_size(head + tail)
    assert size is None or len(size) == 2


def test_a_huge_compressed_image_is_refused_before_it_is_decoded():
    sensor_msgs = pytest.importorskip("sensor_msgs.msg")
    from rt_panoptic_ros.image_conversion import to_rgb

    # A PNG that says it has 100 000 x 100 000 pixels; nothing follows.
    header = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (100_000).to_bytes(4, "big") * 2
    message = sensor_msgs.CompressedImage(format="png", data=header)
    with pytest.raises(ImageError, match=r"10000\.0 megapixels; the limit is 40"):
        to_rgb(message, max_megapixels=40.0)


def test_images_are_what_cv_bridge_makes_of_them():
    cv_bridge = pytest.importorskip(
        "cv_bridge", reason="cv_bridge is not installed", exc_type=ImportError
    )
    from sensor_msgs.msg import Image

    from rt_panoptic_ros.image_conversion import to_rgb

    random = np.random.default_rng(0)
    for encoding, bytes_per_pixel in (
        *(("rgb8", 3), ("bgr8", 3), ("rgba8", 4), ("bgra8", 4), ("mono8", 1), ("mono16", 2)),
        *((f"bayer_{pattern}8", 1) for pattern in ("rggb", "bggr", "gbrg", "grbg")),
        *(("yuv422", 2), ("yuv422_yuy2", 2)),
    ):
        data = random.integers(0, 256, 16 * 20 * bytes_per_pixel, dtype=np.uint8)
        message = Image(height=16, width=20, encoding=encoding, step=20 * bytes_per_pixel)
        message.data = data.tobytes()
        theirs = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
        assert np.array_equal(to_rgb(message), theirs), encoding


def test_thresholds_below_zero_are_the_models_own():
    own = InferenceConfig(score_threshold=0.4, mask_threshold=0.2, stuff_area_limit=77).thresholds
    values = {spec.name: spec.default for spec in PARAMETERS}
    assert thresholds_of(own, values) == own
    changed = thresholds_of(own, {**values, "thresholds.mask": 0.0, "thresholds.stuff_area": 0})
    assert (changed.score, changed.mask, changed.stuff_area) == (0.4, 0.0, 0)


def test_statistics_count_and_time():
    statistics = Statistics()
    for milliseconds in range(1, 101):
        statistics.frame_came(milliseconds / 1000)
        statistics.frame_answered(milliseconds / 1000, 0.01)
    statistics.drop(Drop.ENGINE_FAILED, "out of memory")
    statistics.drop(Drop.LOST, count=4)
    found = statistics.snapshot()
    assert (found.frames_in, found.frames_out) == (100, 100)
    assert found.last_came == {Input.IMAGE: 0.1}
    assert found.latency == pytest.approx((0.0505, 0.09505))
    assert found.inference == pytest.approx((0.01, 0.01))
    assert found.drops["lost in transport"] == 4
    assert (found.failures_in_a_row, found.last_engine_error) == (1, "out of memory")
    statistics.frame_answered(None, 0.01)
    assert statistics.failures_in_a_row == 0


def test_an_increment_of_lost_images_that_cannot_be_counts_as_one():
    pytest.importorskip("sensor_msgs.msg")
    from rt_panoptic_ros.inputs import lost_images

    statistics = Statistics()
    # As Fast DDS gave them, then twice the invented one, added up in 32 bits with and without sign.
    for increment in (1, 2**31 - 1, 3, 1, 2**31 - 1, -2, 2**32 - 2, 2**64 - 2):
        statistics.drop(Drop.LOST, count=lost_images(increment))
    assert statistics.snapshot().drops["lost in transport"] == 10


@pytest.fixture
def depth_camera():
    """say(statistics, now, wanted, publishers): the input status of a node with depth; log and values."""
    pytest.importorskip("diagnostic_msgs.msg")
    from std_msgs.msg import Header

    from rt_panoptic_ros.diagnostics import Diagnostics, Situation
    from rt_panoptic_ros.inputs import InputTopic

    log, shown = [], {}
    diagnostics = Diagnostics(lambda _key, words: log.append(words))
    values = {spec.name: spec.default for spec in PARAMETERS}

    def say(statistics, now, wanted=("points",), publishers=0):
        situation = Situation(
            name="node",
            state="active",
            enabled=True,
            inputs={
                Input.IMAGE: InputTopic("/image", 1),
                Input.DEPTH: InputTopic("/depht", publishers),
                Input.CAMERA_INFO: InputTopic("/info", publishers),
            },
            unfit=(),
            wanted=wanted,
            engine="fake",
            device="cpu",
            progress="",
            failure="",
            details={},
        )
        message = diagnostics.message(Header(), now, statistics.snapshot(), situation, values)
        shown.update((pair.key, pair.value) for status in message.status for pair in status.values)
        return message.status[0].message

    return say, log, shown


def test_missing_depth_and_camera_info_are_told_while_points_are_wanted(depth_camera):
    say, log, values = depth_camera
    statistics = Statistics()
    statistics.frame_came(100.0)
    assert say(statistics, 100.0, wanted=("overlay",)) == "0.0 images/s"
    no_depth = "no depth yet on /depht: nobody publishes it"
    no_info = "no camera_info yet on /info: nobody publishes it"
    assert say(statistics, 100.5) == f"{no_depth}; {no_info}"
    # The first image of a camera may come before the rest.
    assert log == []
    for _ in range(3):
        say(statistics, 101.0, wanted=("markers", "overlay"))
    assert log == [f"no points: {no_depth}", f"no points: {no_info}"]
    statistics.input_came(Input.CAMERA_INFO, 101.0)
    statistics.frame_came(109.0)
    assert say(statistics, 109.0, publishers=1) == (
        "no depth yet on /depht: nothing arrives from its publisher"
    )
    statistics.input_came(Input.DEPTH, 109.0)
    assert say(statistics, 110.0, publishers=1) == "0.0 images/s"
    statistics.frame_came(114.0)
    # One camera_info is enough.
    assert say(statistics, 114.0) == "no depth any more on /depht: nobody publishes it"
    assert values["last depth (s ago)"] == "5.0"
    assert len(log) == 2
    # The same text a second later.
    assert say(statistics, 115.0) == "no depth any more on /depht: nobody publishes it"
    assert (values["last depth (s ago)"], values["last image (s ago)"]) == ("6.0", "1.0")


def test_rates_after_a_stall_are_over_the_stall_as_well(depth_camera):
    say, _, values = depth_camera
    statistics = Statistics()
    say(statistics, 100.0)
    for _ in range(20):
        statistics.frame_came(110.0)
        statistics.frame_answered(None, None)
    say(statistics, 110.0)
    assert (values["rate in (Hz)"], values["rate out (Hz)"]) == ("2.00", "2.00")
    statistics.frame_came(110.01)
    statistics.frame_answered(None, None)
    # The timer that was held up fires once more, at once.
    say(statistics, 110.01)
    assert float(values["rate in (Hz)"]) == float(values["rate out (Hz)"]) == pytest.approx(2.1)
    say(statistics, 111.01)
    assert float(values["rate out (Hz)"]) == 0.0


def test_missing_depth_is_not_logged_of_a_camera_that_sends_nothing_at_all(depth_camera):
    say, log, _ = depth_camera
    statistics = Statistics()
    for _ in range(3):
        assert "no image yet on /image: nothing arrives from its publisher; no depth yet" in say(
            statistics, 100.0
        )
    assert log == []


def test_a_frame_that_waited_is_counted_but_not_timed():
    statistics = Statistics()
    statistics.frame_answered(None, None)
    found = statistics.snapshot()
    assert (found.frames_out, found.latency, found.inference) == (1, None, None)


def test_the_last_words_of_a_trouble_are_kept_beside_the_last_error():
    statistics = Statistics()
    statistics.trouble(Trouble.STAMP_OLD, "stamps are 11 s old")
    statistics.trouble(Trouble.STAMP_OLD, "stamps are 12 s old")
    statistics.trouble(Trouble.BAD_DEPTH, error="no camera_info")
    found = statistics.snapshot()
    assert (found.troubles["stamp is old"], found.last_error) == (2, "no camera_info")
    assert found.words == {"stamp is old": "stamps are 12 s old"}


def test_a_calibration_file_is_read_and_a_bad_one_named(tmp_path):
    pytest.importorskip("sensor_msgs.msg")
    from rt_panoptic_ros.calibration import from_yaml

    path = tmp_path / "camera.yaml"
    matrix = "data: [500, 0, 320, 0, 500, 240, 0, 0, 1]"
    path.write_text(
        "image_width: 640\nimage_height: 480\ndistortion_model: plumb_bob\n"
        f"camera_matrix: {{{matrix}}}\nrectification_matrix: {{{matrix}}}\n"
        "distortion_coefficients: {data: [0.1, 0, 0, 0, 0]}\n"
        "projection_matrix: {data: [510, 0, 320, 0, 0, 510, 240, 0, 0, 0, 1, 0]}\n"
    )
    info = from_yaml(path)
    assert (info.height, info.width, info.k[0], info.p[0], info.d[0]) == (480, 640, 500, 510, 0.1)
    path.write_text("image_width: 640")
    with pytest.raises(ConfigError, match=r"camera\.yaml.*image_height"):
        from_yaml(path)
    with pytest.raises(ConfigError, match="not a readable YAML file"):
        from_yaml(tmp_path / "none.yaml")


def test_the_last_image_before_a_bag_starts_again_is_not_from_the_future():
    # rclpy's clock stands still here: the simulated one went back before that image came.
    from rclpy.clock import ROSClock
    from rclpy.time import Time

    second = 1_000_000_000
    clock = ROSClock()
    clock._set_ros_time_is_active(True)
    statistics = Statistics()
    told = []
    check = StampCheck(clock, statistics, lambda _key, words: told.append(words), lambda: None)
    clock.set_ros_time_override(Time(nanoseconds=59 * second, clock_type=clock.clock_type))
    assert check.check("image", 59 * second) == 0.0
    clock.set_ros_time_override(Time(nanoseconds=second, clock_type=clock.clock_type))
    assert check.check("image", 60 * second) is None
    assert not told
    assert check.check("image", second - 250_000_000) == 0.25
    assert ["went back" in words for words in told] == [True]
    # One after the other is no seam.
    told.clear()
    assert check.check("image", 90 * second) is None
    assert not told
    assert check.check("image", 91 * second) is None
    assert ["in the future" in words for words in told] == [True]


def test_what_the_core_logs_is_in_the_nodes_log_once(caplog, monkeypatch):
    class Log:
        def __init__(self):
            self.said = []

        def __getattr__(self, severity):
            return lambda text: self.said.append((severity, text))

    core, log = logging.getLogger("rt_panoptic_core.engines.cache"), Log()
    # Where launch is imported, as by another test, loggers that are made after it keep to themselves.
    for name in ("rt_panoptic_core", "rt_panoptic_core.engines", core.name):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    with core_log_to(log):
        core.warning("%s: damaged; building it again", "street.engine")
        core.error("no space")
    core.warning("afterwards")
    assert log.said == [
        ("warning", "street.engine: damaged; building it again"),
        ("error", "no space"),
    ]
    assert [record.getMessage() for record in caplog.records] == ["afterwards"]
