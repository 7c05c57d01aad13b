"""A first look at a bag's image topics: the pace, and the size of the pictures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from statistics import median

from rt_panoptic_core.bags.frames import decode_frame
from rt_panoptic_core.bags.messages import IMAGE_TYPES
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.errors import BagError

_LOOKED_AT = 32


@dataclass
class TopicSurvey:
    """What the first messages of an image topic tell.

    Attributes:
        topic: its name.
        size: (height, width) of the first picture that decodes.
        fps: frames per second by the stamps, 10 where they tell nothing.
        error: why a message does not decode, of the last such.
    """

    topic: str
    size: tuple[int, int] | None = None
    fps: float = 10.0
    error: str = ""
    stamps: list[int] = field(default_factory=list, repr=False)


def survey(reader: BagReader, topics: Collection[str]) -> list[TopicSurvey]:
    """Surveys of ``topics``, in their order.

    Raises:
        BagError: a topic has no picture that decodes among its first ones.
    """
    found = {topic: TopicSurvey(topic) for topic in topics}
    open_topics = set(topics)
    for message in reader.messages(topics):
        look = found[message.topic]
        # A name may be that of messages of other types, too.
        if message.topic not in open_topics or message.message_type not in IMAGE_TYPES:
            continue
        # Whole pictures are decoded until there is one; of the others the stamp is enough.
        frame = decode_frame(message, len(look.stamps), pixels=look.size is None)
        look.stamps.append(frame.stamp)
        if frame.image is not None:
            look.size = (frame.image.shape[0], frame.image.shape[1])
        look.error = frame.error or look.error
        if len(look.stamps) >= _LOOKED_AT:
            open_topics.discard(message.topic)
            if not open_topics:
                break
    for look in found.values():
        if look.size is None:
            reason = look.error or (
                "its messages are damaged"
                if reader.topics[look.topic].count
                else "it has no messages"
            )
            raise BagError(f"{reader.path}: no picture of {look.topic} can be read: {reason}")
        steps = [b - a for a, b in zip(look.stamps, look.stamps[1:], strict=False) if b > a]
        if steps:
            look.fps = min(max(1e9 / median(steps), 0.1), 240.0)
    return list(found.values())
