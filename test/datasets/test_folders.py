"""Cityscapes and COCO folders as they are unpacked, written here in miniature."""

import json
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from camera_pictures import with_orientation

from rt_panoptic_core.datasets.cache import CachedDataset
from rt_panoptic_core.datasets.options import fitted_options
from rt_panoptic_core.datasets.registry import dataset_kind, open_dataset
from rt_panoptic_core.datasets.sample import notes_of
from rt_panoptic_core.errors import ConfigError, DatasetError
from rt_panoptic_core.id_maps import map_ids
from rt_panoptic_core.panoptic_format import ids_to_rgb
from rt_panoptic_core.taxonomy import Taxonomy

NAME = "ulm_000000_000019"


@pytest.fixture
def cityscapes(tmp_path):
    """One frame: road, a car, a group of cars, a caravan, the ego vehicle."""
    images = tmp_path / "leftImg8bit" / "train" / "ulm"
    labels = tmp_path / "gtFine" / "train" / "ulm"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    image = np.zeros((8, 16, 3), np.uint8)
    image[..., 0] = 200  # red
    cv2.imwrite(str(images / f"{NAME}_leftImg8bit.png"), image[..., ::-1])
    ids = np.full((8, 16), 7, np.uint16)
    ids[2:4, 2:6] = 26001
    ids[2:4, 8:12] = 26  # a group
    ids[6, 0:4] = 29000  # caravan: not evaluated
    ids[7] = 1  # ego vehicle
    cv2.imwrite(str(labels / f"{NAME}_gtFine_instanceIds.png"), ids)
    return tmp_path


def check_cityscapes_sample(sample):
    assert sample.name == NAME
    assert sample.image[0, 0].tolist() == [200, 0, 0]
    assert sample.semantic[0, 0] == 0
    assert (sample.semantic[2:4, 2:6] == 13).all()
    assert (sample.semantic[6, 0:4] == 255).all()
    assert (sample.semantic[7] == 255).all()
    assert {(a.id, a.class_id, a.is_crowd) for a in sample.instances} == {
        (26001, 13, False),
        (26, 13, True),
    }
    assert (sample.instance == 26001).sum() == 8
    assert (sample.instance == 26).sum() == 8
    assert (sample.instance != 0).sum() == 16


def test_cityscapes_from_instance_ids(cityscapes):
    data = open_dataset("cityscapes", cityscapes, "train")
    assert len(data) == 1
    check_cityscapes_sample(data[0])


def test_cityscapes_from_panoptic_png(cityscapes):
    label = cityscapes / "gtFine" / "train" / "ulm" / f"{NAME}_gtFine_instanceIds.png"
    ids = cv2.imread(str(label), cv2.IMREAD_UNCHANGED).astype(np.int32)
    ids[6:8] *= np.isin(ids[6:8], (7,))  # the official script leaves void at 0
    label.unlink()
    folder = cityscapes / "gtFine" / "cityscapes_panoptic_train"
    folder.mkdir()
    cv2.imwrite(str(folder / f"{NAME}_gtFine_panoptic.png"), ids_to_rgb(ids)[..., ::-1])
    check_cityscapes_sample(open_dataset("cityscapes", cityscapes, "train")[0])


def test_cityscapes_at_half_size(cityscapes):
    sample = open_dataset("cityscapes", cityscapes, "train", height=4)[0]
    assert sample.image.shape == (4, 8, 3)
    assert sample.semantic[1].tolist() == [0, 13, 13, 0, 13, 13, 0, 0]
    assert sample.instance[1].tolist() == [0, 26001, 26001, 0, 26, 26, 0, 0]


@pytest.mark.parametrize(("height", "pixels"), [(0, 8), (4, 2)])
def test_single_caravans_are_void_but_told(cityscapes, height, pixels):
    label = cityscapes / "gtFine" / "train" / "ulm" / f"{NAME}_gtFine_instanceIds.png"
    ids = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
    ids[5, 0:4] = 29000
    ids[4, 8:12] = 30  # a group of trailers: void to everybody
    cv2.imwrite(str(label), ids)
    sample = open_dataset("cityscapes", cityscapes, "train", height=height)[0]
    marked = sample.unlabelled_things
    assert marked.shape == sample.semantic.shape
    assert marked.sum() == pixels
    assert (sample.semantic[marked] == 255).all()
    assert not sample.instance[marked].any()
    ids[ids == 29000] = 29
    cv2.imwrite(str(label), ids)
    assert open_dataset("cityscapes", cityscapes, "train")[0].unlabelled_things is None


