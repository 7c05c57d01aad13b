"""Real-time evaluation: the bag played to the real node by another process, then measured like any run."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rt_panoptic_core.bags import child_process
from rt_panoptic_core.bags.messages import IMAGE_TYPES
from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.errors import BagError

REPLAY_MODULE = "rt_panoptic_ros.bag_replay"
"""Run as a process: the core imports no ROS module."""

_SECONDS_TO_STOP = 10.0


@dataclass(frozen=True)
class Replay:
    """What a replay left.

    Attributes:
        replies: bag with the node's results.
        times: of every published frame by image topic: ``number``, ``stamp``, ``time``, ``published`` and
            ``latency`` (seconds, None where there was no result).
        largest_lag: seconds by which a frame was published too late, at most.
        engine: what the nodes said they run on, or empty.
    """

    replies: Path
    times: Mapping[str, Sequence[Mapping[str, Any]]]
    largest_lag: float
    engine: str = ""

    @property
    def latencies(self) -> dict[tuple[str, int], float]:
        """Seconds by image topic and number of the frame; answered frames only."""
        return {
            (topic, frame["number"]): frame["latency"]
            for topic, frames in self.times.items()
            for frame in frames
            if frame["latency"] is not None
        }

    def summary(self, topic: str) -> dict[str, Any]:
        """Plain data: frames published and dropped, latency percentiles and jitter, seconds.

        Jitter is the standard deviation of the latency.
        """
        frames = self.times.get(topic, ())
        known = [frame["latency"] for frame in frames if frame["latency"] is not None]

        def percentile(q: float) -> float | None:
            return float(np.percentile(known, q)) if known else None

        return {
            "published": len(frames),
            "dropped": len(frames) - len(known),
            "latency_p50": percentile(50),
            "latency_p95": percentile(95),
            "latency_max": max(known, default=None),
            "jitter": float(np.std(known)) if known else None,
            "largest_publishing_lag": self.largest_lag,
        }


def replay(
    bag: Path,
    image_topics: Sequence[str],
    output: OutputFolder,
    *,
    rate: float = 1.0,
    parameters: Mapping[str, str | int] | None = None,
    extra_arguments: Sequence[str] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Replay:
    """Play ``bag`` to one node for each image topic and record what they answer.

    Args:
        bag: the recording.
        image_topics: the topics that are played.
        output: the folder, begun; a replay that is there whole is not made again.
        rate: of the pace; 2 is twice as fast.
        parameters: of the node.
        extra_arguments: of the replaying process.
        progress: told the number of frames published.

    Raises:
        BagError: ROS is not here, or the replay failed or ended early; the reason is named.
    """
    missing = [name for name in ("rclpy", "rt_panoptic_ros") if find_spec(name) is None]
    if missing:
        raise BagError(
            f"real time needs ROS 2 ({' and '.join(missing)} cannot be imported); "
            "source its setup file, or leave --real-time out"
        )
    if output.replies.exists() and output.replies_json.exists():
        left = _read(output)
        if _missing_frames(bag, image_topics, left) is None:
            return left
    output.replies_json.unlink(missing_ok=True)
    words = ["--bag", str(bag), "--rate", str(rate)]
    words += ["--replies", str(output.replies), "--times", str(output.replies_json)]
    words += ["--log", str(output.node_log), *extra_arguments]
    for topic in image_topics:
        words += ["--image-topic", topic]
    for name, value in (parameters or {}).items():
        # Quoted: a model called "50" is a name, whatever YAML thinks of it.
        words += ["--parameter", f"{name}:={json.dumps(value)}"]
    with output.replay_log.open("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            child_process.command(REPLAY_MODULE, words),
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
            # While it ends after this process was killed, nobody else may write into the folder.
            pass_fds=[output.hold],
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip().isdecimal():
                    progress(int(line))
            status = process.wait()
        except BaseException:
            _stop(process)
            raise
        if status != 0:
            errors.seek(0)
            said = errors.read().strip().splitlines()
            raise BagError(f"the replay failed: {said[-1] if said else f'exit status {status}'}")
    played = _read(output)
    missing_frames = _missing_frames(bag, image_topics, played)
    if missing_frames is not None:
        raise BagError(f"the replay ended early: {missing_frames}; see {output.replay_log}")
    return played


def _missing_frames(bag: Path, topics: Sequence[str], played: Replay) -> str | None:
    """Of which topic how many frames were played and how many there are; None where all were."""
    with BagReader(bag) as reader:
        for topic in topics:
            published = len(played.times.get(topic, ()))
            if published >= reader.topics[topic].count:
                continue
            # An index also counts what is damaged, which nobody can play.
            messages = reader.messages([topic])
            readable = sum(message.message_type in IMAGE_TYPES for message in messages)
            if published < readable:
                return f"{published} of the {readable} frames of {topic} were played"
    return None


def _read(output: OutputFolder) -> Replay:
    data = json.loads(output.replies_json.read_text(encoding="utf-8"))
    log = output.node_log.read_text(encoding="utf-8", errors="replace")
    # The node's own words once its engine is built.
    found = re.search(r"configured in [\d.]+ s: (.+?)(\x1b|$)", log, re.MULTILINE)
    engine = found.group(1).strip() if found else ""
    return Replay(output.replies, data["frames"], data["largest_lag"], engine)


def _stop(process: subprocess.Popen[str]) -> None:
    """End the replay, which ends its nodes."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
