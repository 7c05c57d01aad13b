"""Stamps as whole nanoseconds, which compare and subtract exactly."""

from __future__ import annotations

from builtin_interfaces.msg import Time

NANOSECONDS = 1_000_000_000


def nanoseconds(stamp: Time) -> int:
    """The stamp in nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec
