"""What differs between the ROS 2 releases that the package runs on, Humble to Rolling."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

try:
    from rclpy.event_handler import (
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )
except ImportError:  # Humble has them elsewhere, and fewer events
    from rclpy.qos_event import (
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )

__all__ = [
    "TELLS_MATCHES",
    "UnsupportedEventTypeError",
    "keep_to_this_machine",
    "on_parameters_set",
    "publisher_events",
    "subscription_events",
]

TELLS_MATCHES = "matched" in inspect.signature(PublisherEventCallbacks).parameters
"""Publishers are told of each subscriber that comes and goes."""


def publisher_events(**callbacks: Callable[[Any], None]) -> PublisherEventCallbacks:
    """``callbacks`` by event; those of events that this release does not have are left out."""
    return PublisherEventCallbacks(**_known(PublisherEventCallbacks, callbacks))


def subscription_events(**callbacks: Callable[[Any], None]) -> SubscriptionEventCallbacks:
    """``callbacks`` by event; those of events that this release does not have are left out."""
    return SubscriptionEventCallbacks(**_known(SubscriptionEventCallbacks, callbacks))


def on_parameters_set(
    node: Node,
    check: Callable[[list[Parameter]], Any],
    take: Callable[[list[Parameter]], None],
) -> None:
    """Have ``check`` asked whether changes of parameters are accepted, and ``take`` told of those that are.

    ``check`` returns a ``SetParametersResult``.
    """
    if hasattr(node, "add_post_set_parameters_callback"):
        node.add_on_set_parameters_callback(check)
        node.add_post_set_parameters_callback(take)
        return

    # Humble: the check is the last word, for there is no other callback that could refuse.
    def check_and_take(changes: list[Parameter]) -> Any:
        result = check(changes)
        if result.successful:
            take(changes)
        return result

    node.add_on_set_parameters_callback(check_and_take)


def keep_to_this_machine(domain: int) -> None:
    """Let this process and its children meet neither a robot's nodes nor another domain's."""
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if os.environ.get("ROS_DISTRO") == "humble":  # does not know the range yet
        os.environ["ROS_LOCALHOST_ONLY"] = "1"


def _known(
    kind: Callable[..., Any], callbacks: dict[str, Callable[[Any], None]]
) -> dict[str, Callable[[Any], None]]:
    events = inspect.signature(kind).parameters
    return {event: callback for event, callback in callbacks.items() if event in events}
