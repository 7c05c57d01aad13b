"""A running node under load, under bad input, and as its parameters and services change it."""

from __future__ import annotations

import time
from array import array

import numpy as np
import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from rt_panoptic_ros.messages import to_image
from rt_panoptic_ros.msg import PanopticInstanceArray
from rt_panoptic_ros.srv import SegmentImage

FAILS = (255, 0, 255)


@pytest.fixture(scope="module")
def node(start, probe):
    running = start("-r", "image:=/camera/image", "-p", "diagnostics.period:=0.1")
    probe.wait_active()
    return running


@pytest.fixture(autouse=True)
def nobody_listens_afterwards(probe):
    yield
    probe.unsubscribe_all()


def image(pixels):
    return to_image(Image().header, pixels)


# Parameters


def test_a_threshold_takes_effect_at_the_next_frame(node, probe, picture):
    instances = probe.subscribe(PanopticInstanceArray, "/rt_panoptic/instances")
    assert probe.ask(image(picture()), instances).instances[0].score == pytest.approx(0.3)
    assert probe.set_parameter("thresholds.score", 0.75).successful
    assert probe.ask(image(picture()), instances).instances[0].score == pytest.approx(0.75)
    assert probe.set_parameter("thresholds.score", -1.0).successful
    assert probe.ask(image(picture()), instances).instances[0].score == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("thresholds.score", 1.5, "out of range"),
        ("thresholds.score", -0.5, "0 to 1, or -1"),
        ("thresholds.mask", float("nan"), "thresholds.mask"),
        (
            "overlay.opacity",
            "half",
            "overlay.opacity: 'half' is refused; it must be a number, 0 to 1",
        ),
        (
            "overlay.jpeg_quality",
            80.5,
            "overlay.jpeg_quality: 80.5 is refused; it must be an integer, 1",
        ),
        ("overlay.names", 1, "overlay.names: 1 is refused; it must be true or false"),
        ("overlay.jpeg_quality", 0, "out of range"),
        ("depth.sync", "exakt", "did you mean 'exact'?"),
        ("points.min_range", 500.0, "must be less than points.max_range 80"),
        ("engine", "openvino", "only while unconfigured, the node is active"),
        ("input.transport", "compressed", "only while not active"),
        ("autostart", False, "read-only"),
    ],
)
def test_a_bad_value_is_refused_with_a_reason_and_the_old_one_stays(
    node, probe, name, value, reason
):
    before = probe.get_parameter(name)
    result = probe.set_parameter(name, value)
    assert not result.successful
    assert reason in result.reason
    assert probe.get_parameter(name) == before


def test_a_parameter_that_there_is_not_is_refused_with_the_nearest(node, probe):
    result = probe.set_parameter("thresholds.scor", 0.5)
    assert not result.successful
    assert result.reason == "there is no parameter thresholds.scor; did you mean thresholds.score?"


def test_of_changes_at_once_none_is_made_where_one_is_of_no_parameter(node, probe):
    before = probe.get_parameter("thresholds.mask")
    request = SetParametersAtomically.Request(
        parameters=[
            Parameter("thresholds.mask", value=0.9).to_parameter_msg(),
            Parameter("zzz", value=1).to_parameter_msg(),
        ]
    )
    result = probe.call(
        SetParametersAtomically, "/rt_panoptic/set_parameters_atomically", request
    ).result
    assert (result.successful, result.reason) == (False, "there is no parameter zzz")
    assert probe.get_parameter("thresholds.mask") == before


@pytest.mark.parametrize("value", [1, 0, -1])
def test_a_whole_number_is_taken_for_a_double(node, probe, value):
    assert probe.set_parameter("thresholds.score", value).successful
    found = probe.get_parameter("thresholds.score")
    assert (type(found), found) == (float, value)
    assert probe.set_parameter("thresholds.score", -1.0).successful


def test_a_whole_number_out_of_range_is_refused_as_a_double_is(node, probe):
    result = probe.set_parameter("overlay.opacity", 2)
    assert not result.successful
    assert "out of range" in result.reason


