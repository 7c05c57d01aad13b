"""Names of pictures as tools write them: both kinds of JSON find the files in the same way."""

import json

import cv2
import numpy as np
import pytest

from rt_panoptic_core.datasets.files import check_files
from rt_panoptic_core.datasets.registry import open_dataset
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.panoptic_format import ids_to_rgb

KINDS = ("coco_instances", "coco_panoptic")


@pytest.fixture
def folder(tmp_path):
    """Two pictures, labelled in both forms."""
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "panoptic_train").mkdir()
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"images/train/{name}.png"), np.zeros((8, 12, 3), np.uint8))
        ids = ids_to_rgb(np.full((8, 12), 3, np.int32))
        cv2.imwrite(str(tmp_path / f"panoptic_train/{name}.png"), ids[..., ::-1])
    return tmp_path


def write(folder, kind, names, *, ids=(1, 2), annotated=(1, 2), pngs=("a.png", "b.png")):
    images = [
        {"id": image_id, "file_name": name, "width": 12, "height": 8}
        for image_id, name in zip(ids, names, strict=True)
    ]
    segment = {"id": 3, "category_id": 1, "area": 96, "bbox": [0, 0, 12, 8], "iscrowd": 0}
    if kind == "coco_panoptic":
        annotations = [
            {"image_id": image_id, "file_name": png, "segments_info": [segment]}
            for image_id, png in zip(annotated, pngs, strict=True)
        ]
    else:
        corners = [[0, 0, 12, 0, 12, 8, 0, 8]]
        annotations = [
            {**segment, "image_id": image_id, "segmentation": corners} for image_id in annotated
        ]
    categories = [{"id": 1, "name": "car", "isthing": 1}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    name = "panoptic_train" if kind == "coco_panoptic" else "instances_train"
    (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "form",
    ["{}", "train/{}", "images/train/{}", "{root}/images/train/{}", "images\\train\\{}", ".\\{}"],
)
def test_pictures_are_found(folder, kind, form):
    write(folder, kind, [form.format(f"{name}.png", root=folder) for name in "ab"])
    data = open_dataset(kind, folder, "train")
    paths = [file.resolve() for file in data.picture_files]
    assert paths == [folder / f"images/train/{name}.png" for name in "ab"]
    samples = [data[index] for index in range(2)]
    assert len({sample.name for sample in samples}) == 2
    for sample in samples:
        assert not sample.name.startswith("/")
        assert sample.image.shape == (8, 12, 3)
        assert len(sample.instances) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_absolute_names_need_no_folder(folder, kind):
    (folder / "images").rename(folder / "elsewhere")
    write(folder, kind, [f"{folder}/elsewhere/train/{name}.png" for name in "ab"])
    options = {"images": "nowhere"}
    assert open_dataset(kind, folder, "train", **options)[1].image.shape == (8, 12, 3)
    write(folder, kind, [f"{folder}/elsewhere/train/a.png", f"{folder}/gone/b.png"])
    with pytest.raises(DatasetError, match=r"1 file cannot be used.*\n.*gone/b\.png: missing"):
        open_dataset(kind, folder, "train", **options)


@pytest.mark.parametrize("kind", KINDS)
def test_absolute_names_tell_nothing_of_the_others(folder, kind):
    (folder / "b").mkdir()
    (folder / "images/train/b.png").rename(folder / "b/b.png")
    write(folder, kind, [f"{folder}/images/train/a.png", "b/b.png"])
    assert open_dataset(kind, folder, "train").picture_files[1] == folder / "b/b.png"


@pytest.mark.parametrize("kind", KINDS)
def test_a_backslash_may_belong_to_a_name(folder, kind):
    (folder / "images/train/a.png").rename(folder / "images/train/x\\a.png")
    write(folder, kind, ["x\\a.png", "b.png"])
    assert open_dataset(kind, folder, "train").picture_files[0].name == "x\\a.png"


def test_names_of_pngs_may_have_backslashes(folder):
    (folder / "panoptic_train" / "x").mkdir()
    (folder / "panoptic_train/a.png").rename(folder / "panoptic_train/x/a.png")
    write(folder, "coco_panoptic", ["a.png", "b.png"], pngs=["x\\a.png", "b.png"])
    assert len(open_dataset("coco_panoptic", folder, "train")[0].instances) == 1
    # By the PNG's name, where the JSON has no images.
    write(folder, "coco_panoptic", [], ids=(), pngs=["x\\a.png", "b.png"])
    assert open_dataset("coco_panoptic", folder, "train").picture_files[0].name == "a.png"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("ids", "annotated", "words"),
    [
        ((1, 2), ("1", "2"), "there is no image '1', but 1: one is a text, the other a number"),
        (("1", "2"), (1, 2), "there is no image 1, but '1': one is a text, the other a number"),
    ],
)
def test_a_text_is_no_number(folder, kind, ids, annotated, words):
    write(folder, kind, ["a.png", "b.png"], ids=ids, annotated=annotated)
    with pytest.raises(DatasetError) as caught:
        open_dataset(kind, folder, "train")
    assert f"2 entries cannot be used:\n  annotations[0]: {words}" in str(caught.value)


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "1 annotation of an image that is"), (2, "2 annotations of images that are")],
)
def test_annotations_of_unlisted_images_are_counted(folder, count, words):
    write(folder, "coco_panoptic", ["a.png", "b.png"], annotated=(1, 4) if count == 1 else (3, 4))
    left_out, found = open_dataset("coco_panoptic", folder, "train").notes
    assert left_out.endswith("of the JSON without annotation, left out")
    assert found == f"{words} not in the JSON's 'images', found by the PNG's name"


def test_all_images_with_two_annotations_are_named(folder):
    pngs = ["a.png", "a.png", "b.png", "b.png"]
    write(folder, "coco_panoptic", ["a.png", "b.png"], annotated=(1, 1, 2, 2), pngs=pngs)
    with pytest.raises(DatasetError) as caught:
        open_dataset("coco_panoptic", folder, "train")
    assert str(caught.value).split("\n  ")[1:] == [
        "image 1 has more than one annotation",
        "image 2 has more than one annotation",
    ]


@pytest.mark.parametrize("suffix", ["ppm", "pgm"])
@pytest.mark.parametrize("kind", KINDS)
def test_portable_maps_are_pictures(folder, kind, suffix):
    shape = (8, 12, 3) if suffix == "ppm" else (8, 12)
    for name in "ab":
        cv2.imwrite(str(folder / f"images/train/{name}.{suffix}"), np.full(shape, 77, np.uint8))
    write(folder, kind, [f"{name}.{suffix}" for name in "ab"])
    assert (open_dataset(kind, folder, "train")[0].image == 77).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GIF89a\1\0\1\0", "GIF is not supported; convert to JPEG or PNG"),
        (b"\0\0\0\x24ftypheic\0\0\0\0", "HEIC is not supported; convert to JPEG or PNG"),
        (b"\0\0\0\x24ftypmif1\0\0\0\0", "HEIC is not supported; convert to JPEG or PNG"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "AVIF is not supported; convert to JPEG or PNG"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "no image"),
        (b"text", "no image"),
    ],
)
def test_formats_that_are_not_read_are_called_by_their_names(tmp_path, content, words):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        check_files([tmp_path / "a.jpg"], "mine")
    assert str(caught.value).endswith(f"a.jpg: {words}")
