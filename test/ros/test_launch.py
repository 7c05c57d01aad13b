"""The launch files, really started: what they start, and that they explain and end themselves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip(
    "launch_ros", reason="launch_ros: a ROS 2 installation has it", exc_type=ImportError
)
pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from rt_panoptic_core.bags import messages as bag_messages
from rt_panoptic_core.bags.writer import BagWriter
from rt_panoptic_ros.launch_support import topics_of_camera

try:
    get_package_prefix("rt_panoptic_ros")
except PackageNotFoundError:
    pytest.skip("rt_panoptic_ros is not installed: colcon build, source", allow_module_level=True)

pytestmark = pytest.mark.launch

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
FILES = ("camera", "rgbd", "multi_camera", "bag")


@pytest.fixture(scope="session")
def checkpoint(save_small_model):
    """Random weights: launch files start the real thing."""
    return save_small_model()


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    return folder


def command(name, *arguments):
    if shutil.which("ros2"):
        return [shutil.which("ros2"), "launch", "rt_panoptic_ros", f"{name}.launch.py", *arguments]
    runner = Path(__file__).with_name("launch_file_runner.py")
    return [sys.executable, str(runner), str(LAUNCH / f"{name}.launch.py"), *arguments]


@pytest.fixture
def launched(tmp_path):
    """launched(name, *arguments): the launch file's process and its log; ended as by Ctrl-C."""
    processes = []

    def launched(name, *arguments):
        log = tmp_path / f"{name}.log"
        with log.open("wb") as stream:
            # A session of its own: the signal goes to launch alone, which passes it on.
            process = subprocess.Popen(
                command(name, *arguments),
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        processes.append(process)
        return process, log

    yield launched
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


@pytest.fixture(autouse=True)
def nobody_listens_afterwards(probe):
    yield
    probe.unsubscribe_all()


def test_camera_answers_what_its_source_publishes(launched, probe, checkpoint, images):
    launched(
        "camera",
        *(f"model:={checkpoint}", "engine:=pytorch", f"source:={images}"),
        *("image:=/front/image", "compressed:=true"),
    )
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    answer = probe.wait(lambda: semantic, "labels", 60)[0]
    assert (answer.height, answer.width, answer.encoding) == (64, 96, "mono8")
    assert probe.node.count_subscribers("/front/image/compressed") == 1


def test_what_a_source_knows_of_its_camera_is_beside_the_image(launched, probe, checkpoint):
    launched(
        "camera",
        *(f"model:={checkpoint}", "engine:=pytorch", "source:=generated", "source_size:=64x128"),
        *("image:=/street/image", "autostart:=false"),
    )
    infos = probe.subscribe(CameraInfo, "/street/camera_info")
    depths = probe.subscribe(Image, "/street/depth")
    probe.wait(lambda: infos and depths, "both")


@pytest.mark.parametrize(
    ("image", "depth"),
    [
        ("/camera/color/image_raw", "/camera/color/depth"),
        ("image_raw", "depth"),
        ("/image", "/depth"),
        ("~/image", "~/depth"),
    ],
)
def test_topics_of_a_camera_are_beside_its_image(image, depth):
    topics = topics_of_camera(image)
    assert (topics["image"], topics["depth"]) == (image, depth)
    assert topics["camera_info"] == depth.replace("depth", "camera_info")


def test_rgbd_gives_a_labelled_cloud(launched, probe, checkpoint):
    launched(
        "rgbd",
        *(f"model:={checkpoint}", "engine:=pytorch", "source:=generated", "source_size:=64x128"),
        *("namespace:=robot", "organized:=true"),
    )
    points = probe.subscribe(PointCloud2, "/robot/rt_panoptic/points")
    cloud = probe.wait(lambda: points, "a cloud", 60)[0]
    assert (cloud.height, cloud.width) == (64, 128)


def test_each_camera_has_its_node_in_its_namespace(launched, probe, checkpoint, images):
    launched(
        "multi_camera",
        *(f"model:={checkpoint}", "engine:=pytorch", f"source:={images}", "cameras:=left,right"),
    )
    for name in ("left", "right"):
        semantic = probe.subscribe(Image, f"/{name}/rt_panoptic/semantic")
        probe.wait(lambda semantic=semantic: semantic, f"labels of {name}", 60)


@pytest.mark.parametrize("name", FILES)
def test_every_argument_is_explained(name):
    if not shutil.which("ros2"):
        pytest.skip("ros2launch: a ROS 2 installation has it")
    done = subprocess.run(
        command(name, "--show-args"), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    blocks = [b.strip() for b in done.stdout.split("\n\n")[1:] if b.strip()]
    assert len(blocks) > 10
    for block in blocks:
        title, explanation, *_ = block.splitlines()
        assert title.strip("':"), block
        assert len(explanation.split()) >= 3, block


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("params_file:=nowhere",), "no such file, nor one of cityscapes_cpu"),
        (("engine:=tensorflow",), "tensorflow"),
        (("log_level:=loud",), "loud"),
        (
            ("source:=generated", "source_rate:=fast"),
            "source_rate 'fast': it must be a number from 0 to 1000",
        ),
        (("source:=generated", "source_size:=banana"), "source_size: "),
    ],
)
def test_a_bad_argument_is_named(arguments, reason):
    refused("camera", *arguments, reason=reason)


