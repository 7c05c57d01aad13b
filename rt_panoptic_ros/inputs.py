"""The node's subscriptions: the image, raw or compressed, and where asked for depth and camera_info."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rt_panoptic_ros.qos import (
    OVERRIDABLE,
    EndpointReport,
    check_overrides,
    input_profile,
    unfit_publishers,
)
from rt_panoptic_ros.releases import subscription_events
from rt_panoptic_ros.statistics import Input

_MOST_LOST = 1_000_000
"""More images than any camera sends between two events."""


class InputTopic(NamedTuple):
    """A subscribed topic: its full name, and its publishers, whether they fit or not."""

    name: str
    publishers: int


class Inputs:
    """Subscriptions of an active node. Made and destroyed on the executor's thread."""

    def __init__(
        self,
        node: LifecycleNode,
        values: Mapping[str, Any],
        *,
        on_image: Callable[[Any], None],
        on_depth: Callable[[Image], None],
        on_camera_info: Callable[[CameraInfo], None],
        on_lost: Callable[[int], None],
        warn: Callable[[str], object],
    ) -> None:
        """Subscribe what ``values`` ask for.

        Args:
            node: owner of the subscriptions.
            values: parameters by name.
            on_image: called with each Image or CompressedImage.
            on_depth: called with each depth image.
            on_camera_info: called with each camera_info.
            on_lost: told how many images the middleware lost.
            warn: told of publishers that nothing can be received from.

        Raises:
            ConfigError: a ``qos_overrides`` parameter of one of the topics is refused.
        """
        self._node = node
        self._warn = warn
        self._subscriptions: list[Any] = []
        self._reports: list[EndpointReport] = []
        self._profiles: dict[str, tuple[QoSProfile, str]] = {}
        qos = str(values["input.qos"])
        compressed = values["input.transport"] == "compressed"
        self.image_topic = image_topic(node, compressed=compressed)
        wanted: list[tuple[str, Any, Callable[[Any], None], Callable[[int], None] | None]]
        wanted = [(self.image_topic, CompressedImage if compressed else Image, on_image, on_lost)]
        if values["depth.enabled"]:
            wanted.append(("depth", Image, on_depth, None))
            wanted.append(("camera_info", CameraInfo, on_camera_info, None))
        # All of them before the first subscription, which nobody would destroy.
        names = subscribed_topics(node, values)
        self._names = dict(zip(Input, names, strict=False))
        for topic in names:
            check_overrides(node, topic, "subscription")
        for topic, kind, callback, lost in wanted:
            self._subscribe(topic, kind, qos, callback, lost)

    def _subscribe(
        self,
        topic: str,
        kind: Any,
        qos: str,
        callback: Callable[[Any], None],
        on_lost: Callable[[int], None] | None,
    ) -> None:
        profile = input_profile(qos)
        name = self._node.resolve_topic_name(topic)
        ros_type = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
        self._profiles[name] = (profile, ros_type)

        report = EndpointReport(self._node, lambda: self.unfit_publishers(name), self._warn)
        self._reports.append(report)

        def unfit(_event: Any) -> None:
            report.look()

        def lost(event: Any) -> None:
            if on_lost is not None:
                on_lost(lost_images(event.total_count_change))

        events = subscription_events(
            incompatible_qos=unfit, incompatible_type=unfit, message_lost=lost
        )
        self._subscriptions.append(
            self._node.create_subscription(
                kind,
                topic,
                callback,
                profile,
                event_callbacks=events,
                qos_overriding_options=OVERRIDABLE,
            )
        )

    def unfit_publishers(self, topic: str | None = None) -> list[str]:
        """A sentence for each publisher that nothing can be received from, and what to do about it."""
        sentences = []
        for name, (profile, ros_type) in self._profiles.items():
            if topic not in (None, name):
                continue
            for who, why in unfit_publishers(self._node, name, profile, ros_type):
                way_out = (
                    "remap the topic or set input.transport"
                    if why.startswith("it publishes")
                    else "set input.qos to sensor_data, or change the publisher's QoS"
                )
                sentences.append(f"{name}: nothing can be received from {who}: {why}; {way_out}")
        return sentences

    def topics(self) -> dict[Input, InputTopic]:
        """What is subscribed, as it is now."""
        return {
            kind: InputTopic(name, self._node.count_publishers(name))
            for kind, name in self._names.items()
        }

    def destroy(self) -> None:
        """Unsubscribe."""
        for report in self._reports:
            report.stop()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()


def lost_images(increment: int) -> int:
    """Images that a message-lost event of ``increment`` tells of: 1 where it cannot be so many.

    Fast DDS invents some: 2**31 - 1 among ones, and what becomes of it when several are added up.
    """
    return increment if 0 <= increment <= _MOST_LOST else 1


def subscribed_topics(node: LifecycleNode, values: Mapping[str, Any]) -> list[str]:
    """Full names after remapping of what ``values`` ask to subscribe, in the order of Input."""
    topics = [image_topic(node, compressed=values["input.transport"] == "compressed")]
    if values["depth.enabled"]:
        topics += [node.resolve_topic_name(name) for name in ("depth", "camera_info")]
    return topics


def image_topic(node: LifecycleNode, *, compressed: bool) -> str:
    """Full name of the image topic after remapping.

    A remapping of ``image`` moves ``image/compressed`` with it, as image_transport does; one of
    ``image/compressed`` itself goes before it.
    """
    raw = node.resolve_topic_name("image")
    if not compressed:
        return raw
    own = node.resolve_topic_name("image/compressed")
    unmapped = node.resolve_topic_name("image/compressed", only_expand=True)
    return own if own != unmapped else f"{raw}/compressed"