# Services


def test_enable_stops_and_resumes(node, probe, picture, diagnosis):
    seen = diagnosis()
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    probe.ask(image(picture()), semantic)
    assert probe.call(SetBool, "/rt_panoptic/enable", SetBool.Request(data=False)).success
    publisher, before = (
        probe.publisher(Image, "/camera/image"),
        seen.count("input", "dropped: disabled"),
    )

    def dropped():
        publisher.publish(image(picture()))
        return seen.count("input", "dropped: disabled") > before + 2

    probe.wait(dropped, "images of a disabled node")
    probe.wait(lambda: "disabled" in seen.status("output").message, "the diagnostics to say so")
    assert probe.call(SetBool, "/rt_panoptic/enable", SetBool.Request(data=True)).success
    probe.ask(image(picture()), semantic)


def test_segment_answers_one_image(node, probe, picture):
    request = SegmentImage.Request(image=image(picture(class_id=5)))
    request.image.header.frame_id = "elsewhere"
    response = probe.call(SegmentImage, "/rt_panoptic/segment", request)
    assert response.success
    assert response.semantic.header.frame_id == "elsewhere"
    assert response.semantic.data[0] == 5
    assert response.instance.encoding == "mono16"
    assert [i.class_name for i in response.instances.instances] == ["car"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Image(), "image of 0x0 pixels has none"),
        (Image(height=2, width=2, encoding="rgb8", step=6), "0 bytes of data"),
        (image(np.full((2, 2, 3), FAILS, np.uint8)), "CUDA out of memory"),
    ],
    ids=["empty", "short", "engine fails"],
)
def test_segment_says_why_it_cannot(node, probe, bad, reason):
    response = probe.call(SegmentImage, "/rt_panoptic/segment", SegmentImage.Request(image=bad))
    assert not response.success
    assert reason in response.message
    assert response.message == response.message.strip()
    assert not response.semantic.data


# Bad input


def message(height=8, width=12, encoding="rgb8", step=36, size=288, value=0):
    return Image(
        height=height, width=width, encoding=encoding, step=step, data=array("B", [value]) * size
    )


