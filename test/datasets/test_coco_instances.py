"""Outlines as annotation tools export them, written here in miniature."""

import json

import cv2
import numpy as np
import pytest
from camera_pictures import with_orientation

from rt_panoptic_core.datasets.coco_instances import CocoInstances
from rt_panoptic_core.datasets.files import may_be_turned_wrongly
from rt_panoptic_core.datasets.registry import open_dataset
from rt_panoptic_core.errors import DatasetError, TaxonomyError
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy

CATEGORIES = [{"id": 3, "name": "forklift"}, {"id": 1, "name": "person"}, {"id": 7, "name": "lane"}]
YARD = Taxonomy.from_dict(
    {
        "name": "yard",
        "classes": [
            {"name": "person", "thing": True, "source_id": 1},
            {"name": "forklift", "thing": True, "source_id": 3},
            {"name": "lane", "thing": False, "source_id": 7},
            {"name": "background", "thing": False, "source_id": 0},
        ],
    },
    "yard",
)


def rectangle(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def outline(number, category, segmentation, image=5, **more):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        **more,
    }


# A person before a forklift that stands on the lane, the person being named first; and a crowd.
ANNOTATIONS = [
    outline(11, 1, rectangle(4, 2, 6, 6)),
    outline(12, 3, rectangle(2, 1, 8, 6)),
    outline(13, 7, rectangle(0, 4, 12, 8)),
    outline(14, 1, {"size": [8, 12], "counts": [72, 4, 4, 4, 12]}, iscrowd=1),
]


def picture(path, size=(8, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))


def write(path, annotations=ANNOTATIONS, names=("a.png",), **more):
    """A JSON of pictures; their ids count from 5 on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {"id": number, "file_name": name, "width": 12, "height": 8}
        for number, name in enumerate(names, start=5)
    ]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES, **more}
    path.write_text(json.dumps(content))


@pytest.fixture
def exported(tmp_path):
    """CVAT's layout."""
    write(tmp_path / "annotations" / "instances_default.json")
    picture(tmp_path / "images" / "a.png")
    return tmp_path


def opened(root, taxonomy=YARD, **options):
    return CocoInstances(
        root / "annotations" / "instances_default.json", [root / "images"], taxonomy, **options
    )


def test_things_lie_above_stuff_and_small_ones_above_large(exported):
    sample = opened(exported)[0]
    assert (sample.name, sample.image_id, sample.image.shape) == ("a", 5, (8, 12, 3))
    person, forklift, lane, background = range(4)
    expected = np.full((8, 12), background)
    expected[4:] = lane
    expected[:4, 9:11] = person
    expected[1:6, 2:8] = forklift
    expected[2:6, 4:6] = person
    assert (sample.semantic == expected).all()
    by_class = {(a.class_id, a.is_crowd): a.id for a in sample.instances}
    assert set(by_class) == {(person, False), (person, True), (forklift, False)}
    assert ((sample.instance == by_class[person, False]) == (expected == person))[:, :9].all()
    assert (sample.instance == by_class[forklift, False]).sum() == 30 - 8
    assert (sample.instance[:4, 9:11] == by_class[person, True]).all()
    assert not sample.instance[expected >= lane].any()


def test_without_a_background_the_rest_is_void(exported):
    for sample in (
        opened(exported, background="")[0],
        opened(exported, Taxonomy.from_dict({"name": "x", "classes": YARD_CLASSES[:3]}, "x"))[0],
    ):
        assert sample.semantic[0, 0] == UNLABELLED
        assert sample.semantic[7, 0] == 2
    assert opened(exported, background="lane")[0].semantic[0, 0] == 2


YARD_CLASSES = [
    {"name": c.name, "thing": c.is_thing, "source_id": c.source_id, "color": list(c.color)}
    for c in YARD
]


@pytest.mark.parametrize(
    ("background", "words"), [("floor", "which taxonomy 'yard' has not"), ("person", "is a thing")]
)
def test_a_background_that_cannot_be_one_is_refused(exported, background, words):
    with pytest.raises(DatasetError, match=words):
        opened(exported, background=background)


