"""Pictures of a bag, decoded ahead, and the topics they are found on."""

import numpy as np
import pytest

from rt_panoptic_core.bags.frames import Frame, find_image_topics, read_frames
from rt_panoptic_core.bags.messages import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    INSTANCES,
    camera_info_message,
    compressed_message,
    header,
    image_message,
)
from rt_panoptic_core.bags.node_topics import recorded_results
from rt_panoptic_core.bags.reader import BagMessage, BagReader
from rt_panoptic_core.bags.survey import survey
from rt_panoptic_core.bags.writer import BagWriter
from rt_panoptic_core.errors import BagError

COLORS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_pictures_come_in_order_with_the_messages_between_them(make_flat_bag, street):
    with BagReader(make_flat_bag()) as reader:
        items = list(read_frames(reader, ["/camera/image"], others=None))
    frames = [item for item in items if isinstance(item, Frame)]
    assert [frame.number for frame in frames] == list(range(8))
    for frame in frames:
        np.testing.assert_array_equal(frame.image, street.scene(frame.number).image)
        assert (frame.stamp, frame.frame_id) == (frame.message.time, "camera")
    others = [item.topic for item in items if isinstance(item, BagMessage)]
    assert others.count("/ground_truth/semantic") == 8
    assert [item.time if isinstance(item, BagMessage) else item.message.time for item in items] == (
        sorted(m.time for m in (i if isinstance(i, BagMessage) else i.message for i in items))
    )


def test_leaving_in_the_middle_ends_the_threads(make_flat_bag):
    with BagReader(make_flat_bag(frames=range(12))) as reader:
        stream = read_frames(reader, ["/camera/image"])
        assert next(stream).number == 0
        stream.close()


