"""An engine that is built at the first image, and one that cannot run: what is said, counted and tried."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image

from rt_panoptic_core.engines import hardware
from rt_panoptic_core.errors import EngineError
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_ros.frame_processor import Frame, FrameProcessor
from rt_panoptic_ros.messages import to_image
from rt_panoptic_ros.model import BUILDING, UnfitEngineError, check_engine
from rt_panoptic_ros.parameters import PARAMETERS
from rt_panoptic_ros.srv import SegmentImage
from rt_panoptic_ros.stamped_tracker import StampedTracker
from rt_panoptic_ros.statistics import Statistics
from rt_panoptic_ros.throttled_log import ThrottledLog

UNFIT = (255, 0, 254)
AUTO = {"engine": "auto", "precision": "auto", "device": "auto"}


def named(name):
    return (
        *("-r", f"__node:={name}", "-r", f"image:=/{name}/image"),
        *("-p", "diagnostics.period:=0.1"),
    )


def stamped(pixels):
    message = to_image(Image().header, pixels)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
    return message


def test_the_build_is_told_and_its_frames_are_left_out_of_the_times(
    start, probe, picture, diagnosis, tmp_path
):
    built = tmp_path / "built"
    start(
        *named("builder"),
        *("-p", "diagnostics.latency_limit:=0.5"),
        FAKE_BUILD_UNTIL=str(built),
    )
    probe.wait_active("/builder")
    seen = diagnosis("builder")
    semantic = probe.subscribe(Image, "/builder/semantic")
    publisher = probe.publisher(Image, "/builder/image")
    probe.wait(lambda: seen.value("output", "subscribed") == "semantic", "the match")
    begun = time.monotonic()

    def building():
        publisher.publish(stamped(picture()))
        status = seen.status("engine")
        return status.message == "building the engine: export: 50%" and status

    status = probe.wait(building, "the diagnostics to tell of the build")
    assert status.level == DiagnosticStatus.WARN
    # The first frame is now older than the limit.
    probe.wait(lambda: time.monotonic() > begun + 0.7, "the first frame to be late")
    built.touch()
    probe.wait(lambda: semantic, "an answer of the built engine")
    probe.wait(lambda: seen.status("engine").message == "fake fp32 cpu", "the build to be over")
    assert seen.status("engine").level == DiagnosticStatus.OK

    def answered():
        publisher.publish(stamped(picture()))
        return seen.count("output", "results") >= 5

    probe.wait(answered, "five results")
    assert float(seen.value("output", "latency p95 (ms)")) < 500.0
    assert float(seen.value("engine", "inference p95 (ms)")) < 500.0
    assert seen.status("output").level == DiagnosticStatus.OK


@pytest.fixture(scope="module")
def slow(start, save_small_model, tmp_path_factory):
    """slow(name): the real node, and the folder in which files let its engines open."""

    def slow(name):
        engines = tmp_path_factory.mktemp("engines")
        start(
            *named(name),
            *("-p", f"model:={save_small_model()}", "-p", "engine:=pytorch", "-p", "threads:=1"),
            script="node_with_slow_engine.py",
            ENGINES=str(engines),
        )
        return engines

    return slow


def test_all_but_the_results_goes_on_while_an_engine_opens(slow, probe, picture, diagnosis):
    engines = slow("opener")
    probe.wait_active("/opener")
    seen = diagnosis("opener")
    semantic = probe.subscribe(Image, "/opener/semantic")
    publisher = probe.publisher(Image, "/opener/image")
    probe.wait(lambda: seen.value("output", "subscribed") == "semantic", "the match")
    # The first size, and another once there is an engine already.
    for size in ((64, 96), (96, 128)):
        replaced = seen.count("input", "dropped: replaced by a newer frame")

        def building(size=size):
            publisher.publish(stamped(picture(0, *size)))
            status = seen.status("engine")
            return status.message == BUILDING and status

        assert probe.wait(building, "the diagnostics to tell it").level == DiagnosticStatus.WARN
        told, images = len(seen.messages), seen.count("input", "images")

        def counted(told=told, images=images, replaced=replaced, size=size):
            publisher.publish(stamped(picture(0, *size)))
            return (
                len(seen.messages) > told + 5
                and seen.count("input", "images") > images + 5
                and seen.count("input", "dropped: replaced by a newer frame") > replaced + 5
            )

        probe.wait(counted, "images to be counted as replaced meanwhile")
        assert seen.status("engine").message == BUILDING
        assert probe.get_parameter("engine", "/opener") == "pytorch"
        assert probe.state("/opener") == "active"
        changed = probe.set_parameter("thresholds.score", 0.5, "/opener")
        assert changed.successful, changed.reason
        semantic.clear()
        assert seen.status("engine").message == BUILDING
        (engines / "{}x{}".format(*size)).touch()
        probe.wait(lambda: semantic, "an answer")
        assert (semantic[-1].height, semantic[-1].width) == size
        ready = "{}x{}".format(*size)
        probe.wait(
            lambda ready=ready: ready in seen.status("engine").message, "the build to be over"
        )


def test_a_node_is_deactivated_while_an_engine_opens(slow, probe, picture, diagnosis):
    slow("left")
    probe.wait_active("/left")
    seen = diagnosis("left")
    request = SegmentImage.Request(image=to_image(Image().header, picture(0, 64, 96)))
    asked = probe.node.create_client(SegmentImage, "/left/segment")
    probe.wait(asked.service_is_ready, "the service")

    def building():
        # Until one reaches the service, which may not have found the client yet.
        asked.call_async(request)
        return seen.status("engine") and seen.status("engine").message == BUILDING

    probe.wait(building, "the request's engine to be built")
    told = len(seen.messages)
    assert probe.transition("deactivate", "/left")
    assert probe.state("/left") == "inactive"
    probe.wait(lambda: len(seen.messages) > told + 3, "diagnostics")
    assert seen.status("engine").message == BUILDING


def test_a_configuration_that_cannot_run_is_given_up_not_loaded_again(
    start, probe, picture, diagnosis
):
    node = start(*named("hopeless"))
    probe.wait_active("/hopeless")
    seen = diagnosis("hopeless")
    semantic = probe.subscribe(Image, "/hopeless/semantic")
    publisher = probe.publisher(Image, "/hopeless/image")
    unfit = np.full((8, 12, 3), UNFIT, np.uint8)

    def failed():
        publisher.publish(stamped(unfit))
        return seen.count("input", "dropped: engine failed") >= 6

    probe.wait(failed, "failures")
    node.wait_log("the engine is given up, no frame is answered: device 'abacus': it must be cpu")
    assert node.log.count("is given up") == 1
    assert "loading it anew" not in node.log
    status = seen.status("engine")
    assert status.level == DiagnosticStatus.ERROR
    assert "device 'abacus': it must be cpu (given up: correct it" in status.message
    request = SegmentImage.Request(image=to_image(Image().header, picture()))
    response = probe.call(SegmentImage, "/hopeless/segment", request)
    assert not response.success
    assert "given up" in response.message
    for label in ("deactivate", "cleanup", "configure", "activate"):
        assert probe.transition(label, "/hopeless"), label
    publisher = probe.publisher(Image, "/hopeless/image")
    probe.wait(lambda: publisher.publish(stamped(picture())) or semantic, "an answer")


class Lost:
    """A segmenter whose device went away."""

    thresholds = InferenceConfig().thresholds
    taxonomy = Taxonomy.load("cityscapes")
    engine = None

    def is_ready(self, image_size):
        return image_size is None

    def segment(self, image):
        raise EngineError(f"{image.shape}: the device is gone")

    def close(self):
        pass


def test_a_device_that_is_gone_for_good_is_looked_for_once():
    loads, said, warned, building = [], [], [], []

    def load():
        loads.append(len(said))
        raise UnfitEngineError("cuda:0: no NVIDIA driver; set the parameter device to auto")

    logger = SimpleNamespace(error=said.append)
    values = {spec.name: spec.default for spec in PARAMETERS}
    statistics = Statistics()
    processor = FrameProcessor(
        SimpleNamespace(get_logger=lambda: logger),
        lambda: values,
        Lost(),
        SimpleNamespace(wanted=lambda: frozenset({"semantic"})),
        statistics,
        StampedTracker(),
        ThrottledLog(warned.append),
        load,
        lambda step, _fraction: building.append(step),
    )
    message = to_image(Image().header, np.zeros((2, 3, 3), np.uint8))
    for _ in range(8):
        processor.process(Frame(message, "/image", 0.0, None))
    assert len(loads) == 1
    assert said == [
        "the engine failed 3 times in a row; loading it anew",
        "the engine is given up, no frame is answered: cuda:0: no NVIDIA driver; set the parameter "
        "device to auto",
    ]
    found = statistics.snapshot()
    assert found.drops["engine failed"] == 8
    assert found.last_engine_error.startswith("cuda:0: no NVIDIA driver; set the parameter")
    # The engine that was given up is not said to be built any more.
    assert building == ["building the engine", ""] * 3


def test_an_engine_that_cannot_run_here_fails_to_be_configured(start, probe, diagnosis):
    node = start(
        *named("unfit"),
        *("-p", "engine:=pytorch", "-p", "precision:=int8"),
        module="rt_panoptic_ros.panoptic_node",
    )
    seen = diagnosis("unfit")
    node.wait_log("configuration failed: pytorch on")
    assert "PyTorch runs no int8 here" in node.log
    assert "set the parameter engine or precision to auto" in node.log
    probe.wait(lambda: probe.state("/unfit") == "unconfigured", "unconfigured")
    status = probe.wait(
        lambda: (
            seen.status("engine")
            and seen.status("engine").level == DiagnosticStatus.ERROR
            and seen.status("engine")
        ),
        "an ERROR",
    )
    assert "PyTorch runs no int8 here" in status.message


@pytest.mark.parametrize(
    ("values", "reason", "way_out"),
    [
        ({"engine": "tensorrt"}, "no NVIDIA driver", "engine"),
        ({"engine": "tensorrt", "device": "cpu"}, "TensorRT runs on CUDA devices only", "engine"),
        ({"device": "cuda:7"}, "pytorch on cuda:7: no NVIDIA driver", "device"),
        ({"engine": "pytorch", "device": "cuda"}, "on cuda:0: no NVIDIA driver", "device"),
        ({"precision": "fp16", "device": "cpu"}, "fp16 is for CUDA devices", "precision"),
        (
            {"engine": "openvino", "precision": "fp16", "device": "cuda:0"},
            "OpenVINO runs on the CPU here",
            "engine and device and precision",
        ),
    ],
)
def test_what_cannot_run_is_told_with_the_way_out(monkeypatch, values, reason, way_out):
    monkeypatch.setattr(hardware, "missing_tensorrt_build", lambda: None)
    monkeypatch.setattr(hardware, "find_spec", lambda name: name)
    monkeypatch.setattr(hardware, "cuda_driver_version", lambda: None)
    monkeypatch.setattr(hardware, "cuda_device_names", lambda: ())
    with pytest.raises(UnfitEngineError, match=reason) as caught:
        check_engine(AUTO | values)
    assert str(caught.value).endswith(f"; set the parameter {way_out} to auto")


def test_what_can_run_is_accepted():
    check_engine(AUTO)
    check_engine(AUTO | {"engine": "pytorch", "device": "cpu", "precision": "fp32"})
