"""Publishers wait for their first subscriber; as a command, launch files do.

``python -m rt_panoptic_ros.wait_for_subscriber TOPIC`` ends once TOPIC has a subscriber.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from threading import Event

import rclpy
from rclpy.executors import ExternalShutdownException

_POLL = 0.1


def subscriber_came(count: Callable[[], int], stop: Event, seconds: float) -> bool:
    """Whether ``count()`` was above 0 within ``seconds``; False at once when ``stop`` is set."""
    deadline = time.monotonic() + seconds
    while not count():
        if time.monotonic() >= deadline or stop.wait(_POLL):
            return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when there is a subscriber, 1 when there was none in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topic")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds (%(default)s)")
    parsed = parser.parse_args(arguments)
    rclpy.init(args=["wait_for_subscriber"])
    node = rclpy.create_node("wait_for_subscriber")
    stop = Event()
    node.context.on_shutdown(stop.set)
    try:
        if subscriber_came(lambda: node.count_subscribers(parsed.topic), stop, parsed.timeout):
            return 0
        if not stop.is_set():
            print(f"{parsed.topic} has no subscriber after {parsed.timeout:g} s", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