def test_a_taxonomy_of_things_alone_is_refused(exported):
    things = Taxonomy.from_dict({"name": "x", "classes": YARD_CLASSES[:2]}, "x")
    write(exported / "annotations" / "instances_default.json", ANNOTATIONS[:2])
    with pytest.raises(DatasetError, match="name: background, thing: false, source_id: 4"):
        opened(exported, things)
    assert opened(exported, things, background="")[0].semantic[0, 0] == UNLABELLED


def test_without_a_taxonomy_everything_is_a_thing_but_the_background(exported):
    data = opened(exported, None)
    assert data.taxonomy.names == ("forklift", "person", "lane", "background")
    assert data.taxonomy.is_thing[:4].tolist() == [True, True, True, False]
    assert data[0].semantic[0, 0] == 3


def test_a_category_that_is_the_background_is_stuff(exported):
    categories = [*CATEGORIES, {"id": 9, "name": "background"}]
    area = outline(15, 9, rectangle(0, 0, 12, 5))
    write(
        exported / "annotations" / "instances_default.json",
        [*ANNOTATIONS[:1], area],
        categories=categories,
    )
    data = opened(exported, None)
    assert data.taxonomy.names == ("forklift", "person", "lane", "background")
    assert data.taxonomy.stuff_ids == (3,)
    assert [a.class_id for a in data[0].instances] == [1]
    assert set(np.unique(data[0].semantic)) == {1, 3}
    assert opened(exported, None, background="lane").taxonomy.stuff_ids == (2,)


@pytest.mark.parametrize("place", [0, 3])
def test_an_unused_category_of_the_same_name_is_left_out(exported, place):
    categories = list(CATEGORIES)
    categories.insert(place, {"id": 0, "name": "forklift", "supercategory": "none"})
    write(exported / "annotations" / "instances_default.json", categories=categories)
    data = opened(exported, None)
    assert data.taxonomy.names == ("forklift", "person", "lane", "background")
    assert data.taxonomy[0].source_id == 3


def test_of_unused_categories_of_one_name_the_last_is_taken(exported):
    categories = [{"id": 0, "name": "forklift"}, *CATEGORIES]
    write(exported / "annotations" / "instances_default.json", [], categories=categories)
    assert sorted(opened(exported, None).taxonomy.class_id_by_source) == [1, 3, 7, 8]


def test_used_categories_of_one_name_are_refused(exported):
    categories = [*CATEGORIES, {"id": 8, "name": "forklift"}]
    annotations = [*ANNOTATIONS, outline(15, 8, rectangle(0, 0, 2, 2))]
    write(exported / "annotations" / "instances_default.json", annotations, categories=categories)
    with pytest.raises(TaxonomyError, match="'forklift': the name is empty or used twice"):
        opened(exported, None)


def test_an_object_that_others_hide_is_left_out(exported):
    same = [outline(1, 3, rectangle(2, 2, 5, 5)), outline(2, 1, rectangle(2, 2, 5, 5))]
    write(exported / "annotations" / "instances_default.json", same)
    sample = opened(exported)[0]
    assert [a.class_id for a in sample.instances] == [0]
    assert (sample.instance != 0).sum() == 9


@pytest.mark.parametrize(
    ("json_file", "folder", "split"),
    [
        ("instances_train.json", "images/train", "train"),
        ("annotations/instances_val2017.json", "val2017", "val"),
        ("valid/_annotations.coco.json", "valid", "valid"),
        ("valid/_annotations.coco.json", "valid", "val"),
        ("instances_valid.json", "images/valid", "val"),
        ("annotations/instances_valid.json", "images", "val"),
        ("annotations/instances_test.json", "images", "test"),
    ],
)
def test_layouts_with_a_json_for_each_split(tmp_path, json_file, folder, split):
    write(tmp_path / json_file)
    picture(tmp_path / folder / "a.png")
    data = open_dataset("coco_instances", tmp_path, split, YARD)
    assert [sample.name for sample in data] == ["a"]


