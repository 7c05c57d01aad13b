"""The annotated bag: what the model said, beside what was recorded, for RViz and Foxglove."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.bags.chunks import RawChunk
from rt_panoptic_core.bags.frames import Frame
from rt_panoptic_core.bags.messages import (
    COMPRESSED_IMAGE,
    IMAGE,
    INSTANCES,
    LABEL_INFO,
    Message,
    compressed_message,
    deserialize,
    header,
    image_message,
    instances_message,
    label_info_message,
    read_plane,
    read_result,
    stamp_ns,
)
from rt_panoptic_core.bags.node_topics import recorded_results
from rt_panoptic_core.bags.reader import BagMessage, BagReader
from rt_panoptic_core.bags.writer import BagWriter, qos
from rt_panoptic_core.errors import BagError, ImageError
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.taxonomy import Taxonomy

PREFIX = "/rt_panoptic"
"""Namespace of the results: the node's, so that its RViz and Foxglove layouts fit the bag."""

_OVERLAY_QUALITY = 85


class ResultTopics(NamedTuple):
    """Names of the topics that hold the results for one image topic."""

    semantic: str
    instance: str
    instances: str
    overlay: str
    label_info: str

    @classmethod
    def below(cls, namespace: str) -> ResultTopics:
        """Those in ``namespace``."""
        return cls(
            f"{namespace}/semantic",
            f"{namespace}/instance",
            f"{namespace}/instances",
            f"{namespace}/overlay/compressed",
            f"{namespace}/label_info",
        )


def result_topics(image_topics: list[str], prefix: str = PREFIX) -> dict[str, ResultTopics]:
    """Result topics by image topic: below ``prefix``; of several, each below its own name there."""
    if len(image_topics) == 1:
        return {image_topics[0]: ResultTopics.below(prefix)}
    return {topic: ResultTopics.below(f"{prefix}/{topic.strip('/')}") for topic in image_topics}


class AnnotatedBag:
    """Writes recorded messages and results, in the order in which they are given.

    Attributes:
        takes_chunks: the recording's chunks can be passed on as they are, instead of its messages.
    """

    def __init__(
        self,
        path: Path,
        source: BagReader,
        topics: Mapping[str, ResultTopics],
        taxonomy: Taxonomy,
        *,
        score_threshold: float = 0.0,
        compression: str = "chunk",
        whole: bool = False,
    ) -> None:
        """Make the bag at ``path``; it has a partial name until :meth:`close`.

        Args:
            path: of the bag's folder; one that is there is replaced on closing.
            source: the recording.
            topics: result topics by image topic.
            taxonomy: the model's.
            score_threshold: of label_info.
            compression: see :class:`BagWriter`.
            whole: everything recorded goes into the bag.

        Raises:
            BagError: it cannot be made.
        """
        self._source = source
        self._topics = topics
        self._taxonomy = taxonomy
        self._threshold = score_threshold
        # Recorded results would be taken for the new ones, whatever the node was called.
        self._replaced = {name for names in topics.values() for name in names}
        self._replaced |= set(recorded_results(source)) - set(topics)
        self._types = {(t.name, t.message_type): t for t in source.all_topics}
        self._started: set[str] = set()
        self._bag = BagWriter(path, compression=compression, overwrite=True)
        recorded = {topic.name for topic in source.all_topics}
        self.takes_chunks = (
            whole
            and source.chunked is not None
            and recorded.isdisjoint(self._replaced)
            and self._bag.adopt(source.chunked, source.all_topics)
        )

    def pass_on(self, chunk: RawChunk) -> None:
        """Write a chunk of the recording as it is.

        Raises:
            BagError: the disk is full or failed.
        """
        self._bag.pass_on(chunk)

    def copy(self, message: BagMessage) -> None:
        """Write a recorded message as it is, but for results and for one in a chunk passed on.

        Raises:
            BagError: the disk is full or failed.
        """
        if message.in_chunk or message.topic in self._replaced:
            return
        like = self._types.get((message.topic, message.message_type))
        self._bag.add_topic(message.topic, message.message_type, like=like)
        self._bag.write_bytes(message.topic, message.message_type, message.time, message.data)

    def write(
        self,
        frame: Frame,
        result: PanopticResult,
        overlay: npt.NDArray[np.uint8] | None,
    ) -> None:
        """Write the result for ``frame``, with its stamp, frame_id and log time.

        Raises:
            BagError: the disk is full or failed.
        """
        topics = self._topics[frame.topic]
        head = header(frame.stamp, frame.frame_id)
        time = frame.message.time
        if frame.topic not in self._started:
            self._started.add(frame.topic)
            self._announce(topics, head, time, overlay is not None)
        self._bag.write(topics.semantic, time, image_message(result.semantic, head))
        self._bag.write(topics.instance, time, image_message(result.instance, head))
        if overlay is not None:
            picture = compressed_message(overlay, head, quality=_OVERLAY_QUALITY)
            self._bag.write(topics.overlay, time, picture)
        # The last of a frame's messages: where it is there, the others are.
        self._bag.write(topics.instances, time, instances_message(result, self._taxonomy, head))

    def close(self, *, complete: bool = True) -> Path:
        """Finish the bag; the path it has then. Not ``complete``: it keeps its partial name.

        Raises:
            BagError: the index cannot be written.
        """
        return self._bag.close(complete=complete)

    def _announce(self, topics: ResultTopics, head: Message, time: int, overlay: bool) -> None:
        self._bag.add_topic(topics.label_info, LABEL_INFO, offered=qos(latched=True, depth=1))
        self._bag.add_topic(topics.semantic, IMAGE)
        self._bag.add_topic(topics.instance, IMAGE)
        if overlay:
            self._bag.add_topic(topics.overlay, COMPRESSED_IMAGE)
        self._bag.add_topic(topics.instances, INSTANCES)
        info = label_info_message(self._taxonomy, head, threshold=self._threshold)
        self._bag.write(topics.label_info, time, info)


