"""The pictures of a bag, decoded ahead of their use, among the messages between them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.bags.chunks import RawChunk
from rt_panoptic_core.bags.messages import (
    COMPRESSED_IMAGE,
    IMAGE,
    IMAGE_TYPES,
    deserialize,
    read_picture,
    stamp_ns,
)
from rt_panoptic_core.bags.node_topics import recorded_results
from rt_panoptic_core.bags.reader import BagMessage, BagReader, Topic
from rt_panoptic_core.errors import BagError, ImageError
from rt_panoptic_core.image_codec import COMPRESSED_SIGNATURES
from rt_panoptic_core.pipeline import Ahead, give_way

GROUND_TRUTH = "ground_truth"
"""A topic below a namespace of this name is no camera's."""

_DECODERS = max(1, min(4, (os.cpu_count() or 1) - 1))
_FRAMES_AHEAD = 4
_CAMERAS = ("colour", "grey", "thermal", "foreign")
_MESSAGES_AHEAD = 64


@dataclass(frozen=True)
class Frame:
    """A picture of a bag.

    Attributes:
        message: as it was recorded.
        number: which of its topic's messages it is, from 0, by log time.
        stamp: of its header, nanoseconds; the log time where the message cannot be read.
        frame_id: of its header.
        encoding: of the message, or the compressed format.
        image: uint8 [H, W, 3] RGB, or None where the message cannot be decoded.
        error: why not.
    """

    message: BagMessage
    number: int
    stamp: int
    frame_id: str = ""
    encoding: str = ""
    image: npt.NDArray[np.uint8] | None = None
    error: str = ""

    @property
    def topic(self) -> str:
        """The topic it was recorded from."""
        return self.message.topic


def decode_frame(message: BagMessage, number: int, *, pixels: bool = True) -> Frame:
    """The picture of an Image or CompressedImage; one that cannot be decoded has an ``error``.

    Without ``pixels`` only the header is read.
    """
    try:
        content = deserialize(message.data, message.message_type)
    except BagError as error:
        return Frame(message, number, message.time, error=str(error))
    compressed = message.message_type == COMPRESSED_IMAGE
    known = {
        "stamp": stamp_ns(content.header),
        "frame_id": content.header.frame_id,
        "encoding": content.format if compressed else content.encoding,
    }
    if not pixels:
        return Frame(message, number, **known)
    try:
        # Not every engine takes what is read-only, as messages are that nothing had to decompress.
        image = np.require(read_picture(content), requirements=("C", "W"))
        return Frame(message, number, image=image, **known)
    except ImageError as error:
        return Frame(message, number, error=str(error), **known)


def read_frames(
    reader: BagReader,
    topics: Collection[str],
    others: Collection[str] | None = (),
    *,
    chunks: bool = False,
    spent: dict[str, float] | None = None,
) -> Generator[Frame | BagMessage | RawChunk]:
    """The pictures of ``topics`` and the messages of ``others`` (None: of every other topic), by log time.

    With ``chunks``, for bags that give them (:attr:`BagReader.chunked`), the recorded chunks stand for the
    messages of all others. Reading and decoding run in threads of their own, a few frames ahead, and give way
    to the inference; their processor time is added to ``spent``, seconds.
    """
    wanted = None if others is None else {*topics, *others}
    with ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode", initializer=give_way) as pool:

        def decoded(message: BagMessage, number: int) -> Frame:
            started = time.thread_time()
            frame = decode_frame(message, number)
            if spent is not None:
                with lock:
                    spent["decoding"] += time.thread_time() - started
            return frame

        def submitted() -> Iterator[Future[Frame] | BagMessage | RawChunk]:
            numbers = dict.fromkeys(topics, -1)
            for message in reader.chunks(topics) if chunks else reader.messages(wanted):
                if isinstance(message, RawChunk):
                    yield message
                    continue
                if message.topic not in numbers or message.message_type not in IMAGE_TYPES:
                    yield message
                    continue
                numbers[message.topic] += 1
                permits.acquire()
                yield pool.submit(decoded, message, numbers[message.topic])

        lock = threading.Lock()
        # Pictures are large: a few of them wait, however many small messages lie between.
        permits = threading.Semaphore(_FRAMES_AHEAD)
        ahead = Ahead(submitted(), _MESSAGES_AHEAD, gives_way=True)
        try:
            for item in ahead:
                if isinstance(item, Future):
                    yield item.result()
                    permits.release()
                else:
                    yield item
        finally:
            # The reading thread may wait for a permit, and must run into its stop.
            permits.release(_MESSAGES_AHEAD + _FRAMES_AHEAD)
            ahead.close()
            if spent is not None:
                spent["reading"] = ahead.processor


