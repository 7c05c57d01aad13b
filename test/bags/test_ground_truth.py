"""Ground truth by stamp, from topics and from folders."""

import cv2
import numpy as np
import pytest

from rt_panoptic_core.bags.ground_truth import (
    BagGroundTruth,
    FolderGroundTruth,
    LabelTopics,
    StampIndex,
    find_label_topics,
)
from rt_panoptic_core.bags.messages import (
    IMAGE,
    LABEL_INFO,
    header,
    image_message,
    label_info_message,
)
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.bags.truths import open_truths
from rt_panoptic_core.bags.writer import BagWriter
from rt_panoptic_core.errors import BagError, ImageError
from rt_panoptic_core.taxonomy import Taxonomy

START, STEP = 1_000 * 10**9, 10**8
TOPICS = LabelTopics("/ground_truth/semantic", "/ground_truth/instance", "/ground_truth/label_info")


def test_the_nearest_stamp_is_taken_within_the_tolerance():
    index = StampIndex([100, 200, 205], 10)
    assert [index.nearest(stamp) for stamp in (100, 92, 89, 150, 202, 203, 216)] == (
        [100, 100, None, None, 200, 205, None]
    )
    # Equally near: the earlier.
    assert StampIndex([100, 110], 5).nearest(105) == 100
    exact = StampIndex([100], 0)
    assert (exact.nearest(100), exact.nearest(101)) == (100, None)
    assert StampIndex([], 5).nearest(3) is None


