"""Reading indexed mcaps by their chunks: each decompressed once, its messages left where they lie in it."""

from __future__ import annotations

import heapq
import os
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import lz4.frame  # type: ignore[import-untyped]
import mcap.reader
import zstandard
from mcap.opcode import Opcode
from mcap.records import Channel, ChunkIndex, Schema
from rosbags.interfaces import Connection

ZSTD_FRAME = b"\x28\xb5\x2f\xfd"
"""Starts what zstd compressed; CDR starts with 0, so no message can be taken for it."""

MOST_BYTES = 1 << 30
"""What a chunk may hold: recorders end theirs at a few megabytes, or behind the message that goes beyond."""

_MAGIC_BYTES = 8
_RECORD = struct.Struct("<BQ")
_CHUNK_START = struct.Struct("<QQQ")
_MESSAGE = struct.Struct("<HIQQ")
_MESSAGE_INDEX_HEAD = 15
_MESSAGE_INDEX_ENTRY = 16
_CRC_PLACE = 9 + 3 * 8
_CHUNK_HEAD = 9 + 3 * 8 + 4 + 4 + 8


class RawChunk(NamedTuple):
    """A chunk and its message indexes, as they lie in a file.

    Attributes:
        file: open for reading.
        place: where it is, and of what times.
        counts: of messages by channel.
    """

    file: BinaryIO
    place: ChunkIndex
    counts: dict[int, int]

    def read(self) -> bytes:
        """The bytes of the chunk record and of the message index records behind it.

        Raises:
            OSError: they cannot be read.
        """
        length = self.place.chunk_length + self.place.message_index_length
        return bytes(_read(self.file, self.place.chunk_start_offset, length))


class ChunkedMcap:
    """Files of a bag whose messages all lie in indexed chunks.

    Attributes:
        connections: the topics.
        schemas, channels: of all files, which agree in their numbers; by number.
    """

    def __init__(
        self,
        files: Sequence[Path],
        connections: Sequence[Connection],
        note: Callable[[str], None],
    ) -> None:
        """Read the indexes.

        Args:
            files: of one bag.
            connections: its topics.
            note: told of each chunk that turns out to be damaged.

        Raises:
            ValueError: the files are not such; why.
        """
        self.connections = list(connections)
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self._note = note
        self._chunks: list[RawChunk] = []
        self._files: list[BinaryIO] = []
        try:
            for path in files:
                self._add(path)
            self._check_messages()
        except BaseException:
            self.close()
            raise
        self._chunks.sort(key=lambda chunk: chunk.place.message_start_time)
        by_name = {(c.topic, c.msgtype): c for c in reversed(self.connections)}
        self._by_channel = {
            number: by_name[channel.topic, self._type(channel)]
            for number, channel in self.channels.items()
        }

    def messages(
        self, connections: Collection[Connection], *, chunks: bool = False
    ) -> Iterator[Any]:
        """(connection, log time, data) of the messages on ``connections``, by log time.

        With ``chunks`` each chunk that is whole comes before its messages, as a :class:`RawChunk`, and all
        of them do. Data is a view of the decompressed chunk. A damaged chunk is noted and left out.
        """
        names = {(c.topic, c.msgtype) for c in connections}
        wanted = {
            number: connection
            for number, connection in self._by_channel.items()
            if (connection.topic, connection.msgtype) in names
        }
        waiting: list[tuple[int, int, int, Connection, memoryview]] = []
        for number, chunk in enumerate(self._chunks):
            if not chunks and wanted.keys().isdisjoint(chunk.counts):
                continue
            while waiting and waiting[0][0] < chunk.place.message_start_time:
                time, _, _, connection, data = heapq.heappop(waiting)
                yield connection, time, data
            try:
                found = list(_messages(_content(chunk), wanted))
            # Decompressors and struct each raise their own on damaged bytes.
            except Exception as error:  # noqa: BLE001
                self._note(f"{chunk.file.name}: a chunk cannot be read: {error}")
                continue
            if chunks:
                yield chunk
            for place, (channel, time, data) in enumerate(found):
                heapq.heappush(waiting, (time, number, place, wanted[channel], data))
        while waiting:
            time, _, _, connection, data = heapq.heappop(waiting)
            yield connection, time, data

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def _add(self, path: Path) -> None:
        file = path.open("rb")
        self._files.append(file)
        summary = mcap.reader.make_reader(file).get_summary()
        if summary is None or summary.statistics is None or not summary.chunk_indexes:
            raise ValueError(f"{path} has no index of chunks")
        for known, found in ((self.schemas, summary.schemas), (self.channels, summary.channels)):
            if any(known.get(number, record) != record for number, record in found.items()):
                raise ValueError(f"{path} numbers its channels differently")
            known.update(found)  # type: ignore[arg-type]
        chunks = [RawChunk(file, index, _counts(index)) for index in summary.chunk_indexes]
        if sum(sum(chunk.counts.values()) for chunk in chunks) != summary.statistics.message_count:
            raise ValueError(f"{path} has messages that the index of its chunks does not know")
        self._chunks += chunks

    def _check_messages(self) -> None:
        """Raise ValueError where a chunk's messages are not what a bag without metadata says."""
        for channel in self.channels.values():
            self._type(channel)
            if channel.message_encoding != "cdr":
                raise ValueError(f"{channel.topic} is encoded as {channel.message_encoding!r}")
        first = next(_messages(_content(self._chunks[0]), self.channels), None)
        if first is None or first[2][:4] == ZSTD_FRAME:
            raise ValueError("messages are compressed one by one")

    def _type(self, channel: Channel) -> str:
        schema = self.schemas.get(channel.schema_id)
        if schema is None:
            raise ValueError(f"{channel.topic} has no schema")
        return schema.name


