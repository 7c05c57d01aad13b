"""Writing rosbag2 recordings, mcap and sqlite3, without ROS."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2.errors import WriterError

from rt_panoptic_core.bags.chunks import ChunkedMcap, RawChunk
from rt_panoptic_core.bags.messages import Message, serialize, typestore
from rt_panoptic_core.bags.reader import Topic
from rt_panoptic_core.bags.storage import PARTIAL_SUFFIX, McapStorage, SturdyWriter, is_bag
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.files import hold_folder, remove

STORAGES: Final = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

COMPRESSIONS: Final = {
    "none": CompressionMode.NONE,
    "chunk": CompressionMode.STORAGE,
    "message": CompressionMode.MESSAGE,
    "file": CompressionMode.FILE,
}
"""``chunk`` is lz4 inside an mcap, ``message`` and ``file`` are rosbag2's own, with zstd."""

_UNKNOWN_HASH = "RIHS01_" + "0" * 64
_FOREVER = QosTime(9223372036, 854775807)


def qos(*, reliable: bool = True, latched: bool = False, depth: int = 10) -> Qos:
    """Quality of service that a player offers for a topic; ``latched`` is transient local."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )


class BagWriter:
    """A bag in the making: ``NAME.partial`` until :meth:`close` makes it ``NAME``.

    Use as a context manager. When the block ends with an error the bag is closed all the same and
    keeps its partial name: everything written is readable. When the disk fills up the message at hand
    is still written, the bag is closed, and :class:`BagError` tells so.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        storage: str = "mcap",
        compression: str = "chunk",
        overwrite: bool = False,
    ) -> None:
        """Make the folder of the bag.

        Args:
            path: the bag's folder.
            storage: one of :data:`STORAGES`.
            compression: one of :data:`COMPRESSIONS`; ``chunk`` means ``none`` for sqlite3, which has no
                chunks.
            overwrite: replace the bag at ``path`` (once the new one is complete), and what an interrupted
                one left at its partial name.

        Raises:
            BagError: unknown storage or compression, something that may not be replaced or is no bag is
                in the way, or the bag cannot be made.
        """
        self.path = Path(path)
        if storage not in STORAGES:
            raise BagError(f"storage {storage!r}; one of {', '.join(STORAGES)}")
        if compression not in COMPRESSIONS:
            raise BagError(f"compression {compression!r}; one of {', '.join(COMPRESSIONS)}")
        self._partial = self.path.with_name(self.path.name + PARTIAL_SUFFIX)
        self._overwrite = overwrite
        self._check_way()
        mode = COMPRESSIONS[compression]
        if storage == "sqlite3" and mode == CompressionMode.STORAGE:
            mode = CompressionMode.NONE
        try:
            self._refuse_if_held()
            remove(self._partial)
            self._writer = SturdyWriter(self._partial, version=9, storage_plugin=STORAGES[storage])
            self._writer.set_compression(mode, CompressionFormat.ZSTD)
            self._writer.open()
            self._handle = hold_folder(self._partial)
        except OSError as error:
            raise BagError(f"{self._partial}: cannot be made: {error.strerror}") from error
        self._connections: dict[tuple[str, str], Connection] = {}
        self._adopted: dict[int, Connection] = {}
        self._open = True
        self._holds_anything = False

    def add_topic(
        self, name: str, message_type: str, *, offered: Qos | None = None, like: Topic | None = None
    ) -> None:
        """Announce a topic; a second time for the same name and type does nothing.

        Args:
            name: the topic.
            message_type: for example ``sensor_msgs/msg/Image``.
            offered: its quality of service; reliable, volatile when None.
            like: the topic of another bag that messages are copied from: its definition, hash and
                quality of service are taken over.
        """
        key = (name, message_type)
        if key in self._connections:
            return
        if like is not None:
            complete = like.definition and like.digest
            known = message_type in typestore().fielddefs
            self._connections[key] = self._writer.add_connection(
                name,
                message_type,
                typestore=typestore(),
                msgdef=None if known and not complete else like.definition,
                rihs01=None if known and not complete else like.digest or _UNKNOWN_HASH,
                offered_qos_profiles=like.qos,
            )
            return
        self._connections[key] = self._writer.add_connection(
            name,
            message_type,
            typestore=typestore(),
            offered_qos_profiles=[offered if offered is not None else qos()],
        )

    def adopt(self, source: ChunkedMcap, topics: Iterable[Topic]) -> bool:
        """Announce all topics of an mcap, so that its chunks can be passed on; whether that is possible.

        Before any other topic. It is possible where this bag is an mcap with compressed chunks.

        Args:
            source: the mcap.
            topics: its topics.
        """
        storage = self._writer.storage
        mode = self._writer.compression_mode
        if not isinstance(storage, McapStorage) or mode != CompressionMode.STORAGE:
            return False
        storage.adopt(source.schemas.values(), source.channels.values())
        for topic in topics:
            self.add_topic(topic.name, topic.message_type, like=topic)
        for number, channel in source.channels.items():
            kind = source.schemas[channel.schema_id].name
            self._adopted[number] = self._connections[channel.topic, kind]
        return True

    def pass_on(self, chunk: RawChunk) -> None:
        """Write a chunk of the mcap that was adopted, as it is.

        Raises:
            BagError: as :meth:`write`.
        """
        storage = self._writer.storage
        assert isinstance(storage, McapStorage)
        self._guarded(lambda: storage.pass_on(chunk))
        for number, count in chunk.counts.items():
            self._writer.counts[self._adopted[number].id] += count
        start, end = chunk.place.message_start_time, chunk.place.message_end_time
        self._writer.min_timestamp = min(start, self._writer.min_timestamp)
        self._writer.max_timestamp = max(end, self._writer.max_timestamp)
        self._tell_of_full_disk()

    def write(self, topic: str, time: int, message: Message) -> None:
        """Write a message of a topic announced with :meth:`add_topic`.

        Args:
            topic: its name.
            time: log time in nanoseconds.
            message: a message of the type store.

        Raises:
            BagError: the disk is full or failed; what was written before is readable.
        """
        self.write_bytes(topic, message.__msgtype__, time, serialize(message))

    def write_bytes(
        self, topic: str, message_type: str, time: int, data: bytes | memoryview
    ) -> None:
        """Write the CDR bytes of a message.

        Raises:
            BagError: as :meth:`write`.
        """
        connection = self._connections[topic, message_type]
        self._guarded(lambda: self._writer.write(connection, time, data))
        self._tell_of_full_disk()

    def flush(self) -> None:
        """Bring everything written so far to the file: a killed process leaves it behind.

        Raises:
            BagError: as :meth:`write`.
        """
        self._guarded(self._writer.flush)

    def close(self, *, complete: bool = True) -> Path:
        """Write the index and give the bag its name; the path it has then.

        Args:
            complete: False keeps the partial name.

        Raises:
            BagError: the index could not be written.
        """
        if not self._open:
            return self.path
        self._open = False
        try:
            self._writer.close()
        except (OSError, WriterError) as error:
            self._writer.abort()
            raise BagError(f"{self._partial}: the index cannot be written: {error}") from error
        finally:
            self._writer.reserve.release()
            if self._handle is not None:
                os.close(self._handle)
        if not complete:
            if not self._holds_anything:
                remove(self._partial)
            return self._partial
        if self._overwrite:
            remove(self.path)
        try:
            self._partial.rename(self.path)
        except OSError as error:
            raise BagError(
                f"{self._partial}: complete, but cannot take the name {self.path}: {error.strerror}"
            ) from error
        return self.path

    def discard(self) -> None:
        """Close the bag and remove what was written of it."""
        if self._open:
            self.close(complete=False)
        remove(self._partial)

    def _check_way(self) -> None:
        """Refuse to replace what must not be, before anything is written."""
        for path in (self.path, self._partial):
            if not os.path.lexists(path):
                continue
            if not self._overwrite:
                left = " (an interrupted recording)" if path == self._partial else ""
                raise BagError(f"{path} exists{left}; choose another name, or --overwrite")
            empty = path.is_dir() and not any(path.iterdir())
            if not (empty or is_bag(path)):
                raise BagError(f"{path} is no bag and is not overwritten; choose another name")

    def _refuse_if_held(self) -> None:
        """Raise where another process is at work on the partial bag."""
        if not self._partial.is_dir():
            return
        handle = hold_folder(self._partial)
        if handle is None:
            raise BagError(f"{self._partial}: another process is writing it; choose another name")
        os.close(handle)

    def _guarded(self, action: Callable[[], None]) -> None:
        self._holds_anything = True
        try:
            action()
        # The storages raise OSError or sqlite3.Error, the library its own.
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise self._full_disk() from error
            raise BagError(f"{self._partial}: writing failed: {error}") from error

    def _tell_of_full_disk(self) -> None:
        if self._writer.reserve.spent:
            raise self._full_disk()

    def _full_disk(self) -> BagError:
        return BagError(
            f"{self._partial}: the disk is full; what was written so far is readable there. "
            "Free some space, or choose another place"
        )

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
            return
        # The error on its way out is the one to tell of, not one from closing after it.
        try:
            self.close(complete=False)
        except BagError:
            return
