"""What a panoptic node says of the publishers that it has found, for a publisher that waits to be one."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from rt_panoptic_ros.diagnostics import statuses_of


class SeenPublishers:
    """Listens to a node's /diagnostics.

    A publisher finds a subscription before the subscription finds it: what is published in between is lost.

    Attributes:
        count: publishers of the topic that the node knew of when it last said so; None before.
    """

    def __init__(self, node: Node, name: str, topic: str) -> None:
        """Listen on ``node`` to what the node of the full name ``name`` says of its image topic ``topic``."""
        self._name = name
        self._topic = node.resolve_topic_name(topic)
        self.count: int | None = None
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        status = statuses_of(message, self._name).get("input")
        values = {pair.key: pair.value for pair in status.values} if status is not None else {}
        if values.get("topic") == self._topic:
            self.count = int(values["publishers"])
