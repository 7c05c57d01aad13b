"""Publishers wait for their first subscriber; as a command, launch files do.

``python -m rt_panoptic_ros.wait_for_subscriber TOPIC`` ends once TOPIC has a subscriber, with ``--node NAME``
once that node is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from threading import Event

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from rt_panoptic_ros.qos import node_name

_POLL = 0.1


def subscriber_came(is_there: Callable[[], object], stop: Event, seconds: float) -> bool:
    """Whether ``is_there()`` was true within ``seconds``; False at once when ``stop`` is set."""
    deadline = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() >= deadline or stop.wait(_POLL):
            return False
    return True


def has_subscribed(node: Node, topic: str, name: str = "") -> bool:
    """Whether the node of the full name ``name``, or any where it is empty, has subscribed ``topic``.

    As far as ``node`` knows by now: a subscription may be found a moment before its node's name.
    """
    if not name:
        return bool(node.count_subscribers(topic))
    return any(node_name(info) == name for info in node.get_subscriptions_info_by_topic(topic))


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when there is a subscriber, 1 when there was none in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topic")
    parser.add_argument(
        "--node", default="", help="full name; whoever subscribes first if left out"
    )
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds (%(default)s)")
    parsed = parser.parse_args(arguments)
    rclpy.init(args=["wait_for_subscriber"])
    node = rclpy.create_node("wait_for_subscriber")
    stop = Event()
    node.context.on_shutdown(stop.set)
    try:
        if subscriber_came(
            lambda: has_subscribed(node, parsed.topic, parsed.node), stop, parsed.timeout
        ):
            return 0
        if not stop.is_set():
            who = f"not been subscribed by {parsed.node}" if parsed.node else "no subscriber"
            print(f"{parsed.topic} has {who} after {parsed.timeout:g} s", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