def test_labels_without_an_image_are_told(cityscapes):
    labels = cityscapes / "gtFine" / "train" / "ulm"
    assert notes_of(open_dataset("cityscapes", cityscapes, "train")) == []
    alone = labels / "ulm_000001_000019_gtFine_instanceIds.png"
    alone.write_bytes((labels / f"{NAME}_gtFine_instanceIds.png").read_bytes())
    data = open_dataset("cityscapes", cityscapes, "train")
    assert len(data) == 1
    (note,) = notes_of(data)
    assert note.startswith("1 label map without an image CITY/NAME_leftImg8bit.png, left out:")
    assert str(alone) in note


@pytest.mark.parametrize(
    ("value", "told"),
    [(255, "label 255; .*look like train ids"), (34, "label 34; "), (40003, "label 40; ")],
)
def test_labels_that_cityscapes_does_not_have_are_refused(cityscapes, value, told):
    label = cityscapes / "gtFine" / "train" / "ulm" / f"{NAME}_gtFine_instanceIds.png"
    ids = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
    ids[0, :4] = value
    cv2.imwrite(str(label), ids)
    with pytest.raises(DatasetError, match=told):
        open_dataset("cityscapes", cityscapes, "train")[0]


def test_all_bad_files_are_named_at_once(cityscapes):
    images = cityscapes / "leftImg8bit" / "train" / "ulm"
    labels = cityscapes / "gtFine" / "train" / "ulm"
    for number, name in enumerate(("a", "b", "c")):
        (images / f"{name}_leftImg8bit.png").write_bytes(b"\x89PNG")
        if number != 1:
            (labels / f"{name}_gtFine_instanceIds.png").write_bytes(b"" if number else b"text")
    with pytest.raises(DatasetError) as caught:
        open_dataset("cityscapes", cityscapes, "train")
    text = str(caught.value)
    assert "3 files" in text
    assert "a_gtFine_instanceIds.png: no image" in text
    assert "b_gtFine_instanceIds.png: missing" in text
    assert "c_gtFine_instanceIds.png: empty" in text


def test_a_truncated_picture_is_named_when_it_is_read(cityscapes):
    image = cityscapes / "leftImg8bit" / "train" / "ulm" / f"{NAME}_leftImg8bit.png"
    image.write_bytes(image.read_bytes()[:40])
    data = open_dataset("cityscapes", cityscapes, "train")
    with pytest.raises(DatasetError, match=f"{NAME}_leftImg8bit.png: the PNG is cut short"):
        data[0]


@pytest.mark.parametrize("missing", ["leftImg8bit", "gtFine"])
def test_a_missing_folder_says_what_belongs_there(cityscapes, missing):
    (cityscapes / missing).rename(cityscapes / "elsewhere")
    with pytest.raises(DatasetError, match=f"{missing}.* is no folder.*{missing}_trainvaltest"):
        open_dataset("cityscapes", cityscapes, "train")


