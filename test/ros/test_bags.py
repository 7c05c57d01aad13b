"""Bags played to nodes over DDS: by our player, by the evaluation in real time, by the launch file."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from rt_panoptic_core.bags.annotate import RecordedResults, result_topics
from rt_panoptic_core.bags.frames import read_frames
from rt_panoptic_core.bags.make import BagPlan, make_bag
from rt_panoptic_core.bags.messages import (
    COMPRESSED_IMAGE,
    IMAGE,
    INSTANCES,
    compressed_message,
    header,
    image_message,
    instances_message,
    serialize,
)
from rt_panoptic_core.bags.node_topics import RESULT_TOPICS
from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.bags.realtime import replay
from rt_panoptic_core.bags.sources import SourceFrame
from rt_panoptic_core.bags.writer import BagWriter
from rt_panoptic_core.cli.main import main
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.files import hold_folder
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_ros.bag_camera import find_camera
from rt_panoptic_ros.msg import PanopticInstanceArray
from rt_panoptic_ros.outputs import published_topics
from rt_panoptic_ros.reply_recorder import cdr_stamp

PLAYER = "rt_panoptic_ros.bag_player"
STAND_IN = ("--module", "rt_panoptic_ros.benchmark_processes", "--module-argument=node")
SECONDS = 90


class Pictures:
    """A source of plain pictures, each of the shade of its number."""

    fps = None
    taxonomy = None

    def __init__(self, count):
        self.length = count

    def frames(self):
        for number in range(self.length):
            yield SourceFrame(np.full((48, 64, 3), number, dtype=np.uint8))

    def intrinsics(self, _size):
        return None


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("bags") / "drive"
    make_bag(Pictures(10), path, BagPlan(fps=20.0))
    return path


@pytest.fixture(scope="module")
def model(save_small_model):
    return save_small_model()


def test_the_player_publishes_recorded_bytes_at_their_pace_with_the_clock(bag, start, probe):
    arrived = []
    subscription = probe.node.create_subscription(
        Image, "/renamed", lambda data: arrived.append((time.monotonic(), data)), 50, raw=True
    )
    words = ["-p", f"bag:={bag}", "-p", "rate:=0.5", "-p", "wait_for:=/camera/image"]
    player = start(*words, "-r", "/camera/image:=/renamed", module=PLAYER)
    clocks = probe.subscribe(Clock, "/clock", 100)
    probe.wait(lambda: len(arrived) == 10, "ten pictures")
    with BagReader(bag) as reader:
        recorded = [m.data for m in reader.messages(["/camera/image"])]
    assert [bytes(data) for _, data in arrived] == recorded
    # Nine steps of 1/20 s at half the pace; a busy machine delivers late, but not by as much as a wrong pace.
    assert arrived[-1][0] - arrived[0][0] == pytest.approx(0.9, abs=0.4)
    assert player.process.wait(20) == 0
    stamps = [c.clock.sec * 10**9 + c.clock.nanosec for c in clocks]
    assert stamps == sorted(stamps)
    assert len(stamps) >= 10
    first = 1_700_000_000 * 10**9
    assert first <= stamps[0] <= stamps[-1] <= first + 10**9
    assert "the bag has ended: 20 messages" in player.log
    probe.node.destroy_subscription(subscription)


def test_the_player_waits_for_the_node_that_is_named_and_until_it_sees_the_player(
    bag, start, probe
):
    overheard, heard = [], []
    words = ("-p", "wait_for:=/camera/image", "-p", "wait_for_node:=/there/seer")
    words += ("-r", "/camera/image:=/seen")
    first = probe.node.create_subscription(Image, "/seen", overheard.append, 50)
    player = start("-p", f"bag:={bag}", "-p", "rate:=10.0", *words, module=PLAYER)
    player.wait_log("waiting for /there/seer to subscribe /camera/image")
    probe.wait(lambda: probe.node.count_publishers("/seen"), "the player's publisher")

    def nothing_is_played():
        end = time.monotonic() + 1.0
        probe.wait(lambda: time.monotonic() > end, "a second to pass")
        assert not overheard

    nothing_is_played()
    seer = rclpy.create_node("seer", namespace="/there", context=probe.node.context)
    seer.create_subscription(Image, "/seen", heard.append, 50)
    says = seer.create_publisher(DiagnosticArray, "/diagnostics", 10)
    probe.wait(says.get_subscription_count, "the player to listen")

    def say(publishers):
        values = [KeyValue(key="topic", value="/seen")]
        values.append(KeyValue(key="publishers", value=str(publishers)))
        status = [DiagnosticStatus(name="there/seer: input", values=values)]
        says.publish(DiagnosticArray(status=status))
        return overheard

    end = time.monotonic() + 1.0
    probe.wait(lambda: say(0) or time.monotonic() > end, "a second to pass")
    nothing_is_played()
    probe.wait(lambda: say(1), "the player to play")
    assert player.process.wait(20) == 0
    probe.node.destroy_subscription(first)
    seer.destroy_node()


def test_the_player_ends_when_told_to_and_refuses_what_it_cannot_play(bag, start, tmp_path):
    waiting = start("-p", f"bag:={bag}", "-p", "wait_for:=/camera/image", module=PLAYER)
    waiting.wait_log("waiting for a subscriber of /camera/image")
    code, seconds = waiting.stop()
    assert code == 0
    assert seconds < 2
    for words, said in (
        ([], "parameter bag: it is empty"),
        (["-p", f"bag:={tmp_path / 'none'}"], "does not exist"),
        (["-p", f"bag:={bag}", "-p", "rate:=0.0"], "parameter rate: 0"),
        (["-p", f"bag:={bag}", "-p", "topics:=[/cam]"], "no topic '/cam'; it has"),
    ):
        player = start(*words, module=PLAYER)
        assert player.process.wait(20) == 2
        assert said in player.log


def test_topics_of_types_that_are_not_installed_are_left_out(start, probe, tmp_path):
    path = tmp_path / "bag"
    with BagWriter(path) as writer:
        writer.add_topic("/camera", IMAGE)
        from rt_panoptic_core.bags.reader import Topic

        strange = Topic("/mood", "robot_msgs/msg/Mood", 1, "float32 joy\n")
        writer.add_topic("/mood", strange.message_type, like=strange)
        writer.write_bytes("/mood", strange.message_type, 0, b"\x00\x01\x00\x00\x00\x00\x00\x00")
        picture = image_message(np.zeros((2, 2, 3), np.uint8), header(0, "c"))
        writer.write("/camera", 1, picture)
    pictures = []
    probe.node.create_subscription(Image, "/camera", pictures.append, 10)
    player = start("-p", f"bag:={path}", "-p", "wait_for:=/camera", module=PLAYER)
    probe.wait(lambda: pictures, "the picture")
    assert "/mood is left out: robot_msgs/msg/Mood is not installed" in player.log


def test_the_stamp_of_serialized_messages():
    stamp = 1_700_000_000_123_456_789
    data = bytes(serialize(image_message(np.zeros((1, 1), np.uint8), header(stamp, "c"))))
    assert cdr_stamp(data) == stamp
    with pytest.raises(ValueError, match="no header"):
        cdr_stamp(b"\x00\x01")


def begin(folder):
    output = OutputFolder(folder)
    output.begin({"test": folder.name}, result_topics(["/camera/image"]))
    return output


def test_nodes_that_keep_up_answer_every_frame_of_two_cameras(tmp_path):
    path, cameras = tmp_path / "two", ["/left", "/right"]
    with BagWriter(path) as writer:
        for topic in cameras:
            writer.add_topic(topic, IMAGE)
        # A message that does not decode is played like any other, and cannot be answered.
        writer.write_bytes("/left", IMAGE, 0, b"\x00\x01\x00\x00")
        for number in range(6):
            picture = image_message(np.full((48, 64, 3), number, np.uint8), header(number, "c"))
            for topic in cameras:
                writer.write(topic, number * 10**8, picture)
    output = OutputFolder(tmp_path / "out")
    output.begin({}, result_topics(cameras))
    told = []
    extra = [*STAND_IN, "--module-argument=--milliseconds=10"]
    # Slowly, so that nodes keep up on a machine that is busy with something else as well.
    played = replay(path, cameras, output, rate=0.2, extra_arguments=extra, progress=told.append)
    assert told == list(range(1, 14))
    right = played.summary("/right")
    assert (right["published"], right["dropped"]) == (6, 0)
    assert 0.01 <= right["latency_p50"] <= right["latency_p95"] <= right["latency_max"]
    assert right["largest_publishing_lag"] >= 0
    left = played.summary("/left")
    assert (left["published"], left["dropped"]) == (7, 1)
    results = RecordedResults(played.replies, result_topics(cameras), Taxonomy.load("cityscapes"))
    with BagReader(path) as reader:
        for frame in read_frames(reader, ["/right"]):
            result = results.take(frame)
            assert result.semantic.shape == (48, 64)
            assert len(result.instances) == 20
    results.close()
    # What was recorded whole is not recorded again.
    again = replay(path, cameras, output, extra_arguments=["--module", "no.such"])
    assert again.times == played.times


def test_a_node_that_is_too_slow_drops_frames_and_its_latency_does_not_grow(bag, tmp_path):
    played = replay(
        bag,
        ["/camera/image"],
        begin(tmp_path / "out"),
        rate=2.0,
        extra_arguments=[*STAND_IN, "--module-argument=--milliseconds=70"],
    )
    summary = played.summary("/camera/image")
    # A frame comes every 25 ms, an answer takes 70.
    assert 3 <= summary["dropped"] <= 9
    assert summary["latency_p50"] >= 0.07
    answered = [f["number"] for f in played.times["/camera/image"] if f["latency"] is not None]
    assert answered == sorted(answered)
    # The newest frame is never the one that is dropped.
    assert answered[-1] == 9


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (
            ["--module", "rt_panoptic_ros.no_such_node"],
            "the node ended with exit status 1: .*No module",
        ),
        (["--parameter", "model:=/nowhere/m.safetensors"], "configuration failed: .*nowhere"),
    ],
)
def test_a_node_that_does_not_come_up_is_told_of(bag, tmp_path, extra, said):
    with pytest.raises(BagError, match=f"the replay failed: .*{said}"):
        replay(bag, ["/camera/image"], begin(tmp_path / "out"), extra_arguments=extra)


def family(pid):
    """Process ids of all descendants of ``pid``."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # Whatever is between the brackets, and a process that has ended meanwhile.
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(done, what):
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


