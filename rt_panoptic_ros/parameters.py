"""The node's parameters, each declared once: name, type, default, range, when it may change, meaning.

``python -m rt_panoptic_ros.parameters`` prints the table of docs/parameters.md from these
declarations; the tests hold the two together.
"""

from __future__ import annotations

import difflib
import enum
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rt_panoptic_core.engines.spec import ENGINES, MAX_SIDE, PRECISIONS, parse_device, parse_size
from rt_panoptic_core.errors import ConfigError

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.parameter import Parameter

Value = bool | int | float | str
"""What a parameter of this node can hold."""

MODEL_OWN = -1.0
"""A threshold of this value means the model's own."""


_MIN_NETWORK_SIDE = 32
"""The backbone's stride: of a smaller image the network sees one location, most of it padding."""


class Change(enum.Enum):
    """When a parameter may change; the words stand in the documentation."""

    ANY_TIME = "any time; takes effect at the next frame"
    INACTIVE = "while not active; takes effect at activation"
    UNCONFIGURED = "while unconfigured; takes effect at configuration"
    NEVER = "only at the start"


@dataclass(frozen=True)
class ParameterSpec:
    """One declared parameter.

    Attributes:
        name: as ROS sees it; a dot makes a group in a parameter file.
        default: its type is the parameter's type.
        description: one or two sentences, units included.
        change: when it may change.
        minimum: least value, inclusive; None for no range.
        maximum: greatest value, inclusive.
        choices: the allowed texts; empty for any.
        check: raises ConfigError for a value that range and choices cannot refuse.
    """

    name: str
    default: Value
    description: str
    change: Change
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], object] | None = None

    @property
    def type_name(self) -> str:
        """``bool``, ``int``, ``double`` or ``string``, as ``ros2 param describe`` says it."""
        return {bool: "bool", int: "int", float: "double", str: "string"}[type(self.default)]

    @property
    def range_text(self) -> str:
        """The allowed values in words; empty where everything is allowed."""
        if self.choices:
            return ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{_number(self.minimum)} to {_number(self.maximum)}"
        return ""

    def wrong_type(self, value: Any) -> str | None:
        """Why a value of this type is refused: names the parameter and what it must be; None if it is not."""
        if type(value) is type(self.default):
            return None
        wanted = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
        return f"{self.name}: {value!r} is refused; it must be {wanted[type(self.default)]}" + (
            f", {self.range_text}" if self.range_text else ""
        )

    def refusal(self, value: Any) -> str | None:
        """Why ``value`` is refused: names the parameter, the value and what is allowed; None if it is not."""
        if isinstance(value, float) and not math.isfinite(value):
            return f"{self.name}: {value} is not a number; it must be {self.range_text}"
        if self.choices and value not in self.choices:
            near = difflib.get_close_matches(str(value), self.choices, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return f"{self.name}: {value!r} is not one of {', '.join(self.choices)}{hint}"
        low, high = self.minimum, self.maximum
        if low is not None and high is not None and not low <= value <= high:
            return f"{self.name}: {_number(value)} is out of range; it must be {self.range_text}"
        if self.check is not None:
            try:
                self.check(value)
            except ConfigError as error:
                return f"{self.name}: {error}"
        return None


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:g}"


def _size_or_empty(text: str) -> None:
    if text:
        parse_size(text)


def _network_size_or_empty(text: str) -> None:
    if text and min(parse_size(text)) < _MIN_NETWORK_SIDE:
        raise ConfigError(
            f"{text}: it must be height and width, each from {_MIN_NETWORK_SIDE} to {MAX_SIDE} pixels"
        )


def _threshold_or_own(value: float) -> None:
    if value != MODEL_OWN and value < 0:
        raise ConfigError(f"{value:g}: it must be 0 to 1, or -1 for the model's own")


def _device(text: str) -> None:
    try:
        parse_device("cpu" if text == "auto" else text)
    except ConfigError:
        raise ConfigError(f"{text!r}: it must be auto, cpu, cuda or cuda:N") from None


def _threshold(name: str, description: str) -> ParameterSpec:
    return ParameterSpec(
        f"thresholds.{name}",
        MODEL_OWN,
        f"{description} -1: the model's own.",
        Change.ANY_TIME,
        -1.0,
        1.0,
        check=_threshold_or_own,
    )


