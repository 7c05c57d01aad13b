"""The node's clock and the images' stamps: what is said where the two do not fit."""

from __future__ import annotations

import time

import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from diagnostic_msgs.msg import DiagnosticStatus
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from rt_panoptic_ros.messages import to_image

NO_CLOCK = "use_sim_time is set, but nothing is published on /clock"


@pytest.fixture(autouse=True)
def nobody_listens_afterwards(probe):
    yield
    probe.unsubscribe_all()


def named(name, *arguments):
    return (
        *("-r", f"__node:={name}", "-r", f"image:=/{name}/image", "-r", f"/clock:=/{name}/clock"),
        *("-p", "diagnostics.period:=0.1", *arguments),
    )


def publish_until(probe, topic, picture, stamp, done, what):
    """Publish images stamped ``stamp()`` seconds until ``done``; what that gave."""
    publisher = probe.publisher(Image, topic)

    def step():
        message = to_image(Image().header, picture())
        nanoseconds = round(stamp() * 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(nanoseconds, 10**9)
        publisher.publish(message)
        return done()

    return probe.wait(step, what)


def stop_the_clock(probe, name, seen):
    """Publish one time for the node of that name until it takes it for now."""
    clock = probe.publisher(Clock, f"/{name}/clock")
    tick = Clock()
    tick.clock.sec = 100

    def told():
        clock.publish(tick)
        return seen.status("input") and NO_CLOCK not in seen.status("input").message

    probe.wait(told, "the time to be taken from the clock")


def test_without_a_clock_the_diagnostics_come_and_say_so(start, probe, picture, diagnosis):
    node = start(*named("clockless", "-p", "use_sim_time:=true"))
    seen = diagnosis("clockless")
    status = probe.wait(
        lambda: (
            seen.status("input")
            and NO_CLOCK in seen.status("input").message
            and seen.status("input")
        ),
        "the diagnostics to say so",
    )
    assert status.level == DiagnosticStatus.WARN
    probe.wait_active("/clockless")
    probe.subscribe(Image, "/clockless/semantic")
    publish_until(
        *(probe, "/clockless/image", picture, time.time),
        lambda: seen.count("output", "results") > 2,
        "results",
    )
    # Every stamp is ahead of a clock at zero: that is no fault of the stamps.
    node.wait_log(f"{NO_CLOCK}: latency cannot be told; publish it")
    assert "set use_sim_time to false" in node.log
    assert "in the future" not in node.log
    assert seen.count("input", "stamp in the future") == 0
    assert seen.value("output", "latency p50 (ms)") == ""

    stop_the_clock(probe, "clockless", seen)


def test_stamps_that_do_not_follow_the_simulated_clock(start, probe, picture, diagnosis):
    node = start(*named("simulated", "-p", "use_sim_time:=true"))
    probe.wait_active("/simulated")
    seen = diagnosis("simulated")
    stop_the_clock(probe, "simulated", seen)
    publish_until(
        *(probe, "/simulated/image", picture, lambda: 500.0),
        lambda: seen.count("input", "stamp in the future"),
        "a stamp of the future to be counted",
    )
    node.wait_log("s in the future: its publisher does not follow /clock; set use_sim_time there")
    assert "synchronise the clocks" not in node.log


def test_old_stamps_are_a_trouble_of_their_own_and_no_latency(start, probe, picture, diagnosis):
    node = start(*named("dated"))
    probe.wait_active("/dated")
    seen = diagnosis("dated")
    probe.subscribe(Image, "/dated/semantic")
    day = 86_400.0
    words = "s old: synchronise the clocks, or set use_sim_time"
    status = publish_until(
        *(probe, "/dated/image", picture, lambda: time.time() - day),
        lambda: (
            seen.count("output", "results") > 5
            and words in seen.status("input").message
            and seen.status("input")
        ),
        "the diagnostics to say so",
    )
    assert status.level == DiagnosticStatus.WARN
    assert "stamps are 86400 s old" in status.message
    node.wait_log(f"/dated/image: stamps are 86400 {words}")
    # A faster engine would not make these images younger.
    assert seen.status("output").level == DiagnosticStatus.OK
    assert seen.value("output", "latency p50 (ms)") == ""
    # Two seconds are a slow network's, and are told as latency.
    publish_until(
        *(probe, "/dated/image", picture, lambda: time.time() - 2.0),
        lambda: float(seen.value("output", "latency p50 (ms)") or 0) > 2000.0,
        "the latency",
    )


def test_latency_is_in_real_seconds_however_slowly_the_simulated_clock_runs(
    start, probe, picture, diagnosis
):
    # A clock that stands still is as slow as can be.
    start(*named("slow", "-p", "use_sim_time:=true"), FAKE_FRAME_SECONDS="0.2")
    probe.wait_active("/slow")
    seen = diagnosis("slow")
    probe.subscribe(Image, "/slow/semantic")
    stop_the_clock(probe, "slow", seen)
    # Stamped half a second before they came.
    publish_until(
        *(probe, "/slow/image", picture, lambda: 99.5),
        lambda: seen.count("output", "results") > 3,
        "results",
    )
    latency = probe.wait(lambda: seen.value("output", "latency p50 (ms)"), "the latency")
    assert float(latency) >= 700.0
