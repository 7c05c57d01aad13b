"""What is wrong with a command line: types of arguments, and the error for those that do not go together.

Either way the exit status is 2, argparse's own; what goes wrong later is 1.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

from rt_panoptic_core.engines.spec import parse_device, parse_size
from rt_panoptic_core.errors import ConfigError

Value = TypeVar("Value")
Number = TypeVar("Number", int, float)


class UsageError(ConfigError):
    """Arguments do not go together, or one of them needs another."""


def number(
    kind: Callable[[str], Number], low: float, high: float = math.inf, *, open_ended: bool = False
) -> Callable[[str], Number]:
    """Type of an argument that is a number from ``low`` to ``high``.

    Args:
        kind: ``int`` or ``float``.
        low, high: the least and the largest value.
        open_ended: these two themselves are not allowed.
    """
    what = "a whole number" if kind is int else "a number"
    if open_ended:
        allowed = f"{what} between {low:g} and {high:g}"
    else:
        allowed = (
            f"{what}, {low:g} or more" if high == math.inf else f"{what} from {low:g} to {high:g}"
        )

    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = None
        # Not the other way round: nan lies nowhere.
        inside = value is not None and low <= value <= high
        if value is None or not inside or (open_ended and value in (low, high)):
            raise argparse.ArgumentTypeError(f"{text}: it must be {allowed}")
        return value

    return parse


def checked(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """``parse`` as the type of an argument: argparse says which one its ConfigError is about."""

    def argument(text: str) -> Value:
        try:
            return parse(text)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return argument


size = checked(parse_size)
"""Type of an argument ``HEIGHTxWIDTH``: (height, width)."""

device = checked(parse_device)
"""Type of an argument ``cpu``, ``cuda`` or ``cuda:N``: ``cpu`` or ``cuda:N``."""