PARAMETERS: tuple[ParameterSpec, ...] = (
    ParameterSpec(
        "model",
        "",
        "Checkpoint: a path, or the name of a shipped model. Empty: the default model.",
        Change.UNCONFIGURED,
    ),
    ParameterSpec(
        "engine",
        "auto",
        "What runs the network. auto: the fastest that is installed and fits the device.",
        Change.UNCONFIGURED,
        choices=("auto", *ENGINES),
    ),
    ParameterSpec(
        "precision",
        "auto",
        "Precision of the network. auto: the fastest that keeps the engine's quality.",
        Change.UNCONFIGURED,
        choices=("auto", *PRECISIONS),
    ),
    ParameterSpec(
        "device",
        "auto",
        "auto, cpu, cuda or cuda:N.",
        Change.UNCONFIGURED,
        check=_device,
    ),
    ParameterSpec(
        "network_size",
        "",
        "HEIGHTxWIDTH in pixels that images are resized to inside the network, for example 512x1024; "
        f"each side from {_MIN_NETWORK_SIDE} pixels. Empty: the model's own. The outputs have the input's "
        "size always.",
        Change.UNCONFIGURED,
        check=_network_size_or_empty,
    ),
    ParameterSpec(
        "image_size",
        "",
        "HEIGHTxWIDTH in pixels of the camera's images. Given, the engine is built for it while the "
        "node configures; empty, it is built when the first image comes.",
        Change.UNCONFIGURED,
        check=_size_or_empty,
    ),
    ParameterSpec(
        "threads",
        0,
        "CPU threads of the engine. 0: all that the process may use.",
        Change.UNCONFIGURED,
        0,
        1024,
    ),
    ParameterSpec(
        "autostart",
        True,
        "Configure and activate at the start. false: wait for a lifecycle manager.",
        Change.NEVER,
    ),
    ParameterSpec(
        "enabled",
        True,
        "Run inference. Also set by the service ~/enable.",
        Change.ANY_TIME,
    ),
    ParameterSpec(
        "input.transport",
        "raw",
        "raw: sensor_msgs/Image on `image`. compressed: sensor_msgs/CompressedImage (jpeg, png) on "
        "`image/compressed`.",
        Change.INACTIVE,
        choices=("raw", "compressed"),
    ),
    ParameterSpec(
        "input.qos",
        "sensor_data",
        "QoS of the subscriptions. sensor_data: best effort, which every publisher fits. reliable: "
        "lost parts are sent again; a best-effort publisher does not fit. `qos_overrides` override it.",
        Change.INACTIVE,
        choices=("sensor_data", "reliable"),
    ),
    ParameterSpec(
        "input.max_rate",
        0.0,
        "Most frames a second (Hz) that are taken; the rest is dropped and counted. 0: all.",
        Change.ANY_TIME,
        0.0,
        1000.0,
    ),
    ParameterSpec(
        "input.max_megapixels",
        40.0,
        "Images with more megapixels are refused.",
        Change.ANY_TIME,
        0.01,
        500.0,
    ),
    _threshold("score", "Least score of an instance."),
    _threshold("mask", "Mask threshold σ: least mask probability of a pixel of an instance."),
    _threshold("overlap", "Least share of an instance that is visible behind better ones."),
    ParameterSpec(
        "thresholds.stuff_area",
        -1,
        "Least pixels of a stuff segment; a smaller one is unlabelled. -1: the model's own.",
        Change.ANY_TIME,
        -1,
        1_000_000_000,
    ),
    ParameterSpec(
        "tracking.enabled",
        True,
        "Give an object the same instance id in every frame, on all topics. false: instances are "
        "numbered anew in each frame, from 1 by falling score.",
        Change.ANY_TIME,
    ),
    ParameterSpec(
        "tracking.memory",
        1.0,
        "Seconds for which an object that is out of sight keeps its id.",
        Change.ANY_TIME,
        0.0,
        10.0,
    ),
    ParameterSpec(
        "publish.panoptic",
        False,
        "Offer ~/panoptic: 32SC1, class << 16 | instance.",
        Change.UNCONFIGURED,
    ),
    ParameterSpec(
        "publish.confidence",
        False,
        "Offer ~/confidence: mono8, probability of the pixel's class times 255.",
        Change.UNCONFIGURED,
    ),
    ParameterSpec(
        "overlay.opacity",
        0.5,
        "Opacity of the class colours over the image. 0: the image, 1: the colours.",
        Change.ANY_TIME,
        0.0,
        1.0,
    ),
    ParameterSpec(
        "overlay.names",
        True,
        "Write class and score at each instance.",
        Change.ANY_TIME,
    ),
    ParameterSpec(
        "overlay.ids",
        True,
        "Write the id at each instance's name, while tracking is enabled.",
        Change.ANY_TIME,
    ),
    ParameterSpec(
        "overlay.legend",
        True,
        "Draw the colours and names of the classes in view.",
        Change.ANY_TIME,
    ),
    ParameterSpec(
        "overlay.fps",
        True,
        "Write the frames a second that the node processes.",
        Change.ANY_TIME,
    ),
    ParameterSpec(
        "overlay.jpeg_quality",
        80,
        "Quality of ~/overlay/compressed.",
        Change.ANY_TIME,
        1,
        100,
    ),
    ParameterSpec(
        "depth.enabled",
        False,
        "Subscribe `depth` (16UC1 mm or 32FC1 m, pixel for pixel with the image) and `camera_info`; "
        "offer ~/points and ~/markers.",
        Change.UNCONFIGURED,
    ),
    ParameterSpec(
        "depth.sync",
        "exact",
        "exact: depth of the image's stamp. approximate: the nearest within depth.tolerance.",
        Change.ANY_TIME,
        choices=("exact", "approximate"),
    ),
    ParameterSpec(
        "depth.tolerance",
        0.02,
        "Most seconds between image and depth with depth.sync approximate.",
        Change.ANY_TIME,
        0.0,
        1.0,
    ),
    ParameterSpec(
        "points.organized",
        False,
        "true: a cloud of height x width with NaN where there is no point. false: points only.",
        Change.ANY_TIME,
    ),
    ParameterSpec(
        "points.stride",
        1,
        "Every n-th row and column becomes a point.",
        Change.ANY_TIME,
        1,
        64,
    ),
    ParameterSpec(
        "points.min_range",
        0.1,
        "Nearest depth of a point, metres along the optical axis.",
        Change.ANY_TIME,
        0.0,
        1000.0,
    ),
    ParameterSpec(
        "points.max_range",
        80.0,
        "Farthest depth of a point, metres along the optical axis.",
        Change.ANY_TIME,
        0.0,
        10000.0,
    ),
    ParameterSpec(
        "diagnostics.period",
        1.0,
        "Seconds between two messages on /diagnostics.",
        Change.NEVER,
        0.05,
        60.0,
    ),
    ParameterSpec(
        "diagnostics.latency_limit",
        0.5,
        "WARN when the 95th percentile from stamp to publication is above it, seconds.",
        Change.ANY_TIME,
        0.0,
        3600.0,
    ),
    ParameterSpec(
        "diagnostics.frame_timeout",
        2.0,
        "WARN when no image came for so many seconds while active, or no depth while points are wanted.",
        Change.ANY_TIME,
        0.1,
        3600.0,
    ),
    ParameterSpec(
        "diagnostics.failures_before_reload",
        3,
        "The engine is loaded anew after so many failures in a row, and again at growing intervals. "
        "0: never.",
        Change.ANY_TIME,
        0,
        1000,
    ),
)

