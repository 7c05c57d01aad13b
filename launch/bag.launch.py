"""A recording played into the node, with its clock.

ros2 launch rt_panoptic_ros bag.launch.py bag:=drive rate:=0.5 rviz:=true
"""

import shutil
import sys
from importlib.util import find_spec
from typing import Any

from launch.action import Action
from launch.actions import ExecuteProcess, LogInfo, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from rt_panoptic_core.errors import BagError
from rt_panoptic_ros import launch_support as support
from rt_panoptic_ros.bag_camera import BagCamera, find_camera

PLAYERS = ("auto", "ros2", "own")


def start(context: LaunchContext) -> list[Action]:
    path = support.text(context, "bag")
    if not path:
        raise BagError("bag:= is not given; it names a bag's folder, an .mcap or a .db3 file")
    camera = find_camera(path, support.text(context, "image"))
    parameters = {"input.transport": "compressed"} if camera.is_compressed else {}
    if camera.size is not None:
        # The engine is built before the bag plays, not while it does.
        parameters["image_size"] = "{}x{}".format(*camera.size)
    namespace = support.namespace(context)
    return [
        *support.fastdds_actions(context),
        support.panoptic_node(
            context,
            namespace=namespace,
            remappings={"image/compressed" if camera.is_compressed else "image": camera.topic},
            parameters=parameters,
        ),
        *support.rviz_node(context, namespace=namespace),
        *_player(context, path, camera, support.full_name(namespace)),
    ]


def _player(context: LaunchContext, path: str, camera: BagCamera, node: str) -> list[Action]:
    """Play once ``node`` has subscribed: until its engine is built, the frames would be lost."""
    said: list[Action] = [LogInfo(msg=camera.note)] if camera.note else []
    if camera.results:
        # On the node's own topics they would be taken for its answers.
        names = ", ".join(camera.results)
        said += [LogInfo(msg=f"recorded results are not played: {names}")]
    rate = support.number(context, "rate", 0.01, 100.0)
    loop = support.is_true(context, "loop")
    clock = support.is_true(context, "clock")
    chosen = support.text(context, "player")
    installed = shutil.which("ros2") is not None and find_spec("ros2bag") is not None
    end = [Shutdown(reason="the bag has ended")] if support.is_true(context, "exit_at_end") else []
    if chosen == "own" or (chosen == "auto" and not installed):
        parameters: dict[str, Any] = {
            "bag": path,
            "rate": rate,
            "loop": loop,
            "clock_rate": 100.0 if clock else 0.0,
            "wait_for": camera.topic,
            "wait_for_node": node,
        }
        # All are played where none is named.
        parameters |= {"topics": camera.others} if camera.results else {}
        player = Node(
            package=support.PACKAGE,
            executable="bag_player",
            name="bag_player",
            parameters=[parameters],
            output="screen",
            emulate_tty=True,
            on_exit=end,
        )
        return [*said, player]
    if not installed:
        raise BagError("player:=ros2: `ros2 bag` is not installed; take player:=own")
    command = ["ros2", "bag", "play", path, "--rate", str(rate), "--disable-keyboard-controls"]
    # Its publishers are there from the start: time for the node to find them. A loop would pause each time.
    command += ["--loop"] if loop else ["--delay", "1"]
    command += ["--clock", "100"] if clock else []
    # Humble's has no option that leaves topics out.
    command += ["--topics", *camera.others] if camera.results else []
    play = ExecuteProcess(cmd=command, output="screen", on_exit=end)
    waiter = ExecuteProcess(
        cmd=[
            *(sys.executable, "-m", "rt_panoptic_ros.wait_for_subscriber"),
            *(camera.topic, "--node", node),
        ],
        output="screen",
    )
    started = RegisterEventHandler(OnProcessExit(target_action=waiter, on_exit=[play]))
    return [*said, started, waiter]


def generate_launch_description() -> LaunchDescription:
    return support.description(
        __file__,
        [
            support.argument("bag", "", "The bag: a folder, an .mcap or a .db3 file."),
            support.argument(
                "image", "", "Image topic of the bag. Empty: the only one that is a camera's."
            ),
            support.argument("rate", "1.0", "2 plays twice as fast. From 0.01 to 100."),
            support.flag("loop", False, "Begin again at the end."),
            support.flag("clock", True, "Publish /clock, the bag's time."),
            support.argument(
                "player",
                "auto",
                "ros2: `ros2 bag play`. own: bag_player, which needs no rosbag2. auto: the first that "
                "is installed.",
                PLAYERS,
            ),
            support.flag("exit_at_end", True, "End the launch when the bag has ended."),
            support.argument("namespace", "", "Namespace of the node and of its results."),
            *support.model_arguments(),
            support.rviz_argument(),
            *support.process_arguments(use_sim_time=LaunchConfiguration("clock")),
        ],
        start,
    )