def find_image_topics(
    reader: BagReader,
    names: Collection[str] = (),
    *,
    option: str = "--image-topic (more than one is fine)",
    note: Callable[[str], object] = lambda _: None,
) -> list[Topic]:
    """The topics called ``names``; without names the only one that is a camera's.

    A camera's is an image topic whose first message has colours, else one in grey, else one of mono16
    (thermal), else one that is compressed in a way that is not decoded here; labels, depth, recorded results
    of the node and the compressed twin of a raw topic are not counted.

    Args:
        reader: the bag.
        names: topics to take, whatever they are of.
        option: what the caller's user chooses a topic with, for the errors.
        note: told where the topic that is found may not be a camera's after all.

    Raises:
        BagError: a name is missing or not of images, or there is not exactly one candidate; what is
            there is listed.
    """
    if names:
        return [reader.topic(name, IMAGE_TYPES) for name in dict.fromkeys(names)]
    results = set(recorded_results(reader))
    images = [
        topic
        for topic in reader.topics.values()
        if topic.message_type in IMAGE_TYPES
        and topic.name not in results
        and GROUND_TRUTH not in topic.name.split("/")
    ]
    candidates = [topic for topic in images if topic.count]
    raw = {topic.name for topic in candidates if topic.message_type == IMAGE}
    candidates = [t for t in candidates if t.name.removesuffix("/compressed") not in raw - {t.name}]
    kinds: dict[str, list[Topic]] = {kind: [] for kind in (*_CAMERAS, "other", "unreadable")}
    for topic in candidates:
        kinds[_kind(reader, topic)].append(topic)
    found = next((kinds[kind] for kind in _CAMERAS if kinds[kind]), [])
    if len(found) == 1:
        if kinds["thermal"] == found:
            note(
                f"{found[0].name} is taken for a camera's, mono16 for a thermal picture; where it is depth, "
                "there is no camera in the bag"
            )
        return found
    if found:
        raise BagError(
            f"{reader.path} has {len(found)} image topics: {_listed(found)}; choose with {option}"
        )
    if kinds["unreadable"]:
        raise BagError(f"{reader.path}: no message of {_listed(kinds['unreadable'])} can be read")
    silent = [topic for topic in images if not topic.count]
    if silent and not candidates:
        raise BagError(
            f"{reader.path} has no messages on its image topics ({_listed(silent)}): it is damaged or cut "
            "off, or nothing was published on them while it was recorded"
        )
    said = f"{reader.path} has no camera's image topic; it has {reader.describe(IMAGE_TYPES)}"
    if kinds["other"]:
        said += (
            f". {_listed(kinds['other'])} may be depth or labels; where a camera's pictures are there, "
            f"choose with {option}"
        )
    elif results & {topic.name for topic in reader.topics.values() if topic.count}:
        said += (
            f". Results of the node are not taken for a camera's pictures; name one with {option}"
        )
    raise BagError(said)


def _listed(topics: Collection[Topic]) -> str:
    return ", ".join(topic.name for topic in topics)


def _kind(reader: BagReader, topic: Topic) -> str:
    """What a topic is of, by its first message.

    ``colour``, ``grey``, ``thermal`` (mono16), ``other`` (depth, labels), ``foreign`` (compressed in a way
    that is not decoded here), or ``unreadable``.
    """
    for message in reader.messages([topic.name]):
        if message.message_type not in IMAGE_TYPES:
            continue
        try:
            content = deserialize(message.data, message.message_type)
        except BagError:
            return "colour"
        if message.message_type == COMPRESSED_IMAGE:
            return _compressed_kind(topic.name, content.format, bytes(content.data[:8]))
        return _encoded_kind(content.encoding)
    return "unreadable"


def _compressed_kind(topic: str, image_format: str, head: bytes) -> str:
    # image_transport writes `16UC1; compressedDepth png`, `rgb8; jpeg compressed bgr8`; drivers `jpeg`.
    if topic.endswith("/compressedDepth") or "compressedDepth" in image_format:
        return "other"
    # As for its decoding, the content decides.
    if head and not head.startswith(COMPRESSED_SIGNATURES):
        return "foreign"
    encoding, separator, _ = image_format.partition(";")
    return _encoded_kind(encoding.strip()) if separator else "colour"


def _encoded_kind(encoding: str) -> str:
    if encoding in ("mono8", "8UC1"):
        return "grey"
    if encoding == "mono16":
        return "thermal"
    return "other" if encoding.endswith(("UC1", "SC1", "FC1")) else "colour"
