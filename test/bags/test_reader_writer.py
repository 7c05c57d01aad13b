"""Bags on disk: read back by rosbags and by the mcap library, damaged, cut short, on a full disk."""

import errno
import os
import shutil

import mcap.reader
import numpy as np
import pytest
import rosbags.rosbag2
from mcap.writer import IndexType
from mcap.writer import Writer as McapFileWriter

from rt_panoptic_core.bags import storage
from rt_panoptic_core.bags.messages import (
    IMAGE,
    deserialize,
    header,
    image_message,
    read_picture,
    serialize,
    typestore,
)
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.bags.storage import is_bag
from rt_panoptic_core.bags.writer import COMPRESSIONS, STORAGES, BagWriter, qos
from rt_panoptic_core.cli.evaluate_bag import bag_facts
from rt_panoptic_core.errors import BagError

NOISE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def picture(number):
    return np.roll(NOISE, number, axis=1)


def message(number):
    return image_message(picture(number), header(number * 10**9, "camera"))


def write(path, count=6, **options):
    with BagWriter(path, **options) as bag:
        bag.add_topic("/camera", IMAGE)
        for number in range(count):
            bag.write("/camera", number * 10**9, message(number))
    return path


def numbers(reader):
    """The frames' numbers, after comparing every picture."""
    found = []
    for item in reader.messages(["/camera"]):
        number = item.time // 10**9
        content = deserialize(item.data, item.message_type)
        np.testing.assert_array_equal(read_picture(content), picture(number))
        found.append(number)
    return found


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_not_read_does_not_make_it_another_bag(tmp_path, kind, compression, whole):
    path = write(tmp_path / "bag", storage=kind, compression=compression)
    if not whole:
        if compression == "file":
            pytest.skip("without its metadata nobody knows what is in the file")
        (path / "metadata.yaml").unlink()
    with BagReader(path) as reader:
        facts = bag_facts(reader)
    assert facts["files"] == {file.name: file.stat().st_size for file in path.iterdir()}
    (path / "notes.txt").write_text("it rained")
    if whole:
        # Named, and not read.
        (path / "older.db3").write_bytes(b"")
    with BagReader(path) as reader:
        assert bag_facts(reader) == facts


@pytest.mark.parametrize("kind", STORAGES)
def test_a_file_of_a_bag_is_one_by_itself(tmp_path, kind):
    path = write(tmp_path / "bag", storage=kind)
    (file,) = [file for file in path.iterdir() if file.stem == "bag_0"]
    with BagReader(file) as reader:
        assert bag_facts(reader) == {"name": file.name, "files": {file.name: file.stat().st_size}}


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_storage_and_compression_reads_back(tmp_path, kind, compression):
    path = write(tmp_path / "bag", storage=kind, compression=compression)
    with BagReader(path) as reader:
        assert reader.damage == []
        assert reader.topics["/camera"].count == 6
        assert numbers(reader) == list(range(6))
    with rosbags.rosbag2.Reader(path) as other:
        raw = [bytes(data) for _, _, data in other.messages()]
    assert raw == [bytes(serialize(message(number))) for number in range(6)]
    assert sorted(p.suffix for p in path.iterdir())[-1] in (".yaml", ".zstd")
    assert not (tmp_path / "bag.partial").exists()


def test_the_mcap_library_finds_chunks_checksums_schema_and_hash(tmp_path):
    path = write(tmp_path / "bag", compression="chunk")
    with (path / "bag_0.mcap").open("rb") as file:
        reader = mcap.reader.make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary.statistics.message_count == 6
        assert {chunk.compression for chunk in summary.chunk_indexes} == {"lz4"}
        schema, channel, first = next(reader.iter_messages())
    assert (schema.name, schema.encoding) == (IMAGE, "ros2msg")
    assert b"std_msgs/Header header" in schema.data
    assert channel.metadata["topic_type_hash"] == typestore().hash_rihs01(IMAGE)
    assert "reliable" in channel.metadata["offered_qos_profiles"]
    assert (first.log_time, first.sequence) == (0, 1)