@pytest.fixture
def coco(tmp_path):
    """One image of COCO 2017: a person, a crowd of persons, grass (category 193), void."""
    (tmp_path / "val2017").mkdir()
    masks = tmp_path / "annotations" / "panoptic_val2017"
    masks.mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "val2017" / "000000000139.jpg"), np.full((8, 8, 3), 99, np.uint8))
    ids = np.full((8, 8), 3_000_000, np.int32)
    ids[2:4, 2:4] = 77
    ids[5:7, 5:7] = 400
    ids[0] = 0
    cv2.imwrite(str(masks / "000000000139.png"), ids_to_rgb(ids)[..., ::-1])
    content = {
        "images": [{"id": 139, "file_name": "000000000139.jpg"}],
        "categories": [
            {"id": 193, "name": "grass", "isthing": 0, "color": [1, 2, 3]},
            {"id": 1, "name": "person", "isthing": 1, "color": [4, 5, 6]},
        ],
        "annotations": [
            {
                "image_id": 139,
                "file_name": "000000000139.png",
                "segments_info": [
                    {"id": 77, "category_id": 1, "area": 4, "bbox": [2, 2, 2, 2], "iscrowd": 0},
                    {"id": 400, "category_id": 1, "area": 4, "bbox": [5, 5, 2, 2], "iscrowd": 1},
                    {
                        "id": 3_000_000,
                        "category_id": 193,
                        "area": 48,
                        "bbox": [0, 1, 8, 7],
                        "iscrowd": 0,
                    },
                ],
            }
        ],
    }
    (tmp_path / "annotations" / "panoptic_val2017.json").write_text(json.dumps(content))
    return tmp_path


def test_coco_as_unpacked(coco):
    data = open_dataset("coco", coco, "val")
    sample = data[0]
    taxonomy = Taxonomy.load("coco")
    assert data.taxonomy == taxonomy
    grass = taxonomy.class_id_by_source[193]
    assert sample.name == "000000000139"
    assert sample.semantic[2, 2] == taxonomy.class_id_by_source[1]
    assert sample.semantic[7, 0] == grass
    assert (sample.semantic[0] == 255).all()
    assert [(a.id, a.is_crowd) for a in sample.instances] == [(77, False), (400, True)]
    assert sorted(np.unique(sample.instance)) == [0, 77, 400]


def test_any_folder_brings_its_own_classes_things_first(coco):
    data = open_dataset("coco_panoptic", coco / "annotations", "val2017", images="../val2017")
    assert data.taxonomy.names == ("person", "grass")
    assert data.taxonomy.thing_ids == (0,)
    assert data[0].semantic[7, 0] == 1


def test_pictures_of_one_name_in_two_folders_are_told_apart(coco):
    file = coco / "annotations" / "panoptic_val2017.json"
    content = json.loads(file.read_text())
    (annotation,) = content["annotations"]
    content["annotations"], content["images"] = [], []
    for image_id, folder in enumerate(("a", "b")):
        for root, suffix in (("annotations/panoptic_val2017", "png"), ("val2017", "jpg")):
            (coco / root / folder).mkdir()
            whole = (coco / root / f"000000000139.{suffix}").read_bytes()
            (coco / root / folder / f"0001.{suffix}").write_bytes(whole)
        named = {"image_id": image_id, "file_name": f"{folder}/0001.png"}
        content["annotations"].append({**annotation, **named})
        content["images"].append({"id": image_id, "file_name": f"{folder}/0001.jpg"})
    content["annotations"][1]["image_id"] = content["images"][1]["id"] = "by its text"
    file.write_text(json.dumps(content))
    data = open_dataset("coco", coco, "val")
    assert [data[index].name for index in (0, 1)] == ["a/0001", "by its text"]


@pytest.mark.parametrize("split", ["val2018", "train2014"])
def test_a_split_with_its_year_is_taken_as_it_is(coco, split):
    with pytest.raises(DatasetError, match=f"panoptic_{split}.json: there is no such file"):
        open_dataset("coco", coco, split)


def test_samples_can_be_resized_to_what_a_model_is_trained_for(coco):
    folder = {"annotations": "annotations/panoptic_val2017.json", "images": "val2017"}
    sample = open_dataset("coco_panoptic", coco, "val2017", pixels=256, **folder)[0]
    assert sample.image.shape == (16, 16, 3)
    assert sample.semantic.shape == sample.instance.shape == (16, 16)
    assert (sample.instance[4:8, 4:8] == 77).all()
    # As the segmenter does: what is about right stays as it is.
    sample = open_dataset("coco_panoptic", coco, "val2017", pixels=70, **folder)[0]
    assert sample.image.shape == (8, 8, 3)


