"""Imported first, hides from a node what rclpy learnt after Humble: newer events, the word after a change."""

from __future__ import annotations

import sys
import types

import rclpy.lifecycle  # noqa: F401 - imports all that needs the newer module, before it is hidden
from rclpy import event_handler
from rclpy.node import Node


class PublisherEventCallbacks(event_handler.PublisherEventCallbacks):
    def __init__(
        self, *, deadline=None, liveliness=None, incompatible_qos=None, use_default_callbacks=True
    ):
        super().__init__(
            deadline=deadline,
            liveliness=liveliness,
            incompatible_qos=incompatible_qos,
            use_default_callbacks=use_default_callbacks,
        )


class SubscriptionEventCallbacks(event_handler.SubscriptionEventCallbacks):
    def __init__(
        self,
        *,
        deadline=None,
        incompatible_qos=None,
        liveliness=None,
        message_lost=None,
        use_default_callbacks=True,
    ):
        super().__init__(
            deadline=deadline,
            incompatible_qos=incompatible_qos,
            liveliness=liveliness,
            message_lost=message_lost,
            use_default_callbacks=use_default_callbacks,
        )


older = types.ModuleType("rclpy.qos_event")
older.PublisherEventCallbacks = PublisherEventCallbacks
older.SubscriptionEventCallbacks = SubscriptionEventCallbacks
older.UnsupportedEventTypeError = event_handler.UnsupportedEventTypeError
sys.modules["rclpy.qos_event"] = older
sys.modules["rclpy.event_handler"] = None
del Node.add_post_set_parameters_callback