BY_NAME: dict[str, ParameterSpec] = {spec.name: spec for spec in PARAMETERS}

_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service")
"""Parameters that ROS gives every node: `ros2 param dump` writes them into files."""


def refusal(
    changes: Mapping[str, Any], current: Mapping[str, Any], *, state: str | None
) -> str | None:
    """Why a set of changes is refused, or None.

    Args:
        changes: the new values by name; names that are not declared here are passed over.
        current: all values now.
        state: label of the node's lifecycle state; None while it starts.
    """
    for name, value in changes.items():
        spec = BY_NAME.get(name)
        if spec is None:
            continue
        reason = spec.refusal(value)
        if reason is not None:
            return reason
        if state is None or value == current.get(name):
            continue
        if spec.change is Change.UNCONFIGURED and state != "unconfigured":
            return (
                f"{name} can change only while unconfigured, the node is {state}; clean it up first"
            )
        if spec.change is Change.INACTIVE and state not in ("unconfigured", "inactive"):
            return (
                f"{name} can change only while not active, the node is {state}; deactivate it first"
            )
    merged = {**current, **changes}
    low, high = merged.get("points.min_range"), merged.get("points.max_range")
    if low is not None and high is not None and not low < high:
        return f"points.min_range {low:g} must be less than points.max_range {high:g}"
    return None