@pytest.mark.parametrize("kind", STORAGES)
def test_the_same_messages_give_the_same_bytes(tmp_path, kind):
    paths = [write(tmp_path / folder / "bag", storage=kind) for folder in ("a", "b")]
    first, second = ({p.name: p.read_bytes() for p in path.iterdir()} for path in paths)
    assert first == second


def test_a_latched_topic_says_so(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/camera", IMAGE, offered=qos(latched=True, reliable=False, depth=1))
        bag.write("/camera", 0, message(0))
    with BagReader(tmp_path / "bag") as reader:
        (profile,) = reader.topics["/camera"].qos
    assert (profile.durability.name, profile.reliability.name) == ("TRANSIENT_LOCAL", "BEST_EFFORT")
    assert profile.depth == 1


def test_an_existing_bag_is_only_replaced_when_asked_and_when_the_new_one_is_whole(tmp_path):
    path = write(tmp_path / "bag", 2)
    with pytest.raises(BagError, match="exists"):
        BagWriter(path)
    with (
        pytest.raises(RuntimeError, match="camera unplugged"),
        BagWriter(path, overwrite=True) as bag,
    ):
        bag.add_topic("/camera", IMAGE)
        bag.write("/camera", 0, message(0))
        raise RuntimeError("camera unplugged")
    with BagReader(path) as reader:
        assert numbers(reader) == [0, 1]
    with BagReader(tmp_path / "bag.partial") as reader:
        assert (numbers(reader), reader.damage) == ([0], [])


def test_what_an_interrupted_recording_left_is_kept(tmp_path):
    with pytest.raises(RuntimeError), BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/camera", IMAGE)
        bag.write("/camera", 0, message(0))
        raise RuntimeError("camera unplugged")
    with pytest.raises(BagError, match=r"bag\.partial exists \(an interrupted recording\)"):
        BagWriter(tmp_path / "bag")
    with BagReader(tmp_path / "bag.partial") as reader:
        assert numbers(reader) == [0]
    with BagWriter(tmp_path / "bag", overwrite=True) as bag:
        bag.add_topic("/camera", IMAGE)
    assert not (tmp_path / "bag.partial").exists()


def test_a_recording_that_never_began_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/camera", IMAGE)
        raise RuntimeError("no camera")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [0.4, 0.6, 0.9])
def test_a_cut_off_mcap_is_read_as_far_as_it_goes(tmp_path, cut):
    path = write(tmp_path / "bag", 200, compression="none")
    whole = (path / "bag_0.mcap").read_bytes()
    cut_off = tmp_path / "cut.mcap"
    cut_off.write_bytes(whole[: int(len(whole) * cut)])
    with BagReader(cut_off) as reader:
        found = numbers(reader)
        assert reader.topics["/camera"].count == len(found)
        assert any("cut off after" in note for note in reader.damage)
    assert found == list(range(len(found)))
    # Whole chunks of about a megabyte, 18 kB a message.
    assert 200 * cut - 60 <= len(found) <= 200 * cut


@pytest.mark.parametrize("cut", [0.02, 0.4, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("alone", [True, False])
def test_a_cut_off_sqlite_bag_is_read_as_far_as_it_goes(tmp_path, cut, alone):
    path = write(tmp_path / "bag", 100, storage="sqlite3")
    file = path / "bag_0.db3"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * cut)])
    with BagReader(file if alone else path) as reader:
        found = numbers(reader)
        # A file of which only the last page is cut opens, and breaks down on the way.
        assert reader.topics["/camera"].count == (100 if cut > 0.99 else len(found))
        assert reader.topics["/camera"].definition.startswith("std_msgs/Header header")
        assert reader.topics["/camera"].qos
        assert any(f"damaged after {len(found)} messages" in note for note in reader.damage)
        if 0.02 < cut < 0.99:
            sizes = f"the file has {file.stat().st_size} of the {len(whole)} bytes that its header"
            assert sizes in " ".join(reader.damage)
    assert found == list(range(len(found)))
    assert 100 * cut - 3 <= len(found) <= 100 * cut


