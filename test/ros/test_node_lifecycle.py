"""States of the node: what each holds, and that every one of them ends cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import yaml

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Image

from rt_panoptic_ros.messages import to_image
from rt_panoptic_ros.srv import SegmentImage

MANUAL = ("-p", "autostart:=false", "-p", "diagnostics.period:=0.1")


def named(name):
    return ("-r", f"__node:={name}", "-r", f"image:=/{name}/image")


def test_each_state_holds_what_it_should(start, probe, picture):
    start(*named("managed"), *MANUAL)
    node, topic = "/managed", "/managed/image"

    def subscribed():
        return probe.node.count_subscribers(topic)

    def offered():
        return probe.node.count_publishers("/managed/semantic")

    probe.wait(lambda: probe.state(node) == "unconfigured", "unconfigured")
    assert probe.set_parameter("engine", "pytorch", node).successful
    assert (subscribed(), offered()) == (0, 0)

    assert probe.transition("configure", node)
    probe.wait(lambda: probe.state(node) == "inactive", "inactive")
    probe.wait(offered, "the result topics")
    assert subscribed() == 0
    request = SegmentImage.Request(image=to_image(Image().header, picture(class_id=4)))
    assert probe.call(SegmentImage, "/managed/segment", request).semantic.data[0] == 4
    assert probe.set_parameter("input.transport", "raw", node).successful

    assert probe.transition("activate", node)
    probe.wait(subscribed, "the subscription")

    assert probe.transition("deactivate", node)
    probe.wait(lambda: not subscribed(), "the camera to be freed")
    probe.wait(lambda: probe.state(node) == "inactive", "inactive")

    assert probe.transition("cleanup", node)
    probe.wait(lambda: not offered(), "the result topics to go")
    probe.wait(lambda: probe.state(node) == "unconfigured", "unconfigured")
    assert not probe.call(SegmentImage, "/managed/segment", request).success

    # All of it again: nothing is left behind that a second round trips over.
    assert probe.transition("configure", node)
    assert probe.transition("activate", node)
    semantic = probe.subscribe(Image, "/managed/semantic")
    publisher = probe.publisher(Image, topic)
    probe.wait(lambda: publisher.publish(request.image) or semantic, "an answer")
    assert probe.transition("shutdown", node)
    probe.wait(lambda: probe.state(node) == "finalized", "finalized")


@pytest.mark.parametrize(
    ("transition", "name"),
    [
        (Transition(label="activate"), "activate"),
        (Transition(id=Transition.TRANSITION_ACTIVATE), "activate (3)"),
        (Transition(label="fly"), "fly"),
        (Transition(id=77), "unknown (77)"),
    ],
    ids=["label", "number", "no label", "no number"],
)
def test_an_impossible_transition_is_refused_and_survived(start, probe, transition, name):
    node = start(*named("refusing"), *MANUAL)
    request = ChangeState.Request(transition=transition)
    assert not probe.call(ChangeState, "/refusing/change_state", request).success
    node.wait_log(
        f"transition {name} is not possible: the node is unconfigured, possible from there: "
        "configure (1), shutdown (5)"
    )
    assert probe.transition("configure", "/refusing")
    node.stop()


def test_the_node_answers_while_the_engine_is_built(start, probe, diagnosis, tmp_path):
    built = tmp_path / "built"
    start(*named("building"), "-p", "diagnostics.period:=0.1", FAKE_LOAD_UNTIL=str(built))
    seen = diagnosis("building")
    probe.wait(lambda: probe.state("/building") == "configuring", "the state to be told")
    probe.wait(
        lambda: (
            seen.status("engine") and seen.status("engine").message == "building the engine: 50%"
        ),
        "progress in the diagnostics",
    )
    assert probe.set_parameter("overlay.opacity", 0.3, "/building").successful
    built.touch()
    probe.wait_active("/building")


def test_a_failed_configuration_can_be_repeated(start, probe, diagnosis):
    node = start(
        *named("failing"),
        *("-p", "diagnostics.period:=0.1"),
        FAKE_LOAD_ERROR="checkpoint missing.safetensors: no such file",
    )
    seen = diagnosis("failing")
    status = probe.wait(
        lambda: (
            seen.status("engine")
            and seen.status("engine").level == DiagnosticStatus.ERROR
            and seen.status("engine")
        ),
        "an ERROR",
    )
    assert status.message == "checkpoint missing.safetensors: no such file"
    node.wait_log("configuration failed: checkpoint missing.safetensors: no such file")
    probe.wait(lambda: probe.state("/failing") == "unconfigured", "unconfigured")
    assert not probe.transition("configure", "/failing")
    probe.wait(lambda: probe.state("/failing") == "unconfigured", "unconfigured")


STATES = {
    "unconfigured": (MANUAL, {}),
    "configuring": ((), {"FAKE_LOAD_SECONDS": "60"}),
    "inactive": (MANUAL, {}),
    "active": ((), {}),
    "working on a frame": ((), {"FAKE_FRAME_SECONDS": "60"}),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("state", STATES)
def test_it_ends_within_two_seconds_in_every_state(start, probe, picture, diagnosis, state, number):
    arguments, environment = STATES[state]
    name = f"ending_{state.split()[0]}_{number.name.lower()}"
    node = start(*named(name), *arguments, **environment)
    label = "active" if state.startswith("working") else state
    if state == "inactive":
        assert probe.transition("configure", f"/{name}")
    probe.wait(lambda: probe.state(f"/{name}") == label, label)
    if state.startswith("working"):
        probe.subscribe(Image, f"/{name}/semantic")
        publisher = probe.publisher(Image, f"/{name}/image")
        seen = diagnosis(name)
        message = to_image(Image().header, picture())
        # A second frame that replaces a waiting one: the first is in work.
        probe.wait(
            lambda: (
                publisher.publish(message)
                or seen.count("input", "dropped: replaced by a newer frame")
            ),
            "a frame in work",
        )
    code, seconds = node.stop(number)
    assert code == 0, node.log
    assert seconds < 2.0
    assert "Traceback" not in node.log, node.log


def test_a_second_signal_changes_nothing(start, probe):
    node = start(*named("twice"))
    probe.wait_active("/twice")
    node.process.send_signal(signal.SIGINT)
    node.process.send_signal(signal.SIGTERM)
    code, seconds = node.stop()
    assert (code, "Traceback" in node.log) == (0, False), node.log
    assert seconds < 2.0


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("engine:=tensorflow", "engine: 'tensorflow' is not one of auto, tensorrt, openvino"),
        ("overlay.opacity:=2.0", "overlay.opacity: 2 is out of range; it must be 0 to 1"),
        ("overlay.names:=1", "overlay.names: 1 is refused; it must be true or false"),
        ("network_size:=big", "network_size: size 'big': it must be HEIGHTxWIDTH"),
        ("network_size:=1x1", "network_size: 1x1: it must be height and width, each from 32 to"),
        ("network_size:=512x31", "network_size: 512x31: it must be"),
        ("device:=gpu", "device: 'gpu': it must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_a_bad_parameter_at_the_start_ends_it_with_the_reason(argument, message):
    done = subprocess.run(
        [sys.executable, "-m", "rt_panoptic_ros.panoptic_node", "--ros-args", "-p", argument],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--params-file", "/no/file.yaml"),
            "Couldn't parse params file: '--params-file /no/file.yaml'",
        ),
        (("--params-file", "MALFORMED"), "malformed.yaml'. Error: Sequences can only be values"),
        (
            ("--log-level", "loud"),
            "loud'. Error: Argument does not use a valid severity level; it must",
        ),
        (("--nonsense",), "'--nonsense'"),
        (
            ("-r", "image:=/bad-topic!"),
            "Couldn't parse remap rule: '-r image:=/bad-topic!'; it must be FROM:=TO, names of letters,",
        ),
        (("-r", "image:=/9th"), "'-r image:=/9th'; it must be FROM:=TO"),
    ],
)
def test_ros_arguments_that_are_refused_end_it_with_one_line(tmp_path, arguments, message):
    malformed = tmp_path / "malformed.yaml"
    malformed.write_text("a: [1\n")
    arguments = [word.replace("MALFORMED", str(malformed)) for word in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "rt_panoptic_ros.panoptic_node", "--ros-args", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 2
    own = [line for line in done.stderr.splitlines() if "[rcl]" not in line]
    assert len(own) == 1, done.stderr
    assert own[0].startswith("error: the arguments after --ros-args are refused: ")
    assert message in own[0]
    assert ".c:" not in own[0]
    assert "lexeme" not in own[0]


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"HOME": "FILE"}, "Failed to create log directory 'FILE/.ros/log': Not a directory"),
        ({"ROS_LOG_DIR": "/proc"}, "Failed opening file /proc/python"),
        ({"HOME": ""}, "Failed to get logging directory"),
        ({"ROS_LOG_DIR": "FILE/log"}, "Failed to create log directory 'FILE/log': Not a directory"),
    ],
)
def test_a_log_folder_that_cannot_be_is_not_the_arguments_fault(tmp_path, variables, reason):
    file = tmp_path / "file"
    file.touch()
    environment = {k: v for k, v in os.environ.items() if k not in ("ROS_LOG_DIR", "ROS_HOME")}
    environment |= {name: value.replace("FILE", str(file)) for name, value in variables.items()}
    done = subprocess.run(
        [sys.executable, "-m", "rt_panoptic_ros.panoptic_node"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    reason = reason.replace("FILE", str(file))
    assert f"error: the log folder cannot be written: {reason}" in done.stderr
    assert "ROS_LOG_DIR" in done.stderr
    assert "arguments" not in done.stderr


def test_a_dumped_parameter_file_is_read_without_a_word(start, probe, tmp_path):
    from rcl_interfaces.srv import ListParameters

    dumped = start(*named("dumped"))
    probe.wait_active("/dumped")
    names = probe.call(
        ListParameters, "/dumped/list_parameters", ListParameters.Request()
    ).result.names
    # As `ros2 param dump` writes them.
    values = {name: probe.get_parameter(name, "/dumped") for name in names}
    assert "start_type_description_service" in values
    path = tmp_path / "dumped.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    dumped.stop()
    node = start(*named("dumped"), "--params-file", str(path))
    node.wait_log("active on")
    assert "WARN" not in node.log


def run_script(script, folder, *arguments):
    """How a process that runs ``script`` ended: a node with something in its way."""
    hook = folder / "hook.py"
    hook.write_text(script)
    return subprocess.run(
        [sys.executable, str(hook), *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_an_interrupt_while_it_starts_ends_it_cleanly(start, tmp_path):
    script = """