def test_categories_outside_of_the_taxonomy_are_named(coco):
    with pytest.raises(DatasetError, match=r"2 categories.*1 \(person\), 193 \(grass\)"):
        open_dataset("coco", coco, "val", Taxonomy.load("cityscapes"))


def test_a_taxonomy_whose_numbers_mean_something_else_is_refused(coco):
    def taxonomy(text):
        (coco / "own.yaml").write_text(f"classes: [{text}]")
        return Taxonomy.load(coco / "own.yaml")

    person, grass = (
        "{name: person, thing: true, source_id: %d}",
        "{name: grass, thing: %s, source_id: %d}",
    )
    folder = {"annotations": "annotations/panoptic_val2017.json", "images": "val2017"}
    swapped = taxonomy(f"{person % 193}, {grass % ('false', 1)}")
    with pytest.raises(
        DatasetError, match=r"category 1 is 'person', but source_id 1 .* is 'grass'"
    ):
        open_dataset("coco_panoptic", coco, "val2017", swapped, **folder)
    thing = taxonomy(f"{person % 1}, {grass % ('true', 193)}")
    with pytest.raises(DatasetError, match=r"category 193 \('grass'\) is stuff, but 'grass'"):
        open_dataset("coco_panoptic", coco, "val2017", thing, **folder)
    renamed = taxonomy("{name: pedestrian, thing: true, source_id: 1}, " + grass % ("false", 193))
    assert len(open_dataset("coco_panoptic", coco, "val2017", renamed, **folder)) == 1


def test_two_annotations_of_one_image_are_refused(coco):
    file = coco / "annotations" / "panoptic_val2017.json"
    content = json.loads(file.read_text())
    content["annotations"] *= 2
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="image 139 has more than one annotation"):
        open_dataset("coco", coco, "val")


def test_an_id_without_a_segment_is_named(coco):
    file = coco / "annotations" / "panoptic_val2017.json"
    content = json.loads(file.read_text())
    del content["annotations"][0]["segments_info"][0]
    file.write_text(json.dumps(content))
    with pytest.raises(
        DatasetError,
        match=r"139\.png: id 77 is in the picture but .* image 139 in .*panoptic_val2017\.json",
    ):
        open_dataset("coco", coco, "val")[0]


def segments_of(coco, change):
    """Apply ``change`` to the segments of the JSON's one annotation."""
    file = coco / "annotations" / "panoptic_val2017.json"
    content = json.loads(file.read_text())
    change(content["annotations"][0]["segments_info"])
    file.write_text(json.dumps(content))


def test_segments_that_the_picture_lacks_are_named(coco):
    segments_of(coco, lambda s: s.extend({"id": i, "category_id": 1} for i in (9, 5)))
    data = open_dataset("coco", coco, "val")
    with pytest.raises(
        DatasetError,
        match=r"panoptic_val2017\.json: image 139: ids 5, 9 are listed but not in .*139\.png",
    ):
        data[0]


def test_a_segment_that_is_listed_twice_is_named(coco):
    segments_of(coco, lambda s: s.extend([{"id": 77, "category_id": 193}, {**s[1]}]))
    with pytest.raises(
        DatasetError,
        match=r"panoptic_val2017\.json: .*\n  image 139: ids 77, 400 are listed more than once",
    ):
        open_dataset("coco", coco, "val")


def test_void_is_no_segment(coco):
    segments_of(coco, lambda s: s.append({"id": 0, "category_id": 1}))
    with pytest.raises(DatasetError, match=r"image 139: id 0 is listed, but it is void"):
        open_dataset("coco", coco, "val")


@pytest.mark.parametrize(("orientation", "turned"), [(3, True), (6, True), (6, False)])
def test_photos_lie_as_their_id_maps(coco, orientation, turned):
    """The PNG's size tells whether it was drawn on the photo as its EXIF turns it; if not, it was."""
    folder = coco / "annotations" / "panoptic_val2017"
    stored = np.zeros((12, 8, 3), np.uint8)
    stored[:6] = 255
    (coco / "val2017" / "000000000139.jpg").write_bytes(
        with_orientation(cv2.imencode(".jpg", stored)[1].tobytes(), orientation)
    )
    upright = stored
    if turned:
        upright = np.rot90(stored, 2 if orientation == 3 else -1)
    ids = np.full(upright.shape[:2], 3_000_000, np.int32)
    ids[2, 2], ids[3, 3] = 77, 400
    cv2.imwrite(str(folder / "000000000139.png"), ids_to_rgb(ids)[..., ::-1])
    sample = open_dataset("coco", coco, "val")[0]
    assert sample.image.shape[:2] == sample.semantic.shape == ids.shape
    assert np.abs(sample.image.astype(int) - upright).mean() < 20


