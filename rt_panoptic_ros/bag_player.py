"""A node that plays a bag: for where ``ros2 bag`` is not installed.

``python -m rt_panoptic_ros.bag_player --ros-args -p bag:=drive -p rate:=0.5``
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from threading import Event, Thread
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.errors import BagError, ConfigError
from rt_panoptic_ros.playback import Playback
from rt_panoptic_ros.process import run
from rt_panoptic_ros.seen_publishers import SeenPublishers
from rt_panoptic_ros.wait_for_subscriber import has_subscribed, subscriber_came

_SECONDS_TO_BE_TOLD = 5.0
"""A panoptic node tells in its diagnostics, once a second where nothing else is set, how many it sees."""

# Name -> (default, description). All are read once, at the start.
_PARAMETERS: dict[str, tuple[Any, str]] = {
    "bag": ("", "The bag: a folder, an .mcap or a .db3 file."),
    "rate": (1.0, "2 plays twice as fast. Above 0, at most 100."),
    "loop": (False, "Begin again at the end."),
    "clock_rate": (100.0, "Messages a second on /clock, of the bag's time. 0: no clock."),
    "topics": ([""], "Topics to play; empty: all."),
    "wait_for": ("", "Begin once this topic has a subscriber."),
    "wait_for_node": (
        "",
        "Of this node, by its full name; one of ours has to say that it sees the player as well. Empty: of "
        "any.",
    ),
    "wait_timeout": (600.0, "Begin at the latest after so many seconds. 0: do not wait."),
}


class BagPlayer(Node):
    """Plays one bag and then ends the process."""

    def __init__(self) -> None:
        """Open the bag.

        Raises:
            ConfigError: a parameter is refused.
            BagError: the bag cannot be read.
        """
        super().__init__("bag_player")
        values = {name: self._declare(name) for name in _PARAMETERS}
        if not values["bag"]:
            raise ConfigError("parameter bag: it is empty; give a bag's folder, .mcap or .db3 file")
        if not 0 < values["rate"] <= 100:
            raise ConfigError(
                f"parameter rate: {values['rate']:g}; it must be above 0, at most 100"
            )
        if not 0 <= values["clock_rate"] <= 10_000:
            raise ConfigError(
                f"parameter clock_rate: {values['clock_rate']:g}; it must be 0 to 10000"
            )
        self._values = values
        self._reader = BagReader(values["bag"])
        for note in (*self._reader.damage, *self._reader.notes):
            self.get_logger().warning(note)
        topics = [topic for topic in values["topics"] if topic]
        for topic in topics:
            self._reader.topic(topic)
        self._playback = Playback(
            self,
            self._reader,
            topics=topics,
            rate=values["rate"],
            clock_rate=values["clock_rate"],
        )
        if not self._playback.topics:
            raise BagError(f"{values['bag']}: there is nothing to play")
        name = values["wait_for_node"]
        self._seen = (
            SeenPublishers(self, name, values["wait_for"]) if name and values["wait_for"] else None
        )
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to play."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Whether playing ended within ``timeout`` seconds."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        self._reader.close()
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._wait_for_subscriber()
            while not self._stop.is_set():
                ended = self._playback.play(self._stop)
                if ended and not self._values["loop"]:
                    self.get_logger().info(
                        f"the bag has ended: {self._playback.published} messages, "
                        f"at most {1e3 * self._playback.largest_lag:.0f} ms late"
                    )
                    # A publisher that goes away takes what is still on its way with it.
                    self._stop.wait(0.5)
                    break
        # Publishing ends so when the process is told to stop; anything else is worth reading.
        except Exception as error:  # noqa: BLE001
            if self.context.ok():
                self.get_logger().error(f"playing failed: {type(error).__name__}: {error}")
        rclpy.try_shutdown(context=self.context)

    def _wait_for_subscriber(self) -> None:
        topic = self._values["wait_for"]
        patience = self._values["wait_timeout"]
        if not topic or patience <= 0:
            return
        if topic not in self._playback.topics:
            self.get_logger().warning(f"{topic} is not played, so nobody is waited for")
            return
        name, seen = self._values["wait_for_node"], self._seen
        # Counting takes a name as it is.
        resolved = self.resolve_topic_name(topic)
        whom = f"{name} to subscribe" if name else "a subscriber of"
        self.get_logger().info(f"waiting for {whom} {topic}")
        end = time.monotonic() + patience
        came = subscriber_came(
            lambda: self._playback.subscribers(topic) and has_subscribed(self, resolved, name),
            self._stop,
            patience,
        )
        if not came and not self._stop.is_set():
            lack = f"is still not subscribed by {name}" if name else "has no subscriber still"
            self.get_logger().warning(f"{topic} {lack}; playing all the same")
        elif came and seen is not None:
            # A node of another kind says nothing.
            left = max(0.0, end - time.monotonic())
            patience = min(_SECONDS_TO_BE_TOLD, left)
            if subscriber_came(lambda: seen.count is not None, self._stop, patience):
                # Others may publish there, too.
                subscriber_came(
                    lambda: (seen.count or 0) >= self.count_publishers(resolved),
                    self._stop,
                    max(0.0, end - time.monotonic()),
                )

    def _declare(self, name: str) -> Any:
        default, description = _PARAMETERS[name]
        descriptor = ParameterDescriptor(description=description, read_only=True)
        # `rate: 2` is an integer, and an empty list has no type.
        descriptor.dynamic_typing = isinstance(default, (float, list))
        try:
            value = self.declare_parameter(name, default, descriptor).value
            return float(value) if isinstance(default, float) else value
        except Exception as error:
            raise ConfigError(f"parameter {name} is refused: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Play until the end, or until told to stop: 0, or 2 where a parameter or the bag is refused."""
    return run(BagPlayer, arguments)


if __name__ == "__main__":
    sys.exit(main())