def declare(node: Node) -> dict[str, Any]:
    """Declare all parameters on ``node`` and return their values by name.

    Raises:
        ConfigError: a value given at the start is of the wrong type or out of range.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    values: dict[str, Any] = {}
    for spec in PARAMETERS:
        descriptor = ParameterDescriptor(
            description=spec.description,
            read_only=spec.change is Change.NEVER,
            additional_constraints=_constraints(spec),
        )
        if spec.minimum is not None and spec.maximum is not None:
            if isinstance(spec.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=spec.minimum, to_value=spec.maximum)
                ]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(spec.minimum), to_value=int(spec.maximum))
                ]
        given = node._parameter_overrides.get(spec.name)
        if given is not None:
            given = node._parameter_overrides[spec.name] = as_declared(given)
            reason = spec.wrong_type(given.value) or spec.refusal(given.value)
            if reason is not None:
                raise ConfigError(f"parameter {reason}")
        values[spec.name] = node.declare_parameter(spec.name, spec.default, descriptor).value
    reason = refusal({}, values, state=None)
    if reason is not None:
        raise ConfigError(f"parameter {reason}")
    return values


def as_declared(parameter: Parameter) -> Parameter:
    """``parameter``, or where a whole number is given for a double, the same with that as a double.

    (`max_range: 80` in a file is an integer, as is `ros2 param set … 80`; nobody means a type error by it.)
    """
    from rclpy.parameter import Parameter

    spec = BY_NAME.get(parameter.name)
    if spec is None or type(spec.default) is not float or type(parameter.value) is not int:
        return parameter
    return Parameter(parameter.name, Parameter.Type.DOUBLE, float(parameter.value))


def unknown_overrides(names: Iterable[str]) -> list[str]:
    """The words of :func:`no_parameter` for each name given at the start that the node does not have."""
    return [
        no_parameter(name)
        for name in names
        if not (name in BY_NAME or name in _OF_EVERY_NODE or name.startswith("qos_overrides."))
    ]


def no_parameter(name: str) -> str:
    """That there is no parameter ``name``, and the nearest that there is."""
    near = difflib.get_close_matches(name, BY_NAME, 1, cutoff=0.5)
    return f"there is no parameter {name}" + (f"; did you mean {near[0]}?" if near else "")


def _constraints(spec: ParameterSpec) -> str:
    parts = [f"changes {spec.change.value}"]
    if spec.choices:
        parts.insert(0, f"one of {', '.join(spec.choices)}")
    return "; ".join(parts)


def documentation() -> str:
    """docs/parameters.md: all parameters, by group, as Markdown."""
    lines = [
        "# Parameters of `panoptic_node`",
        "",
        "<!-- Made by `python -m rt_panoptic_ros.parameters`: edit rt_panoptic_ros/parameters.py. -->",
        "",
        "Set them in a file (`config/*.yaml`), with `--ros-args -p NAME:=VALUE`, or while the node runs",
        "with `ros2 param set /rt_panoptic NAME VALUE`. A value out of range is refused with the reason, and",
        "the old one stays. A whole number is taken for a double as well. Sizes are HEIGHTxWIDTH: a camera",
        "of 1280×720 has `image_size: 720x1280`.",
        "",
        "The QoS of each topic but `~/label_info` and `/diagnostics` can be overridden at the start, with",
        "parameters `qos_overrides.TOPIC.subscription.POLICY`, for the results",
        "`qos_overrides.TOPIC.publisher.POLICY`: how, and with which values, is in",
        "[ros.md](ros.md#quality-of-service).",
        "",
    ]
    for group, specs in itertools.groupby(PARAMETERS, key=_group):
        lines += [
            f"## {group}",
            "",
            "| parameter | type | default | allowed | changes | meaning |",
            "|---|---|---|---|---|---|",
        ]
        for spec in specs:
            cells = (
                f"`{spec.name}`",
                spec.type_name,
                f"`{_yaml(spec.default)}`",
                spec.range_text,
                spec.change.value.partition(";")[0],
                spec.description.replace("|", "\\|"),
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def _group(spec: ParameterSpec) -> str:
    return spec.name.partition(".")[0] if "." in spec.name else "general"


def _yaml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if not isinstance(value, str) else (f"{value}" if value else '""')


if __name__ == "__main__":
    print(documentation(), end="")
