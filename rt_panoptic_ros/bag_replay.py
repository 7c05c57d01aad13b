"""Plays a bag to real nodes in their own processes and records what they answer.

``rt-panoptic evaluate-bag --real-time`` runs this as a process of its own. The result topics go into a bag,
times into a JSON file; the number of frames published is told on standard output, one a line.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from rt_panoptic_core.bags import child_process
from rt_panoptic_core.bags.annotate import result_topics
from rt_panoptic_core.bags.frames import decode_frame, find_image_topics
from rt_panoptic_core.bags.messages import COMPRESSED_IMAGE
from rt_panoptic_core.bags.reader import BagMessage, BagReader
from rt_panoptic_core.bags.survey import survey
from rt_panoptic_core.bags.writer import BagWriter
from rt_panoptic_core.errors import BagError, PanopticError
from rt_panoptic_core.files import write_json
from rt_panoptic_ros.fastdds import use_profile
from rt_panoptic_ros.panoptic_node import CONFIGURATION_FAILED, NODE_NAME
from rt_panoptic_ros.playback import Playback
from rt_panoptic_ros.releases import keep_to_this_machine
from rt_panoptic_ros.reply_recorder import ReplyRecorder

_READY_SECONDS = 600.0
_TRY_SECONDS = 2.0
_QUIET_SECONDS = 3.0
_STOP_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay: 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bag", type=Path, required=True)
    parser.add_argument("--image-topic", action="append", default=[])
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--replies", type=Path, required=True, help="the bag to write")
    parser.add_argument("--times", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--log", type=Path, required=True, help="the nodes' output")
    parser.add_argument("--parameter", action="append", default=[], help="NAME:=VALUE of the node")
    parser.add_argument(
        "--module", default="rt_panoptic_ros.panoptic_node", help="that is the node"
    )
    parser.add_argument("--module-argument", action="append", default=[])
    parsed = parser.parse_args(arguments)
    # A domain of its own on this machine: a recording must not reach the robot that the machine is on.
    keep_to_this_machine(random.SystemRandom().randint(1, 100))
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        replay(parsed)
    except PanopticError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


def replay(arguments: argparse.Namespace) -> None:
    """Start the nodes, play, record.

    Raises:
        BagError: the bag cannot be read or written, was not played to its end, or a node ended.
    """
    use_profile()
    rclpy.init(args=["bag_replay"])
    with BagReader(arguments.bag) as reader:
        topics = find_image_topics(reader, arguments.image_topic)
        nodes = {topic.name: f"/replay_{index}/{NODE_NAME}" for index, topic in enumerate(topics)}
        own = rclpy.create_node("bag_replay")
        names = [topic.name for topic in topics]
        with BagWriter(arguments.replies, overwrite=True) as bag, arguments.log.open("wb") as log:
            recorder = ReplyRecorder(own, bag, nodes, result_topics(names))
            done = 0

            def published(message: BagMessage, now: float) -> None:
                nonlocal done
                recorder.publishing(message, now)
                if message.topic in nodes:
                    done += 1
                    print(done, flush=True)

            playback = Playback(
                own, reader, topics=names, rate=arguments.rate, on_publish=published
            )
            sizes = {look.topic: look.size for look in survey(reader, names)}
            firsts = [_first_picture(reader, name) for name in names]
            processes = [
                _start_node(
                    arguments, topic.name, topic.message_type, nodes[topic.name], sizes, log
                )
                for topic in topics
            ]
            try:
                _play(own, playback, recorder, firsts, processes, arguments.log)
            finally:
                _stop_nodes(processes)
                recorder.close()
        write_json(
            arguments.times,
            {
                "rate": arguments.rate,
                "largest_lag": playback.largest_lag,
                "frames": {
                    name: [asdict(frame) for frame in frames]
                    for name, frames in recorder.frames().items()
                },
            },
        )


def _play(
    own: Any,
    playback: Playback,
    recorder: ReplyRecorder,
    firsts: Sequence[BagMessage],
    processes: Sequence[subprocess.Popen[bytes]],
    log: Path,
) -> None:
    stop = Event()
    executor = SingleThreadedExecutor()
    executor.add_node(own)
    pool = ThreadPoolExecutor(1)
    try:
        for message in firsts:
            _rehearse(message, playback, recorder, executor, processes, log)
        playing = pool.submit(playback.play, stop)
        while not playing.done():
            _check_alive(processes, log)
            executor.spin_once(timeout_sec=0.1)
        try:
            complete = playing.result()
        # Whatever a middleware or a damaged bag leads to; what was recorded by then is no replay.
        except Exception as error:
            raise BagError(f"playing failed: {type(error).__name__}: {error}") from error
        if not complete:
            raise BagError("the bag was not played to its end")
        # The last frames may still be at work; once nothing has come for a while, nothing will.
        ended = time.monotonic()
        while recorder.unanswered() and (
            time.monotonic() - max(ended, recorder.last_reply) < _QUIET_SECONDS
        ):
            executor.spin_once(timeout_sec=0.1)
    finally:
        stop.set()
        pool.shutdown()
        executor.shutdown()
        own.destroy_node()


def _first_picture(reader: BagReader, topic: str) -> BagMessage:
    """The first message of a topic that decodes; there is one, or the survey would have said so."""
    messages = reader.messages([topic])
    return next(m for m in messages if decode_frame(m, 0).image is not None)


def _rehearse(
    message: BagMessage,
    playback: Playback,
    recorder: ReplyRecorder,
    executor: SingleThreadedExecutor,
    processes: Sequence[subprocess.Popen[bytes]],
    log: Path,
) -> None:
    """Publish a topic's first frame until it is answered.

    Only then are the engine warm and both ways of the connection known to both processes: a subscription
    that one side sees may still be unknown to the other, and frames in between would count as dropped.
    """
    deadline = time.monotonic() + _READY_SECONDS
    sent, next_try = 0, 0.0
    while not recorder.rehearsed(message.topic):
        _check_alive(processes, log)
        _check_configured(log)
        now = time.monotonic()
        if now > deadline:
            raise BagError(f"the node did not answer within {_READY_SECONDS:.0f} s; see {log}")
        if playback.subscribers(message.topic) and now >= next_try:
            playback.rehearse(message)
            sent, next_try = sent + 1, now + _TRY_SECONDS
        executor.spin_once(timeout_sec=0.05)
    # An answer to an earlier try must not be taken for one to a frame that is played.
    quiet = time.monotonic() + _TRY_SECONDS
    while recorder.rehearsed(message.topic) < sent and time.monotonic() < quiet:
        executor.spin_once(timeout_sec=0.05)


def _start_node(
    arguments: argparse.Namespace,
    topic: str,
    message_type: str,
    full_name: str,
    sizes: Mapping[str, tuple[int, int] | None],
    log: Any,
) -> subprocess.Popen[bytes]:
    namespace, _, name = full_name.rpartition("/")
    compressed = message_type == COMPRESSED_IMAGE
    source = "image/compressed" if compressed else "image"
    words = ["--ros-args", "-r", f"__ns:={namespace}", "-r", f"__node:={name}"]
    words += ["-r", f"{source}:={topic}", "-p", "use_sim_time:=true"]
    words += ["-p", f"input.transport:={'compressed' if compressed else 'raw'}"]
    size = sizes[topic]
    if size is not None:
        # The engine is built before the node subscribes, not while the bag plays.
        words += ["-p", f"image_size:={size[0]}x{size[1]}"]
    for parameter in arguments.parameter:
        words += ["-p", parameter]
    return subprocess.Popen(
        child_process.command(arguments.module, [*arguments.module_argument, *words]),
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )


def _check_alive(processes: Sequence[subprocess.Popen[bytes]], log: Path) -> None:
    for process in processes:
        if process.poll() is not None:
            last = _lines(log)[-5:]
            raise BagError(
                f"the node ended with exit status {process.returncode}: "
                + (" | ".join(last) or "it said nothing")
            )


def _check_configured(log: Path) -> None:
    """A node whose engine cannot be had stays, for somebody to configure it anew; here nobody will."""
    for line in _lines(log):
        _, found, reason = line.partition(CONFIGURATION_FAILED)
        if found:
            raise BagError(f"the node: {CONFIGURATION_FAILED}{reason}")


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").strip().splitlines()


def _stop_nodes(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
