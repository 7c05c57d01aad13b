"""QoS of the node's topics, and words for publishers and subscribers that do not fit them."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo

OVERRIDABLE = QoSOverridingOptions.with_default_policies()
"""history, depth and reliability can be set with ``qos_overrides`` parameters."""


def input_profile(name: str) -> QoSProfile:
    """Profile of parameter ``input.qos``: ``sensor_data`` or ``reliable``."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=5,
        reliability=(
            ReliabilityPolicy.RELIABLE if name == "reliable" else ReliabilityPolicy.BEST_EFFORT
        ),
    )


def output_profile() -> QoSProfile:
    """Profile of the results: reliable, which every subscriber fits, and only the newest is kept."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE
    )


def latched_profile() -> QoSProfile:
    """Profile of what later subscribers get as well."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def unfit_publishers(
    node: Node, topic: str, profile: QoSProfile, type_name: str
) -> list[tuple[str, str]]:
    """Publishers on ``topic`` that a subscription of ``profile`` gets nothing from: (full node name, why)."""
    found = []
    for info in node.get_publishers_info_by_topic(topic):
        if info.topic_type != type_name:
            found.append((_node_name(info), f"it publishes {info.topic_type}, not {type_name}"))
            continue
        fit, reason = qos_check_compatible(info.qos_profile, profile)
        if fit == QoSCompatibility.ERROR:
            found.append((_node_name(info), reason.removeprefix("ERROR: ").strip("; ")))
    return found


def unfit_subscribers(node: Node, topic: str, profile: QoSProfile) -> list[tuple[str, str]]:
    """Subscribers of ``topic`` that get nothing from a publisher of ``profile``: (full node name, why)."""
    found = []
    for info in node.get_subscriptions_info_by_topic(topic):
        fit, reason = qos_check_compatible(profile, info.qos_profile)
        if fit == QoSCompatibility.ERROR:
            found.append((_node_name(info), reason.removeprefix("ERROR: ").strip("; ")))
    return found


def _node_name(info: TopicEndpointInfo) -> str:
    namespace = info.node_namespace.rstrip("/")
    return f"{namespace}/{info.node_name}"
