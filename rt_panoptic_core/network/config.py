"""What makes up a network: everything needed to build it again before its weights are loaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.wording import shown

BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "mobilenet_v2",
    "mobilenet_v2_expanded",
)

PRESETS = ("paper", "published")

_MAX_CHANNELS = 4096
_MAX_DEPTH = 64
_MAX_WEIGHTS = 300_000_000
"""A header from a foreign file must not make a network that fills the memory."""

_MAX_PIXEL_VALUE = 1e6


Kind = TypeVar("Kind", bound="PresetConfig")


@dataclass(frozen=True)
class PresetConfig:
    """Settings that are stored as plain data, and stand as they are in the paper unless something is said."""

    PUBLISHED: ClassVar[Mapping[str, Any]] = {}
    """What the authors' published code and checkpoint have otherwise than the paper."""

    @classmethod
    def preset(cls: type[Kind], name: str, **changes: Any) -> Kind:
        """Settings ``paper`` (the paper's) or ``published`` (the authors' checkpoint and code), changed.

        Raises:
            ConfigError: an unknown preset, key or value.
        """
        if name not in PRESETS:
            raise ConfigError(f"preset {name!r}: unknown; one of {', '.join(PRESETS)}")
        other = cls.PUBLISHED if name == "published" else {}
        return cls.from_dict({**cls().to_dict(), **other, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[Kind], data: Mapping[str, Any]) -> Kind:
        """Settings from plain data.

        Raises:
            ConfigError: an unknown key or a value out of range.
        """
        config: Kind = config_from_dict(cls, data)
        return config


_TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list",
    dict: "a section of keys and values",
}