def test_val_comes_before_valid_and_both_before_one_json_of_all(tmp_path):
    write(tmp_path / "result.json", names=[f"{n}.png" for n in range(20)])
    write(tmp_path / "valid" / "_annotations.coco.json", names=["b.png"])
    picture(tmp_path / "valid" / "b.png")
    assert open_dataset("coco_instances", tmp_path, "val", YARD)[0].name == "b"
    write(tmp_path / "val" / "_annotations.coco.json")
    picture(tmp_path / "val" / "a.png")
    assert open_dataset("coco_instances", tmp_path, "val", YARD)[0].name == "a"
    with pytest.raises(DatasetError, match=r"looked for labels/val\.json\."):
        open_dataset("coco_instances", tmp_path, "val", YARD, annotations="labels/{split}.json")


@pytest.mark.parametrize("json_file", ["annotations/instances_default.json", "result.json"])
def test_one_json_is_split_by_the_names(tmp_path, json_file):
    names = [f"images/{number:03d}.png" for number in range(60)]
    write(tmp_path / json_file, [], names)
    for name in names:
        picture(tmp_path / name)
    parts = {}
    for share in (0.1, 0.3):
        for split in ("train", "val"):
            data = open_dataset("coco_instances", tmp_path, split, YARD, held_out=share)
            parts[split, share] = {data[index].name for index in range(len(data))}
        assert parts["train", share].isdisjoint(parts["val", share])
        assert len(parts["train", share] | parts["val", share]) == 60
    assert 0 < len(parts["val", 0.1]) < len(parts["val", 0.3]) < 30
    # What was held out stays so when more is, and when other pictures are added.
    assert parts["val", 0.1] < parts["val", 0.3]
    with pytest.raises(DatasetError, match="no 'test' in it"):
        open_dataset("coco_instances", tmp_path, "test", YARD)
    with pytest.raises(DatasetError, match="held_out 1: it must be from 0 to below 1"):
        open_dataset("coco_instances", tmp_path, "val", YARD, held_out=1)


@pytest.mark.parametrize("held_out", [None, 0.9])
def test_of_a_few_pictures_there_is_one_for_each_split(tmp_path, held_out):
    """Whatever their hashes: of these two, both are above a tenth and below nine."""
    options = {} if held_out is None else {"held_out": held_out}
    found = []
    for names in (["0.png", "3.png"], ["3.png", "0.png"]):
        write(tmp_path / "result.json", [], names)
        for name in names:
            picture(tmp_path / name)
        parts = [
            [sample.name for sample in open_dataset("coco_instances", tmp_path, s, YARD, **options)]
            for s in ("train", "val")
        ]
        assert sorted(parts[0] + parts[1]) == ["0", "3"]
        assert len(parts[0]) == 1
        found.append(parts)
    assert found[0] == found[1]


def test_a_single_picture_is_not_split(tmp_path):
    write(tmp_path / "result.json")
    picture(tmp_path / "a.png")
    for split in ("train", "val"):
        with pytest.raises(
            DatasetError, match=r"a single picture .* \(held_out 0\.1\).*to 0, which"
        ):
            open_dataset("coco_instances", tmp_path, split, YARD)
        assert len(open_dataset("coco_instances", tmp_path, split, YARD, held_out=0.0)) == 1


def test_places_may_be_named(tmp_path):
    write(tmp_path / "labels" / "train.json")
    write(tmp_path / "labels" / "all.json", names=[f"{n}.png" for n in range(20)])
    picture(tmp_path / "frames" / "train" / "a.png")
    for number in range(20):
        picture(tmp_path / "frames" / f"{number}.png")
    own = {"annotations": "labels/{split}.json", "images": "frames/{split}"}
    assert len(open_dataset("coco_instances", tmp_path, "train", YARD, **own)) == 1
    whole = {"annotations": str(tmp_path / "labels" / "all.json"), "images": "frames"}
    assert len(open_dataset("coco_instances", tmp_path, "train", YARD, **whole)) == 20
    assert (
        0 < len(open_dataset("coco_instances", tmp_path, "val", YARD, **whole, held_out=0.5)) < 20
    )
    with pytest.raises(DatasetError, match=r"no JSON of outlines; looked for labels/val\.json"):
        open_dataset("coco_instances", tmp_path, "val", YARD, **own)