@pytest.mark.parametrize(
    ("cameras", "reason"),
    [
        ("front,le-ft", "'le-ft' must not contain characters other than alphanumerics"),
        ("front,rear/9th", "'rear/9th' must not have a token that starts with a number"),
        ("front,rear//left", "'rear//left' must not contain repeated '/'"),
        ("front,,left", "it must be names, each once"),
        ("front,/front", "it must be names, each once"),
    ],
)
def test_a_bad_name_of_a_camera_is_told_before_anything_starts(cameras, reason):
    refused("multi_camera", f"cameras:={cameras}", reason=f"cameras '{cameras}': {reason}")


@pytest.mark.parametrize("name", ["camera", "rgbd"])
def test_a_bad_namespace_is_named(name):
    refused(
        *(name, "namespace:=my-robot"),
        reason="namespace 'my-robot': 'my-robot' must not contain characters other than",
    )


def refused(name, *arguments, reason):
    done = subprocess.run(
        command(name, *arguments), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    text = done.stderr + done.stdout
    assert reason in text
    assert "Traceback" not in text
    assert "process started" not in text


@pytest.fixture(scope="session")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("bags") / "drive"
    picture = np.zeros((64, 96, 3), np.uint8)
    with BagWriter(path) as writer:
        writer.add_topic("/camera/image", bag_messages.IMAGE)
        for time in range(0, 3 * 10**8, 10**8):
            image = bag_messages.image_message(picture, bag_messages.header(time, "camera"))
            writer.write("/camera/image", time, image)
    return path


@pytest.mark.parametrize("rate", ["abc", "0", "nan", "101"])
def test_a_bad_rate_of_a_bag_is_named(bag, rate):
    refused(
        *("bag", f"bag:={bag}", f"rate:={rate}"),
        reason=f"rate '{rate}': it must be a number from 0.01 to 100",
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("camera", ()), ("rgbd", ()), ("multi_camera", ()), ("bag", ("bag:=BAG",))],
)
def test_rviz_that_is_not_installed_is_told_before_anything_starts(name, arguments, bag):
    with suppress(PackageNotFoundError):
        get_package_prefix("rviz2")
        pytest.skip("rviz2 is installed")
    arguments = [word.replace("BAG", str(bag)) for word in arguments]
    refused(name, *arguments, "rviz:=true", reason="rviz 'true': rviz2 is not installed; install")


@pytest.mark.parametrize(
    ("arguments", "simulated"),
    [
        ((), True),
        (("clock:=false",), False),
        (("clock:=false", "use_sim_time:=true"), True),
        (("use_sim_time:=false",), False),
    ],
)
def test_a_bag_without_its_clock_is_not_waited_for(
    launched, probe, checkpoint, bag, arguments, simulated
):
    namespace = "_".join(("bag", *arguments)).replace(":=", "_")
    launched(
        "bag",
        *(f"bag:={bag}", f"model:={checkpoint}", "engine:=pytorch", f"namespace:={namespace}"),
        *("player:=own", "autostart:=false", *arguments),
    )
    assert probe.get_parameter("use_sim_time", f"/{namespace}/rt_panoptic") is simulated


def test_control_c_ends_all_processes_cleanly(launched, probe, checkpoint, images):
    process, log = launched(
        "camera",
        *(f"model:={checkpoint}", "engine:=pytorch", f"source:={images}", "namespace:=ended"),
    )
    probe.wait_active("/ended/rt_panoptic")
    # Both are there: a process that is told to stop while it is importing has no node to end.
    probe.wait(lambda: "image_source" in probe.node.get_node_names(), "the source", 60)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    text = log.read_text()
    assert text.count("process has finished cleanly") == 2, text
    assert "Traceback" not in text


def test_misspelt_arguments_are_told(launched, probe, checkpoint):
    _, log = launched(
        "camera",
        *(f"model:={checkpoint}", "engine:=pytorch", "autostart:=false"),
        *("imgae:=/front/image", "colour:=blue"),
    )
    probe.wait(lambda: "colour" in log.read_text(), "the warning")
    told = log.read_text()
    assert "imgae:=/front/image is ignored" in told
    assert "did you mean image:=?" in told
    assert "colour:=blue is ignored: there is no argument 'colour'; --show-args lists" in told
    assert "autostart:=false is ignored" not in told


def test_arguments_of_a_launch_file_that_includes_ours_are_its_own(launched, tmp_path, checkpoint):
    outer = tmp_path / "robot.launch.py"
    outer.write_text(
        "from launch import LaunchDescription\n"
        "from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        "def generate_launch_description():\n"
        f"    source = PythonLaunchDescriptionSource({str(LAUNCH / 'camera.launch.py')!r})\n"
        f"    given = [('model', {str(checkpoint)!r}), ('autostart', 'false')]\n"
        "    inner = IncludeLaunchDescription(source, launch_arguments=given)\n"
        "    return LaunchDescription([DeclareLaunchArgument('arm'), inner, Shutdown()])\n"
    )
    runner = Path(__file__).with_name("launch_file_runner.py")
    ended = subprocess.run(
        [sys.executable, str(runner), str(outer), "arm:=left"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = ended.stdout + ended.stderr
    assert "process started" in told
    assert "is ignored" not in told
