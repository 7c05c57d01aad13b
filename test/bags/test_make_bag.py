"""Bags made of generated streets, pictures, videos and data sets."""

import cv2
import numpy as np
import pytest

from rt_panoptic_core.bags.make import START, BagPlan, make_bag
from rt_panoptic_core.bags.messages import (
    deserialize,
    read_label_info,
    read_picture,
    read_plane,
    stamp_ns,
)
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.bags.sources import DatasetSource, SourceFrame, open_source
from rt_panoptic_core.cli.main import main
from rt_panoptic_core.datasets.generated_streets import GeneratedStreets, StreetSequence
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.taxonomy import Taxonomy

SIZE = (64, 96)


def contents(path):
    """Messages by topic."""
    found = {}
    with BagReader(path) as reader:
        for message in reader.messages():
            content = deserialize(message.data, message.message_type)
            assert stamp_ns(content.header) == message.time
            found.setdefault(message.topic, []).append(content)
    return found


def test_a_generated_street_with_all_that_is_known(tmp_path):
    source = open_source("generated", size=SIZE, seed=4, fps=20.0)
    assert make_bag(source, tmp_path / "bag", BagPlan(frames=3, fps=20.0)) == 3
    found = contents(tmp_path / "bag")
    frames = list(StreetSequence(4, SIZE, fps=20.0).frames(3))
    assert {topic: len(messages) for topic, messages in found.items()} == {
        "/camera/image": 3,
        "/camera/camera_info": 3,
        "/camera/depth": 3,
        "/ground_truth/semantic": 3,
        "/ground_truth/instance": 3,
        "/ground_truth/label_info": 1,
    }
    for number, frame in enumerate(frames):
        picture = found["/camera/image"][number]
        assert stamp_ns(picture.header) == START + number * 50_000_000
        assert picture.header.frame_id == "camera_optical_frame"
        np.testing.assert_array_equal(read_picture(picture), frame.image)
        semantic = read_plane(found["/ground_truth/semantic"][number])
        np.testing.assert_array_equal(semantic, frame.semantic)
        instance = read_plane(found["/ground_truth/instance"][number])
        np.testing.assert_array_equal(instance, frame.instance)
        depth = read_plane(found["/camera/depth"][number])
        near = np.isfinite(frame.depth) & (frame.depth <= 65.535)
        assert np.abs(depth[near] / 1000 - frame.depth[near]).max() <= 0.0006
        assert (depth[~near] == 0).all()
    info = found["/camera/camera_info"][0]
    k = frames[0].intrinsics
    assert info.k.tolist() == [k.fx, 0, k.cx, 0, k.fy, k.cy, 0, 0, 1]
    names = read_label_info(found["/ground_truth/label_info"][0])
    assert names[13] == "car"