EVALUATE = """
import sys
from pathlib import Path
from rt_panoptic_core.bags.annotate import result_topics
from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.realtime import replay
output = OutputFolder(Path(sys.argv[2]))
output.begin({}, result_topics(["/camera/image"]))
told = lambda count: print(count, flush=True)
# An hour for what is left of the bag.
replay(Path(sys.argv[1]), ["/camera/image"], output, rate=0.01, extra_arguments=sys.argv[3:], progress=told)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
@pytest.mark.parametrize("killed", ["evaluation", "replay"])
def test_nothing_goes_on_playing_when_its_command_is_killed(killed, tmp_path):
    path, out = tmp_path / "drive", tmp_path / "out"
    make_bag(Pictures(40), path, BagPlan(fps=1.0))
    words = [sys.executable, "-c", EVALUATE, str(path), str(out), *STAND_IN]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"1\n"
        running = family(process.pid)
        assert len(running) == 2
        os.kill(process.pid if killed == "evaluation" else running[0], signal.SIGKILL)
        if killed == "evaluation":
            # As long as one of them could still write there.
            while any(map(is_running, running)):
                held = hold_folder(out)
                if held is not None:
                    os.close(held)
                    assert not is_running(running[0])
                time.sleep(0.02)
        until(lambda: not any(map(is_running, running)), "all processes end")
        process.wait()
    finally:
        process.kill()
        process.stdout.close()
    output = OutputFolder(out)
    assert not output.replies_json.exists()
    assert not output.replies.exists()


@pytest.mark.parametrize("how", ["fails", "ends early"])
def test_a_replay_that_breaks_off_is_none(bag, tmp_path, monkeypatch, how):
    (tmp_path / "sitecustomize.py").write_text(f"""