def test_without_any_json_all_places_are_named(tmp_path):
    with pytest.raises(DatasetError) as caught:
        open_dataset("coco_instances", tmp_path, "train", YARD)
    for place in ("instances_train.json", "train/_annotations.coco.json", "result.json"):
        assert place in str(caught.value)


def test_resized_as_asked(exported):
    sample = opened(exported, pixels=4 * 8 * 12)[0]
    assert sample.image.shape == (16, 24, 3)
    assert sample.semantic.shape == (16, 24)
    assert len(sample.instances) == 3


# By the orientation that EXIF says: what makes the picture stand upright.
UPRIGHT = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(np.swapaxes(pixels, 0, 1), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photos_are_read_as_tools_show_them(exported, orientation, order):
    """Turned by their EXIF, also where that does not change their size."""
    stored = np.zeros((12, 8, 3) if orientation > 4 else (8, 12, 3), np.uint8)
    stored[: stored.shape[0] // 2, : stored.shape[1] // 2] = 255
    file = exported / "images" / "a.jpg"
    jpeg = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    file.write_bytes(with_orientation(jpeg, orientation, order=order))
    write(exported / "annotations" / "instances_default.json", names=["a.jpg"])
    image = opened(exported)[0].image
    difference = image.astype(int) - UPRIGHT[orientation](stored)
    assert np.abs(difference).mean() < 20
    assert may_be_turned_wrongly(file) == (orientation in (2, 3, 4))


def test_a_square_photo_is_read_as_tools_show_it(exported):
    stored = np.zeros((8, 8, 3), np.uint8)
    stored[:4] = 255
    file = exported / "images" / "a.jpg"
    file.write_bytes(with_orientation(cv2.imencode(".jpg", stored)[1].tobytes(), 6))
    json_file = exported / "annotations" / "instances_default.json"
    write(json_file, [], images=[{"id": 5, "file_name": "a.jpg", "width": 8, "height": 8}])
    image = opened(exported)[0].image
    assert image[:, 4:].min() > 200
    assert image[:, :4].max() < 50
    assert may_be_turned_wrongly(file)


def test_a_photo_whose_outlines_were_drawn_on_its_pixels_as_they_lie(exported):
    stored = np.zeros((8, 12, 3), np.uint8)
    stored[:4] = 255
    file = exported / "images" / "a.jpg"
    file.write_bytes(with_orientation(cv2.imencode(".jpg", stored)[1].tobytes(), 6))
    write(exported / "annotations" / "instances_default.json", names=["a.jpg"])
    image = opened(exported)[0].image
    assert image.shape == (8, 12, 3)
    assert image[:4].min() > 200


def test_a_picture_of_another_size_is_named(exported):
    picture(exported / "images" / "a.png", (9, 12))
    with pytest.raises(
        DatasetError, match=r"a\.png: 12x9 pixels, but its labels in .*default\.json are for 12x8"
    ):
        opened(exported)[0]


def test_a_turned_picture_of_another_size_is_named_with_its_turn(exported):
    file = exported / "images" / "a.jpg"
    jpeg = cv2.imencode(".jpg", np.zeros((12, 9, 3), np.uint8))[1].tobytes()
    file.write_bytes(with_orientation(jpeg, 6))
    write(exported / "annotations" / "instances_default.json", names=["a.jpg"])
    with pytest.raises(
        DatasetError, match=r"a\.jpg: 12x9 pixels \(turned by its EXIF, orientation 6\), but"
    ):
        opened(exported)[0]


def test_an_outline_that_makes_no_sense_is_named(exported):
    write(exported / "annotations" / "instances_default.json", [outline(99, 1, [])])
    with pytest.raises(DatasetError, match=r"annotation 99 of a\.png: it has no outline") as caught:
        opened(exported)[0]
    assert "write its box as a polygon of four corners" in str(caught.value)
    assert "losses.supervision=boxes" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": None}, "hold a list 'annotations'"),
        ({"images": []}, "no images"),
        ({"images": [{"id": 5, "file_name": "a.png"}]}, r"images\[0\]: 'width' is None"),
        ({"annotations": [outline(1, "car", [])]}, r"annotations\[0\]: 'category_id' is 'car'"),
        ({"annotations": [outline(1, 1, [], 6)]}, r"annotations\[0\]: there is no image 6"),
        ({"annotations": [outline(1, 2, [])]}, "taxonomy .yard. lacks 1 category: 2"),
        ({"categories": [{"id": 1, "name": "lane"}]}, "correct the source_id of both"),
    ],
)
def test_a_json_that_makes_no_sense_is_explained(exported, change, words):
    write(
        exported / "annotations" / "instances_default.json", **{"annotations": ANNOTATIONS} | change
    )
    with pytest.raises(DatasetError, match=words):
        opened(exported)


