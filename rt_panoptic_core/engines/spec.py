"""What engine is wanted: which graph, at which size, run by what, in which precision, where."""

from __future__ import annotations

from dataclasses import dataclass

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
        mode: ``latency`` (one frame at a time, all threads on it) or ``throughput``.
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
        _check_choice("engine", self.engine, ENGINES)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_choice("mode", self.mode, MODES)
        check_size("image_size", self.image_size)
        if self.device != parse_device(self.device):
            raise ConfigError(f"device {self.device!r}: it must be 'cpu' or 'cuda:N' here")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads {self.threads}: it must be at least 1")

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
    if text in ("cpu", "cuda"):
        return "cpu" if text == "cpu" else "cuda:0"
    number = text.removeprefix("cuda:")
    if number == text or not (number.isascii() and number.isdecimal()):
        raise ConfigError(f"device {text!r}: it must be cpu, cuda or cuda:N")
    return text


def check_size(field: str, size: tuple[int, int]) -> None:
    """Accept ``size`` if it is (height, width), each from 1 to :data:`MAX_SIDE`.

    Raises:
        ConfigError: it is not; ``field`` is named.
    """
    if isinstance(size, str):
        raise ConfigError(f"{field} {size!r}: it must be (height, width)")
    if len(size) != 2 or not all(isinstance(side, int) and 1 <= side <= MAX_SIDE for side in size):
        raise ConfigError(
            f"{field} {'x'.join(map(str, size))}: it must be height and width, each from 1 to "
            f"{MAX_SIDE} pixels"
        )


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of ``"HEIGHTxWIDTH"``, for example ``"1024x2048"``.

    Raises:
        ConfigError: the text has another form or a side is out of range.
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise ConfigError(f"size {text!r}: it must be HEIGHTxWIDTH, for example 1024x2048")
    size = (int(sides[0]), int(sides[1]))
    check_size("size", size)
    return size


def _check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{field} {value!r}: it must be one of {', '.join(choices)}")
