"""What the launch files share: arguments with their explanations, and the nodes that they start."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.logging import get_logger
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from rclpy.exceptions import InvalidNamespaceException
from rclpy.validate_namespace import validate_namespace

from launch import LaunchContext, LaunchDescription
from rt_panoptic_core.engines.spec import ENGINES, PRECISIONS, parse_size
from rt_panoptic_core.errors import ConfigError
from rt_panoptic_ros.fastdds import profile_environment

PACKAGE = "rt_panoptic_ros"
UNSET = ""
"""An argument of this value leaves what the parameter file, or else the node, says."""

_NODE = "rt_panoptic"
_YES_NO = ("true", "false")

_LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


def config_folder() -> Path:
    """Folder of the package's configuration files, in the source tree or installed."""
    beside = Path(__file__).resolve().parent.parent / "config"
    if beside.is_dir():
        return beside
    return Path(get_package_share_directory(PACKAGE)) / "config"


def argument(
    name: str,
    default: SomeSubstitutionsType,
    description: str,
    choices: tuple[str, ...] | None = None,
) -> DeclareLaunchArgument:
    """A launch argument with its explanation; its default may be another argument's value."""
    return DeclareLaunchArgument(
        name, default_value=default, description=description, choices=choices
    )


def flag(name: str, default: bool, description: str) -> DeclareLaunchArgument:
    """An argument that is true or false."""
    return argument(name, "true" if default else "false", description, _YES_NO)


def description(
    file: str,
    arguments: list[DeclareLaunchArgument],
    start: Callable[[LaunchContext], list[Action]],
) -> LaunchDescription:
    """What a launch file describes: ``start`` called with the values of its arguments.

    Words of the command line that give a value to anything else are told, with what was meant perhaps:
    launch passes over them without a word.

    Args:
        file: the launch file's path.
        arguments: all that it has.
        start: what it starts.
    """
    names = [each.name for each in arguments]

    def check(context: LaunchContext) -> None:
        # Included by another launch file, whose arguments these are: they are its own to check.
        if Path(file).name in (Path(word).name for word in sys.argv):
            for problem in unknown_arguments(names, context.argv):
                get_logger("rt_panoptic").warning(problem)

    return LaunchDescription(
        [*arguments, OpaqueFunction(function=check), OpaqueFunction(function=start)]
    )


def unknown_arguments(names: list[str], words: list[str]) -> list[str]:
    """What to say of each of ``words``, NAME:=VALUE, whose name is none of ``names``."""
    problems = []
    for word in words:
        name, found, _ = word.partition(":=")
        if not found or name in names:
            continue
        near = get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}:=?" if near else "--show-args lists those that there are"
        problems.append(f"{word} is ignored: there is no argument {name!r}; {hint}")
    return problems


def model_arguments() -> list[DeclareLaunchArgument]:
    """What runs, on what, in which precision, with which parameter file."""
    return [
        argument(
            "model",
            UNSET,
            "Checkpoint: a path, or the name of a shipped model. Empty: the parameter file's, else the "
            "default model.",
        ),
        argument(
            "engine",
            UNSET,
            "What runs the network. Empty: the parameter file's, else auto.",
            (UNSET, "auto", *ENGINES),
        ),
        argument(
            "precision",
            UNSET,
            "Precision of the network. Empty: the parameter file's, else auto.",
            (UNSET, "auto", *PRECISIONS),
        ),
        argument("device", UNSET, "auto, cpu, cuda or cuda:N. Empty: the parameter file's."),
        argument(
            "params_file",
            "default_model",
            "Parameter file: a path, or the name of one of the package's config/*.yaml.",
        ),
    ]


def process_arguments(
    *, use_sim_time: SomeSubstitutionsType = "false"
) -> list[DeclareLaunchArgument]:
    """How the processes run; ``use_sim_time`` is that argument's default."""
    return [
        flag(
            "autostart", True, "Configure and activate the node. false: a lifecycle manager will."
        ),
        argument(
            "use_sim_time",
            use_sim_time,
            "Take the time from /clock: for bags and simulation.",
            _YES_NO,
        ),
        flag("respawn", False, "Start the node again when its process ends."),
        argument("log_level", "info", "Least severity that is logged.", _LOG_LEVELS),
        flag(
            "fastdds_profile",
            True,
            "Use config/fastdds/large_images.xml where no profile is set: without it Fast DDS cannot "
            "carry 1920x1080 images. The camera's own process needs it too.",
        ),
    ]


def source_arguments() -> list[DeclareLaunchArgument]:
    """The image_source node beside the panoptic node."""
    return [
        argument(
            "source",
            UNSET,
            "Also start image_source: generated (a street), a device (0, /dev/video0), a video file or a "
            "folder of images. Empty: the images come from elsewhere.",
        ),
        argument("source_rate", "0.0", "Images a second of the source; 0: its own."),
        argument("source_size", UNSET, "HEIGHTxWIDTH of the source's images; empty: its own."),
    ]


def rviz_argument() -> DeclareLaunchArgument:
    """Whether RViz is started."""
    return flag("rviz", False, "Start RViz with overlay, labels, labelled cloud and markers.")


def fastdds_actions(context: LaunchContext) -> list[Action]:
    """The environment of all that is started after it."""
    if not is_true(context, "fastdds_profile"):
        return []
    return [SetEnvironmentVariable(name, value) for name, value in profile_environment().items()]


def is_true(context: LaunchContext, name: str) -> bool:
    """Value of a flag."""
    return text(context, name) == "true"


def text(context: LaunchContext, name: str) -> str:
    """Value of an argument."""
    return str(LaunchConfiguration(name).perform(context))