def _counts(index: ChunkIndex) -> dict[int, int]:
    """Messages by channel, from the sizes of the message indexes, which lie one behind the other."""
    ends = index.chunk_start_offset + index.chunk_length + index.message_index_length
    places = sorted((offset, channel) for channel, offset in index.message_index_offsets.items())
    following = [offset for offset, _ in places[1:]] + [ends]
    return {
        channel: (end - offset - _MESSAGE_INDEX_HEAD) // _MESSAGE_INDEX_ENTRY
        for (offset, channel), end in zip(places, following, strict=True)
    }


def _content(chunk: RawChunk) -> memoryview:
    """The records of a chunk, writable where nothing has to be copied for that.

    Raises:
        ValueError: its size or checksum is not right; decompressors raise their own.
    """
    index = chunk.place
    place = index.chunk_start_offset + _CHUNK_HEAD + len(index.compression.encode())
    stored = _read(chunk.file, place, index.compressed_size)
    content = unpacked(index.compression, stored, index.uncompressed_size)
    (crc,) = struct.unpack("<I", _read(chunk.file, index.chunk_start_offset + _CRC_PLACE, 4))
    if crc and zlib.crc32(content) != crc:
        raise ValueError("its checksum is not right")
    return memoryview(content)


def unpacked(compression: str, stored: bytes | bytearray, size: int) -> bytes | bytearray:
    """What is ``stored`` in a chunk that says it holds ``size`` bytes, in no more memory than that takes.

    Raises:
        ValueError: it says too much, or not what it holds; decompressors raise their own.
    """
    _check_size(size)
    if compression == "lz4":
        decompressor = lz4.frame.LZ4FrameDecompressor(return_bytearray=True)
        # One more, to see whether there is more.
        content = decompressor.decompress(stored, max_length=size + 1)
        if not decompressor.eof:
            raise ValueError(f"it does not end after the {size} bytes that it says it holds")
    elif compression == "zstd":
        # The decompressor takes the frame's word before that of who calls it.
        holds = zstandard.frame_content_size(stored)
        if holds not in (-1, size):  # -1: the frame does not say it
            raise ValueError(f"it holds {holds} bytes instead of {size}")
        content = zstandard.ZstdDecompressor().decompress(stored, size)
    elif not compression:
        content = stored
    else:
        raise ValueError(f"compression {compression!r} is not known")
    if len(content) != size:
        raise ValueError(f"it holds {len(content)} bytes instead of {size}")
    return content


def check_chunk_sizes(path: Path) -> None:
    """Accept an mcap none of whose chunks says it holds more than :data:`MOST_BYTES`.

    Raises:
        ValueError: one does.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            summary = mcap.reader.make_reader(file).get_summary()
        # Cut off, damaged, or no mcap.
        except Exception:  # noqa: BLE001
            summary = None
        if summary is not None and summary.chunk_indexes:
            sizes: Iterable[int] = (index.uncompressed_size for index in summary.chunk_indexes)
        else:
            sizes = _sizes(file)
        for size in sizes:
            try:
                _check_size(size)
            except ValueError as error:
                raise ValueError(f"a chunk cannot be read: {error}") from None


def _sizes(file: BinaryIO) -> Iterator[int]:
    """What the chunks of a file say they hold, from one record to the next."""
    place = _MAGIC_BYTES
    while True:
        file.seek(place)
        head = file.read(_RECORD.size + _CHUNK_START.size)
        if len(head) < _RECORD.size + _CHUNK_START.size:
            return
        opcode, length = _RECORD.unpack_from(head)
        if opcode == Opcode.CHUNK:
            yield _CHUNK_START.unpack_from(head, _RECORD.size)[2]
        place += _RECORD.size + length
        if place >= 1 << 63:
            return


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise ValueError(f"it says it holds {size} bytes; at most {MOST_BYTES} are taken")


def _messages(
    content: memoryview, channels: Collection[int]
) -> Iterator[tuple[int, int, memoryview]]:
    """Channel, log time and data of the messages of some channels, in the order of the chunk."""
    place = 0
    while place < len(content):
        opcode, size = _RECORD.unpack_from(content, place)
        place += _RECORD.size
        if opcode == Opcode.MESSAGE:
            channel, _, time, _ = _MESSAGE.unpack_from(content, place)
            if channel in channels:
                yield channel, time, content[place + _MESSAGE.size : place + size]
        place += size


def _read(file: BinaryIO, place: int, length: int) -> bytearray:
    """``length`` bytes at ``place``, whatever other thread reads the file.

    Raises:
        EOFError: the file ends before.
    """
    if place + length > os.fstat(file.fileno()).st_size:
        raise EOFError("the file ends in the middle of it")
    content = bytearray(length)
    view = memoryview(content)
    while view:
        count = os.preadv(file.fileno(), [view], place)
        if count == 0:
            raise EOFError("the file ends in the middle of it")
        place += count
        view = view[count:]
    return content
