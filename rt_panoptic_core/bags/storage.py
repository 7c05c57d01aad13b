"""How bags reach the disk: storages for rosbags' writer that survive a kill and a full disk.

rosbags writes both storages itself, but keeps an sqlite3 bag in one transaction until it is closed and
leaves half a chunk in an mcap when the disk fills up. What was written must stay readable.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from mcap.records import Channel, Schema
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2.enums import CompressionMode, StoragePlugin
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from rosbags.rosbag2.writer import Writer as RosbagWriter

from rt_panoptic_core.bags.chunks import RawChunk
from rt_panoptic_core.bags.mcap_file import McapFile

PARTIAL_SUFFIX = ".partial"
"""Ends the folder of a bag that is still being written."""

# A file that rosbag2 compressed has another suffix after it.
_STORAGE_SUFFIXES = frozenset({".mcap", ".db3"})
_CHUNK_BYTES = 1 << 20
_RESERVE_BYTES = 32 << 20
_COMMIT_BYTES = 16 << 20


def is_bag(path: Path) -> bool:
    """Whether ``path`` is a recording: a file of one of the storages, or a folder that holds one."""
    if not path.is_dir():
        return not _STORAGE_SUFFIXES.isdisjoint(path.suffixes)
    return (path / "metadata.yaml").is_file() or any(
        not _STORAGE_SUFFIXES.isdisjoint(file.suffixes) for file in path.iterdir()
    )


class Reserve:
    """Disk space set aside, given up when the disk is full so that a bag can still be closed."""

    def __init__(self, folder: Path, size: int = _RESERVE_BYTES) -> None:
        """Set ``size`` bytes aside in ``folder``; without effect where the file system cannot."""
        self._path = folder / ".reserve"
        self.spent = False
        try:
            with self._path.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except (OSError, AttributeError):
            self._path.unlink(missing_ok=True)

    def spend(self) -> bool:
        """Whether this call freed the space: False when it had been freed before."""
        freed = self._path.exists()
        self._path.unlink(missing_ok=True)
        self.spent = True
        return freed

    def release(self) -> None:
        """Remove what was set aside."""
        self._path.unlink(missing_ok=True)


class WholeWritesFile:
    """A file whose every write lands wholly or not at all; one that meets a full disk is retried.

    Unbuffered: a killed process leaves every completed write behind.
    """

    def __init__(self, path: Path, reserve: Reserve) -> None:
        """Make ``path``, which must not exist."""
        self._file = FileIO(path, "xb")
        self._position = 0
        self._reserve = reserve

    def tell(self) -> int:
        """Bytes written."""
        return self._position

    def write(self, data: bytes | memoryview) -> int:
        """Number of bytes of ``data``, all of them written.

        Raises:
            OSError: they could not be written; the file is as it was before.
        """
        try:
            self._write(data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._reserve.spend():
                raise
            self._write(data)
        return len(data)

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError:
            self._file.truncate(self._position)
            self._file.seek(self._position)
            raise
        self._position += len(data)

    def flush(self) -> None:
        """Nothing: every write has already gone to the system."""

    def close(self) -> None:
        """Flush to the disk and close."""
        if not self._file.closed:
            with suppress(OSError):
                os.fsync(self._file.fileno())
            self._file.close()


class McapStorage:
    """rosbags' storage interface over an mcap: whole, checksummed, compressed chunks."""

    def __init__(self, path: Path, compression: CompressionMode, reserve: Reserve) -> None:
        """Make the file of the bag in folder ``path``."""
        self.path = path / f"{_stem(path)}_0.mcap"
        self._file = WholeWritesFile(self.path, reserve)
        self._writer = McapFile(
            self._file,
            chunk_bytes=_CHUNK_BYTES,
            compression="lz4" if compression == CompressionMode.STORAGE else "",
        )
        self._adopted: dict[tuple[str, str], int] = {}
        self._channels: dict[int, int] = {}
        self._sequences: dict[int, int] = {}

    def adopt(self, schemas: Iterable[Schema], channels: Iterable[Channel]) -> None:
        """Write those of another mcap, whose chunks can be passed on then.

        A connection of the same topic and type that is added later is the first of these channels.
        """
        names = {schema.id: schema.name for schema in schemas}
        for schema in schemas:
            self._writer.add_schema(schema)
        for channel in channels:
            self._writer.add_channel(channel)
            self._adopted.setdefault((channel.topic, names[channel.schema_id]), channel.id)

    def pass_on(self, chunk: RawChunk) -> None:
        """Write a chunk of the mcap whose channels were adopted, as it is."""
        self._writer.pass_on(chunk)

    def add_msgtype(self, connection: Connection) -> None:
        """Nothing: a definition is written with the first connection that needs it."""

    def add_connection(self, connection: Connection, offered_qos_profiles: str) -> None:
        """Write the connection's channel, and the definition of its type."""
        self._sequences[connection.id] = 0
        adopted = self._adopted.get((connection.topic, connection.msgtype))
        if adopted is not None:
            self._channels[connection.id] = adopted
            return
        definition = connection.msgdef
        encoding = "ros2idl" if definition.format == MessageDefinitionFormat.IDL else "ros2msg"
        self._channels[connection.id] = self._writer.new_channel(
            connection.topic,
            connection.ext.serialization_format,  # type: ignore[union-attr]
            self._writer.find_schema(connection.msgtype, encoding, definition.data.encode()),
            {
                "offered_qos_profiles": offered_qos_profiles,
                "topic_type_hash": connection.digest,
            },
        )

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        """Add a message to the chunk in progress; the chunk goes to the file when it is full."""
        self._sequences[connection.id] += 1
        self._writer.add_message(
            self._channels[connection.id],
            timestamp,
            data,
            self._sequences[connection.id],
        )

    def flush(self) -> None:
        """Write the chunk in progress."""
        self._writer.flush()

    def close(self, version: int, metadata: str) -> None:
        """Write what is pending, rosbag2's metadata and the index."""
        del version
        self._writer.add_metadata("rosbag2", {"serialized_metadata": metadata})
        self._writer.finish()
        self._file.close()

    def abort(self) -> None:
        """Close the file as it is: every chunk in it is whole, the index is missing."""
        self._file.close()