def test_a_photo_and_a_frame_of_cityscapes_of_another_size_are_named_with_the_labels(
    coco, cityscapes
):
    photo = coco / "val2017" / "000000000139.jpg"
    stored = np.zeros((10, 8, 3), np.uint8)
    photo.write_bytes(with_orientation(cv2.imencode(".jpg", stored)[1].tobytes(), 8))
    with pytest.raises(DatasetError) as caught:
        open_dataset("coco", coco, "val")[0]
    assert str(caught.value) == (
        f"{photo}: 10x8 pixels (turned by its EXIF, orientation 8), but its labels in "
        f"{coco}/annotations/panoptic_val2017/000000000139.png are for 8x8; they must be of one size"
    )
    (frame,) = cityscapes.glob("leftImg8bit/*/*/*.png")
    cv2.imwrite(str(frame), np.zeros((8, 15, 3), np.uint8))
    for height in (0, 4):
        with pytest.raises(
            DatasetError, match=r"leftImg8bit\.png: 15x8 pixels, but .*Ids\.png are for 16x8"
        ):
            open_dataset("cityscapes", cityscapes, "train", height=height)[0]


def test_a_missing_folder_of_images_is_named_and_one_for_all_splits_is_found(coco):
    (coco / "annotations" / "panoptic_val2017.json").rename(coco / "panoptic_val.json")
    (coco / "annotations" / "panoptic_val2017").rename(coco / "panoptic_val")
    (coco / "images" / "train").mkdir(parents=True)
    (coco / "val2017").rename(coco / "images" / "test")
    with pytest.raises(DatasetError) as caught:
        open_dataset("coco_panoptic", coco, "val")
    assert f"{coco}/images/val is no folder; it must hold the images" in str(caught.value)
    assert f"nor are they in {coco}/val, {coco}/images" in str(caught.value)
    (coco / "images" / "test" / "000000000139.jpg").rename(coco / "images" / "000000000139.jpg")
    assert open_dataset("coco_panoptic", coco, "val")[0].image.shape == (8, 8, 3)


def test_missing_coco_images_are_named(coco):
    (coco / "val2017" / "000000000139.jpg").unlink()
    with pytest.raises(
        DatasetError, match=r"1 file cannot be used; .* none is skipped:\n.*0139\.jpg: missing"
    ):
        open_dataset("coco", coco, "val")


def test_unknown_kinds_options_and_missing_roots(tmp_path):
    with pytest.raises(ConfigError, match="'kitti': unknown; one of cityscapes"):
        open_dataset("kitti", tmp_path)
    with pytest.raises(ConfigError, match="it needs 'root'"):
        open_dataset("cityscapes")
    with pytest.raises(ConfigError, match="unknown option 'size'; one of height"):
        open_dataset("cityscapes", tmp_path, size=3)
    with pytest.raises(ConfigError, match="root /data: it has no files; leave 'root' out"):
        open_dataset("generated", "/data")


@pytest.mark.parametrize(
    ("kind", "option", "value", "expected"),
    [
        ("cityscapes", "height", "x", "a whole number"),
        ("cityscapes", "height", 1.5, "a whole number"),
        ("cityscapes", "height", True, "a whole number"),
        ("coco_panoptic", "pixels", "abc", "a whole number"),
        ("coco_panoptic", "images", 3, "a text"),
        ("coco_instances", "held_out", "some", "a number or null"),
        ("coco_instances", "background", [], "a text or null"),
        ("camvid_pasted", "seed", None, "a whole number"),
        ("generated", "size", 64, "a list, each of its items a whole number"),
        ("generated", "size", [64, "x"], "a list, each of its items a whole number"),
        ("generated", "depth", "maybe", "true or false"),
    ],
)
def test_an_option_of_another_type_is_named(tmp_path, kind, option, value, expected):
    root = None if kind == "generated" else tmp_path
    told = f"data set '{dataset_kind(kind)}': option '{option}' is {value!r}; it must be {expected}"
    with pytest.raises(ConfigError) as caught:
        open_dataset(kind, root, **{option: value})
    assert str(caught.value) == told