import os, signal, sys
from rclpy.node import Node
from rt_panoptic_ros.image_source import main

made = Node.__init__

def interrupted(self, *arguments, **options):
    # rclpy's own handler ends the context before Python's is called.
    os.kill(os.getpid(), signal.SIGINT)
    made(self, *arguments, **options)

Node.__init__ = interrupted
sys.exit(main())
"""
    done = run_script(script, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_lets_a_callback_end_before_the_node_does(tmp_path, number):
    script = f"""
import os, sys, time
from rclpy.node import Node
from rt_panoptic_ros.process import run

class Counting(Node):
    def start(self):
        self.create_timer(0.01, self.count)

    def count(self):
        print("begun", flush=True)
        os.kill(os.getpid(), {int(number)})
        # Python calls its handlers between two lines.
        for _ in range(100):
            time.sleep(0.001)
        print("done", flush=True)

    def stop(self, timeout):
        return True

sys.exit(run(lambda: Counting("counting")))
"""
    ended = run_script(script, tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "begun\ndone\n", "")


def test_a_context_that_ends_without_a_word_ends_the_node(tmp_path):
    """As rclpy ends it after a signal, where the executor woke a moment before and found it there."""
    script = """
import sys, threading
from rclpy.node import Node
from rt_panoptic_ros.process import run

class Sleeping(Node):
    def start(self):
        # The executor is asleep by then, and nothing of this wakes it.
        threading.Timer(1.0, lambda: self.context.handle.shutdown()).start()

    def stop(self, timeout):
        return True

sys.exit(run(lambda: Sleeping("sleeping")))
"""
    ended = run_script(script, tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_an_interrupt_while_a_refusal_is_told_changes_nothing(tmp_path):
    script = """
import builtins, os, signal, sys
from rt_panoptic_ros.image_source import main

say = builtins.print

def print_and_interrupt(*words, **options):
    os.kill(os.getpid(), signal.SIGINT)
    say(*words, **options)

builtins.print = print_and_interrupt
sys.exit(main())
"""
    done = run_script(script, tmp_path, "--ros-args", "-p", "size:=tiny")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: size 'tiny': it must be HEIGHTxWIDTH, for example 1024x2048"
    ]


def test_an_unknown_parameter_is_named_with_the_nearest(start):
    node = start(*named("typo"), "-p", "overlay.opacty:=0.5")
    node.wait_log("there is no parameter overlay.opacty; did you mean overlay.opacity?")