class SqliteStorage(Sqlite3Writer):
    """rosbags' sqlite3 storage, committed every few megabytes instead of once at the end."""

    def __init__(self, path: Path, compression: CompressionMode, reserve: Reserve) -> None:
        """Make the database of the bag in folder ``path``."""
        # The base names the file after the folder, which has its partial name until the end.
        final = path / f"{_stem(path)}_0.db3"
        super().__init__(path, compression)
        self.conn.close()
        self.path.rename(final)
        self.path = final
        self.conn = sqlite3.connect(final)
        self.cursor = self.conn.cursor()
        self._reserve = reserve
        self._pending: list[tuple[Connection, int, bytes]] = []
        self._pending_bytes = 0
        self.flush()

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        """Insert a message."""
        content = bytes(data)
        self._pending.append((connection, timestamp, content))
        self._pending_bytes += len(content)
        self._retried(lambda: super(SqliteStorage, self).write(connection, timestamp, content))
        if self._pending_bytes >= _COMMIT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Commit what was inserted."""
        self._retried(self.conn.commit)
        self._pending.clear()
        self._pending_bytes = 0

    def close(self, version: int, metadata: str) -> None:
        """Commit, add rosbag2's metadata and close."""
        self.flush()
        super().close(version, metadata)

    def _retried(self, action: Any) -> None:
        try:
            action()
        except sqlite3.OperationalError as error:
            if "full" not in str(error) or not self._reserve.spend():
                raise
            # SQLite may have rolled the whole transaction back: insert everything since the commit.
            self.conn.rollback()
            for connection, timestamp, content in self._pending:
                super().write(connection, timestamp, content)
            self.conn.commit()


class SturdyWriter(RosbagWriter):
    """rosbags' writer on the storages above."""

    reserve: Reserve

    def open(self) -> None:
        """Make the folder and the storage in it.

        Raises:
            WriterError: the folder exists.
            OSError: it cannot be made.
        """
        self.path.mkdir(mode=0o755, parents=True)
        self.reserve = Reserve(self.path)
        plugin = McapStorage if self.storage_plugin == StoragePlugin.MCAP else SqliteStorage
        self.storage = plugin(self.path, self.compression_mode, self.reserve)

    def flush(self) -> None:
        """Bring every message written so far to the file."""
        if isinstance(self.storage, (McapStorage, SqliteStorage)):
            self.storage.flush()


def _stem(folder: Path) -> str:
    return folder.name.removesuffix(PARTIAL_SUFFIX)