def namespace(context: LaunchContext) -> str:
    """Value of the argument ``namespace``, without slashes around it.

    Raises:
        ConfigError: it is no namespace; the argument, its value and the rule are named.
    """
    found = text(context, "namespace").strip("/")
    _check_namespace("namespace", found, found)
    return found


def camera_names(context: LaunchContext) -> list[str]:
    """Names that the argument ``cameras`` lists, each of which can be a namespace.

    Raises:
        ConfigError: one cannot, or is there twice; the argument, its value and the rule are named.
    """
    value = text(context, "cameras")
    names = [name.strip().strip("/") for name in value.split(",")]
    if not all(names) or len(set(names)) != len(names):
        raise ConfigError(f"cameras {value!r}: it must be names, each once, with commas between")
    for name in names:
        _check_namespace("cameras", value, name)
    return names


def _check_namespace(argument: str, value: str, name: str) -> None:
    # launch finds out only when it starts the node: those started before would be left behind.
    try:
        validate_namespace(f"/{name}")
    except InvalidNamespaceException as error:
        # The lines after the first show the place.
        rule = str(error).splitlines()[0].rpartition("namespace ")[2].rstrip(":")
        raise ConfigError(f"{argument} {value!r}: {name!r} {rule}") from None


def topics_of_camera(image: str) -> dict[str, str]:
    """Topics by the nodes' own names for them: ``camera_info`` and ``depth`` are beside ``image``."""
    base = "".join(image.rpartition("/")[:2])
    return {"image": image, "camera_info": f"{base}camera_info", "depth": f"{base}depth"}


def number(context: LaunchContext, name: str, low: float, high: float) -> float:
    """Value of an argument that is a number from ``low`` to ``high``.

    Raises:
        ConfigError: it is none; the argument and the allowed values are named.
    """
    value = text(context, name)
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not low <= found <= high:
        raise ConfigError(f"{name} {value!r}: it must be a number from {low:g} to {high:g}")
    return found


def parameter_file(name: str) -> Path:
    """The file that ``params_file`` names: a path, or a file of config/ with or without suffix.

    Raises:
        ConfigError: there is none; those that there are are named.
    """
    folder = config_folder()
    for candidate in (Path(name), folder / name, folder / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise ConfigError(f"params_file {name!r}: no such file, nor one of {known}")


def full_name(namespace: str) -> str:
    """Full name of the panoptic node that is started in ``namespace``."""
    return f"/{namespace.strip('/')}/{_NODE}" if namespace.strip("/") else f"/{_NODE}"


def panoptic_node(
    context: LaunchContext,
    *,
    namespace: str,
    remappings: dict[str, str],
    parameters: dict[str, Any] | None = None,
) -> Node:
    """The panoptic node with the common arguments' values.

    Args:
        context: of the launch.
        namespace: of the node.
        remappings: of its input topics.
        parameters: values that go before the parameter file's.
    """
    values: dict[str, Any] = {
        name: text(context, name)
        for name in ("model", "engine", "precision", "device")
        if text(context, name) != UNSET
    }
    values["autostart"] = is_true(context, "autostart")
    values["use_sim_time"] = is_true(context, "use_sim_time")
    return Node(
        package=PACKAGE,
        executable="panoptic_node",
        name=_NODE,
        namespace=namespace,
        parameters=[str(parameter_file(text(context, "params_file"))), values | (parameters or {})],
        remappings=list(remappings.items()),
        arguments=["--ros-args", "--log-level", text(context, "log_level")],
        output="screen",
        emulate_tty=True,
        respawn=is_true(context, "respawn"),
        respawn_delay=2.0,
    )


def source_node(
    context: LaunchContext,
    *,
    namespace: str,
    remappings: dict[str, str],
    compressed: bool = False,
    seed: int = 0,
    frame_id: str = "camera_optical_frame",
) -> list[Node]:
    """The image_source node if the argument ``source`` asks for it.

    Raises:
        ConfigError: one of its arguments is wrong; without it the others would be started for nothing.
    """
    source = text(context, "source")
    if source == UNSET:
        return []
    size = text(context, "source_size")
    if size != UNSET:
        try:
            parse_size(size)
        except ConfigError as error:
            raise ConfigError(f"source_size: {error}") from error
    return [
        Node(
            package=PACKAGE,
            executable="image_source",
            name="image_source",
            namespace=namespace,
            parameters=[
                {
                    "source": source,
                    "rate": number(context, "source_rate", 0.0, 1000.0),
                    "size": size,
                    "compressed": compressed,
                    "seed": seed,
                    "frame_id": frame_id,
                    "use_sim_time": is_true(context, "use_sim_time"),
                }
            ],
            remappings=list(remappings.items()),
            output="screen",
            emulate_tty=True,
        )
    ]


def rviz_node(context: LaunchContext, *, namespace: str) -> list[Node]:
    """RViz with the package's view, if the argument ``rviz`` asks for it.

    Raises:
        ConfigError: it asks for it, and RViz is not installed.
    """
    if not is_true(context, "rviz"):
        return []
    # launch finds out only when it starts it: the nodes started before would be left behind.
    try:
        get_package_prefix("rviz2")
    except LookupError:
        raise ConfigError(
            "rviz 'true': rviz2 is not installed; install it (apt install ros-$ROS_DISTRO-rviz2), or take "
            "rviz:=false and look at ~/overlay with another viewer"
        ) from None
    node = full_name(namespace)
    topics = ("overlay", "semantic", "instance", "points", "markers")
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", str(config_folder() / "panoptic.rviz")],
            remappings=[(f"/{_NODE}/{topic}", f"{node}/{topic}") for topic in topics],
            parameters=[{"use_sim_time": is_true(context, "use_sim_time")}],
            output="log",
        )
    ]