from threading import Event
from rt_panoptic_ros import playback
publish = playback.Playback.play
def play(self, stop):
    if {how == "fails"}:
        raise OSError("the wire is cut")
    return False
playback.Playback.play = play
""")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    output = begin(tmp_path / "out")
    said = {"fails": "playing failed: OSError: the wire is cut", "ends early": "not played to its"}
    with pytest.raises(BagError, match=f"the replay failed: .*{said[how]}"):
        replay(bag, ["/camera/image"], output, extra_arguments=STAND_IN)
    assert not output.replies_json.exists()


def test_a_replay_of_fewer_frames_than_the_bag_has_is_made_again(bag, tmp_path):
    output = begin(tmp_path / "out")
    extra = [*STAND_IN, "--module-argument=--milliseconds=1"]
    played = replay(bag, ["/camera/image"], output, extra_arguments=extra)
    assert played.summary("/camera/image")["published"] == 10
    left = json.loads(output.replies_json.read_text())
    del left["frames"]["/camera/image"][4:]
    output.replies_json.write_text(json.dumps(left))
    again = replay(bag, ["/camera/image"], output, extra_arguments=extra)
    assert again.summary("/camera/image")["published"] == 10


def test_the_command_evaluates_in_real_time_with_the_real_node(model, tmp_path, capfd):
    bag, out = tmp_path / "street", tmp_path / "out"
    words = ["make-bag", "--frames", "8", "--size", "64x96", "--output", str(bag)]
    assert main([*words, "--compressed", "png"]) == 0
    words = ["evaluate-bag", str(bag), "--model", str(model), "--engine", "pytorch"]
    words += ["--precision", "fp32", "--threads", "1", "--real-time", "--output", str(out)]
    assert main(words) == 0
    assert "latency p50" in " ".join(capfd.readouterr().err.split())
    report = json.loads((out / "report.json").read_text())
    (topic,) = report["topics"]
    realtime = topic["realtime"]
    assert realtime["published"] == 8
    assert topic["statuses"].get("answered", 0) == 8 - realtime["dropped"] >= 4
    assert topic["quality"]["frames"] == 8 - realtime["dropped"]
    assert report["mode"] == "real time"
    with BagReader(out / "annotated") as reader:
        assert reader.topics["/rt_panoptic/instances"].count == 8 - realtime["dropped"]
        assert reader.topics["/camera/image/compressed"].message_type == (
            "sensor_msgs/msg/CompressedImage"
        )


@pytest.mark.parametrize("compressed", [None, "png"])
def test_the_camera_of_a_bag_is_told_by_the_nodes_python(tmp_path, monkeypatch, compressed):
    path = tmp_path / "drive"
    make_bag(Pictures(3), path, BagPlan(compressed=compressed))
    topic = "/camera/image/compressed" if compressed else "/camera/image"
    assert find_camera(str(path))[:3] == (topic, bool(compressed), (48, 64))
    assert find_camera(str(path), topic).topic == topic
    with pytest.raises(BagError, match=r"/nothere.*/camera/image"):
        find_camera(str(path), "/nothere")
    with pytest.raises(BagError, match="no bag"):
        find_camera(str(tmp_path / "no bag"))
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 'not this one' >&2; exit 3\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(python.parent), prepend=os.pathsep)
    with pytest.raises(BagError, match="not this one"):
        find_camera(str(path))


def test_a_camera_whose_pictures_do_not_decode_is_one_all_the_same(tmp_path):
    path = tmp_path / "drive"
    with BagWriter(path) as writer:
        writer.add_topic("/camera/image/compressed", COMPRESSED_IMAGE)
        message = compressed_message(np.zeros((8, 8, 3), np.uint8), header(1, "camera"))
        message.data = np.zeros(9, np.uint8)
        writer.write("/camera/image/compressed", 1, message)
    assert find_camera(str(path))[:3] == ("/camera/image/compressed", True, None)


def test_a_camera_that_may_be_none_is_taken_with_a_note(tmp_path):
    path = tmp_path / "drive"
    with BagWriter(path) as writer:
        writer.add_topic("/thermal", IMAGE)
        heat = image_message(np.ones((8, 8), np.uint16), header(0, "c"), encoding="mono16")
        writer.write("/thermal", 0, heat)
    camera = find_camera(str(path))
    assert (camera.topic, camera.size) == ("/thermal", (8, 8))
    assert camera.note.startswith("/thermal is taken for a camera's")


def test_several_cameras_of_a_bag_are_chosen_from_in_the_words_of_the_launch_file(tmp_path):
    path = tmp_path / "drive"
    with BagWriter(path) as writer:
        for topic in ("/left", "/right"):
            writer.add_topic(topic, IMAGE)
            writer.write(topic, 0, image_message(np.zeros((8, 8, 3), np.uint8), header(0, "c")))
    with pytest.raises(BagError, match=r"/left, /right; choose with image:=TOPIC$"):
        find_camera(str(path))


def test_all_topics_of_the_nodes_results_are_known():
    class Names:
        def resolve_topic_name(self, name):
            return name

    published = published_topics(Names(), defaultdict(lambda: True))
    # vision_msgs may not be installed.
    published += ["~/detections", "~/label_info"]
    assert set(published) == {f"~/{name}" for name in RESULT_TOPICS}


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """A bag with recorded results, of one pixel, on the topics of the node in the namespace front."""
    path = tmp_path_factory.mktemp("bags") / "annotated"
    pixel = np.zeros((1, 1), np.uint8)
    result = PanopticResult(pixel, pixel.astype(np.uint16), [])
    with BagWriter(path) as writer:
        writer.add_topic("/camera/image/compressed", COMPRESSED_IMAGE)
        writer.add_topic("/front/rt_panoptic/semantic", IMAGE)
        writer.add_topic("/front/rt_panoptic/instances", INSTANCES)
        # Long enough for the test to be found by the node, which answers nobody else.
        for number in range(40):
            time, head = number * 10**8, header(number * 10**8, "c")
            shade = np.full((48, 64, 3), number, np.uint8)
            picture = compressed_message(shade, head, image_format="png")
            writer.write("/camera/image/compressed", time, picture)
            writer.write("/front/rt_panoptic/semantic", time, image_message(pixel, head))
            recorded = instances_message(result, Taxonomy.load("cityscapes"), head)
            writer.write("/front/rt_panoptic/instances", time, recorded)
    return path


def test_recorded_results_are_told_from_the_rest(annotated):
    results = ["/front/rt_panoptic/semantic", "/front/rt_panoptic/instances"]
    assert find_camera(str(annotated)) == (
        "/camera/image/compressed",
        True,
        (48, 64),
        results,
        ["/camera/image/compressed"],
        "",
    )
    chosen = find_camera(str(annotated), results[0])
    assert (chosen.results, chosen.others) == (
        results[1:],
        ["/camera/image/compressed", results[0]],
    )


@pytest.fixture
def launch(model, probe, tmp_path):
    """launch(*arguments, **environment): what bag.launch.py said until it ended."""
    pytest.importorskip("launch_ros", reason="launch files need launch_ros, a ROS 2 installation's")
    launch_file = Path(__file__).parents[2] / "launch" / "bag.launch.py"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])

    def launch(*arguments, **environment):
        words = [f"model:={model}", "engine:=pytorch", "precision:=fp32", *arguments]
        log = (tmp_path / "log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "launch_file_runner", str(launch_file), *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": paths, **environment},
        )
        try:
            probe.wait(lambda: process.poll() is not None, "the end of the launch", SECONDS)
        finally:
            process.kill()
            log.close()
        return (tmp_path / "log").read_text(errors="replace")

    return launch


def test_the_launch_file_plays_a_bag_into_the_node(launch, annotated, probe):
    instances = []
    topic = "/front/rt_panoptic/instances"
    subscription = probe.node.create_subscription(
        PanopticInstanceArray, topic, instances.append, 10
    )
    said = launch(f"bag:={annotated}", "namespace:=front", "player:=own")
    probe.node.destroy_subscription(subscription)
    assert "the bag has ended: 40 messages" in said, said
    assert "waiting for /front/rt_panoptic to subscribe /camera/image/compressed" in said
    left_out = "/front/rt_panoptic/semantic, /front/rt_panoptic/instances"
    assert said.count(f"recorded results are not played: {left_out}") == 1
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in instances]
    assert len(stamps) >= 3, said
    assert len(set(stamps)) == len(stamps)
    assert set(stamps) <= {n * 10**8 for n in range(40)}
    assert all((m.height, m.width) == (48, 64) for m in instances)


def test_rosbag2_is_told_what_to_play_where_results_are_recorded(launch, bag, annotated, tmp_path):
    ros2 = tmp_path / "bin" / "ros2"
    ros2.parent.mkdir()
    ros2.write_text('#!/bin/sh\necho "told: $*."\n')
    ros2.chmod(0o755)
    (tmp_path / "modules" / "ros2bag").mkdir(parents=True)
    modules = os.pathsep.join([str(Path(__file__).parent), *sys.path, str(tmp_path / "modules")])
    path = os.pathsep.join([str(ros2.parent), os.environ["PATH"]])
    said = launch(f"bag:={annotated}", "player:=ros2", PATH=path, PYTHONPATH=modules)
    usual = "--rate 1.0 --disable-keyboard-controls --delay 1 --clock 100"
    assert f"told: bag play {annotated} {usual} --topics /camera/image/compressed." in said
    assert "recorded results are not played: /front/rt_panoptic/semantic, " in said
    said = launch(f"bag:={bag}", "player:=ros2", PATH=path, PYTHONPATH=modules)
    assert f"told: bag play {bag} {usual}." in said
    assert "not played" not in said
