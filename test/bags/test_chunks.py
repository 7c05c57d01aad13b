"""Chunks of a recording that go into the annotated bag as they are."""

import shutil

import lz4.frame
import mcap.reader
import mcap.writer
import numpy as np
import pytest
import rosbags.rosbag2
import yaml
import zstandard
from mcap.records import Channel, Schema

from rt_panoptic_core.bags import chunks, storage
from rt_panoptic_core.bags.annotate import AnnotatedBag, result_topics
from rt_panoptic_core.bags.chunks import RawChunk
from rt_panoptic_core.bags.frames import Frame, read_frames
from rt_panoptic_core.bags.mcap_file import McapFile
from rt_panoptic_core.bags.messages import IMAGE, header, image_message, serialize, typestore
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.bags.recovery import RecoveredMcap
from rt_panoptic_core.bags.storage import Reserve, WholeWritesFile
from rt_panoptic_core.bags.writer import BagWriter
from rt_panoptic_core.errors import BagError

CAMERA, LIDAR = "/camera/image", "/lidar"
NOISE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def message(number):
    head = header(number * 10**9, "camera")
    return bytes(serialize(image_message(np.roll(NOISE, number, axis=1), head)))


def record(path, compression="lz4", ids=(7, 3), offered=None):
    """An mcap of two topics whose channels are numbered as no writer of ours would."""
    definition, _ = typestore().generate_msgdef(IMAGE, ros_version=2)
    stream = WholeWritesFile(path, Reserve(path.parent))
    file = McapFile(stream, chunk_bytes=50_000, compression=compression)
    file.add_schema(Schema(id=9, name=IMAGE, encoding="ros2msg", data=definition.encode()))
    for number, topic in zip(ids, (CAMERA, LIDAR), strict=True):
        file.add_channel(
            Channel(
                id=number,
                topic=topic,
                message_encoding="cdr",
                metadata={} if offered is None else {"offered_qos_profiles": offered},
                schema_id=9,
            )
        )
    for number in range(12):
        for channel in ids:
            file.add_message(channel, number * 10**9, message(number), number + 1)
    file.finish()
    stream.close()
    return path


def copied(path, folder, street, compression="chunk"):
    """The annotated bag of a recording, without results, and what was given to it."""
    with BagReader(path) as reader:
        topics = result_topics([CAMERA])
        bag = AnnotatedBag(
            folder, reader, topics, street.taxonomy, compression=compression, whole=True
        )
        given = list(read_frames(reader, [CAMERA], None, chunks=bag.takes_chunks))
        for item in given:
            if isinstance(item, RawChunk):
                bag.pass_on(item)
            else:
                bag.copy(item.message if isinstance(item, Frame) else item)
        bag.close()
        return given, list(reader.damage)


def stored_chunks(path):
    """The bytes of every chunk record, by start time."""
    with path.open("rb") as file:
        summary = mcap.reader.make_reader(file).get_summary()
        found = []
        for index in sorted(summary.chunk_indexes, key=lambda i: i.message_start_time):
            file.seek(index.chunk_start_offset)
            found.append(file.read(index.chunk_length))
    return found


def contents(path):
    """(topic, time, data) of all messages, by rosbags."""
    with rosbags.rosbag2.Reader(path) as reader:
        return sorted((c.topic, time, bytes(data)) for c, time, data in reader.messages())


@pytest.mark.parametrize("compression", ["lz4", ""])
def test_chunks_keep_their_bytes_and_channels_their_numbers(tmp_path, street, compression):
    path = record(tmp_path / "drive.mcap", compression)
    given, damage = copied(path, tmp_path / "annotated", street)
    assert damage == []
    assert sum(isinstance(item, RawChunk) for item in given) == len(stored_chunks(path)) == 8
    frames = [item for item in given if isinstance(item, Frame)]
    assert [frame.number for frame in frames] == list(range(12))
    np.testing.assert_array_equal(frames[5].image, np.roll(NOISE, 5, axis=1))
    result = tmp_path / "annotated" / "annotated_0.mcap"
    assert stored_chunks(result) == stored_chunks(path)
    expected = sorted(
        (topic, number * 10**9, message(number))
        for topic in (CAMERA, LIDAR)
        for number in range(12)
    )
    assert contents(tmp_path / "annotated") == expected
    with result.open("rb") as file:
        reader = mcap.reader.make_reader(file, validate_crcs=True)
        statistics = reader.get_summary().statistics
        assert len(list(reader.iter_messages())) == statistics.message_count == 24
        assert statistics.channel_message_counts == {7: 12, 3: 12}
        assert (statistics.message_start_time, statistics.message_end_time) == (0, 11 * 10**9)
    # Without its index, as a kill leaves it.
    rest = RecoveredMcap(result)
    assert sorted(c.msgcount for c in rest.connections) == [12, 12]