class RecordedResults:
    """Results read back from an annotated bag, whole or partial, in the order of their frames."""

    def __init__(self, path: Path, topics: Mapping[str, ResultTopics], taxonomy: Taxonomy) -> None:
        """Open the bag.

        Raises:
            BagError: nothing in it can be read.
        """
        self._reader = BagReader(path)
        self._taxonomy = taxonomy
        self._streams = {
            topic: self._results(names)
            for topic, names in topics.items()
            if names.instances in self._reader.topics
        }
        self._next = {topic: next(stream, None) for topic, stream in self._streams.items()}

    def take(self, frame: Frame) -> PanopticResult | None:
        """The result for ``frame``, or None where the bag has none; frames come in recorded order."""
        upcoming = self._next.get(frame.topic)
        if upcoming is None or upcoming[:2] != (frame.message.time, frame.stamp):
            return None
        self._next[frame.topic] = next(self._streams[frame.topic], None)
        return upcoming[2]

    def close(self) -> None:
        """Close the bag."""
        self._streams.clear()
        self._reader.close()

    def _results(self, topics: ResultTopics) -> Iterator[tuple[int, int, PanopticResult]]:
        parts: dict[str, Message] = {}
        names = (topics.semantic, topics.instance, topics.instances)
        for message in self._reader.messages(names):
            try:
                parts[message.topic] = deserialize(message.data, message.message_type)
            except BagError:
                parts.clear()
                continue
            stamps = {stamp_ns(part.header) for part in parts.values()}
            if message.topic != topics.instances:
                continue
            if len(parts) == len(names) and len(stamps) == 1:
                try:
                    yield message.time, stamps.pop(), self._result(parts, topics)
                except ImageError:
                    # Damaged: this frame is computed again, and so are those behind it.
                    return
            parts.clear()

    def _result(self, parts: Mapping[str, Message], topics: ResultTopics) -> PanopticResult:
        semantic = read_plane(parts[topics.semantic])
        instance = read_plane(parts[topics.instance])
        if semantic.dtype != np.uint8 or instance.dtype != np.uint16:
            raise ImageError(f"labels of dtype {semantic.dtype} and {instance.dtype}")
        return read_result(
            semantic.astype(np.uint8, copy=False),
            instance.astype(np.uint16, copy=False),
            parts[topics.instances],
            self._taxonomy,
        )


def numbered_by_score(result: PanopticResult) -> PanopticResult:
    """``result`` with instance ids 1, 2, … by falling score: what it was before it was tracked."""
    numbers = {segment.id: place for place, segment in enumerate(result.instances, start=1)}
    table = np.zeros(65536, dtype=np.uint16)
    table[list(numbers)] = list(numbers.values())
    segments = [
        replace(segment, id=numbers[segment.id]) if segment.is_thing else segment
        for segment in result.segments
    ]
    return replace(result, instance=table[result.instance], segments=segments)


def as_recorded(result: PanopticResult, taxonomy: Taxonomy) -> PanopticResult:
    """``result`` as it reads back from a bag: boxes around the visible pixels, no confidence.

    What is drawn and measured goes through this, so that a resumed run gives the bytes of one that was
    not interrupted.
    """
    message = instances_message(result, taxonomy, header(0, ""))
    return read_result(result.semantic, result.instance, message, taxonomy)


def count_results(path: Path, topics: Mapping[str, ResultTopics]) -> int:
    """Number of frames whose results can be read from an annotated bag; 0 where there is none."""
    try:
        with BagReader(path) as reader:
            counts = [
                reader.topics[names.instances].count
                for names in topics.values()
                if names.instances in reader.topics
            ]
    except BagError:
        return 0
    return sum(counts)
