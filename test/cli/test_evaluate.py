"""rt-panoptic evaluate: as a user runs it, with a model of a few weights."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from rt_panoptic_core.cli.main import main
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.panoptic_format import PanopticWriter, read_annotations, write_ids
from rt_panoptic_core.taxonomy import Taxonomy

STREETS = ["--dataset", "generated", "--option", "size=[64,128]"]


@pytest.fixture(scope="module")
def model(save_small_model) -> str:
    return str(save_small_model(sees=True, score_threshold=0.1, stuff_area_limit=0))


def evaluate(model: str, *arguments: str) -> int:
    return main(
        ["evaluate", "--model", model, "--engine", "pytorch", "--device", "cpu", *arguments]
    )


def test_generated_streets_give_table_json_and_report(model, tmp_path, capsys):
    arguments = [*STREETS, "--limit", "3", "--output", str(tmp_path), "--pictures", "1"]
    predictions = tmp_path / "predictions"
    assert evaluate(model, *arguments, "--save-predictions", str(predictions)) == 0
    printed = capsys.readouterr().out
    assert "mIoU" in printed
    assert "latency median" in printed
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["subject"]["model"] == "small"
    assert content["subject"]["dataset"] == "generated_streets val"
    assert len(content["frames"]) == 3
    assert {"panoptic", "boundary", "semantic", "instances", "recall"} <= set(content)
    # Streets come with depth, so recall by distance is there as well.
    assert sum(map(sum, content["recall"]["distance"]["truth"])) > 0
    html = (tmp_path / "report.html").read_text()
    # The worst frame; of frames that are all equally bad none is called the best.
    assert html.count("data:image/jpeg;base64,") in (3, 6)
    assert len(read_annotations(tmp_path / "predictions.json").annotations) == 3


def test_saved_predictions_can_be_scored_against_the_files_they_are_for(model, tmp_path, capsys):
    taxonomy = Taxonomy.load("cityscapes")
    road = np.zeros((64, 96), np.uint8)
    (tmp_path / "val").mkdir()
    with PanopticWriter(tmp_path / "panoptic_val", taxonomy) as truth:
        for image_id in (139, 285):
            truth.add(image_id, PanopticResult(road, road.astype(np.uint16), []))
            cv2.imwrite(str(tmp_path / f"val/{image_id:012d}.jpg"), np.dstack([road] * 3))
    arguments = ["--dataset", "coco-panoptic-folder", "--root", str(tmp_path), "--quiet"]
    predictions = tmp_path / "mine"
    arguments += ["--output", str(tmp_path / "report"), "--save-predictions", str(predictions)]
    assert evaluate(model, *arguments) == 0
    files = ["--ground-truth", str(tmp_path / "panoptic_val.json")]
    assert main(["score", *files, "--predictions", f"{predictions}.json", "--quiet"]) == 0
    assert "2 images" in capsys.readouterr().out


def test_a_run_compared_with_itself_is_the_same(model, tmp_path, capsys):
    arguments = [*STREETS, "--limit", "2", "--output", str(tmp_path), "--no-report", "--quiet"]
    assert evaluate(model, *arguments, "--detections") == 0
    assert not (tmp_path / "report.html").exists()
    results = str(tmp_path / "results.json")
    capsys.readouterr()
    assert main(["compare", results, str(tmp_path), "--samples", "100"]) == 0
    printed = capsys.readouterr().out
    assert "the same" in printed
    assert "better" not in printed.split("paired bootstrap")[0]


def test_unreadable_samples_are_all_named_and_nothing_is_written(model, tmp_path, capsys):
    _coco_folder(tmp_path / "data")
    for name in ("1.png", "2.png"):
        path = tmp_path / "data" / "panoptic_val" / name
        path.write_bytes(path.read_bytes()[:-20])
    output = tmp_path / "out"
    arguments = ["--dataset", "coco-panoptic-folder", "--root", str(tmp_path / "data")]
    arguments += ["--output", str(output), "--quiet"]
    assert evaluate(model, *arguments) == 1
    error = capsys.readouterr().err
    assert "2 samples cannot be used, nothing written" in error
    assert "1.png" in error
    assert "2.png" in error
    assert not output.exists()
    assert evaluate(model, *arguments, "--skip-unreadable") == 0
    content = json.loads((output / "results.json").read_text())
    assert [frame["name"] for frame in content["frames"]] == ["0"]
    assert content["subject"]["samples_left_out"] == 2


def _coco_folder(root) -> None:
    cityscapes = Taxonomy.load("cityscapes")
    annotations, images = [], []
    (root / "val").mkdir(parents=True)
    for index in range(3):
        ids = np.full((64, 96), 5, np.int32)
        ids[20:40, 10:50] = 900
        write_ids(root / "panoptic_val" / f"{index}.png", ids)
        cv2.imwrite(str(root / "val" / f"{index}.jpg"), np.full((64, 96, 3), 80, np.uint8))
        infos = [{"id": 5, "category_id": 7}, {"id": 900, "category_id": 26}]
        annotations.append({"image_id": index, "file_name": f"{index}.png", "segments_info": infos})
        images.append({"id": index, "file_name": f"{index}.jpg", "height": 64, "width": 96})
    categories = [
        {"id": c.source_id, "name": c.name, "isthing": int(c.is_thing)} for c in cityscapes
    ]
    content = {"annotations": annotations, "images": images, "categories": categories}
    (root / "panoptic_val.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "0"], "--limit 0"),
        (["--pictures", "-1"], "--pictures -1"),
        (["--option", "length"], "it must be KEY=VALUE"),
        (["--option", "colour=red"], "unknown option 'colour'"),
        (["--option", "size=[1"], "not readable"),
        (["--boundary", "1.5"], "between 0 and 1"),
    ],
)
def test_arguments_that_make_no_sense(model, tmp_path, capsys, arguments, message):
    assert evaluate(model, *STREETS, "--output", str(tmp_path / "o"), *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
