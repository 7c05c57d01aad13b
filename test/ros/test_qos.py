"""How endpoints that do not fit are told of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from rclpy.clock import ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from rt_panoptic_ros.qos import EndpointReport, input_profile, unfit_publishers, unused_overrides
from rt_panoptic_ros.steady_timer import create_steady_timer

IMAGE = "sensor_msgs/msg/Image"


class Node:
    """A node that knows of publishers, and keeps its timers."""

    def __init__(self, *publishers):
        self.publishers = list(publishers)
        self.timers = []

    def get_publishers_info_by_topic(self, topic):
        assert topic == "/image"
        return self.publishers

    def create_timer(self, seconds, callback, *, clock):
        timer = SimpleNamespace(seconds=seconds, callback=callback, clock=clock)
        self.timers.append(timer)
        return timer

    def destroy_timer(self, timer):
        self.timers.remove(timer)


def publisher(name, namespace, *, kind=IMAGE):
    profile = QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )
    return SimpleNamespace(
        node_name=name, node_namespace=namespace, topic_type=kind, qos_profile=profile
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "/camera/imagee.subscription.depth",
            "qos_overrides./camera/imagee.subscription is of no topic whose QoS can be overridden; "
            "did you mean /camera/image.subscription?",
        ),
        (
            "/camera/image.subscriber.depth",
            "qos_overrides./camera/image.subscriber is of no topic whose QoS can be overridden; "
            "did you mean /camera/image.subscription?",
        ),
        (
            "/camera/image.publisher.depth",
            "qos_overrides./camera/image.publisher is of no topic whose QoS can be overridden; "
            "there are /camera/image.subscription, /rt_panoptic/semantic.publisher",
        ),
        (
            "/camera/image.subscription.reliabilty",
            "qos_overrides./camera/image.subscription.reliabilty is no policy that can be overridden; "
            "did you mean reliability?",
        ),
        (
            "/rt_panoptic/semantic.publisher.durability",
            "qos_overrides./rt_panoptic/semantic.publisher.durability is no policy that can be overridden; "
            "there are history, depth, reliability",
        ),
        ("/camera/image.subscription.reliability", None),
        ("/rt_panoptic/semantic.publisher.history", None),
    ],
)
def test_overrides_of_nothing_are_told_with_what_there_is(name, sentence):
    given = ["overlay.opacity", f"qos_overrides.{name}"]
    found = unused_overrides(given, ["/camera/image"], ["/rt_panoptic/semantic"])
    assert found == ([] if sentence is None else [sentence])


def test_overrides_of_one_topic_that_there_is_not_are_told_once():
    given = [f"qos_overrides./other.publisher.{policy}" for policy in ("depth", "history")]
    assert len(unused_overrides(given, ["/image"], ["/semantic"])) == 1


UNKNOWN = ("_NODE_NAME_UNKNOWN_", "_NODE_NAMESPACE_UNKNOWN_")


def test_a_node_that_is_not_known_by_name_is_not_called_by_a_made_up_one():
    node = Node(publisher(*UNKNOWN), publisher("driver", "/front", kind="std_msgs/msg/String"))
    found = unfit_publishers(node, "/image", input_profile("reliable"), IMAGE)
    assert [who for who, _ in found] == ["a node without a known name", "/front/driver"]


def test_a_report_waits_for_the_name_by_the_steady_clock():
    node, said = Node(publisher(*UNKNOWN)), []

    def find():
        profile = input_profile("reliable")
        return [who for who, _ in unfit_publishers(node, "/image", profile, IMAGE)]

    report = EndpointReport(node, find, said.append)
    report.look()
    (timer,) = node.timers
    assert timer.clock.clock_type == ClockType.STEADY_TIME
    assert said == []
    node.publishers = [publisher("driver", "/")]
    timer.callback()
    assert said == ["/driver"]
    assert node.timers == []


def test_a_steady_timer_calls_while_simulated_time_stands_still():
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node(
        "still", context=context, parameter_overrides=[Parameter("use_sim_time", value=True)]
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    called = []
    create_steady_timer(node, 0.01, lambda: called.append(node.get_clock().now().nanoseconds))
    try:
        for _ in range(1000):
            executor.spin_once(timeout_sec=0.1)
            if called:
                break
        assert called[0] == 0
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