def test_a_damaged_chunk_is_not_passed_on(tmp_path, street):
    path = record(tmp_path / "drive.mcap")
    content = bytearray(path.read_bytes())
    with path.open("rb") as file:
        index = mcap.reader.make_reader(file).get_summary().chunk_indexes[3]
    middle = index.chunk_start_offset + index.chunk_length // 2
    content[middle : middle + 100] = bytes(100)
    path.write_bytes(content)
    given, damage = copied(path, tmp_path / "annotated", street)
    assert any("a chunk cannot be read" in note for note in damage)
    assert sum(isinstance(item, RawChunk) for item in given) == 7
    found = contents(tmp_path / "annotated")
    assert len(found) == 21
    assert {(topic, time) for topic, time, _ in found} >= {(CAMERA, 0), (LIDAR, 11 * 10**9)}


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_chunk_that_says_it_holds_too_much_is_left_out(
    tmp_path, monkeypatch, compression, indexed
):
    path = tmp_path / "drive.mcap"
    definition, _ = typestore().generate_msgdef(IMAGE, ros_version=2)
    with path.open("wb") as stream:
        file = mcap.writer.Writer(
            stream, chunk_size=50_000, compression=mcap.writer.CompressionType[compression.upper()]
        )
        file.start("ros2")
        schema = file.register_schema(IMAGE, "ros2msg", definition.encode())
        channel = file.register_channel(CAMERA, "cdr", schema)
        for number in range(12):
            data = bytes(1_000_000) if number == 7 else message(number)
            file.add_message(channel, number * 10**9, data, number * 10**9)
        file.finish()
    if not indexed:
        path.write_bytes(path.read_bytes()[:-100])
    monkeypatch.setattr(chunks, "MOST_BYTES", 200_000)
    with BagReader(path) as reader:
        found = [item.time // 10**9 for item in reader.messages()]
        assert f"{path}: a chunk cannot be read: it says it holds" in reader.damage[0]
        assert len(set(reader.damage)) == len(reader.damage)
    assert set(range(12)) - {*found} == {6, 7}


def test_a_chunk_does_not_take_more_memory_than_it_says(monkeypatch):
    zeros = bytes(300_000)
    for compression, stored in (
        ("lz4", lz4.frame.compress(zeros, content_checksum=True)),
        ("lz4", lz4.frame.compress(zeros, store_size=False)),
        ("zstd", zstandard.compress(zeros)),
    ):
        assert chunks.unpacked(compression, stored, 300_000) == zeros
        for size in (0, 1000, 299_999, 300_001):
            with pytest.raises(ValueError, match=f"(instead of|after the) {size}"):
                chunks.unpacked(compression, stored, size)
    monkeypatch.setattr(chunks, "MOST_BYTES", 200_000)
    with pytest.raises(ValueError, match="300000 bytes; at most 200000 are taken"):
        chunks.unpacked("zstd", stored, 300_000)


@pytest.mark.parametrize("compression", ["none", "message"])
def test_what_is_asked_to_be_stored_otherwise_is_written_anew(tmp_path, street, compression):
    path = record(tmp_path / "drive.mcap")
    given, _ = copied(path, tmp_path / "annotated", street, compression)
    assert not any(isinstance(item, RawChunk) for item in given)
    assert len(contents(tmp_path / "annotated")) == 24


@pytest.mark.parametrize("mode", [None, "", "none", "NONE"])
def test_a_recorder_s_folder_gives_its_chunks(tmp_path, street, make_flat_bag, mode):
    """However metadata.yaml says that nothing more than the chunks is compressed."""
    path = make_flat_bag()
    metadata = path / "metadata.yaml"
    told = yaml.safe_load(metadata.read_text(encoding="utf-8"))
    information = told["rosbag2_bagfile_information"]
    assert information.pop("compression_mode") == ""
    if mode is not None:
        information["compression_mode"] = mode
    metadata.write_text(yaml.safe_dump(told), encoding="utf-8")
    given, damage = copied(path, tmp_path / "annotated", street)
    assert any(isinstance(item, RawChunk) for item in given)
    assert not damage
    (file,) = path.glob("*.mcap")
    (made,) = (tmp_path / "annotated").glob("*.mcap")
    assert stored_chunks(made) == stored_chunks(file)


def test_a_file_beside_the_recording_is_not_read(tmp_path, street, make_flat_bag):
    """As a repaired copy that was left there."""
    path = make_flat_bag()
    (file,) = path.glob("*.mcap")
    shutil.copy(file, path / "recovered.mcap")
    with BagReader(path) as reader:
        assert reader.chunked is not None
        assert len(list(reader.messages())) == sum(t.count for t in reader.topics.values())
        assert [note.rsplit("/", 1)[-1] for note in reader.damage] == [
            "recovered.mcap: metadata.yaml does not list it, so it is not read"
        ]


def test_messages_that_are_not_of_ros_are_left_out_and_named(tmp_path):
    path = tmp_path / "drive.mcap"
    definition, _ = typestore().generate_msgdef(IMAGE, ros_version=2)
    with path.open("wb") as file:
        writer = mcap.writer.Writer(file)
        writer.start(profile="ros2")
        image = writer.register_schema(IMAGE, "ros2msg", definition.encode())
        other = writer.register_schema("note", "jsonschema", b"{}")
        camera = writer.register_channel(CAMERA, "cdr", image)
        notes = writer.register_channel("/notes", "json", other)
        for number in range(3):
            writer.add_message(camera, number * 10**9, message(number), number * 10**9)
            writer.add_message(notes, number * 10**9, b'{"a": 1}', number * 10**9)
        writer.finish()
    with BagReader(path) as reader:
        assert list(reader.topics) == [CAMERA]
        assert [m.topic for m in reader.messages()] == [CAMERA] * 3
        (said,) = reader.notes
        assert reader.damage == []
    assert "/notes is left out: its messages are encoded as 'json', not as those of ROS 2" in said


@pytest.mark.parametrize("in_folder", [False, True])
def test_an_mcap_that_does_not_name_ros_is_not_damaged(tmp_path, in_folder):
    with BagWriter(tmp_path / "drive") as bag:
        bag.add_topic(CAMERA, IMAGE)
    (path,) = (tmp_path / "drive").glob("*.mcap")
    definition, _ = typestore().generate_msgdef(IMAGE, ros_version=2)
    with path.open("wb") as file:
        writer = mcap.writer.Writer(file)
        writer.start(profile="")
        image = writer.register_schema(IMAGE, "ros2msg", definition.encode())
        camera = writer.register_channel(CAMERA, "cdr", image)
        for number in range(3):
            writer.add_message(camera, number * 10**9, message(number), number * 10**9)
        writer.finish()
    with BagReader(path.parent if in_folder else path) as reader:
        assert len(list(reader.messages())) == 3
        (said,) = reader.notes
        assert reader.damage == []
    assert "its header does not say that it is of ROS 2" in said


def test_a_quality_of_service_that_is_none_is_unknown(tmp_path):
    path = record(tmp_path / "drive.mcap", offered="x")
    with BagReader(path) as reader:
        assert reader.topics[CAMERA].count == 12


def test_files_that_number_their_channels_differently_are_read_message_by_message(tmp_path, street):
    folder = tmp_path / "drive"
    folder.mkdir()
    record(folder / "drive_0.mcap", ids=(7, 3))
    with BagReader(folder / "drive_0.mcap") as reader:
        assert reader.chunked is not None
    record(folder / "drive_1.mcap", ids=(3, 7))
    with BagReader(folder) as reader:
        assert reader.chunked is None
        assert reader.topics[CAMERA].count == 24


def test_the_own_writer_and_that_of_rosbags_are_read_alike(tmp_path):
    for number, kind in enumerate((BagWriter, rosbags.rosbag2.Writer)):
        path = tmp_path / str(number)
        if kind is BagWriter:
            with kind(path) as bag:
                bag.add_topic(CAMERA, IMAGE)
                bag.write_bytes(CAMERA, IMAGE, 5, message(0))
        else:
            plugin = rosbags.rosbag2.StoragePlugin.MCAP
            with kind(path, version=9, storage_plugin=plugin) as bag:
                connection = bag.add_connection(CAMERA, IMAGE, typestore=typestore())
                bag.write(connection, 5, message(0))
        with BagReader(path) as reader:
            (found,) = reader.messages()
            assert (found.topic, found.message_type, found.time) == (CAMERA, IMAGE, 5)
            assert bytes(found.data) == message(0)
            assert reader.damage == []


def test_a_full_disk_keeps_every_chunk_that_was_passed_on(tmp_path, street, monkeypatch):
    path = record(tmp_path / "drive.mcap")
    sizes = [len(chunk) for chunk in stored_chunks(path)]

    class Full(storage.FileIO):
        """Holds four chunks and a bit; what is set aside makes room for two more."""

        def write(self, data):
            room = sum(sizes[:4]) + 20_000 + (0 if reserve.exists() else 2 * sizes[0] + 50_000)
            if self.tell() + len(data) > room:
                raise OSError(28, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(storage, "FileIO", Full)
    reserve = tmp_path / "annotated.partial" / ".reserve"
    with BagReader(path) as reader:
        bag = AnnotatedBag(
            tmp_path / "annotated", reader, result_topics([CAMERA]), street.taxonomy, whole=True
        )
        passed = 0
        with pytest.raises(BagError, match="the disk is full"):
            for item in reader.chunks([]):
                passed += 1
                bag.pass_on(item)
        partial = bag.close(complete=False)
    assert passed == 5
    with BagReader(partial) as reader:
        assert reader.damage == []
    assert len(stored_chunks(partial / "annotated_0.mcap")) == 5