def test_an_sqlite_bag_that_is_damaged_inside_is_read_up_to_there(tmp_path):
    path = write(tmp_path / "bag", 100, storage="sqlite3")
    file = path / "bag_0.db3"
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    file.write_bytes(content)
    with BagReader(path) as reader:
        found = [item.time // 10**9 for item in reader.messages(["/camera"])]
        assert reader.damage
    assert found[:45] == list(range(45))


def test_a_damaged_chunk_is_left_out_and_those_behind_it_are_read(tmp_path):
    path = write(tmp_path / "bag", 200, compression="chunk")
    file = path / "bag_0.mcap"
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = bytes(500)
    file.write_bytes(content)
    with BagReader(path) as reader:
        found = numbers(reader)
        assert any("chunk" in note.lower() for note in reader.damage)
    assert found[0] == 0
    assert found[-1] == 199
    assert 130 <= len(found) < 200
    assert found == sorted(set(found))


@pytest.mark.parametrize("chunked", [True, False])
def test_an_mcap_without_an_index_in_any_order(tmp_path, chunked):
    path = tmp_path / "bare.mcap"
    with path.open("wb") as file:
        writer = McapFileWriter(
            file,
            index_types=IndexType.NONE,
            use_chunking=chunked,
            use_statistics=False,
            use_summary_offsets=False,
            repeat_channels=False,
            repeat_schemas=False,
        )
        writer.start("ros2")
        definition, _ = typestore().generate_msgdef(IMAGE, ros_version=2)
        schema = writer.register_schema(IMAGE, "ros2msg", definition.encode())
        channel = writer.register_channel("/camera", "cdr", schema)
        for number in (1, 0, 2):
            data = bytes(serialize(message(number)))
            writer.add_message(channel, number * 10**9, data, number * 10**9)
        writer.finish()
    with BagReader(path) as reader:
        assert sorted(numbers(reader)) == [0, 1, 2]


@pytest.mark.parametrize("kind", STORAGES)
def test_a_folder_without_metadata_is_read_by_its_files(tmp_path, kind):
    path = write(tmp_path / "bag", storage=kind)
    (path / "metadata.yaml").unlink()
    with BagReader(path) as reader:
        assert numbers(reader) == list(range(6))
        assert any("metadata.yaml is missing" in note for note in reader.damage)


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize(
    ("line", "wrong"),
    [("message_count: 6", "message_count: many"), ("name: /camera", "name: [1, 2]")],
)
def test_metadata_that_make_no_sense_are_left_aside(tmp_path, kind, line, wrong):
    path = write(tmp_path / "bag", storage=kind)
    file = path / "metadata.yaml"
    head, _, topics = file.read_text().partition("topics_with_message_count")
    assert line in topics
    file.write_text(head + "topics_with_message_count" + topics.replace(line, wrong))
    with BagReader(path) as reader:
        assert numbers(reader) == list(range(6))
        (note,) = reader.damage
    assert wrong.partition(": ")[2].strip("[]") in note


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_file_that_is_listed_twice_is_read_once(tmp_path, kind, compression):
    path = write(tmp_path / "bag", storage=kind, compression=compression)
    metadata = path / "metadata.yaml"
    (file,) = (file.name for file in path.iterdir() if file != metadata)
    content = metadata.read_text()
    entry = next(
        line for line in content.splitlines() if line.strip().strip("'\"") in (f"- {file}", file)
    )
    metadata.write_text(content.replace(f"{entry}\n", f"{entry}\n{entry}\n", 1))
    with BagReader(path) as reader:
        assert numbers(reader) == list(range(6))
        assert any("more than once" in note for note in reader.damage)


def test_messages_compressed_one_by_one_are_read_without_their_metadata(tmp_path):
    path = write(tmp_path / "bag", compression="message")
    with BagReader(path / "bag_0.mcap") as reader:
        assert numbers(reader) == list(range(6))


@pytest.mark.parametrize("kind", STORAGES)
def test_what_a_killed_process_wrote_is_there(tmp_path, kind):
    bag = BagWriter(tmp_path / "bag", storage=kind)
    bag.add_topic("/camera", IMAGE)
    for number in range(5):
        bag.write("/camera", number * 10**9, message(number))
    bag.flush()
    # As a kill leaves it: neither closed nor aborted.
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "bag.partial", left)
    with BagReader(left) as reader:
        assert numbers(reader) == list(range(5))
    bag.close()


