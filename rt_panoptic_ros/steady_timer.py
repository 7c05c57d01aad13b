"""Timers that go on where ROS time stands still."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer


def create_steady_timer(node: Node, seconds: float, callback: Callable[[], object]) -> Timer:
    """A timer of ``node`` that calls ``callback`` every so many seconds of the machine's steady clock.

    rclpy's own goes by the node's clock: with ``use_sim_time`` and nothing on /clock it never fires.
    """
    return node.create_timer(seconds, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))