def image(**more):
    return {"id": 5, "file_name": "a.png", "width": 12, "height": 8} | more


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": [image(height=-20)]}, "images[0]: 'height' is -20"),
        ({"images": [image(width=0)]}, "images[0]: 'width' is 0"),
        ({"images": [image(width=True)]}, "images[0]: 'width' is True"),
        ({"images": [image(id=False)]}, "images[0]: 'id' is False"),
        (
            {"images": [image(width=3_000_000, height=3_000_000)]},
            "images[0]: 3000000x3000000 pixels; at most 64 megapixels",
        ),
        ({"images": [image(file_name="a" * 300)]}, "images[0]: 'file_name' is 'aaa"),
        ({"images": [image(file_name="ä" * 128)]}, "images[0]: 'file_name' is 'äää"),
        ({"images": [image(file_name="a/" * 2500 + "b")]}, "images[0]: 'file_name' is 'a/a"),
        ({"images": [image(file_name="a\0.png")]}, r"images[0]: 'file_name' is 'a\x00.png'"),
        ({"images": [image(file_name="\ud800.png")]}, r"images[0]: 'file_name' is '\ud800.png'"),
        ({"images": [image(file_name="")]}, "images[0]: 'file_name' is ''"),
        ({"categories": [{"id": 1, "name": "\ud800"}]}, r"categories[0]: 'name' is '\ud800'"),
        ({"categories": [{"id": True, "name": "x"}]}, "categories[0]: 'id' is True"),
        ({"annotations": [outline(1, True, [])]}, "annotations[0]: 'category_id' is True"),
        ({"annotations": [outline(1, 1, [], True)]}, "annotations[0]: 'image_id' is True"),
        ({"annotations": [outline(1, 1, [], iscrowd="0")]}, "annotations[0]: 'iscrowd' is '0'"),
        ({"annotations": [outline(1, 1, [], iscrowd=2)]}, "annotations[0]: 'iscrowd' is 2"),
        ({"annotations": [outline(1, 1, [], iscrowd=None)]}, "annotations[0]: 'iscrowd' is None"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_place(exported, change, words):
    write(exported / "annotations" / "instances_default.json", **change)
    with pytest.raises(DatasetError) as caught:
        opened(exported, held_out=0.5)
    assert "1 entry cannot be used:\n  " + words in str(caught.value)
    assert len(str(caught.value)) < 400


def test_all_that_is_wrong_is_named_at_once(exported):
    write(
        exported / "annotations" / "instances_default.json",
        [outline(1, True, []), outline(2, 1, [], iscrowd="0")],
        images=[image(height=-20), image(id=6, width=10**6, height=10**6)],
    )
    with pytest.raises(DatasetError) as caught:
        opened(exported)
    assert [line.split(":")[0] for line in str(caught.value).split("\n  ")[1:]] == [
        "images[0]",
        "images[1]",
        "annotations[0]",
        "annotations[1]",
    ]


def test_crowds_may_be_told_with_true_and_false(exported):
    each = [
        outline(1, 1, rectangle(0, 0, 3, 3), iscrowd=True),
        outline(2, 1, rectangle(5, 0, 8, 3), iscrowd=False),
    ]
    write(exported / "annotations" / "instances_default.json", each)
    assert sorted(a.is_crowd for a in opened(exported)[0].instances) == [False, True]


def test_json_nested_without_end_is_none(exported):
    file = exported / "annotations" / "instances_default.json"
    file.write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=r"default\.json: no JSON: "):
        opened(exported)


