"""Scoring panoptic files: panopticapi's numbers, any number of processes, every fault by its name."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
from evaluation_pictures import ALL, STUFF, THINGS, id_map, write_files

from rt_panoptic_core.datasets.coco_panoptic import CocoPanoptic
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.evaluation.panoptic_files import (
    PanopticFilesError,
    open_files,
    score_files,
)
from rt_panoptic_core.panoptic_format import read_ids, write_ids


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path)


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def problems_of(files) -> list[str]:
    with pytest.raises(PanopticFilesError) as caught:
        score_files(open_files(*files), processes=1)
    return caught.value.problems


def test_the_numbers_are_panopticapis(files):
    record = score_files(open_files(*files), processes=1)
    panoptic = record.results["panoptic"]
    for key, expected in (("all", ALL), ("things", THINGS), ("stuff", STUFF)):
        mean = panoptic[key]
        assert (mean["pq"], mean["sq"], mean["rq"]) == pytest.approx(expected[:3], rel=1e-14)
        assert mean["n"] == expected[3]
    assert [frame.name for frame in record.frames] == ["0", "1", "2"]
    assert record.results["area_differences"] == 0


def test_frames_have_the_names_that_an_evaluation_gives_them(files):
    def rename(content):
        for annotation in content["annotations"]:
            annotation["image_id"] += 1000
        content["annotations"][2]["image_id"] = "ulm_000000_000019"

    for path in files:
        change(path, rename)
    folder = files[0].parent / "images"
    folder.mkdir()
    for number in range(3):
        size = read_ids(files[0].with_suffix("") / f"{number}.png").shape
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((*size, 3), np.uint8))
    names = [frame.name for frame in score_files(open_files(*files), processes=1).frames]
    truth = CocoPanoptic(files[0], files[0].with_suffix(""), folder)
    assert names == [truth[index].name for index in range(3)] == ["0", "1", "ulm_000000_000019"]


def test_whole_numbers_may_be_written_as_floats(files):
    expected = score_files(open_files(*files), processes=1)

    def as_floats(content):
        for category in content["categories"]:
            category["id"] = float(category["id"])
        for image in content.get("images", ()):
            image["id"] = float(image["id"])
        for annotation in content["annotations"]:
            annotation["image_id"] = float(annotation["image_id"])
            for segment in annotation["segments_info"]:
                segment["id"] = float(segment["id"])
                segment["category_id"] = float(segment["category_id"])

    for path in files:
        change(path, as_floats)
    assert str(score_files(open_files(*files), processes=1)) == str(expected)


@pytest.mark.parametrize("number", [1.5, float("inf"), True])
def test_other_floats_are_no_ids(files, number):
    change(
        files[1], lambda content: content["annotations"][0]["segments_info"][0].update(id=number)
    )
    with pytest.raises(DatasetError, match=r"segments_info\[0\]: 'id' is .*whole number"):
        open_files(*files)


def test_processes_and_progress_change_nothing(files):
    done = []
    alone = score_files(open_files(*files), processes=1, boundary_ratio=0.1)
    shared = score_files(open_files(*files), processes=2, boundary_ratio=0.1, progress=done.append)
    assert str(shared) == str(alone)
    assert sum(done) == 3


def test_semantic_iou_comes_from_the_segments(files):
    results = score_files(open_files(*files), processes=1).results["semantic"]
    confusion = np.array(results["confusion"])
    # Sky, class 3: true in d of image 0 (24) and c of image 2 (12); found there 14 + 5 and 6.
    assert confusion[3].sum() == 36
    assert confusion[3, 3] == 25
    # Given to sky by mistake: nothing.
    assert results["per_class"][3] == 25 / 36
    # Labelled as sky, left void by the prediction: 1 in image 0 and 2 in image 2.
    assert confusion[:, 4].tolist() == [0, 0, 0, 3]


def test_areas_are_the_jsons_as_panopticapi_takes_them(files):
    def grow(content):
        content["annotations"][2]["segments_info"][1]["area"] = 18

    change(files[0], grow)
    record = score_files(open_files(*files), processes=1)
    # b of image 2: intersection 12, prediction 15: union 15 + 18 - 12 instead of 15.
    before = 3 * 0.7714285714285714
    assert record.frames[2].segments[1][3] == 12 / 21
    assert record.results["panoptic"]["per_class"][1]["sq"] == pytest.approx(
        (before - 12 / 15 + 12 / 21) / 3
    )
    assert record.results["area_differences"] == 1


def test_an_area_that_a_prediction_exceeds_is_refused(files):
    """The IoU would be above 1, and PQ with it."""

    def shrink(content):
        content["annotations"][2]["segments_info"][1]["area"] = 11

    change(files[0], shrink)
    (problem,) = problems_of(files)
    words = "truth.json: image 2: segment 98 has the area 11, but 12 pixels in the PNG, 12 of them under"
    assert words in problem


@pytest.mark.parametrize("area", [True, math.inf, math.nan, 2.5, "7", -1])
def test_an_area_is_a_whole_number(files, area):
    def spoil(content):
        content["annotations"][0]["segments_info"][0]["area"] = area

    change(files[0], spoil)
    (problem,) = problems_of(files)
    assert f"has the area {area!r}; it must be a whole number" in problem


@pytest.mark.parametrize("color", ["red", None, [1, 2], [math.inf, 0, 0]])
def test_a_colour_that_is_none_is_named_with_its_category(files, color):
    change(files[0], lambda content: content["categories"][0].update(color=color))
    with pytest.raises(DatasetError, match=r"truth\.json: category .*it must be \[r, g, b\]"):
        score_files(open_files(*files), processes=1)


@pytest.mark.parametrize("name", ["a\0.png", "\ud800.png"])
def test_a_name_that_no_file_has(files, name):
    change(files[0], lambda content: content["annotations"][0].update(file_name=name))
    (problem,) = problems_of(files)
    assert "is no name of a file" in problem


def test_predictions_for_other_images_are_left_out(files):
    change(files[0], lambda content: content["annotations"].pop())
    assert len(score_files(open_files(*files), processes=1).frames) == 2


def test_a_segment_in_the_png_and_not_in_the_json(files):
    change(files[1], lambda c: c["annotations"][0]["segments_info"].pop(0))
    (problem,) = problems_of(files)
    assert "0.png: segment 97 (15 pixels) is not listed in" in problem
    assert "predictions.json" in problem
    assert "image 0" in problem


def test_a_segment_in_the_json_and_not_in_the_png(files):
    extra = {"id": 500, "category_id": 1}
    change(files[1], lambda c: c["annotations"][1]["segments_info"].append(extra))
    (problem,) = problems_of(files)
    assert "predictions.json: image 1: segment 500 is listed, but it is not in" in problem
    assert problem.endswith("1.png")


def test_an_unknown_category(files):
    change(files[1], lambda c: c["annotations"][2]["segments_info"][0].update(category_id=99))
    (problem,) = problems_of(files)
    assert "predictions.json: image 2: segment 97 has the unknown category 99" in problem


def test_segments_listed_twice_void_segments_and_empty_areas(files):
    def spoil(content):
        infos = content["annotations"][0]["segments_info"]
        infos.append(dict(infos[0]))
        infos.append({"id": 0, "category_id": 1})
        infos[1]["area"] = 0

    change(files[0], spoil)
    problems = problems_of(files)
    assert len(problems) == 3
    assert any("segment 97 is listed twice" in p for p in problems)
    assert any("0 is void" in p for p in problems)
    assert any("segment 98 has the area 0" in p for p in problems)


def test_pictures_missing_deep_or_of_another_size(files, tmp_path):
    (tmp_path / "truth" / "0.png").unlink()
    deep = np.zeros((4, 12, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "predictions" / "1.png"), deep)
    write_ids(tmp_path / "predictions" / "2.png", id_map("abc"))
    problems = problems_of(files)
    assert len(problems) == 3
    assert "truth/0.png: there is no such picture" in problems[0].replace("\\", "/")
    assert "1.png: a PNG of 16 bits" in problems[1]
    assert "2.png: 3x1 pixels, the truth" in problems[2]
    assert problems[2].endswith("has 12x3")


def test_size_in_the_json(files):
    change(
        files[0],
        lambda c: c.update(images=[{"id": 1, "file_name": "1.jpg", "height": 4, "width": 13}]),
    )
    (problem,) = problems_of(files)
    assert "12x4 pixels, but" in problem
    assert "says 13x4" in problem


def test_images_without_prediction_or_twice(files):
    change(files[1], lambda c: c["annotations"].pop())
    change(files[0], lambda c: c["annotations"].append(c["annotations"][0]))
    with pytest.raises(PanopticFilesError) as caught:
        open_files(*files)
    assert len(caught.value.problems) == 2
    assert "truth.json: image 0 has more than one annotation" in caught.value.problems[0]
    assert "predictions.json: no prediction for image 2" in caught.value.problems[1]
    assert "2 problems, nothing scored" in str(caught.value)


def renamed(files, *, truth_names=("a", "b", "c"), names=("c", "a", "b")):
    """The truth with ids of its own and named images; of the same images predictions that know the names."""

    def rename(content):
        content["images"] = [
            {"id": 1000 + n, "file_name": f"val/{name}.jpg"} for n, name in enumerate(truth_names)
        ]
        for annotation in content["annotations"]:
            annotation["image_id"] += 1000

    def call(content):
        places = [truth_names.index(name) if name in truth_names else 0 for name in names]
        content["annotations"] = [
            {**content["annotations"][place], "image_id": name}
            for place, name in zip(places, names, strict=True)
        ]
        content["images"] = [{"id": name, "file_name": f"{name}.png"} for name in names]

    change(files[0], rename)
    change(files[1], call)


def test_without_an_id_in_common_names_pair_the_images(files):
    renamed(files)
    opened = open_files(*files)
    assert opened.by_name
    assert score_files(opened, processes=1).results["panoptic"]["all"]["pq"] == pytest.approx(
        ALL[0]
    )


def test_with_an_id_in_common_names_pair_nothing(files):
    assert not open_files(*files).by_name
    renamed(files)
    change(files[1], lambda c: c["annotations"][0].update(image_id=1001))
    assert problems_of(files) == [
        f"{files[1]}: no prediction for image 1000",
        f"{files[1]}: no prediction for image 1002",
    ]


def test_an_image_whose_name_no_prediction_has_is_named(files):
    renamed(files, names=("c", "a"))
    assert problems_of(files) == [f"{files[1]}: no prediction for image 1001 (b)"]


@pytest.mark.parametrize(
    ("truth_names", "names", "why"),
    [
        (("a", "b", "c"), ("d", "e", "f"), "have none in common either"),
        (("a", "a", "c"), ("c", "a"), "are used twice"),
    ],
)
def test_files_that_neither_ids_nor_names_pair(files, truth_names, names, why):
    renamed(files, truth_names=truth_names, names=names)
    (problem,) = problems_of(files)
    told = ", ".join(f"'{name}' ({name})" for name in names)
    assert problem.startswith(
        f"{files[1]}: its image ids are {told}; {files[0]} has 1000 (a), 1001 ("
    )
    assert problem.endswith(why)


def test_problems_are_found_in_all_processes_and_told_in_order(files, tmp_path):
    for name in ("0.png", "2.png"):
        (tmp_path / "predictions" / name).write_bytes(b"")
    with pytest.raises(PanopticFilesError) as caught:
        score_files(open_files(*files), processes=2)
    assert ["0.png" in p or "2.png" in p for p in caught.value.problems] == [True, True]


def test_folders_that_are_not_there_and_an_empty_truth(files, tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        open_files(*files, truth_folder=tmp_path / "absent")
    change(files[0], lambda c: c.update(annotations=[]))
    with pytest.raises(DatasetError, match="no annotation"):
        open_files(*files)


def test_a_category_that_never_occurs_is_not_in_the_mean(files):
    new = {"id": 9, "name": "boat", "isthing": 1}
    change(files[0], lambda c: c["categories"].append(new))
    record = score_files(open_files(*files), processes=1)
    assert record.results["panoptic"]["all"]["n"] == 4
    assert math.isnan(record.results["panoptic"]["per_class"][4]["pq"])
