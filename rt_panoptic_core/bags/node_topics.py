"""The topics of the node's results, and which of a recording's topics are such."""

from __future__ import annotations

from rt_panoptic_core.bags.messages import INSTANCES
from rt_panoptic_core.bags.reader import BagReader

# A test holds them to what the node publishes, which this package cannot import.
RESULT_TOPICS = (
    "semantic",
    "instance",
    "instances",
    "panoptic",
    "confidence",
    "overlay",
    "overlay/compressed",
    "detections",
    "points",
    "markers",
    "label_info",
)
"""Topics of the node's results, below its name."""


def recorded_results(reader: BagReader) -> list[str]:
    """Topics of the results in a bag that was recorded with the node running, or annotated.

    They are those beside a topic ``instances`` of the node's own message type, be it without messages.
    """
    nodes = {
        topic.name.removesuffix("/instances")
        for topic in reader.all_topics
        if topic.message_type == INSTANCES and topic.name.endswith("/instances")
    }
    results = {f"{node}/{name}" for node in nodes for name in RESULT_TOPICS}
    return [name for name in reader.topics if name in results]