@dataclass(frozen=True)
class NetworkConfig(PresetConfig):
    """Architecture of a :class:`~rt_panoptic_core.network.panoptic_network.PanopticNetwork`.

    Attributes:
        backbone: one of :data:`BACKBONES`. ``mobilenet_v2_expanded`` gives the first inverted residual
            an expansion layer of its own, as the ImageNet weights of MXNet and the ONNX model zoo have it.
        strides: of the pyramid levels, each twice the one before; the first is 8.
        pyramid_channels: of every pyramid level.
        semantic_tower_channels, box_tower_channels: of the two towers.
        tower_depth: convolution blocks in each tower.
        group_channels: channels that share a GroupNorm group in the towers.
        semantic_stride: of the semantic logits, 4 (the paper) or 8 (the published checkpoint).
        two_towers: False shares the box tower with the semantics (first row of the paper's table 3).
        levelness: False leaves it out; then masks take the best level (appendix B).
        frozen_batch_norm: the backbone's BatchNorm keeps its statistics and scale in training.
        batch_norm_eps: of the backbone's BatchNorm.
        image_mean, image_std: per channel in the order of ``bgr``, for values 0 … 255.
        bgr: channels are blue, green, red, as the published weights expect them.
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {
        "semantic_stride": 8,
        "batch_norm_eps": 0.0,
        "image_mean": (102.9801, 115.9465, 122.7717),
        "image_std": (1.0, 1.0, 1.0),
        "bgr": True,
    }

    backbone: str = "resnet50"
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    pyramid_channels: int = 256
    semantic_tower_channels: int = 128
    box_tower_channels: int = 256
    tower_depth: int = 4
    group_channels: int = 8
    semantic_stride: int = 4
    two_towers: bool = True
    levelness: bool = True
    frozen_batch_norm: bool = True
    batch_norm_eps: float = 1e-5
    image_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    image_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    bgr: bool = False

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ConfigError(f"backbone {self.backbone!r}: unknown; one of {', '.join(BACKBONES)}")
        expected = tuple(8 * 2**level for level in range(len(self.strides)))
        if not 3 <= len(self.strides) <= 6 or self.strides != expected:
            raise ConfigError(
                f"strides {list(self.strides)}: they must be 3 to 6 levels 8, 16, 32, … each doubled"
            )
        if self.semantic_stride not in (4, 8):
            raise ConfigError(f"semantic_stride {self.semantic_stride}: it must be 4 or 8")
        if not 1 <= self.tower_depth <= _MAX_DEPTH or self.group_channels < 1:
            raise ConfigError(
                f"tower_depth {self.tower_depth}, group_channels {self.group_channels}: "
                f"each must be at least 1, the depth at most {_MAX_DEPTH}"
            )
        for name in ("pyramid_channels", "semantic_tower_channels", "box_tower_channels"):
            channels = getattr(self, name)
            grouped = name != "pyramid_channels"
            if not 1 <= channels <= _MAX_CHANNELS or (grouped and channels % self.group_channels):
                raise ConfigError(
                    f"{name} {channels}: it must be 1 to {_MAX_CHANNELS}"
                    + (f", a multiple of group_channels {self.group_channels}" if grouped else "")
                )
        towers = self.semantic_tower_channels**2 + self.box_tower_channels**2
        weights = 9 * (self.tower_depth * towers + 2 * len(self.strides) * self.pyramid_channels**2)
        if weights > _MAX_WEIGHTS:
            raise ConfigError(
                f"channels {self.pyramid_channels}, {self.semantic_tower_channels}, "
                f"{self.box_tower_channels} at tower_depth {self.tower_depth}: some {weights // 10**6} "
                f"million weights beside the backbone; at most {_MAX_WEIGHTS // 10**6} million"
            )
        self._check_normalisation()

    def _check_normalisation(self) -> None:
        for name in ("image_mean", "image_std"):
            values: Any = getattr(self, name)
            numbers = len(values) == 3 and all(
                isinstance(v, int | float) and abs(v) <= _MAX_PIXEL_VALUE for v in values
            )
            if not numbers or (name == "image_std" and min(values) <= 0):
                raise ConfigError(
                    f"{name} {list(values)}: it must be three numbers, one for each channel"
                    + (", above 0" if name == "image_std" else "")
                )
        if not 0 <= self.batch_norm_eps <= 1:  # nor not a number
            raise ConfigError(f"batch_norm_eps {self.batch_norm_eps}: it must be from 0 to 1")

    @property
    def size_multiple(self) -> int:
        """Height and width of the network's input must be multiples of this: the backbone's stride."""
        return 32


def config_from_dict(kind: Any, data: Mapping[str, Any], section: str = "") -> Any:
    """Instance of the configuration dataclass ``kind`` from plain data, lists becoming tuples.

    Args:
        kind: the dataclass.
        data: its values by name; those that are missing have their defaults.
        section: what people call it: the section of a YAML file.

    Raises:
        ConfigError: an unknown key (the nearest one is named) or a value of the wrong type.
    """
    place = section or kind.__name__
    if not isinstance(data, Mapping):
        raise ConfigError(f"{place}: {shown(data)}; it must hold named values")
    known = {f.name: f for f in fields(kind)}
    unknown = sorted(str(name) for name in set(data) - set(known))
    if unknown:
        raise ConfigError(f"{place}: unknown key {unknown[0]!r}; {suggestion(unknown[0], known)}")
    values: dict[str, Any] = {}
    for name, value in data.items():
        default, factory = known[name].default, known[name].default_factory
        expected = type(default if factory is MISSING else factory())
        fitted = _fitted(value, expected)
        if type(fitted) is not expected:
            raise ConfigError(f"{place}.{name}: {shown(value)}; it must be {_TYPE_NAMES[expected]}")
        values[name] = fitted
    return kind(**values)


def suggestion(unknown: str, known: Iterable[str]) -> str:
    """What to tell of an unknown name: the one that was meant, or all that there are."""
    names = sorted(known)
    near = difflib.get_close_matches(unknown, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"one of {', '.join(names)}"


def _fitted(value: Any, expected: type) -> Any:
    """``value`` as YAML and JSON write it, in the type ``expected`` where it says the same."""
    if isinstance(value, list):
        return tuple(value)
    if expected is float and type(value) in (int, str):
        # YAML takes 1e-3, which has no point, for a text.
        try:
            return float(value)
        except (ValueError, OverflowError):
            return value
    return value
