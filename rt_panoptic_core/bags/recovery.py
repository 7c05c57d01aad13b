"""Reading what is left of an mcap that is cut off, damaged, or was never given an index."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from mcap.exceptions import EndOfFile, RecordLengthLimitExceeded
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2.metadata import parse_qos

from rt_panoptic_core.bags.chunks import unpacked
from rt_panoptic_core.bags.recovered import Recovered


class RecoveredMcap(Recovered):
    """The messages of an mcap from its start to where it breaks off, without the index.

    A chunk that is damaged inside is left out and the ones behind it are read.
    """

    def __init__(self, path: Path) -> None:
        """Read through the file once."""
        super().__init__(path)
        counts: dict[int, int] = {}
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        for records in self._records():
            for record in records:
                if isinstance(record, Schema):
                    schemas.setdefault(record.id, record)
                elif isinstance(record, Channel):
                    channels.setdefault(record.id, record)
                elif isinstance(record, Message):
                    counts[record.channel_id] = counts.get(record.channel_id, 0) + 1
        for channel in channels.values():
            if channel.message_encoding != "cdr":
                self.notes.append(
                    f"{self.path}: {channel.topic} is left out: its messages are encoded as "
                    f"{channel.message_encoding!r}, not as those of ROS 2 are"
                )
                continue
            schema = schemas.get(channel.schema_id)
            self.connections.append(self._connection(channel, schema, counts.get(channel.id, 0)))

    def messages(
        self, connections: Collection[Connection]
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Messages in the order of the file, by log time within a chunk."""
        wanted = {connection.id: connection for connection in connections}
        for records in self._records():
            found = [r for r in records if isinstance(r, Message) and r.channel_id in wanted]
            for message in sorted(found, key=lambda m: m.log_time):
                yield wanted[message.channel_id], message.log_time, message.data

    def _records(self) -> Iterator[list[McapRecord]]:
        """The records of each chunk, and each record outside of one by itself."""
        with self.path.open("rb") as file:
            size = self.path.stat().st_size
            try:
                reader = StreamReader(file, emit_chunks=True, record_size_limit=size)
                for record in reader.records:
                    if not isinstance(record, Chunk):
                        yield [record]
                        continue
                    try:
                        content = unpacked(
                            record.compression, record.data, record.uncompressed_size
                        )
                        whole = replace(record, compression="", data=bytes(content))
                        yield breakup_chunk(whole, validate_crc=True)
                    # Decompressors and record parsers each raise their own on damaged bytes.
                    except Exception as error:  # noqa: BLE001
                        self._note(f"{self.path}: a chunk cannot be read: {error}")
            except Exception as error:  # noqa: BLE001 - as above
                short = isinstance(error, (EndOfFile, RecordLengthLimitExceeded))
                reason = "the file ends in the middle of a record" if short else str(error)
                self._note(f"{self.path}: cut off after {file.tell()} of {size} bytes: {reason}")

    @staticmethod
    def _connection(channel: Channel, schema: Schema | None, count: int) -> Connection:
        definition = MessageDefinition(MessageDefinitionFormat.NONE, "")
        if schema is not None and schema.encoding in ("ros2msg", "ros2idl"):
            is_idl = schema.encoding == "ros2idl"
            definition = MessageDefinition(
                MessageDefinitionFormat.IDL if is_idl else MessageDefinitionFormat.MSG,
                schema.data.decode("utf-8", "replace"),
            )
        try:
            offered = parse_qos(channel.metadata.get("offered_qos_profiles", ""))
        except Exception:  # noqa: BLE001 - whatever the library makes of a text that is none; unknown, then
            offered = []
        return Connection(
            id=channel.id,
            topic=channel.topic,
            msgtype=schema.name if schema is not None else "",
            msgdef=definition,
            digest=channel.metadata.get("topic_type_hash", ""),
            msgcount=count,
            ext=ConnectionExtRosbag2(channel.message_encoding, offered),
            owner=None,
        )
