"""Recording what a node answers to the frames that are played to it, and how long it takes."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from rclpy.node import Node
from sensor_msgs.msg import Image

from rt_panoptic_core.bags.annotate import ResultTopics
from rt_panoptic_core.bags.messages import IMAGE, INSTANCES
from rt_panoptic_core.bags.reader import BagMessage
from rt_panoptic_core.bags.writer import BagWriter
from rt_panoptic_core.pipeline import Behind
from rt_panoptic_ros.msg import PanopticInstanceArray
from rt_panoptic_ros.qos import output_profile
from rt_panoptic_ros.stamps import NANOSECONDS

_KINDS = {
    "semantic": (Image, IMAGE),
    "instance": (Image, IMAGE),
    "instances": (PanopticInstanceArray, INSTANCES),
}
_WAITING = 32
_BEHIND = 64


@dataclass
class PlayedFrame:
    """A frame that was published.

    Attributes:
        number: of its topic's messages, from 0.
        stamp: of its header, nanoseconds.
        time: log time, nanoseconds.
        published: seconds, monotonic clock.
        latency: seconds from publication until the last part of the result was here; None without one.
    """

    number: int
    stamp: int
    time: int
    published: float
    latency: float | None = None


@dataclass
class _Topic:
    frames: list[PlayedFrame] = field(default_factory=list)
    # Published and not answered, by stamp; several where stamps repeat.
    open: dict[int, deque[PlayedFrame]] = field(default_factory=dict)
    # Results that answer no frame that was played: to a rehearsal.
    rehearsed: int = 0
    # Parts of results that are not complete yet, by stamp.
    parts: dict[int, dict[str, bytes]] = field(default_factory=dict)


class ReplyRecorder:
    """Subscribes the results of one node for each image topic and writes them into a bag.

    A result counts when its semantic image, instance image and instances have all arrived. They are
    written with the log time of the frame that they answer.
    """

    def __init__(
        self,
        node: Node,
        bag: BagWriter,
        nodes: Mapping[str, str],
        topics: Mapping[str, ResultTopics],
    ) -> None:
        """Subscribe.

        Args:
            node: that subscribes.
            bag: to write into.
            nodes: full name of the panoptic node by image topic.
            topics: names in the bag by image topic.
        """
        self._bag = bag
        self._names = topics
        self._lock = Lock()
        self._topics = {topic: _Topic() for topic in nodes}
        self._writing = Behind(self._write, _BEHIND)
        self.last_reply = time.monotonic()
        self._subscriptions = []
        for topic, full_name in nodes.items():
            for kind, (message_class, message_type) in _KINDS.items():
                bag.add_topic(getattr(topics[topic], kind), message_type)
                self._subscriptions.append(
                    node.create_subscription(
                        message_class,
                        f"{full_name}/{kind}",
                        lambda data, topic=topic, kind=kind: self._receive(topic, kind, data),
                        output_profile(),
                        raw=True,
                    )
                )

    def publishing(self, message: BagMessage, now: float) -> None:
        """A message is about to be published; those of image topics are remembered."""
        topic = self._topics.get(message.topic)
        if topic is None:
            return
        try:
            stamp = cdr_stamp(message.data)
        except ValueError:
            stamp = message.time
        with self._lock:
            frame = PlayedFrame(len(topic.frames), stamp, message.time, now)
            topic.frames.append(frame)
            topic.open.setdefault(stamp, deque()).append(frame)

    def rehearsed(self, name: str) -> int:
        """Results of an image topic that answer no frame played so far."""
        with self._lock:
            return self._topics[name].rehearsed

    def unanswered(self) -> int:
        """Frames published without a result so far."""
        with self._lock:
            return sum(f.latency is None for t in self._topics.values() for f in t.frames)

    def frames(self) -> dict[str, list[PlayedFrame]]:
        """The published frames by image topic."""
        with self._lock:
            return {name: list(topic.frames) for name, topic in self._topics.items()}

    def close(self) -> None:
        """Write what is pending.

        Raises:
            BagError: writing failed.
        """
        self._writing.close()

    def _receive(self, name: str, kind: str, data: bytes) -> None:
        now = time.monotonic()
        stamp = cdr_stamp(data)
        with self._lock:
            topic = self._topics[name]
            parts = topic.parts.setdefault(stamp, {})
            parts[kind] = data
            if len(parts) < len(_KINDS):
                while len(topic.parts) > _WAITING:
                    del topic.parts[next(iter(topic.parts))]
                return
            del topic.parts[stamp]
            waiting = topic.open.get(stamp)
            if not waiting:
                topic.rehearsed += 1
                return
            frame = waiting.popleft()
            frame.latency = now - frame.published
            self.last_reply = now
        self._writing.put((name, frame, parts))

    def _write(self, item: tuple[str, PlayedFrame, dict[str, bytes]]) -> None:
        name, frame, parts = item
        for kind, (_, message_type) in _KINDS.items():
            self._bag.write_bytes(
                getattr(self._names[name], kind), message_type, frame.time, parts[kind]
            )


def cdr_stamp(data: bytes) -> int:
    """Nanoseconds of the header that a serialized message begins with.

    Raises:
        ValueError: the bytes are too few.
    """
    if len(data) < 12:
        raise ValueError(f"{len(data)} bytes hold no header")
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * NANOSECONDS + int(nanoseconds)
