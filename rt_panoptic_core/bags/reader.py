"""Reading rosbag2 recordings: mcap and sqlite3, compressed or not, whole or damaged, without ROS."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

import zstandard
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import Reader as RosbagReader

from rt_panoptic_core.bags.chunks import ZSTD_FRAME, ChunkedMcap, RawChunk, check_chunk_sizes
from rt_panoptic_core.bags.recovered_sqlite import RecoveredSqlite
from rt_panoptic_core.bags.recovery import RecoveredMcap
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.files import stream_kind
from rt_panoptic_core.wording import shown

_NO_PROFILE = "Profile is not ros2."
"""What rosbags says of an mcap whose header names another, or none."""

_ROS1 = b"#ROSBAG V"


class BagMessage(NamedTuple):
    """A recorded message: topic, type, log time in nanoseconds, CDR bytes.

    ``in_chunk`` where the chunk that holds it was given before it, see :meth:`BagReader.chunks`.
    """

    topic: str
    message_type: str
    time: int
    data: bytes | memoryview
    in_chunk: bool = False


@dataclass
class Topic:
    """A topic of a bag.

    Attributes:
        name: the topic.
        message_type: for example ``sensor_msgs/msg/Image``.
        count: recorded messages.
        definition: the type's definition as the bag holds it, or empty.
        digest: the type's RIHS01 hash, or empty.
        qos: what its publishers offered.
    """

    name: str
    message_type: str
    count: int
    definition: str = ""
    digest: str = ""
    qos: list[Qos] = field(default_factory=list)


class _Source(Protocol):
    """A file, or a folder of files, that connections and messages come from."""

    connections: list[Connection]

    def messages(
        self, connections: Collection[Connection]
    ) -> Iterator[tuple[Connection, int, bytes | memoryview]]: ...

    def close(self) -> None: ...


class BagReader:
    """An open recording; use as a context manager.

    A damaged file is read as far as it goes, and :attr:`damage` says what is wrong with it.

    Attributes:
        path: the bag.
        damage: one sentence for each thing that is wrong.
        notes: one for each that is left out or read in another way, and not damaged.
        files: those that it is read from, ``metadata.yaml`` among them.
        topics: by name; a name recorded with two types appears with the one of most messages.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open ``path``: a bag's folder, or an ``.mcap`` or ``.db3`` file.

        Raises:
            BagError: there is no bag, or nothing in it can be read.
        """
        self.path = Path(path)
        self.damage: list[str] = []
        self.notes: list[str] = []
        self.files: list[Path] = []
        # Each with the files to look through again when it breaks down on the way.
        self._sources = self._open()
        self.topics: dict[str, Topic] = {}
        counts: dict[tuple[str, str], Topic] = {}
        for source, _ in self._sources:
            for connection in source.connections:
                key = (connection.topic, connection.msgtype)
                if key not in counts:
                    counts[key] = Topic(
                        connection.topic,
                        connection.msgtype,
                        0,
                        connection.msgdef.data,
                        connection.digest,
                        list(getattr(connection.ext, "offered_qos_profiles", [])),
                    )
                counts[key].count += connection.msgcount
        self.all_topics = list(counts.values())
        for topic in self.all_topics:
            known = self.topics.get(topic.name)
            if known is None or known.count < topic.count:
                self.topics[topic.name] = topic

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Messages by log time, of some topics or all.

        A file that turns out to be damaged on the way is read on behind the damage.
        """
        for source, files in self._sources:
            yield from self._messages(source, files, topics)

    @property
    def chunked(self) -> ChunkedMcap | None:
        """The files, if their chunks can be given as they are, else None."""
        if len(self._sources) == 1 and isinstance(self._sources[0][0], ChunkedMcap):
            return self._sources[0][0]
        return None

    def chunks(self, topics: Collection[str]) -> Iterator[RawChunk | BagMessage]:
        """Every chunk of a :attr:`chunked` bag as it is, each before its messages of some topics."""
        source = self.chunked
        assert source is not None
        for item in source.messages(_wanted(source, topics), chunks=True):
            if isinstance(item, RawChunk):
                yield item
                continue
            connection, time, data = item
            yield BagMessage(connection.topic, connection.msgtype, time, data, in_chunk=True)

    def _messages(
        self, source: _Source, files: list[Path], topics: Collection[str] | None
    ) -> Iterator[BagMessage]:
        given: set[tuple[str, int]] = set()
        wanted = _wanted(source, topics)
        if not wanted:
            # To rosbags, no connections mean all.
            return
        try:
            for connection, time, data in source.messages(wanted):
                given.add((connection.topic, time))
                yield BagMessage(connection.topic, connection.msgtype, time, _plain(data))
            return
        # rosbags raises its own errors, struct's, zstd's, SQLite's: whatever the damage leads to.
        except Exception as error:  # noqa: BLE001
            self._note(f"{self.path}: damaged after {len(given)} messages: {_reason(error)}")
        for file in files:
            rest = _recovered(file)
            self.damage += [note for note in rest.damage if note not in self.damage]
            for connection, time, data in rest.messages(_wanted(rest, topics)):
                if (connection.topic, time) not in given:
                    yield BagMessage(connection.topic, connection.msgtype, time, _plain(data))
            rest.close()

    def topic(self, name: str, types: Collection[str] = ()) -> Topic:
        """The topic called ``name``.

        Raises:
            BagError: there is none, or it is not of one of ``types``; those that are there are listed.
        """
        found = self.topics.get(name)
        if found is None:
            raise BagError(f"{self.path} has no topic {name!r}; it has {self.describe(types)}")
        if types and found.message_type not in types:
            raise BagError(
                f"{self.path}: topic {name!r} is a {found.message_type}, not a "
                f"{' or '.join(types)}; the bag has {self.describe(types)}"
            )
        return found

    def describe(self, types: Collection[str] = ()) -> str:
        """The topics, those of ``types`` first: ``/a (sensor_msgs/msg/Image, 30 messages), …``."""
        ordered = sorted(self.topics.values(), key=lambda t: (t.message_type not in types, t.name))
        return (
            ", ".join(f"{t.name} ({t.message_type}, {t.count} messages)" for t in ordered)
            or "no topics"
        )

    def close(self) -> None:
        """Close the files."""
        for source, _ in self._sources:
            source.close()
        self._sources = []

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _note(self, sentence: str) -> None:
        if sentence not in self.damage:
            self.damage.append(sentence)

    def _open(self) -> list[tuple[_Source, list[Path]]]:
        if not self.path.exists():
            raise BagError(f"{self.path} does not exist; give a bag's folder, .mcap or .db3 file")
        if stream := stream_kind(self.path):
            raise BagError(
                f"{self.path} is {stream}, not a file; give a bag's folder, .mcap or .db3 file"
            )
        try:
            return [self._whole()]
        except Exception as error:  # noqa: BLE001 - as in _messages
            reason = _reason(error)
        if _is_ros1(self.path):
            raise BagError(
                f"{self.path} is a recording of ROS 1; convert it, and give the new one: "
                f"rosbags-convert --src {self.path} --dst {self.path.stem}"
            )
        is_folder = self.path.is_dir()
        is_killed = is_folder and not (self.path / "metadata.yaml").exists()
        if is_killed:
            reason = "metadata.yaml is missing, as after a recorder that was killed"
        files = _storage_files(self.path)
        if not files:
            raise BagError(
                f"{self.path} is no bag: {reason}. A bag is a folder with metadata.yaml, "
                "or an .mcap or .db3 file"
            )
        self._note_files(files)
        sources: list[tuple[_Source, list[Path]]] = []
        notes: list[str] = []
        for file in files:
            try:
                sources.append((_opened(file), [file]))
                continue
            except Exception as error:  # noqa: BLE001 - as in _messages
                failure = error
            try:
                recovered = _recovered(file)
            except Exception as error:  # noqa: BLE001 - as in _messages
                notes += [f"{file}: {_reason(failure)}", f"{file}: {_reason(error)}"]
                continue
            if str(failure) == _NO_PROFILE:
                self.notes.append(
                    f"{file}: its header does not say that it is of ROS 2, as those of rosbag2 do; it is "
                    "read without its index"
                )
            # An encoding that rosbags does not know is that of what is left out.
            elif not (isinstance(failure, KeyError) and recovered.notes):
                notes.append(f"{file}: {_reason(failure)}")
            self.notes += recovered.notes
            notes += recovered.damage
            if recovered.connections:
                sources.append((recovered, []))
        if not sources:
            said = "; ".join([*notes, *self.notes])
            raise BagError(f"{self.path}: nothing can be read: {said}")
        # Else what the library refuses in a file, and with it the folder, is in the notes.
        if is_folder and (is_killed or notes or not self.notes):
            notes.insert(0, f"{self.path}: {reason}")
        self.damage += dict.fromkeys(notes)
        return sources

    def _whole(self) -> tuple[_Source, list[Path]]:
        """The bag as rosbags opens it; by its chunks where all is there for that. And the files it reads."""
        reader = _opened(self.path)
        try:
            _check_connections(reader.connections)
            files = self._files_once(reader)
        except BaseException:
            reader.close()
            raise
        # Recorders write an empty name where they do not compress, or leave it out.
        if not getattr(reader, "compression_mode", None):
            with suppress(Exception):
                chunked = ChunkedMcap(files, list(reader.connections), self._note)
                reader.close()
                return chunked, files
        return reader, files

    def _note_files(self, files: Iterable[Path]) -> None:
        metadata = self.path / "metadata.yaml"
        self.files = sorted([*files, *([metadata] if metadata.is_file() else [])])

    def _files_once(self, reader: _Source) -> list[Path]:
        """The files that rosbags reads: those in metadata.yaml, and each once, however often it is there."""
        storages = getattr(getattr(reader, "storage", None), "storages", None)
        if storages is None:
            own = _storage_files(self.path)
            self._note_files(own)
            return own
        files = {Path(storage.path): storage for storage in storages}
        if len(files) < len(storages):
            storages[:] = files.values()
            self._note(f"{self.path}: metadata.yaml lists a file more than once; it is read once")
        if getattr(reader, "compression_mode", None) == "file":
            # These are copies, and gone with the reader; the compressed file has one more suffix.
            copied = {file.name for file in files}
            self._note_files(file for file in self.path.iterdir() if file.stem in copied)
            return []
        self._note_files(files)
        names = {file.name for file in files}
        for file in _storage_files(self.path):
            if file.name not in names:
                self._note(f"{file}: metadata.yaml does not list it, so it is not read")
        return list(files)