def test_options_are_taken_as_yaml_writes_them():
    def opener(*, share: float | None = None, size: Sequence[int] = ()) -> None:
        del share, size

    options = {"share": "1e-1", "size": [3, 4]}
    assert fitted_options("x", opener, options) == {"share": 0.1, "size": (3, 4)}
    assert fitted_options("x", opener, {"share": 1}) == {"share": 1}
    assert fitted_options("x", opener, {"share": None}) == {"share": None}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("cityscapes", {"height": -1}, "height -1"),
        ("coco_panoptic", {"pixels": -4}, "pixels -4; it must be positive, or 0"),
        ("generated", {"seed": -1}, "seed: -1; it must be a whole number from 0"),
        ("generated", {"size": [0, 64]}, "size"),
        ("generated", {"length": 0}, "length: 0"),
    ],
)
def test_options_out_of_range_are_refused(coco, kind, options, message):
    split = "train" if kind == "generated" else "val2017"
    root = None if kind == "generated" else coco / "annotations"
    with pytest.raises((ConfigError, DatasetError), match=message):
        open_dataset(kind, root, split, **options)


def test_a_height_leaves_narrow_pictures_a_column(cityscapes):
    for file in cityscapes.rglob("*.png"):
        picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), np.ascontiguousarray(picture[:, :4]))
    sample = open_dataset("cityscapes", cityscapes, "train", height=1)[0]
    assert sample.image.shape == (1, 1, 3)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_label_map_is_told_by_us_alone(cityscapes, damage, capfd):
    label = cityscapes / "gtFine" / "train" / "ulm" / f"{NAME}_gtFine_instanceIds.png"
    content = bytearray(label.read_bytes())
    if damage == "cut":
        del content[-20:]
    else:
        content[len(content) // 2] ^= 0x40
    label.write_bytes(content)
    data = open_dataset("cityscapes", cityscapes, "train")
    with pytest.raises(DatasetError, match=r"instanceIds\.png: the PNG is .*; copy the file again"):
        data[0]
    assert capfd.readouterr().err == ""


def test_cache_keeps_what_was_made(cityscapes, tmp_path):
    source = open_dataset("cityscapes", cityscapes, "train")
    first = CachedDataset(source, tmp_path / "cache", {"kind": "x"})[0]

    class Gone:
        taxonomy = source.taxonomy

        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise AssertionError(f"sample {index} was made again")

    again = CachedDataset(Gone(), tmp_path / "cache", {"kind": "x"})[0]
    check_cityscapes_sample(again)
    assert np.array_equal(again.image, first.image)
    with pytest.raises(AssertionError, match="made again"):
        CachedDataset(Gone(), tmp_path / "cache", {"kind": "y"})[0]
    (file,) = (tmp_path / "cache").glob("*/0000000.npz")
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    for content in (b"broken", b"", whole[: len(whole) // 2], bytes(damaged)):
        file.write_bytes(content)
        check_cityscapes_sample(CachedDataset(source, tmp_path / "cache", {"kind": "x"})[0])


def test_map_ids_by_hand():
    ids = np.array([[5, 5, 9], [0, 9, 7]])
    mapped = map_ids(ids, np.array([5, 9]), np.array([1, 2], np.uint8), 255)
    assert mapped.tolist() == [[1, 1, 2], [255, 2, 255]]
    assert mapped.dtype == np.uint8
    assert map_ids(ids, np.zeros(0, int), np.zeros(0, np.uint8), 3).tolist() == [[3] * 3] * 2
