"""QoS of the node's topics, and words for publishers and subscribers that do not fit them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence

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
from rclpy.timer import Timer
from rclpy.topic_endpoint_info import TopicEndpointInfo

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_ros.steady_timer import create_steady_timer

_UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
"""What the middleware calls the node of an endpoint whose participant it has not heard of yet."""

_UNNAMED = "a node without a known name"

_NAME_TRIES = 25
_NAME_INTERVAL = 0.2

OVERRIDABLE = QoSOverridingOptions.with_default_policies()
"""history, depth and reliability can be set with ``qos_overrides`` parameters."""

_OVERRIDABLE_POLICIES = tuple(kind.name.lower() for kind in OVERRIDABLE.policy_kinds)

_POLICIES = {"history": HistoryPolicy, "reliability": ReliabilityPolicy}


def input_profile(name: str) -> QoSProfile:
    """Profile of parameter ``input.qos``: ``sensor_data`` or ``reliable``.

    The queue is short: the executor empties it into the slot at once, and each place in it keeps a buffer
    of an image's size for good.
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=2,
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


def check_overrides(node: Node, topic: str, entity: str) -> None:
    """Accept the ``qos_overrides`` that ``node`` was given for ``topic``, if their values are allowed.

    rclpy refuses them as well, but names neither the parameter nor the values that it takes.

    Args:
        node: owner of the parameters.
        topic: full name, after remapping.
        entity: ``publisher`` or ``subscription``.

    Raises:
        ConfigError: a value is not allowed; the parameter and the allowed values are named.
    """
    for policy in _OVERRIDABLE_POLICIES:
        name = f"qos_overrides.{topic}.{entity}.{policy}"
        given = node._parameter_overrides.get(name)
        if given is None:
            continue
        value = given.value
        if policy in _POLICIES:
            names = [choice.lower() for choice in _POLICIES[policy].__members__]
            names.remove("unknown")
            allowed = f"one of {', '.join(names)}"
            fits = isinstance(value, str) and value.lower() in names
        else:
            allowed = "a whole number from 0 on"
            fits = type(value) is int and value >= 0
        if not fits:
            raise ConfigError(
                f"parameter {name}: {value!r}; it must be {allowed}. Correct it and start the node anew"
            )


def unused_overrides(
    names: Iterable[str], subscriptions: Iterable[str], publishers: Iterable[str]
) -> list[str]:
    """A sentence for each topic, entity or policy that ``qos_overrides`` name in vain, with what there is.

    Args:
        names: of the parameters that were given; those of other groups are passed over.
        subscriptions: full names of the topics whose subscriptions can be overridden.
        publishers: the same of publishers.
    """
    known = [f"{topic}.subscription" for topic in subscriptions]
    known += [f"{topic}.publisher" for topic in publishers]
    sentences: dict[str, None] = {}
    for name in names:
        group, _, rest = name.partition(".")
        if group != "qos_overrides":
            continue
        entity, _, policy = rest.rpartition(".")
        if entity not in known:
            what = f"qos_overrides.{entity} is of no topic whose QoS can be overridden"
            sentences[f"{what}; {_choice(entity, known)}"] = None
        elif policy not in _OVERRIDABLE_POLICIES:
            what = f"{name} is no policy that can be overridden"
            sentences[f"{what}; {_choice(policy, _OVERRIDABLE_POLICIES)}"] = None
    return list(sentences)


def _choice(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1, cutoff=0.8)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def unfit_publishers(
    node: Node, topic: str, profile: QoSProfile, type_name: str
) -> list[tuple[str, str]]:
    """Publishers on ``topic`` that a subscription of ``profile`` gets nothing from: (full node name, why)."""
    found = []
    for info in node.get_publishers_info_by_topic(topic):
        if info.topic_type != type_name:
            found.append((node_name(info), f"it publishes {info.topic_type}, not {type_name}"))
            continue
        fit, reason = qos_check_compatible(_negotiated(info.qos_profile), _negotiated(profile))
        if fit == QoSCompatibility.ERROR:
            found.append((node_name(info), reason.removeprefix("ERROR: ").strip("; ")))
    return found


def unfit_subscribers(node: Node, topic: str, profile: QoSProfile) -> list[tuple[str, str]]:
    """Subscribers of ``topic`` that get nothing from a publisher of ``profile``: (full node name, why)."""
    found = []
    for info in node.get_subscriptions_info_by_topic(topic):
        fit, reason = qos_check_compatible(_negotiated(profile), _negotiated(info.qos_profile))
        if fit == QoSCompatibility.ERROR:
            found.append((node_name(info), reason.removeprefix("ERROR: ").strip("; ")))
    return found


class EndpointReport:
    """Warns of endpoints that do not fit, once their nodes' names are known.

    An endpoint is discovered a moment before the name of its node: a report made at once would call it
    unknown.
    """

    def __init__(
        self, node: Node, find: Callable[[], list[str]], warn: Callable[[str], object]
    ) -> None:
        """Report what ``find`` finds on ``node`` to ``warn``, each sentence once."""
        self._node = node
        self._find = find
        self._warn = warn
        self._said: set[str] = set()
        self._timer: Timer | None = None
        self._tries = 0

    def look(self) -> None:
        """Report now what can be named, and soon what cannot yet; on the executor's thread."""
        sentences = self._find()
        self._tries += 1
        if any(_UNNAMED in sentence for sentence in sentences) and self._tries < _NAME_TRIES:
            if self._timer is None:
                self._timer = create_steady_timer(self._node, _NAME_INTERVAL, self.look)
            return
        self.stop()
        for sentence in sentences:
            if sentence not in self._said:
                self._said.add(sentence)
                self._warn(sentence)

    def stop(self) -> None:
        """Look no more."""
        self._tries = 0
        timer, self._timer = self._timer, None
        if timer is not None:
            self._node.destroy_timer(timer)


def _negotiated(profile: QoSProfile) -> QoSProfile:
    """What publishers and subscribers here can disagree on.

    Discovery gives the infinite durations of the rest as numbers, which the check takes for demands.
    """
    return QoSProfile(depth=1, reliability=profile.reliability, durability=profile.durability)


def node_name(info: TopicEndpointInfo) -> str:
    """Full name of the node that an endpoint is of, or words for one whose name is not known yet."""
    if info.node_name == _UNKNOWN_NODE:
        return _UNNAMED
    namespace = info.node_namespace.rstrip("/")
    return f"{namespace}/{info.node_name}"
