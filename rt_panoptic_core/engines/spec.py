"""What engine is wanted: which graph, at which size, run by what, in which precision, where."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

from rt_panoptic_core.errors import ConfigError

ENGINES = ("tensorrt", "openvino", "pytorch")
"""Names of the engines, the usually fastest first."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""Precisions of the network. Boxes, areas and correlation are fp32 in every one of them."""

MODES = ("latency", "throughput")

MAX_SIDE = 8192
"""Longest image side an engine is built for; larger images are resized into the engine's size."""


@dataclass(frozen=True)
class EngineSpec:
    """A completely resolved engine: nothing is left to choose.

    Attributes:
        image_size: (height, width) of the uint8 image that goes in and of the id maps that come out.
        engine: one of :data:`ENGINES`.
        precision: one of :data:`PRECISIONS`.
        device: ``cpu`` or ``cuda:N``.
        mode: ``latency`` (one frame at a time, all threads on it) or ``throughput`` (several, where the
            engine is OpenVINO; the same results).
        threads: CPU threads; None = all that the process may use.
    """

    image_size: tuple[int, int]
    engine: str
    precision: str
    device: str = "cpu"
    mode: str = "latency"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: a value is out of range; the field and the allowed values are named.
        """
        check_choice("engine", self.engine, ENGINES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("mode", self.mode, MODES)
        # Plain numbers in a tuple, whatever they came in: a specification can be looked up.
        object.__setattr__(self, "image_size", checked_size("image_size", self.image_size))
        object.__setattr__(self, "threads", checked_threads(self.threads))
        if self.device != parse_device(self.device):
            raise ConfigError(f"device {self.device!r}: it must be 'cpu' or 'cuda:N' here")

    @property
    def label(self) -> str:
        """One short line for people: ``openvino bf16 cpu 1024x2048``."""
        height, width = self.image_size
        return f"{self.engine} {self.precision} {self.device} {height}x{width}"


def parse_device(text: str) -> str:
    """``cpu`` or ``cuda:N`` from what people write; ``cuda`` is ``cuda:0``.

    Raises:
        ConfigError: it is neither.
    """
    if not isinstance(text, str):
        raise ConfigError(f"device {text!r}: it must be 'cpu', 'cuda' or 'cuda:N'")
    if text in ("cpu", "cuda"):
        return "cpu" if text == "cpu" else "cuda:0"
    number = text.removeprefix("cuda:")
    if number == text or not (number.isascii() and number.isdecimal()):
        raise ConfigError(f"device {text!r}: it must be cpu, cuda or cuda:N")
    return text


def whole_pair(value: object) -> tuple[int, int] | None:
    """The two whole numbers of a sequence, numpy's among them, as a tuple of int; None for all else."""
    # An array of numpy is no Sequence, and numpy need not be imported for this.
    if isinstance(value, str) or not (isinstance(value, Sequence) or hasattr(value, "__array__")):
        return None
    numbers: Any = value
    try:
        first, second = (index(number) for number in numbers)
    except (TypeError, ValueError):
        return None
    return first, second


def checked_size(field: str, size: object) -> tuple[int, int]:
    """``size`` as a tuple of int if it is (height, width), each from 1 to :data:`MAX_SIDE`.

    Raises:
        ConfigError: it is not; ``field`` is named.
    """
    pair = whole_pair(size)
    if pair is None:
        raise ConfigError(f"{field} {size!r}: it must be (height, width), two whole numbers")
    if not all(1 <= side <= MAX_SIDE for side in pair):
        raise ConfigError(
            f"{field} {pair[0]}x{pair[1]}: it must be height and width, each from 1 to "
            f"{MAX_SIDE} pixels"
        )
    return pair


def checked_threads(threads: object) -> int | None:
    """``threads`` if it is a whole number from 1 on, or None.

    Raises:
        ConfigError: it is neither.
    """
    if threads is None:
        return None
    try:
        number = index(threads)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1:
        raise ConfigError(f"threads {threads!r}: it must be a whole number, at least 1, or None")
    return number


def check_calibration(calibration: str | os.PathLike[str] | None, precision: str | None) -> None:
    """Accept a folder of images for calibration where ``precision`` is int8.

    Raises:
        ConfigError: there is such a folder, and nothing would look at it.
    """
    if calibration is not None and precision != "int8":
        raise ConfigError(
            f"calibration {calibration}: it is for precision int8 and nothing else; "
            "ask for int8, or leave it out"
        )


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of ``"HEIGHTxWIDTH"``, for example ``"1024x2048"``.

    Raises:
        ConfigError: the text has another form or a side is out of range.
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise ConfigError(f"size {text!r}: it must be HEIGHTxWIDTH, for example 1024x2048")
    return checked_size("size", (int(sides[0]), int(sides[1])))


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Accept ``value`` if it is one of ``choices``.

    Raises:
        ConfigError: it is not; ``field`` is named.
    """
    if value not in choices:
        raise ConfigError(f"{field} {value!r}: it must be one of {', '.join(choices)}")