BAD_IMAGES = {
    "step too small": (message(step=35), "step 35 is less than the 36 bytes"),
    "data too short": (message(size=287), "287 bytes of data are less than 8 rows"),
    "no pixels": (message(height=0, width=0, step=0, size=0), "0x0"),
    "unknown encoding": (message(encoding="bayer_x"), "'bayer_x' is not supported; one of rgb8"),
    "empty encoding": (message(encoding=""), "'' is not supported"),
    "too many pixels": (
        message(10_000, 10_000, "mono8", 10_000, 10),
        "100.0 megapixels; the limit",
    ),
    "odd yuv": (message(7, 11, "nv12", 11, 200), "even size"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_a_bad_image_is_counted_and_named_and_the_node_goes_on(
    node, probe, picture, diagnosis, case
):
    bad, reason = BAD_IMAGES[case]
    seen = diagnosis()
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    probe.ask(image(picture()), semantic)
    publisher = probe.publisher(Image, "/camera/image")
    probe.wait(lambda: seen.status("input"), "diagnostics")
    before = seen.count("input", "dropped: bad image")
    bad.header.stamp.sec = probe.next_stamp()

    def counted():
        publisher.publish(bad)
        return seen.count("input", "dropped: bad image") > before

    probe.wait(counted, "the bad image to be counted")
    probe.wait(lambda: reason in seen.value("input", "last error"), reason)
    assert seen.value("input", "last error").startswith("/camera/image: ")
    probe.ask(image(picture()), semantic)


def test_bad_images_of_one_kind_do_not_silence_another(node, probe, picture):
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    probe.ask(image(picture()), semantic)
    publisher = probe.publisher(Image, "/camera/image")
    for bad, reason in BAD_IMAGES.values():
        # An encoding that is not known is one kind of fault, whatever it is.
        if not bad.encoding:
            continue
        bad.header.stamp.sec = probe.next_stamp()

        def logged(bad=bad, reason=reason):
            publisher.publish(bad)
            lines = node.log.splitlines()
            return any("/camera/image: image refused" in x and reason in x for x in lines)

        # Far sooner than the ten seconds for which the kind before it is silent.
        probe.wait(logged, reason)


def test_ten_thousand_by_ten_thousand_pixels_really_sent(node, probe, picture):
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    probe.ask(image(picture()), semantic)
    request = SegmentImage.Request(image=message(10_000, 10_000, "mono8", 10_000, 100_000_000))
    response = probe.call(SegmentImage, "/rt_panoptic/segment", request, 60)
    assert "100.0 megapixels" in response.message
    probe.ask(image(picture()), semantic)


def test_stamps_of_zero_going_back_and_of_the_future(node, probe, picture, diagnosis):
    seen = diagnosis()
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    probe.ask(image(picture()), semantic)
    publisher = probe.publisher(Image, "/camera/image")
    for kind, seconds, words in (
        ("stamp of zero", 0, "/camera/image: a stamp of zero"),
        ("stamp went back", 1, "/camera/image: the stamp went back by"),
        ("stamp in the future", int(time.time()) + 3600, "s in the future: synchronise the clocks"),
    ):
        odd = image(picture())
        odd.header.stamp.sec = seconds
        before, answers = seen.count("input", kind), len(semantic)

        def counted(odd=odd, kind=kind, before=before):
            publisher.publish(odd)
            return seen.count("input", kind) > before

        probe.wait(counted, kind)
        node.wait_log(words)
        assert (
            kind
            in node.log.replace("a stamp of zero", "stamp of zero").replace("the stamp is", "stamp")
            or kind.split()[-1] in node.log
        )
        probe.wait(lambda answers=answers: len(semantic) > answers, "an answer all the same")


def test_a_failing_engine_costs_the_frame_and_is_loaded_anew(node, probe, picture, diagnosis):
    seen = diagnosis()
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    probe.ask(image(picture()), semantic)
    publisher = probe.publisher(Image, "/camera/image")
    bad = image(np.full((8, 12, 3), FAILS, np.uint8))
    probe.wait(lambda: seen.status("engine"), "diagnostics")
    before = seen.count("input", "dropped: engine failed")

    def failed():
        publisher.publish(bad)
        return seen.count("input", "dropped: engine failed") >= before + 3

    probe.wait(failed, "three failures")
    node.wait_log("loading it anew")
    probe.wait(
        lambda: any(
            s.level == DiagnosticStatus.ERROR and "CUDA out of memory" in s.message
            for m in seen.messages
            for s in m.status
        ),
        "an ERROR in the diagnostics",
    )
    probe.ask(image(picture()), semantic)
    probe.wait(lambda: seen.status("engine").level == DiagnosticStatus.OK, "OK again")


def test_two_nodes_of_one_name_are_told_once_and_one_in_another_namespace_is_none(
    start, probe, diagnosis
):
    options = ("-r", "__node:=twin", "-p", "diagnostics.period:=0.1")
    elsewhere = start(*options, "-r", "__ns:=/elsewhere")
    twins = [start(*options), start(*options)]
    for node in twins:
        node.wait_log("another node is named /twin, too")
        node.wait_log("active on")
    seen = [diagnosis("elsewhere/twin"), diagnosis("twin")]
    for diagnoses in seen:
        # Each had many more looks since.
        probe.wait(lambda diagnoses=diagnoses: diagnoses.status("input"), "diagnostics")
        before = len(diagnoses.messages)
        probe.wait(lambda d=diagnoses, n=before: len(d.messages) > n + 20, "more of them")
    assert [node.log.count("another node is named") for node in twins] == [1, 1]
    assert "another node is named" not in elsewhere.log


# QoS


def test_a_publisher_that_does_not_fit_is_named(start, probe):
    node = start("-r", "__node:=picky", "-r", "image:=/strict", "-p", "input.qos:=reliable")
    probe.wait_active("/picky")
    probe.node.create_publisher(Image, "/strict", qos_profile_sensor_data)
    node.wait_log("/strict: nothing can be received from /probe:")
    assert "RELIAB" in node.log.upper()
    assert "set input.qos to sensor_data" in node.log


def test_a_publisher_of_another_type_is_named(start, probe, diagnosis):
    start("-r", "__node:=typed", "-r", "image:=/jpegs", "-p", "diagnostics.period:=0.1")
    probe.wait_active("/typed")
    probe.node.create_publisher(CompressedImage, "/jpegs", 1)
    seen = diagnosis("typed")
    probe.wait(
        lambda: seen.status("input") and "CompressedImage" in seen.status("input").message,
        "the diagnostics to name the type",
    )
    assert seen.status("input").level == DiagnosticStatus.WARN
    assert "set input.transport" in seen.status("input").message


def test_qos_overrides_take_effect(start, probe):
    start(
        *("-r", "__node:=overridden", "-r", "image:=/overridden_image"),
        *("-p", "qos_overrides./overridden_image.subscription.reliability:=reliable"),
        *("-p", "qos_overrides./overridden_image.subscription.depth:=2"),
    )
    probe.wait_active("/overridden")
    (found,) = probe.wait(
        lambda: probe.node.get_subscriptions_info_by_topic("/overridden_image"), "the subscription"
    )
    assert found.qos_profile.reliability == ReliabilityPolicy.RELIABLE


@pytest.mark.parametrize(
    ("policy", "value", "allowed"),
    [
        (
            "reliability",
            "relyable",
            "'relyable'; it must be one of system_default, reliable, best_effort",
        ),
        (
            "history",
            "keep_none",
            "'keep_none'; it must be one of system_default, keep_last, keep_all",
        ),
        ("depth", "-3", "-3; it must be a whole number from 0 on"),
        ("depth", "many", "'many'; it must be a whole number from 0 on"),
    ],
)
def test_a_wrong_qos_override_is_named_and_the_activation_fails_visibly(
    start, probe, diagnosis, policy, value, allowed
):
    name, topic = f"wrong_{policy}_{value[-1]}", "/overridden_depth"
    parameter = f"qos_overrides.{topic}.subscription.{policy}"
    # Of the second topic: the first must not stay subscribed.
    node = start(
        *("-r", f"__node:={name}", "-r", f"image:=/{name}/image", "-r", f"depth:={topic}"),
        *("-p", "depth.enabled:=true", "-p", "diagnostics.period:=0.1"),
        *("-p", f"{parameter}:={value}"),
    )
    node.wait_log(f"activation failed: parameter {parameter}: {allowed}")
    seen = diagnosis(name)
    for part in ("input", "engine"):
        status = probe.wait(
            lambda part=part: (
                seen.status(part)
                and seen.status(part).level == DiagnosticStatus.ERROR
                and seen.status(part)
            ),
            f"an ERROR of {part}",
        )
        assert f"parameter {parameter}: {allowed}" in status.message
    probe.wait(lambda: probe.state(f"/{name}") == "inactive", "inactive")
    assert probe.node.count_subscribers(f"/{name}/image") == 0


def test_a_qos_override_of_nothing_is_told(start):
    node = start(
        *("-r", "__node:=idle", "-r", "image:=/idle/image", "-p", "publish.confidence:=true"),
        *("-p", "qos_overrides./idle/imagee.subscription.reliability:=reliable"),
        *("-p", "qos_overrides./idle/image.subscription.durability:=banana"),
        *("-p", "qos_overrides./idle/image.subscription.depth:=3"),
        *("-p", "qos_overrides./idle/confidence.publisher.depth:=3"),
    )
    node.wait_log("active on")
    assert (
        "imagee.subscription is of no topic whose QoS can be overridden; did you mean /idle/image."
        in node.log
    )
    assert "durability is no policy that can be overridden; there are history, depth" in node.log
    assert node.log.count("WARN") == 2


def test_a_wrong_qos_override_of_a_result_is_named(start, probe):
    parameter = "qos_overrides./misreported/semantic.publisher.reliability"
    node = start("-r", "__node:=misreported", "-p", f"{parameter}:=5")
    node.wait_log(f"configuration failed: parameter {parameter}: 5; it must be one of")
    probe.wait(lambda: probe.state("/misreported") == "unconfigured", "unconfigured")


def test_qos_overrides_in_a_file_as_documented(start, probe, tmp_path):
    path = tmp_path / "qos.yaml"
    path.write_text(
        """
/**:
  ros__parameters:
    qos_overrides:
      /documented_image:
        subscription:
          reliability: reliable
          history: keep_last
          depth: 5
"""
    )
    start(
        *("-r", "__node:=documented", "-r", "image:=/documented_image"),
        *("--params-file", str(path)),
    )
    probe.wait_active("/documented")
    (found,) = probe.wait(
        lambda: probe.node.get_subscriptions_info_by_topic("/documented_image"), "the subscription"
    )
    assert found.qos_profile.reliability == ReliabilityPolicy.RELIABLE


def test_a_subscriber_that_does_not_fit_is_named(node, probe):
    wants_latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    probe.node.create_subscription(Image, "/rt_panoptic/instance", lambda _: None, wants_latched)
    node.wait_log("/rt_panoptic/instance: subscriber /probe gets nothing")


# Load


def test_only_the_newest_frame_waits_and_the_others_are_counted(start, probe, picture, diagnosis):
    start(
        *("-r", "__node:=slow", "-r", "image:=/fast"),
        *("-p", "diagnostics.period:=0.1", "-p", "diagnostics.latency_limit:=0.01"),
        FAKE_FRAME_SECONDS="0.2",
    )
    probe.wait_active("/slow")
    seen = diagnosis("slow")
    semantic = probe.subscribe(Image, "/slow/semantic")
    publisher = probe.publisher(Image, "/fast")
    probe.wait(lambda: seen.value("output", "subscribed") == "semantic", "the match")
    ages = []

    def publish():
        message = image(picture())
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
        publisher.publish(message)

    def twelve():
        publish()
        if len(semantic) > len(ages):
            stamp = semantic[-1].header.stamp
            ages.append(time.time() - stamp.sec - stamp.nanosec * 1e-9)
        return len(ages) >= 12

    probe.wait(twelve, "twelve answers")
    # In work for 0.2 s, before that in the slot for 0.2 s at most: never the age of a queue.
    assert np.median(ages) < 0.6
    assert max(ages) < 1.0
    probe.wait(
        lambda: seen.count("input", "dropped: replaced by a newer frame") > 12, "counted drops"
    )
    status = probe.wait(
        lambda: (
            publish()
            or (seen.status("output").level == DiagnosticStatus.WARN and seen.status("output"))
        ),
        "a warning about latency",
    )
    assert "latency p95" in status.message
    assert float(seen.value("engine", "inference p50 (ms)")) == pytest.approx(200, rel=0.3)


def test_max_rate_limits_what_is_taken(node, probe, picture, diagnosis):
    seen = diagnosis()
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    probe.ask(image(picture()), semantic)
    assert probe.set_parameter("input.max_rate", 2.0).successful
    publisher, before = probe.publisher(Image, "/camera/image"), len(semantic)
    taken = seen.count("input", "dropped: over input.max_rate")

    def limited():
        publisher.publish(image(picture()))
        return seen.count("input", "dropped: over input.max_rate") >= taken + 20

    probe.wait(limited, "images over the rate")
    assert len(semantic) - before <= 4
    assert probe.set_parameter("input.max_rate", 0.0).successful


def test_no_frames_is_a_warning(start, probe, diagnosis):
    start(
        *("-r", "__node:=waiting", "-r", "image:=/nothing"),
        *("-p", "diagnostics.period:=0.1", "-p", "diagnostics.frame_timeout:=0.2"),
    )
    seen = diagnosis("waiting")
    status = probe.wait(
        lambda: (
            seen.status("input")
            and seen.status("input").level == DiagnosticStatus.WARN
            and seen.status("input")
        ),
        "a warning",
    )
    assert status.message == "no image yet on /nothing: nobody publishes it"
