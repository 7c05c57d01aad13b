"""The node's result topics: who listens, and one frame's result to all who do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.visualization.overlay import draw_overlay
from rt_panoptic_ros import messages
from rt_panoptic_ros.cloud_messages import to_markers, to_point_cloud
from rt_panoptic_ros.labelled_cloud import Pinhole, instance_boxes, labelled_cloud
from rt_panoptic_ros.msg import PanopticInstanceArray
from rt_panoptic_ros.qos import (
    OVERRIDABLE,
    EndpointReport,
    check_overrides,
    latched_profile,
    output_profile,
    unfit_subscribers,
)
from rt_panoptic_ros.releases import TELLS_MATCHES, UnsupportedEventTypeError, publisher_events

POINT_TOPICS = frozenset(("points", "markers"))
"""Topics that need depth."""

TOPICS_WITHOUT_IDS = frozenset(("semantic", "confidence"))
"""Topics that are the same whatever the instances are called."""


@dataclass
class _Output:
    publisher: Any
    subscribers: int = 0
    counted: bool = True
    """Whether matched events keep ``subscribers``; else it is read when it is needed."""


@dataclass
class _Buffers:
    """One message buffer for each image topic."""

    by_topic: dict[str, messages.ImageWriter] = field(default_factory=dict)

    def __getitem__(self, topic: str) -> messages.ImageWriter:
        return self.by_topic.setdefault(topic, messages.ImageWriter())


class Outputs:
    """Publishers of the results: made on the executor's thread, used on the inference thread."""

    def __init__(
        self,
        node: LifecycleNode,
        taxonomy: Taxonomy,
        values: Mapping[str, Any],
        warn: Callable[[str], object],
    ) -> None:
        """Create the publishers that ``values`` ask for.

        Args:
            node: owner of the publishers.
            taxonomy: of the results.
            values: parameters by name.
            warn: told of subscribers that cannot be served.

        Raises:
            ConfigError: a ``qos_overrides`` parameter of one of the topics is refused.
        """
        self._node = node
        self._taxonomy = taxonomy
        self._warn = warn
        self._buffers = _Buffers()
        self._outputs: dict[str, _Output] = {}
        self._reports: list[EndpointReport] = []
        kinds = _kinds(values)
        # All of them before the first publisher, which nobody would destroy.
        for topic in published_topics(node, values):
            check_overrides(node, topic, "publisher")
        self._label_info = None
        if messages.HAVE_VISION_MSGS:
            self._label_info = node.create_lifecycle_publisher(
                messages.LabelInfo, "~/label_info", latched_profile()
            )
        for topic, kind in kinds.items():
            self._outputs[topic] = self._create(topic, kind)

    def _create(self, topic: str, kind: Any) -> _Output:
        profile = output_profile()
        name = self._node.resolve_topic_name(f"~/{topic}")

        def matched(event: Any) -> None:
            output.subscribers = event.current_count

        def unfit() -> list[str]:
            found = unfit_subscribers(self._node, name, profile)
            return [f"{name}: subscriber {who} gets nothing: {why}" for who, why in found]

        report = EndpointReport(self._node, unfit, self._warn)
        self._reports.append(report)

        def incompatible(_event: Any) -> None:
            report.look()

        def create(events: Any) -> Any:
            return self._node.create_lifecycle_publisher(
                kind,
                f"~/{topic}",
                profile,
                event_callbacks=events,
                qos_overriding_options=OVERRIDABLE,
            )

        try:
            events = publisher_events(matched=matched, incompatible_qos=incompatible)
            output = _Output(create(events), counted=TELLS_MATCHES)
            output.subscribers = output.publisher.get_subscription_count()
        except UnsupportedEventTypeError:  # this middleware tells no matches
            output = _Output(create(publisher_events()), counted=False)
        return output

    def wanted(self) -> frozenset[str]:
        """Topics (without ``~/``) that somebody listens to."""
        return frozenset(
            topic
            for topic, output in self._outputs.items()
            if (output.subscribers if output.counted else output.publisher.get_subscription_count())
        )

    def publish_label_info(self, header: Header, threshold: float) -> None:
        """Names of the classes, kept for later subscribers."""
        if self._label_info is not None:
            self._label_info.publish(messages.to_label_info(header, self._taxonomy, threshold))

    def publish_classes(
        self, wanted: frozenset[str], header: Header, result: PanopticResult
    ) -> None:
        """Publish of ``result`` what is in both ``wanted`` and :data:`TOPICS_WITHOUT_IDS`."""
        outputs, buffers = self._outputs, self._buffers
        if "semantic" in wanted:
            outputs["semantic"].publisher.publish(
                buffers["semantic"].write(header, result.semantic)
            )
        if "confidence" in wanted and result.confidence is not None:
            outputs["confidence"].publisher.publish(
                buffers["confidence"].write(header, result.confidence)
            )

    def publish_instances(
        self,
        wanted: frozenset[str],
        header: Header,
        image: npt.NDArray[np.uint8],
        result: PanopticResult,
        values: Mapping[str, Any],
        fps: float | None,
    ) -> None:
        """Publish ``result`` on the other topics of ``wanted``, those that machines use first."""
        outputs, buffers = self._outputs, self._buffers
        if "instances" in wanted:
            outputs["instances"].publisher.publish(
                messages.to_instances(header, result, self._taxonomy)
            )
        if "instance" in wanted:
            outputs["instance"].publisher.publish(
                buffers["instance"].write(header, result.instance)
            )
        if "detections" in wanted:
            outputs["detections"].publisher.publish(
                messages.to_detections(header, result, self._taxonomy)
            )
        if "panoptic" in wanted:
            packed = messages.packed_panoptic(result)
            outputs["panoptic"].publisher.publish(buffers["panoptic"].write(header, packed))
        if not wanted.isdisjoint(("overlay", "overlay/compressed")):
            self._publish_overlay(wanted, header, image, result, values, fps)

    def _publish_overlay(
        self,
        wanted: frozenset[str],
        header: Header,
        image: npt.NDArray[np.uint8],
        result: PanopticResult,
        values: Mapping[str, Any],
        fps: float | None,
    ) -> None:
        picture = draw_overlay(
            image,
            result,
            self._taxonomy,
            opacity=values["overlay.opacity"],
            names=values["overlay.names"],
            legend=values["overlay.legend"],
            fps=fps if values["overlay.fps"] else None,
            show_ids=values["overlay.ids"] and values["tracking.enabled"],
        )
        if "overlay" in wanted:
            self._outputs["overlay"].publisher.publish(
                self._buffers["overlay"].write(header, picture)
            )
        if "overlay/compressed" in wanted:
            self._outputs["overlay/compressed"].publisher.publish(
                messages.to_jpeg(header, picture, values["overlay.jpeg_quality"])
            )

    def publish_points(
        self,
        wanted: frozenset[str],
        header: Header,
        depth: npt.NDArray[np.float32],
        image: npt.NDArray[np.uint8],
        result: PanopticResult,
        camera: Pinhole,
        values: Mapping[str, Any],
    ) -> None:
        """Publish the labelled cloud and the markers on those of the two that are in ``wanted``.

        Raises:
            ImageError: depth and image differ in size.
        """
        cloud = labelled_cloud(
            depth,
            image,
            result,
            camera,
            min_range=values["points.min_range"],
            max_range=values["points.max_range"],
            stride=values["points.stride"],
            organized=values["points.organized"],
        )
        if "points" in wanted:
            self._outputs["points"].publisher.publish(to_point_cloud(header, cloud))
        if "markers" in wanted:
            boxes = instance_boxes(cloud, result)
            markers = to_markers(header, boxes, self._taxonomy, show_ids=values["tracking.enabled"])
            self._outputs["markers"].publisher.publish(markers)

    def destroy(self) -> None:
        """Take the topics away."""
        for report in self._reports:
            report.stop()
        for output in self._outputs.values():
            self._node.destroy_lifecycle_publisher(output.publisher)
        if self._label_info is not None:
            self._node.destroy_lifecycle_publisher(self._label_info)
        self._outputs.clear()
        self._label_info = None


def published_topics(node: LifecycleNode, values: Mapping[str, Any]) -> list[str]:
    """Full names of the results that ``values`` ask for; without ``~/label_info``, whose QoS is fixed."""
    return [node.resolve_topic_name(f"~/{topic}") for topic in _kinds(values)]


def _kinds(values: Mapping[str, Any]) -> dict[str, Any]:
    """Message types by topic (without ``~/``) of what ``values`` ask for."""
    kinds: dict[str, Any] = {
        "semantic": Image,
        "instance": Image,
        "instances": PanopticInstanceArray,
        "overlay": Image,
        "overlay/compressed": CompressedImage,
    }
    if values["publish.panoptic"]:
        kinds["panoptic"] = Image
    if values["publish.confidence"]:
        kinds["confidence"] = Image
    if values["depth.enabled"]:
        kinds |= {"points": PointCloud2, "markers": MarkerArray}
    if messages.HAVE_VISION_MSGS:
        kinds["detections"] = messages.Detection2DArray
    return kinds
