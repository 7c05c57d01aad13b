"""CamVid's files, classes and mapping."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rt_panoptic_core.datasets.camvid import open_camvid, prediction_table
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy

# One row with each of CamVid's label values: 0 sky … 10 bicyclist, 11 unlabelled.
LABELS = np.arange(12, dtype=np.uint8)[None].repeat(4, axis=0)


def write_frame(root: Path, name: str, labels: np.ndarray = LABELS, split: str = "train") -> None:
    """A grey frame with its labels."""
    for kind in ("images", "labels"):
        (root / split / kind).mkdir(parents=True, exist_ok=True)
    image = np.full((4, 12, 3), 90, np.uint8)
    image[..., 0] = 200  # blue as OpenCV writes
    cv2.imwrite(str(root / split / "images" / f"{name}.png"), image)
    cv2.imwrite(str(root / split / "labels" / f"{name}.png"), labels)


def test_own_classes(tmp_path: Path) -> None:
    write_frame(tmp_path, "b")
    write_frame(tmp_path, "a")
    frames = open_camvid(tmp_path, "train")
    assert len(frames) == 2
    sample = frames[0]
    assert sample.name == "a"
    assert sample.semantic[0].tolist() == [*range(11), UNLABELLED]
    assert sample.image[0, 0].tolist() == [90, 90, 200]
    assert not sample.has_instances
    assert sample.instances == ()
    assert sample.instance.dtype == np.int32
    assert not sample.instance.any()


def test_cityscapes_classes(tmp_path: Path) -> None:
    write_frame(tmp_path, "a")
    cityscapes = Taxonomy.load("cityscapes")
    sample = open_camvid(tmp_path, "train", cityscapes)[0]
    names = [cityscapes.names[c] for c in sample.semantic[0, :11]]
    assert names == [
        "sky",
        "building",
        "pole",
        "road",
        "sidewalk",
        "vegetation",
        "traffic sign",
        "fence",
        "car",
        "person",
        "rider",
    ]
    assert sample.semantic[0, 11] == UNLABELLED


def test_classes_that_a_label_set_lacks_are_void(tmp_path: Path) -> None:
    write_frame(tmp_path, "a")
    few = Taxonomy.from_dict(
        {
            "name": "few",
            "classes": [{"name": "road", "thing": False}, {"name": "car", "thing": True}],
        }
    )
    sample = open_camvid(tmp_path, "train", few)[0]
    assert sample.semantic[0].tolist() == [255, 255, 255, 0, 255, 255, 255, 255, 1, 255, 255, 255]


def test_predictions_count_as_camvids_classes() -> None:
    cityscapes, camvid = Taxonomy.load("cityscapes"), Taxonomy.load("camvid")
    table = prediction_table(cityscapes)
    counts = {name: camvid.names[table[cityscapes.class_id(name)]] for name in cityscapes.names}
    assert counts["sidewalk"] == "pavement"
    assert counts["bus"] == "car"
    assert counts["terrain"] == "tree"
    assert counts["traffic light"] == "sign"
    assert counts["bicycle"] == counts["rider"] == "bicyclist"
    assert counts["wall"] == "building"
    assert table[UNLABELLED] == UNLABELLED
    assert prediction_table(camvid)[:11].tolist() == list(range(11))


def test_a_missing_label_is_named(tmp_path: Path) -> None:
    write_frame(tmp_path, "a")
    write_frame(tmp_path, "b")
    write_frame(tmp_path, "c")
    for name in ("b", "c"):
        (tmp_path / "train" / "labels" / f"{name}.png").unlink()
    with pytest.raises(DatasetError, match=r"2 pictures without a label map: .*b\.png, .*c\.png"):
        open_camvid(tmp_path, "train")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="images"):
        open_camvid(tmp_path, "train")


def test_a_label_that_camvid_does_not_have(tmp_path: Path) -> None:
    write_frame(tmp_path, "a", LABELS + 1)
    with pytest.raises(DatasetError, match="label 12"):
        open_camvid(tmp_path, "train")[0]


def test_sizes_differ(tmp_path: Path) -> None:
    write_frame(tmp_path, "a", LABELS[:3])
    with pytest.raises(
        DatasetError, match=r"images/a\.png: 12x4 pixels, but .*labels/a\.png are for 12x3"
    ):
        open_camvid(tmp_path, "train")[0]


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    write_frame(tmp_path, "a")
    (tmp_path / "train" / "images" / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match=r"a\.png: damaged.*copy the file again"):
        open_camvid(tmp_path, "train")[0]


def test_suffixes_in_capitals_and_unlabelled_as_255_are_known(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[labels == 11] = 255
    for name, suffix in (("a", ".png"), ("b", ".JPG"), ("c", ".jpeg")):
        write_frame(tmp_path, name, labels)
        picture = tmp_path / "train" / "images" / f"{name}.png"
        if suffix != ".png":
            cv2.imwrite(str(picture.with_suffix(suffix)), cv2.imread(str(picture)))
            picture.unlink()
    frames = open_camvid(tmp_path, "train")
    assert [frame.name for frame in (frames[0], frames[1], frames[2])] == ["a", "b", "c"]
    assert frames[0].semantic[0].tolist() == [*range(11), UNLABELLED]