class SmallDisk:
    """Takes the place of FileIO: no more than ``size`` bytes fit beside the reserve."""

    size = 0
    reserve = None

    def __init__(self, path, mode):
        self._file = path.open(mode, buffering=0)
        type(self).reserve = path.parent / ".reserve"
        self.closed = False

    def write(self, data):
        room = self.size - self._file.tell() + (0 if self.reserve.exists() else 10**6)
        if len(data) > room:
            # As a real disk: a part is written before it says no.
            self._file.write(bytes(data)[: max(0, room)])
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def truncate(self, size):
        self._file.truncate(size)

    def seek(self, place):
        self._file.seek(place)

    def fileno(self):
        return self._file.fileno()

    def close(self):
        self.closed = True
        self._file.close()


def test_a_full_disk_loses_nothing_that_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "FileIO", SmallDisk)
    monkeypatch.setattr(storage, "_CHUNK_BYTES", 30_000)
    monkeypatch.setattr(SmallDisk, "size", 150_000)
    written = 0
    full = pytest.raises(BagError, match="the disk is full; what was written so far is readable")
    with full, BagWriter(tmp_path / "bag", compression="none") as bag:
        bag.add_topic("/camera", IMAGE)
        for number in range(1000):
            written = number + 1
            bag.write("/camera", number * 10**9, message(number))
    assert 6 < written < 20
    partial = tmp_path / "bag.partial"
    with BagReader(partial) as reader:
        assert (numbers(reader), reader.damage) == (list(range(written)), [])
    with (partial / "bag_0.mcap").open("rb") as file:
        assert mcap.reader.make_reader(file).get_summary().statistics.message_count == written
    assert not (partial / ".reserve").exists()


def test_a_missing_topic_is_answered_with_those_that_are_there(tmp_path):
    with BagReader(write(tmp_path / "bag")) as reader:
        with pytest.raises(
            BagError, match=r"no topic '/cam'; it has /camera \(sensor_msgs/msg/Image, 6"
        ):
            reader.topic("/cam")
        with pytest.raises(BagError, match="not a sensor_msgs/msg/CameraInfo"):
            reader.topic("/camera", ["sensor_msgs/msg/CameraInfo"])


def test_no_topics_are_no_messages(tmp_path):
    with BagReader(write(tmp_path / "bag")) as reader:
        assert list(reader.messages([])) == []
        assert list(reader.messages(["/other"])) == []


def test_what_is_no_bag_says_why(tmp_path):
    with pytest.raises(BagError, match="does not exist"):
        BagReader(tmp_path / "nowhere")
    with pytest.raises(BagError, match="no bag"):
        BagReader(tmp_path)
    os.mkfifo(tmp_path / "pipe.mcap")
    with pytest.raises(BagError, match=r"pipe\.mcap is a named pipe, not a file"):
        BagReader(tmp_path / "pipe.mcap")
    empty = tmp_path / "empty.mcap"
    empty.touch()
    with pytest.raises(BagError, match="nothing can be read"):
        BagReader(empty)
    text = tmp_path / "text.db3"
    text.write_text("not a database")
    with pytest.raises(BagError, match="nothing can be read"):
        BagReader(text)


def test_what_is_taken_for_a_bag(tmp_path):
    (tmp_path / "video.mp4").touch()
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "metadata.yaml").touch()
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "drive_0.mcap").touch()
    taken = ["bag", "loose", "x.db3", "x.mcap"]
    left = ["video.mp4", "nothing", "."]
    assert [name for name in taken + left if is_bag(tmp_path / name)] == taken


def test_a_bag_of_ros_1_is_told_how_to_be_converted(tmp_path):
    path = tmp_path / "drive.bag"
    path.write_bytes(b"#ROSBAG V2.0\n and so on")
    with pytest.raises(BagError, match=r"of ROS 1; convert it.*rosbags-convert --src .*drive\.bag"):
        BagReader(path)
