"""An mcap in the making, record by record: chunks of its own beside chunks of another file, as they are.

The mcap library's writer compresses every message itself, and numbers schemas and channels as they come. A
recording that is written out again with something beside it needs neither: its chunks keep their bytes, and
its channels their numbers. The records are the library's; what is written is read back with it in the tests.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped]
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)
from mcap.writer import MCAP0_MAGIC

from rt_panoptic_core.bags.chunks import RawChunk

_MESSAGE = struct.Struct("<BQHIQQ")
_CHUNK = struct.Struct("<BQQQQI")
_MESSAGE_INDEX = struct.Struct("<BQHI")
_FOOTER = struct.Struct("<BQQQ")


class Stream(Protocol):
    """What the file is written to."""

    def tell(self) -> int:
        """Bytes written."""

    def write(self, data: bytes | memoryview) -> int:
        """Write all of ``data``, or nothing of it and raise."""


class McapFile:
    """Writes an mcap of the profile ``ros2`` to a stream; every chunk with its index is a single write."""

    def __init__(self, stream: Stream, *, chunk_bytes: int, compression: str) -> None:
        """Write the header.

        Args:
            stream: a file at its start.
            chunk_bytes: a chunk is written once it holds more than this, uncompressed.
            compression: of the chunks, ``lz4`` or empty.
        """
        self._stream = stream
        self._chunk_bytes = chunk_bytes
        self._compression = compression
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._counts: dict[int, int] = {}
        self._start, self._end = 0, 0
        self._chunk_indexes: list[ChunkIndex] = []
        self._metadata_indexes: list[MetadataIndex] = []
        self._parts: list[bytes | memoryview] = []
        self._size = 0
        # Of the chunk in progress: log time and place of each message, by channel.
        self._places: dict[int, list[int]] = {}
        stream.write(MCAP0_MAGIC + _bytes(Header(profile="ros2", library="rt_panoptic")))

    def find_schema(self, name: str, encoding: str, data: bytes) -> int:
        """Number of this schema, written if it is not there yet."""
        for schema in self._schemas.values():
            if (schema.name, schema.encoding, schema.data) == (name, encoding, data):
                return schema.id
        number = max(self._schemas, default=0) + 1
        self.add_schema(Schema(id=number, name=name, encoding=encoding, data=data))
        return number

    def add_schema(self, schema: Schema) -> None:
        """Write a schema under its own number."""
        self._stream.write(_bytes(schema))
        self._schemas[schema.id] = schema

    def new_channel(
        self, topic: str, encoding: str, schema: int, metadata: Mapping[str, str]
    ) -> int:
        """Number of a new channel."""
        number = max(self._channels, default=0) + 1
        self.add_channel(
            Channel(
                id=number,
                topic=topic,
                message_encoding=encoding,
                metadata=dict(metadata),
                schema_id=schema,
            )
        )
        return number

    def add_channel(self, channel: Channel) -> None:
        """Write a channel under its own number."""
        self._stream.write(_bytes(channel))
        self._channels[channel.id] = channel
        self._counts.setdefault(channel.id, 0)

    def add_message(self, channel: int, time: int, data: bytes | memoryview, sequence: int) -> None:
        """Add a message to the chunk in progress, which goes to the stream when it is full."""
        head = _MESSAGE.pack(Opcode.MESSAGE, 22 + len(data), channel, sequence, time, time)
        self._places.setdefault(channel, []).extend((time, self._size))
        self._parts += (head, data)
        self._size += len(head) + len(data)
        if self._size > self._chunk_bytes:
            self.flush()

    def pass_on(self, chunk: RawChunk) -> None:
        """Write a chunk of another file as it is; its channels must be here under the same numbers."""
        self._write_chunk(chunk.read(), chunk.place, chunk.counts)

    def flush(self) -> None:
        """Write the chunk in progress, if there is anything in it."""
        if not self._parts:
            return
        content = b"".join(self._parts)
        stored = lz4.frame.compress(content) if self._compression == "lz4" else content
        times = [time for places in self._places.values() for time in places[::2]]
        name = self._compression.encode()
        head = _CHUNK.pack(
            Opcode.CHUNK,
            8 + 8 + 8 + 4 + 4 + len(name) + 8 + len(stored),
            min(times),
            max(times),
            len(content),
            zlib.crc32(content),
        )
        head += struct.pack(f"<I{len(name)}sQ", len(name), name, len(stored))
        length = len(head) + len(stored)
        tail = b""
        offsets = {}
        for channel, places in self._places.items():
            offsets[channel] = length + len(tail)
            size = 8 * len(places)
            tail += _MESSAGE_INDEX.pack(Opcode.MESSAGE_INDEX, 6 + size, channel, size)
            tail += struct.pack(f"<{len(places)}Q", *places)
        index = ChunkIndex(
            chunk_length=length,
            chunk_start_offset=0,
            compression=self._compression,
            compressed_size=len(stored),
            message_end_time=max(times),
            message_index_length=len(tail),
            message_index_offsets=offsets,
            message_start_time=min(times),
            uncompressed_size=len(content),
        )
        counts = {channel: len(places) // 2 for channel, places in self._places.items()}
        self._write_chunk(b"".join((head, stored, tail)), index, counts)
        self._parts, self._size, self._places = [], 0, {}

    def add_metadata(self, name: str, content: Mapping[str, str]) -> None:
        """Write a metadata record."""
        record = _bytes(Metadata(name=name, metadata=dict(content)))
        self._metadata_indexes.append(
            MetadataIndex(offset=self._stream.tell(), length=len(record), name=name)
        )
        self._stream.write(record)

    def finish(self) -> None:
        """Write the chunk in progress and the index."""
        self.flush()
        end = _bytes(DataEnd(0))
        start = self._stream.tell() + len(end)
        groups: list[tuple[Opcode, list[McapRecord]]] = [
            (Opcode.SCHEMA, list(self._schemas.values())),
            (Opcode.CHANNEL, list(self._channels.values())),
            (Opcode.STATISTICS, [self._statistics()]),
            (Opcode.CHUNK_INDEX, list(self._chunk_indexes)),
            (Opcode.METADATA_INDEX, list(self._metadata_indexes)),
        ]
        summary = b""
        offsets = b""
        for opcode, records in groups:
            content = b"".join(_bytes(record) for record in records)
            if content:
                place = start + len(summary)
                offsets += _bytes(
                    SummaryOffset(group_opcode=opcode, group_start=place, group_length=len(content))
                )
            summary += content
        offsets_start = start + len(summary)
        summary += offsets
        crc = zlib.crc32(summary)
        crc = zlib.crc32(_FOOTER.pack(Opcode.FOOTER, 8 + 8 + 4, start, offsets_start), crc)
        footer = _bytes(
            Footer(summary_start=start, summary_offset_start=offsets_start, summary_crc=crc)
        )
        self._stream.write(b"".join((end, summary, footer, MCAP0_MAGIC)))

    def _write_chunk(self, content: bytes, index: ChunkIndex, counts: Mapping[int, int]) -> None:
        """Write a chunk and its message indexes; ``index`` says where they lay before."""
        moved = self._stream.tell() - index.chunk_start_offset
        self._stream.write(content)
        if not self._chunk_indexes:
            self._start, self._end = index.message_start_time, index.message_end_time
        self._start = min(self._start, index.message_start_time)
        self._end = max(self._end, index.message_end_time)
        for channel, count in counts.items():
            self._counts[channel] += count
        self._chunk_indexes.append(
            ChunkIndex(
                chunk_length=index.chunk_length,
                chunk_start_offset=index.chunk_start_offset + moved,
                compression=index.compression,
                compressed_size=index.compressed_size,
                message_end_time=index.message_end_time,
                message_index_length=index.message_index_length,
                message_index_offsets={
                    channel: offset + moved
                    for channel, offset in index.message_index_offsets.items()
                },
                message_start_time=index.message_start_time,
                uncompressed_size=index.uncompressed_size,
            )
        )

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts={c: count for c, count in self._counts.items() if count},
            chunk_count=len(self._chunk_indexes),
            message_count=sum(self._counts.values()),
            message_end_time=self._end,
            message_start_time=self._start,
            metadata_count=len(self._metadata_indexes),
            schema_count=len(self._schemas),
        )


def _bytes(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())  # type: ignore[no-untyped-call]