def test_a_path_that_only_its_folder_makes_too_long_is_named(exported):
    names = ["/".join([*["a" * 250] * 16, "a" * 60 + ".png"])]
    write(exported / "annotations" / "instances_default.json", names=names)
    deep = exported / ("b" * 100)
    with pytest.raises(DatasetError, match="too long"):
        CocoInstances(
            exported / "annotations" / "instances_default.json", [deep, exported / "images"], YARD
        )


def test_all_missing_pictures_are_named(exported):
    write(exported / "annotations" / "instances_default.json", names=["a.png", "b.png", "c.png"])
    with pytest.raises(DatasetError) as caught:
        opened(exported)
    assert "2 files" in str(caught.value)
    assert "b.png: missing" in str(caught.value)


def test_pictures_without_outlines_are_counted(exported):
    assert opened(exported).notes == []
    write(exported / "annotations" / "instances_default.json", names=("a.png", "b.png", "c.png"))
    for name in "bc":
        picture(exported / "images" / f"{name}.png")
    assert opened(exported).notes == ["2 pictures without any outline"]


def test_outlines_wholly_outside_of_their_picture_are_named(exported):
    seen = [rectangle(-5, -5, 50, 50), rectangle(8, 2, 20, 4)]
    unseen = [rectangle(12, 0, 20, 8), rectangle(-9, 1, 0, 5), rectangle(1, -6, 5, 0)]
    both = [*seen[1], *unseen[0]]
    outlines = [*seen, *unseen, both, [*unseen[0], *unseen[1]]]
    write(
        exported / "annotations" / "instances_default.json",
        [outline(number, 1, each) for number, each in enumerate(outlines)],
    )
    data = opened(exported)
    named = "".join(f"\n  annotation {number} of a.png" for number in (2, 3, 4, 6))
    assert data.notes == [f"4 outlines wholly outside of the picture, left out:{named}"]
    assert len(data[0].instances) <= 3


def test_images_with_one_id_are_named(exported):
    images = [image(), image(file_name="b.png"), image(id="x"), image(id=7), image(id="x")]
    write(
        exported / "annotations" / "instances_default.json", [outline(1, 1, [], 6)], images=images
    )
    with pytest.raises(DatasetError) as caught:
        opened(exported)
    assert str(caught.value).split("\n  ")[1:] == [
        "images[1]: its id 5 is that of images[0] too; give each an id of its own",
        "images[4]: its id 'x' is that of images[2] too; give each an id of its own",
        "annotations[0]: there is no image 6",
    ]


@pytest.mark.parametrize(("image_id", "listed"), [(5, "5"), ("5", 5)])
def test_a_number_and_its_text_are_told_apart(exported, image_id, listed):
    write(
        exported / "annotations" / "instances_default.json",
        [outline(1, 1, rectangle(0, 0, 2, 2), image_id)],
        images=[image(id=listed)],
    )
    words = f"there is no image {image_id!r}, but {listed!r}: one is a text, the other a number"
    with pytest.raises(DatasetError) as caught:
        opened(exported)
    assert f"annotations[0]: {words}" in str(caught.value)