def test_mixed_encodings_and_messages_that_do_not_decode(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/camera", IMAGE)
        bag.write("/camera", 0, image_message(COLORS, header(0, "c")))
        bag.write(
            "/camera", 1, image_message(COLORS[..., ::-1].copy(), header(1, "c"), encoding="bgr8")
        )
        bag.write("/camera", 2, image_message(COLORS, header(2, "c"), encoding="yuv999"))
        bag.write_bytes("/camera", IMAGE, 3, b"\x00\x01\x00\x00 no message")
        cut_short = image_message(COLORS, header(4, "c"))
        cut_short.data = cut_short.data[:100]
        bag.write("/camera", 4, cut_short)
        bag.write("/camera", 5, image_message(COLORS[:10], header(5, "c")))
    with BagReader(tmp_path / "bag") as reader:
        frames = list(read_frames(reader, ["/camera"]))
    np.testing.assert_array_equal(frames[0].image, COLORS)
    np.testing.assert_array_equal(frames[1].image, COLORS)
    assert [frame.image is None for frame in frames] == [False, False, True, True, True, False]
    assert "'yuv999' is not supported" in frames[2].error
    assert "do not hold a sensor_msgs/msg/Image" in frames[3].error
    assert "100 bytes of data are less than 20 rows" in frames[4].error
    assert frames[5].image.shape == (10, 30, 3)
    assert [frame.stamp for frame in frames] == [0, 1, 2, 3, 4, 5]


def test_the_error_of_a_reading_thread_reaches_the_reader():
    class Broken(BagReader):
        def __init__(self):
            self.topics = {}

        def messages(self, _topics=None):
            raise BagError("the disk was pulled out")
            yield

    with pytest.raises(BagError, match="pulled out"):
        list(read_frames(Broken(), ["/camera"]))


def write_topics(path, **pictures):
    """A bag with one message on each topic; names have two underscores for a slash."""
    with BagWriter(path) as bag:
        fill_topics(bag, **pictures)
    return path


def fill_topics(bag, **pictures):
    for name, content in pictures.items():
        topic = "/" + name.replace("__", "/")
        bag.add_topic(topic, content.__msgtype__)
        bag.write(topic, 0, content)


HEAD = header(0, "c")
COLOR = image_message(COLORS, HEAD)
GREY = image_message(COLORS[..., 0].copy(), HEAD)
DEPTH = image_message(np.ones((4, 4), np.uint16), HEAD, encoding="16UC1")
JPEG = compressed_message(COLORS, HEAD)
THERMAL = image_message(np.ones((4, 4), np.uint16), HEAD, encoding="mono16")


def coded(image_format, start, content=JPEG):
    """A CompressedImage of another format, with some bytes before the picture."""
    message = compressed_message(COLORS, HEAD)
    message.format = image_format
    message.data = np.frombuffer(start + bytes(content.data), np.uint8)
    return message


CODED_DEPTH = coded("16UC1; compressedDepth png", bytes(12))
PNG_DEPTH = coded(
    "16UC1; png compressed ", b"", compressed_message(COLORS, HEAD, image_format="png")
)
GREY_JPEG = coded("mono8; jpeg compressed ", b"")
VIDEO = coded("h264", b"\0\0\0\1")
INFO = camera_info_message((20, 30), (1, 1), (1, 1), HEAD)


@pytest.mark.parametrize(
    ("topics", "found"),
    [
        ({"camera__image": COLOR, "camera__depth": DEPTH, "camera__info": INFO}, "/camera/image"),
        ({"camera__image": COLOR, "labels": GREY}, "/camera/image"),
        ({"camera__image": GREY, "camera__depth": DEPTH}, "/camera/image"),
        ({"camera__image": COLOR, "ground_truth__semantic": GREY}, "/camera/image"),
        ({"camera__image": COLOR, "camera__image__compressed": JPEG}, "/camera/image"),
        ({"camera__image__compressed": JPEG, "depth": DEPTH}, "/camera/image/compressed"),
        ({"color": COLOR, "aligned__compressedDepth": CODED_DEPTH}, "/color"),
        ({"color__compressed": JPEG, "aligned__depth": CODED_DEPTH}, "/color/compressed"),
        ({"color__compressed": JPEG, "aligned__compressedDepth": JPEG}, "/color/compressed"),
        ({"color": COLOR, "aligned__compressed": PNG_DEPTH}, "/color"),
        ({"color": COLOR, "infra__compressed": GREY_JPEG}, "/color"),
        ({"color": COLOR, "color__ffmpeg": VIDEO}, "/color"),
        ({"color__ffmpeg": VIDEO, "depth": DEPTH}, "/color/ffmpeg"),
        ({"infra": GREY, "thermal": THERMAL}, "/infra"),
        ({"thermal": THERMAL, "depth": DEPTH}, "/thermal"),
    ],
)
def test_the_only_camera_is_found(tmp_path, topics, found):
    with BagReader(write_topics(tmp_path / "bag", **topics)) as reader:
        assert [topic.name for topic in find_image_topics(reader)] == [found]


@pytest.mark.parametrize("node", ["rt_panoptic", "front__rt_panoptic", "rt_panoptic__left__image"])
@pytest.mark.parametrize("picture", [COLOR, GREY])
def test_results_of_the_node_are_no_camera(tmp_path, node, picture):
    results = {"semantic": GREY, "instance": DEPTH, "panoptic": DEPTH, "confidence": GREY}
    results |= {"overlay": COLOR, "overlay__compressed": JPEG}
    path = tmp_path / "bag"
    topics = {f"{node}__{name}": content for name, content in results.items()}
    namespace = "/" + node.replace("__", "/")
    with BagWriter(path) as bag:
        # Nobody may have listened to it.
        bag.add_topic(f"{namespace}/instances", INSTANCES)
        fill_topics(bag, camera__image=picture, **topics)
    with BagReader(path) as reader:
        assert [topic.name for topic in find_image_topics(reader)] == ["/camera/image"]
        named = find_image_topics(reader, [f"{namespace}/overlay"])
        assert [topic.name for topic in named] == [f"{namespace}/overlay"]
        assert set(recorded_results(reader)) == set(reader.topics) - {"/camera/image"}


def test_a_bag_of_results_alone_says_so(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/node/instances", INSTANCES)
        fill_topics(bag, node__overlay=COLOR)
    said = r"no camera's image topic; .* Results of the node are not taken .* name one with --image-topic"
    with BagReader(tmp_path / "bag") as reader, pytest.raises(BagError, match=said):
        find_image_topics(reader)


def test_what_only_is_called_as_results_are_may_be_a_camera(tmp_path):
    path = write_topics(tmp_path / "bag", robot__overlay=COLOR, robot__instances=INFO)
    with BagReader(path) as reader:
        assert [topic.name for topic in find_image_topics(reader)] == ["/robot/overlay"]


def test_several_cameras_have_to_be_chosen_from(tmp_path):
    path = write_topics(tmp_path / "bag", left=COLOR, right=COLOR, info=INFO)
    with BagReader(path) as reader:
        with pytest.raises(BagError, match="2 image topics: /left, /right; choose"):
            find_image_topics(reader)
        with pytest.raises(BagError, match=r"/left, /right; choose with image:=TOPIC$"):
            find_image_topics(reader, option="image:=TOPIC")
        chosen = find_image_topics(reader, ["/right", "/left", "/right"])
        assert [topic.name for topic in chosen] == ["/right", "/left"]
        with pytest.raises(BagError, match=f"'/info' is a {CAMERA_INFO}, not a {IMAGE} or "):
            find_image_topics(reader, ["/info"])


def test_no_camera_at_all_lists_what_there_is(tmp_path):
    path = write_topics(tmp_path / "bag", depth=DEPTH, info=INFO)
    said = pytest.raises(BagError, match=r"no camera's image topic; it has /depth")
    with BagReader(path) as reader, said:
        find_image_topics(reader)


def test_image_topics_without_messages_are_told_of(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/camera/image", IMAGE)
        fill_topics(bag, info=INFO)
    said = (
        r"no messages on its image topics \(/camera/image\): it is damaged or cut off, or nothing"
    )
    with BagReader(tmp_path / "bag") as reader, pytest.raises(BagError, match=said):
        find_image_topics(reader)


def test_a_thermal_camera_is_taken_with_a_note(tmp_path):
    said = []
    with BagReader(write_topics(tmp_path / "bag", thermal=THERMAL)) as reader:
        find_image_topics(reader, note=said.append)
        assert ["/thermal is taken for a camera's, mono16" in words for words in said] == [True]
        find_image_topics(reader, ["/thermal"], note=said.append)
        assert len(said) == 1
    refused = pytest.raises(BagError, match="/depth may be depth or labels")
    with BagReader(write_topics(tmp_path / "depth", depth=CODED_DEPTH)) as reader, refused:
        find_image_topics(reader)


def test_a_thermal_camera_can_be_named(tmp_path):
    path = write_topics(tmp_path / "bag", thermal=DEPTH)
    with BagReader(path) as reader:
        said = "/thermal may be depth or labels; where a camera's pictures are there, choose with image:=X"
        with pytest.raises(BagError, match=said):
            find_image_topics(reader, option="image:=X")
        (frame,) = read_frames(reader, ["/thermal"])
        assert frame.image.shape == (4, 4, 3)


def test_the_survey_tells_size_and_pace_despite_a_bad_first_message(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/camera", COMPRESSED_IMAGE)
        bag.write("/camera", 0, compressed_message(COLORS, header(0, "c")))
        broken = compressed_message(COLORS, header(0, "c"))
        broken.data = broken.data[:20]
        for number in range(1, 5):
            stamp = number * 40_000_000
            good = compressed_message(COLORS, header(stamp, "c"))
            bag.write("/camera", stamp, good)
        bag.add_topic("/broken", COMPRESSED_IMAGE)
        bag.write("/broken", 0, broken)
    with BagReader(tmp_path / "bag") as reader:
        (look,) = survey(reader, ["/camera"])
        assert (look.size, look.fps) == ((20, 30), pytest.approx(25))
        with pytest.raises(BagError, match=r"no picture of /broken can be read: .*cut off"):
            survey(reader, ["/broken"])