def test_the_same_source_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        source = open_source("generated", size=SIZE, seed=1)
        make_bag(source, tmp_path / name / "bag", BagPlan(frames=2))
    first, second = ((tmp_path / name / "bag" / "bag_0.mcap").read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_video_at_its_own_pace(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (48, 32))
    for value in (10, 120, 240):
        writer.write(np.full((32, 48, 3), value, dtype=np.uint8))
    writer.release()
    source = open_source(str(path), size=SIZE)
    assert (source.fps, source.length) == (5.0, 3)
    make_bag(source, tmp_path / "bag", BagPlan(fps=source.fps, encoding="mono8"))
    images = contents(tmp_path / "bag")["/camera/image"]
    assert [image.encoding for image in images] == ["mono8"] * 3
    means = [read_picture(image).mean() for image in images]
    np.testing.assert_allclose(means, [10, 120, 240], atol=4)
    assert stamp_ns(images[2].header) - stamp_ns(images[0].header) == 400_000_000


def test_a_folder_of_pictures_resized_and_compressed(tmp_path):
    for name, color in (("b.png", (0, 0, 255)), ("a.png", (255, 0, 0))):
        cv2.imwrite(str(tmp_path / name), np.full((20, 20, 3), color, dtype=np.uint8))
    (tmp_path / "readme.txt").touch()
    source = open_source(str(tmp_path), size=SIZE)
    plan = BagPlan(size=(10, 30), compressed="png", namespace="/front")
    assert make_bag(source, tmp_path / "bag", plan) == 2
    found = contents(tmp_path / "bag")
    pictures = [read_picture(m) for m in found["/front/image/compressed"]]
    assert [p[0, 0].tolist() for p in pictures] == [[0, 0, 255], [255, 0, 0]]
    assert pictures[0].shape == (10, 30, 3)
    assert (found["/front/camera_info"][0].height, found["/front/camera_info"][0].width) == (10, 30)


def test_a_data_set_with_its_labels(tmp_path):
    dataset = GeneratedStreets(2, size=SIZE, seed=3)
    make_bag(DatasetSource(dataset), tmp_path / "bag", BagPlan(depth=False))
    found = contents(tmp_path / "bag")
    assert "/camera/depth" not in found
    for number in range(2):
        sample = dataset[number]
        semantic = read_plane(found["/ground_truth/semantic"][number])
        np.testing.assert_array_equal(semantic, sample.semantic)
        instance = read_plane(found["/ground_truth/instance"][number])
        np.testing.assert_array_equal(instance, sample.instance)


def test_what_cannot_be_made_says_why(tmp_path):
    endless = open_source("generated", size=SIZE)
    with pytest.raises(BagError, match="no end; give a number of frames with --frames"):
        make_bag(endless, tmp_path / "bag", BagPlan())
    with pytest.raises(BagError, match="neither 'generated' nor"):
        open_source(str(tmp_path / "nowhere"), size=SIZE)
    with pytest.raises(BagError, match="holds no pictures"):
        open_source(str(tmp_path), size=SIZE)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(BagError, match=r"broken\.png: damaged.*remove it"):
        make_bag(open_source(str(tmp_path), size=SIZE), tmp_path / "bag", BagPlan())
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(BagError, match=r"text\.mp4: not a video"):
        open_source(str(tmp_path / "text.mp4"), size=SIZE)
    for wrong, words in (
        ({"fps": 0}, "fps 0"),
        ({"frames": 0}, "frames 0"),
        ({"encoding": "cmyk"}, "'cmyk'; one of rgb8"),
        ({"namespace": "camera"}, "start with a slash"),
    ):
        with pytest.raises(BagError, match=words):
            BagPlan(**wrong)


def test_only_a_bag_is_overwritten(tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.tex").touch()
    street = open_source("generated", size=SIZE)
    with pytest.raises(BagError, match=r"thesis exists; choose another name, or --overwrite"):
        make_bag(street, thesis, BagPlan(frames=1))
    with pytest.raises(BagError, match=r"thesis is no bag and is not overwritten"):
        make_bag(street, thesis, BagPlan(frames=1), overwrite=True)
    assert (thesis / "chapter.tex").exists()
    assert make_bag(street, tmp_path / "bag", BagPlan(frames=2)) == 2
    assert make_bag(street, tmp_path / "bag", BagPlan(frames=1), overwrite=True) == 1


def test_ids_that_16_bits_do_not_hold_are_numbered_anew(tmp_path):
    class Far:
        fps, length, taxonomy = None, 1, Taxonomy.load("cityscapes")

        def frames(self):
            instance = np.array([[0, 70_000, 70_000, 5, 1 << 23, 65_536]], np.int32)
            yield SourceFrame(np.zeros((1, 6, 3), np.uint8), np.zeros((1, 6), np.uint8), instance)

        def intrinsics(self, size):
            del size

    make_bag(Far(), tmp_path / "bag", BagPlan())
    with BagReader(tmp_path / "bag") as reader:
        (message,) = reader.messages(["/ground_truth/instance"])
    plane = read_plane(deserialize(message.data, message.message_type))
    assert plane.tolist() == [[0, 3, 3, 1, 4, 2]]


def test_a_single_picture_is_a_bag_of_one_frame(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((6, 8, 3), np.uint8))
    assert make_bag(open_source(str(tmp_path / "a.png"), size=SIZE), tmp_path / "b", BagPlan()) == 1


def test_nothing_is_left_where_a_picture_cannot_be_read(tmp_path):
    class Torn:
        length, taxonomy, fps = 2, None, None

        def frames(self):
            yield SourceFrame(np.zeros((*SIZE, 3), np.uint8))
            raise BagError("the second page is missing")

        def intrinsics(self, _size):
            return None

    with pytest.raises(BagError, match="second page"):
        make_bag(Torn(), tmp_path / "bag", BagPlan())
    assert list(tmp_path.iterdir()) == []


def test_unreadable_pictures_of_a_folder_are_named_skipped_and_counted(tmp_path, capfd):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(folder / name), np.zeros((*SIZE, 3), np.uint8))
    (folder / "b.png").write_bytes(b"no picture")
    words = ["make-bag", "--source", str(folder), "--output", str(tmp_path / "bag")]
    assert main(words) == 3
    told = capfd.readouterr()
    assert "skipped" in told.err
    assert "b.png" in "".join(told.err.split())
    assert "bag: 2 frames at 10 Hz; 1 picture skipped" in told.out
    for name in ("a.png", "c.png"):
        (folder / name).unlink()
    words[-1] = str(tmp_path / "none")
    assert main(words) == 1
    assert not list(tmp_path.glob("none*"))


def test_an_encoding_of_raw_images_is_refused_for_compressed_ones(tmp_path, capfd):
    words = ["make-bag", "--frames", "1", "--output", str(tmp_path / "bag")]
    assert main([*words, "--compressed", "jpeg", "--encoding", "mono8"]) == 2
    assert "encoding 'mono8': it is of raw images" in " ".join(capfd.readouterr().err.split())
    assert not list(tmp_path.iterdir())