def test_labels_of_a_bag_in_any_order_of_asking(make_flat_bag, street):
    path = make_flat_bag(frames=range(100))
    truth = BagGroundTruth(path, TOPICS, street.taxonomy, 0)
    assert truth.has_instances
    for number in (0, 1, 99, 2):
        found = truth.find(START + number * STEP)
        np.testing.assert_array_equal(found.semantic, street.scene(number).semantic)
        np.testing.assert_array_equal(found.instance, street.scene(number).instance)
    assert truth.find(START + 1) is None
    truth.close()
    near = BagGroundTruth(path, TOPICS, street.taxonomy, STEP // 4)
    assert near.find(START + STEP + STEP // 5).stamp == START + STEP
    near.close()


@pytest.mark.parametrize(
    "name", [None, "/ground_truth", "/ground_truth/", "/ground_truth/semantic"]
)
def test_the_names_of_ground_truth(make_flat_bag, name):
    with BagReader(make_flat_bag()) as reader:
        assert find_label_topics(reader, name) == TOPICS


def test_a_bag_without_ground_truth(make_flat_bag, street):
    with BagReader(make_flat_bag(truth=False)) as reader:
        assert find_label_topics(reader) is None
        with pytest.raises(BagError, match="no topic '/truth'; it has /camera/image"):
            find_label_topics(reader, "/truth")
        assert open_truths(reader, ["/camera/image"], street.taxonomy) == ({}, [])


def test_class_ids_are_mapped_by_name(tmp_path, street):
    other = Taxonomy.from_dict(
        {
            "name": "own",
            "classes": [
                {"name": "car", "thing": True},
                {"name": "lawn", "thing": False},
                {"name": "road", "thing": False},
            ],
        }
    )
    semantic = np.array([[0, 1, 2, 255]], dtype=np.uint8)
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/t/semantic", IMAGE)
        bag.add_topic("/t/label_info", LABEL_INFO)
        bag.write("/t/label_info", 0, label_info_message(other, header(0, "")))
        bag.write("/t/semantic", 0, image_message(semantic, header(7, "")))
    with BagReader(tmp_path / "bag") as reader:
        topics = find_label_topics(reader, "/t")
        assert topics == LabelTopics("/t/semantic", None, "/t/label_info")
    truth = BagGroundTruth(tmp_path / "bag", topics, street.taxonomy, 0)
    assert not truth.has_instances
    assert truth.find(7).semantic.tolist() == [[street.car, 255, street.road, 255]]
    assert truth.find(7).instance is None
    truth.close()
    strange = Taxonomy.from_dict({"classes": [{"name": "meadow", "thing": False}]})
    with pytest.raises(BagError, match="no name in common"):
        BagGroundTruth(tmp_path / "bag", topics, strange, 0)


def test_packed_labels_hold_both(tmp_path, street):
    packed = np.array([[13 << 16 | 4, 255 << 16]], dtype=np.int32)
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/panoptic", IMAGE)
        bag.write("/panoptic", 0, image_message(packed, header(7, "")))
    truth = BagGroundTruth(
        tmp_path / "bag", LabelTopics("/panoptic", None, None), street.taxonomy, 0
    )
    found = truth.find(7)
    assert (found.semantic.tolist(), found.instance.tolist()) == ([[13, 255]], [[4, 0]])
    assert truth.has_instances
    truth.close()


def test_a_missing_half_is_named(tmp_path, street):
    with BagWriter(tmp_path / "bag") as bag:
        for topic in TOPICS.names:
            bag.add_topic(topic, IMAGE)
        plane = np.zeros((2, 2), dtype=np.uint8)
        bag.write(TOPICS.semantic, 0, image_message(plane, header(7, "")))
        bag.write(TOPICS.semantic, 1, image_message(plane, header(8, "")))
        bag.write(TOPICS.instance, 1, image_message(plane.astype(np.uint16), header(8, "")))
    truth = BagGroundTruth(tmp_path / "bag", LabelTopics(*TOPICS.names, None), street.taxonomy, 0)
    with pytest.raises(ImageError, match=r"it is not complete: .*ground_truth"):
        truth.find(7)
    assert truth.find(8).stamp == 8
    truth.close()


def test_files_named_by_stamp(tmp_path, street):
    for name in ("1000000000", "1_500000000", "2.000000000"):
        plane = np.full((3, 4), street.car, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{name}_semantic.png"), plane)
        cv2.imwrite(str(tmp_path / f"{name}_instance.png"), np.full((3, 4), 700, np.uint16))
    (tmp_path / "notes_semantic.png").write_text("not by stamp")
    truth = FolderGroundTruth(tmp_path, street.taxonomy, 10**8)
    stamps = [10**9, 15 * 10**8, 2 * 10**9]
    assert [truth.find(stamp + 3).stamp for stamp in stamps] == stamps
    found = truth.find(10**9)
    assert (found.semantic[0, 0], found.instance[0, 0]) == (street.car, 700)
    assert truth.find(12 * 10**8) is None
    (tmp_path / "1000000000_instance.png").unlink()
    with pytest.raises(ImageError, match=r"no _instance\.png"):
        FolderGroundTruth(tmp_path, street.taxonomy, 0).find(10**9)
    (tmp_path / "1_500000000_semantic.png").write_bytes(b"damaged")
    with pytest.raises(ImageError, match=r"1_500000000_semantic.png: cannot be decoded"):
        truth.find(15 * 10**8)


def test_a_folder_without_labels(tmp_path, street):
    with pytest.raises(BagError, match=r"STAMP_semantic\.png"):
        FolderGroundTruth(tmp_path, street.taxonomy, 0)
    with pytest.raises(BagError, match="does not exist"):
        FolderGroundTruth(tmp_path / "nowhere", street.taxonomy, 0)


def test_numbers_of_topics_have_to_fit(make_flat_bag, street, tmp_path):
    with BagReader(make_flat_bag()) as reader:
        with pytest.raises(BagError, match="1 ground truth topics for 2 image topics"):
            open_truths(reader, ["/a", "/b"], street.taxonomy, label_topics=["/ground_truth"])
        with pytest.raises(BagError, match="folder goes with one image topic"):
            open_truths(reader, ["/a", "/b"], street.taxonomy, folder=tmp_path)
