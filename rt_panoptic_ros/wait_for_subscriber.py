"""``python -m rt_panoptic_ros.wait_for_subscriber TOPIC``: ends once TOPIC has a subscriber."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import rclpy
from rclpy.executors import ExternalShutdownException

_POLL = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when there is a subscriber, 1 when there was none in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topic")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds (%(default)s)")
    parsed = parser.parse_args(arguments)
    rclpy.init(args=["wait_for_subscriber"])
    node = rclpy.create_node("wait_for_subscriber")
    deadline = time.monotonic() + parsed.timeout
    try:
        while not node.count_subscribers(parsed.topic):
            if time.monotonic() > deadline:
                print(
                    f"{parsed.topic} has no subscriber after {parsed.timeout:g} s", file=sys.stderr
                )
                return 1
            rclpy.spin_once(node, timeout_sec=_POLL)
        return 0
    except (KeyboardInterrupt, ExternalShutdownException):
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
