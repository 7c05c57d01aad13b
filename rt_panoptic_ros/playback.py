"""Playing a recording: its bytes on its topics, at its pace, with the clock that belongs to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from importlib import import_module
from threading import Event
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import QosDurability, QosReliability
from rosgraph_msgs.msg import Clock

from rt_panoptic_core.bags.reader import BagMessage, BagReader, Topic
from rt_panoptic_core.pipeline import Ahead
from rt_panoptic_ros.stamps import NANOSECONDS

_MESSAGES_AHEAD = 64
_DEPTH = 10


class Playback:
    """Publishes the messages of a bag as they were recorded, without reading them.

    Attributes:
        largest_lag: seconds by which a message was published too late, at most.
        published: number of messages published.
    """

    def __init__(
        self,
        node: Node,
        reader: BagReader,
        *,
        topics: Collection[str] = (),
        rate: float = 1.0,
        clock_rate: float = 100.0,
        on_publish: Callable[[BagMessage, float], None] = lambda _message, _now: None,
    ) -> None:
        """Create the publishers.

        Args:
            node: that publishes; its remappings apply.
            reader: the bag.
            topics: those to play; all when empty. A topic whose type is not installed is left out, with
                a warning.
            rate: 2 plays twice as fast.
            clock_rate: messages a second on ``/clock``, of the bag's time; 0 for none.
            on_publish: told of every message just before it is published, and ``time.monotonic()``.
        """
        self._node = node
        self._reader = reader
        self._rate = rate
        self._interval = 1.0 / clock_rate if clock_rate > 0 else None
        self._on_publish = on_publish
        self._clock = node.create_publisher(Clock, "/clock", 10) if self._interval else None
        self._next_tick = 0.0
        self._publishers: dict[tuple[str, str], Publisher] = {}
        for topic in reader.all_topics:
            if (topics and topic.name not in topics) or topic.name == "/clock":
                continue
            kind = message_class(topic.message_type)
            if kind is None:
                node.get_logger().warning(
                    f"{topic.name} is left out: {topic.message_type} is not installed"
                )
                continue
            self._publishers[topic.name, topic.message_type] = node.create_publisher(
                kind, topic.name, offered_profile(topic)
            )
        self.largest_lag = 0.0
        self.published = 0

    @property
    def topics(self) -> list[str]:
        """Names of the topics that are played."""
        return [name for name, _ in self._publishers]

    def subscribers(self, topic: str) -> int:
        """Matched subscribers of a played topic."""
        return sum(
            publisher.get_subscription_count()
            for (name, _), publisher in self._publishers.items()
            if name == topic
        )

    def rehearse(self, message: BagMessage) -> None:
        """Publish one message now, with the clock at its time; it counts as nothing."""
        publisher = self._publishers[message.topic, message.message_type]
        self._tell_time(message.time)
        publisher.publish(bytes(message.data))

    def play(self, stop: Event) -> bool:
        """Play the bag once; whether it was played to its end.

        Args:
            stop: ends the playing when set.
        """
        names = {name for name, _ in self._publishers}
        messages = Ahead(self._reader.messages(names), _MESSAGES_AHEAD)
        try:
            origin: tuple[int, float] | None = None
            for message in messages:
                if origin is None:
                    origin = (message.time, time.monotonic())
                    self._next_tick = origin[1]
                due = origin[1] + (message.time - origin[0]) / NANOSECONDS / self._rate
                if not self._wait_until(due, origin, stop):
                    return False
                publisher = self._publishers.get((message.topic, message.message_type))
                if publisher is None:
                    continue
                now = time.monotonic()
                self.largest_lag = max(self.largest_lag, now - due)
                self._on_publish(message, now)
                publisher.publish(bytes(message.data))
                self.published += 1
            return not stop.is_set()
        finally:
            messages.close()

    def _wait_until(self, due: float, origin: tuple[int, float], stop: Event) -> bool:
        """Wait, and keep the clock going; whether playing goes on."""
        while True:
            now = time.monotonic()
            if self._clock is not None and self._interval is not None and now >= self._next_tick:
                self._tell_time(origin[0] + round((now - origin[1]) * self._rate * NANOSECONDS))
                # Ticks that were missed are not made up for.
                self._next_tick = max(self._next_tick + self._interval, now)
            if stop.is_set():
                return False
            if now >= due:
                return True
            until = due if self._clock is None else min(due, self._next_tick)
            stop.wait(max(0.0, until - now))

    def _tell_time(self, nanoseconds: int) -> None:
        if self._clock is not None:
            clock = Clock()
            clock.clock.sec, clock.clock.nanosec = divmod(nanoseconds, NANOSECONDS)
            self._clock.publish(clock)


def message_class(message_type: str) -> Any:
    """The Python class of ``package/msg/Name``, or None where it is not installed."""
    package, _, name = message_type.partition("/msg/")
    try:
        return getattr(import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


def offered_profile(topic: Topic) -> QoSProfile:
    """What a player offers for ``topic``: as reliable and as durable as the recorded publishers.

    Reliable fits every subscriber, so best effort is offered only where all publishers did.
    """
    best_effort = bool(topic.qos) and all(
        qos.reliability == QosReliability.BEST_EFFORT for qos in topic.qos
    )
    latched = any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in topic.qos)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=_DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
