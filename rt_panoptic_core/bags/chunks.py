"""Reading indexed mcaps by their chunks: each decompressed once, its messages left where they lie in it."""

from __future__ import annotations

import heapq
import os
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
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

_RECORD = struct.Struct("<BQ")
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
    if index.compression == "lz4":
        content = lz4.frame.decompress(stored, return_bytearray=True)
    elif index.compression == "zstd":
        content = zstandard.ZstdDecompressor().decompress(stored, index.uncompressed_size)
    elif not index.compression:
        content = stored
    else:
        raise ValueError(f"compression {index.compression!r} is not known")
    if len(content) != index.uncompressed_size:
        raise ValueError(f"it holds {len(content)} bytes instead of {index.uncompressed_size}")
    (crc,) = struct.unpack("<I", _read(chunk.file, index.chunk_start_offset + _CRC_PLACE, 4))
    if crc and zlib.crc32(content) != crc:
        raise ValueError("its checksum is not right")
    return memoryview(content)


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
    content = bytearray(length)
    view = memoryview(content)
    while view:
        count = os.preadv(file.fileno(), [view], place)
        if count == 0:
            raise EOFError("the file ends in the middle of it")
        place += count
        view = view[count:]
    return content