def _is_ros1(path: Path) -> bool:
    """Whether the file at ``path`` is a bag of ROS 1."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_ROS1)) == _ROS1


def _check_connections(connections: Collection[Connection]) -> None:
    """Raise ValueError where metadata.yaml, which rosbags takes as it is, has a topic of other types."""
    for connection in connections:
        for name, value, kind in (
            ("name", connection.topic, str),
            ("type", connection.msgtype, str),
            ("message_count", connection.msgcount, int),
        ):
            if not isinstance(value, kind):
                raise ValueError(f"metadata.yaml has a topic whose {name} is {shown(value)}")


def _opened(path: Path) -> _Source:
    for file in _storage_files(path):
        if file.suffix == ".mcap":
            # rosbags would decompress whatever there is.
            check_chunk_sizes(file)
    reader = RosbagReader(path)
    reader.open()
    return reader  # type: ignore[return-value]


def _reason(error: Exception) -> str:
    """What a library's ``error`` says, in words of their own where it says a name and nothing else."""
    if isinstance(error, KeyError):
        return f"it has {error}, which cannot be read"
    return str(error) or type(error).__name__


def _recovered(file: Path) -> RecoveredMcap | RecoveredSqlite:
    return RecoveredMcap(file) if file.suffix == ".mcap" else RecoveredSqlite(file)


def _plain(data: bytes | memoryview) -> bytes | memoryview:
    """The message itself, where a bag of compressed messages is read without its metadata."""
    if data[:4] != ZSTD_FRAME:
        return data
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def _wanted(source: _Source, topics: Collection[str] | None) -> list[Connection]:
    return [c for c in source.connections if topics is None or c.topic in topics]


def _storage_files(path: Path) -> list[Path]:
    """The mcap and db3 files of a bag, in the order in which they were recorded."""
    if path.is_file():
        return [path] if path.suffix in (".mcap", ".db3") else []
    files = [file for file in path.iterdir() if file.suffix in (".mcap", ".db3")]
    return sorted(files, key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)][-1:])
