"""Reading what is left of an sqlite3 recording that is cut off or damaged inside."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

# rosbags' own SQLite: unlike Python's it can be given a file system.
import apsw
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)
from rosbags.rosbag2.metadata import parse_qos

from rt_panoptic_core.bags.recovered import Recovered

_FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
_TOPIC = ("id", "name", "type")
# Recordings before ROS 2 Iron lack one or all of these.
_MORE = ("serialization_format", "offered_qos_profiles", "type_description_hash")
_DEFINITION = ("topic_type", "encoding", "encoded_message_definition")
_FILE_SYSTEMS = count()


class RecoveredSqlite(Recovered):
    """The messages of an sqlite3 recording from its start to where it breaks off, without its index."""

    def __init__(self, path: Path) -> None:
        """Read through the file once."""
        super().__init__(path)
        topics: list[dict[str, Any]] = []
        definitions: dict[str, MessageDefinition] = {}
        try:
            with _opened(path) as database:
                topics = _rows(database, "topics", (*_TOPIC, *_MORE))
                for row in _rows(database, "message_definitions", _DEFINITION):
                    kind = _FORMATS.get(row["encoding"], MessageDefinitionFormat.NONE)
                    definition = MessageDefinition(kind, row["encoded_message_definition"])
                    definitions[row["topic_type"]] = definition
        except (apsw.Error, OSError) as error:
            self._note(f"{path}: its topics cannot be read: {error}")
        counts = Counter(topic for topic, _, _ in self._messages())
        none = MessageDefinition(MessageDefinitionFormat.NONE, "")
        for row in topics:
            self.connections.append(
                Connection(
                    id=row["id"],
                    topic=row["name"],
                    msgtype=row["type"],
                    msgdef=definitions.get(row["type"], none),
                    digest=row.get("type_description_hash", ""),
                    msgcount=counts[row["id"]],
                    ext=ConnectionExtRosbag2(
                        row.get("serialization_format", "cdr"),
                        _qos(row.get("offered_qos_profiles", "")),
                    ),
                    owner=None,
                )
            )

    def messages(
        self, connections: Collection[Connection]
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Messages in the order in which they were recorded."""
        wanted = {connection.id: connection for connection in connections}
        for topic, time, data in self._messages():
            if topic in wanted:
                yield wanted[topic], time, data

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        """Topic's number, log time and data."""
        number = 0
        try:
            with _opened(self.path) as database:
                # By the table's own order: its index may be what is missing.
                query = "SELECT topic_id, timestamp, data FROM messages ORDER BY id"
                for topic, time, data in database.execute(query):
                    # Damaged, a row may hold anything.
                    if isinstance(topic, int) and isinstance(time, int) and isinstance(data, bytes):
                        number += 1
                        yield topic, time, data
        except (apsw.Error, OSError) as error:
            self._note(f"{self.path}: cut off or damaged after {number} messages: {error}")


class _File(apsw.VFSFile):
    """A file that is as long as its header says: SQLite refuses a shorter one altogether."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._there = os.fstat(self._file.fileno()).st_size
        head = self._file.read(32)
        # A page of 65536 bytes is written as 1.
        page = int.from_bytes(head[16:18], "big")
        pages = int.from_bytes(head[28:32], "big")
        self._promised = max(self._there, (65536 if page == 1 else page) * pages)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's names
        if self._there < offset + amount <= self._promised:
            # Were it given nothing, SQLite would take that for zeros, of which a picture may be.
            raise apsw.IOError(
                f"the file has {self._there} of the {self._promised} bytes that its header tells of"
            )
        return os.pread(self._file.fileno(), amount, offset)

    def xFileSize(self) -> int:  # noqa: N802
        return self._promised

    def xClose(self) -> None:  # noqa: N802
        self._file.close()

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802
        del op, ptr
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return 0

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0


class _FileSystem(apsw.VFS):
    """Knows one file, under every name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = f"recovered-{next(_FILE_SYSTEMS)}"
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802
        del name, flags
        return _File(self._path)


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    files = _FileSystem(path)
    try:
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        database = apsw.Connection("file:recording?immutable=1", flags, files.name)
        try:
            yield database
        finally:
            database.close()
    finally:
        files.unregister()


def _rows(database: apsw.Connection, table: str, names: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a table, with those of ``names`` that it has; none where there is no such table.

    A row that is not made of a number and texts is damaged, and left out.
    """
    there = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    columns = [name for name in names if name in there]
    if not columns:
        return []
    found = database.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id")
    rows = [dict(zip(columns, row, strict=True)) for row in found]
    kinds = {name: int if name == "id" else str for name in columns}
    return [row for row in rows if all(isinstance(row[name], kinds[name]) for name in columns)]


def _qos(text: str) -> list[Qos]:
    try:
        return parse_qos(text)
    # It may be damaged, and matters less than the messages.
    except Exception:  # noqa: BLE001
        return []
