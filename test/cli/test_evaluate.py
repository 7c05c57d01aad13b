"""rt-panoptic evaluate: as a user runs it, with a model of a few weights."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import rt_panoptic_core.segmenter
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
    assert "over 3 frames" in printed
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["subject"]["model"] == "small"
    assert "notes" not in content["subject"]
    assert content["subject"]["dataset"] == "generated_streets val"
    assert len(content["frames"]) == 3
    assert {"panoptic", "boundary", "semantic", "instances", "recall"} <= set(content)
    # Streets come with depth, so recall by distance is there as well.
    assert sum(map(sum, content["recall"]["distance"]["truth"])) > 0
    html = (tmp_path / "report.html").read_text()
    # The worst frame; of frames that are all equally bad none is called the best.
    assert html.count("data:image/jpeg;base64,") in (3, 6)
    assert len(read_annotations(tmp_path / "predictions.json").annotations) == 3


def test_classes_of_streets_that_a_model_lacks_are_named(save_small_model, tmp_path, capsys):
    things = [{"name": name, "thing": True} for name in ("forklift", "person")]
    stuff = [{"name": name, "thing": False} for name in ("floor", "wall")]
    yard = Taxonomy.from_dict({"name": "yard", "classes": [*things, *stuff]}, "yard")
    arguments = [*STREETS, "--limit", "1", "--quiet", "--output", str(tmp_path)]
    assert evaluate(str(save_small_model(taxonomy=yard)), *arguments) == 0
    note = json.loads((tmp_path / "results.json").read_text())["subject"]["notes"]
    assert "taxonomy 'yard' has wall, person; the others are void" in note
    assert "neither learnt nor measured: road, sidewalk, building, fence, pole" in note
    assert f"note: {note}\n" in capsys.readouterr().err
    assert "the others are void" in (tmp_path / "report.html").read_text()


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
    assert f"written: {predictions}.json, its PNGs in {predictions}\n" in capsys.readouterr().err
    files = ["--ground-truth", str(tmp_path / "panoptic_val.json")]
    files += ["--predictions", f"{predictions}.json", "--output", str(tmp_path / "score.json")]
    assert main(["score", *files, "--quiet"]) == 0
    assert "2 images" in capsys.readouterr().out
    names = [
        image["file_name"] for image in read_annotations(f"{predictions}.json").images.values()
    ]
    assert names == ["000000000139.jpg", "000000000285.jpg"]
    scored = json.loads((tmp_path / "score.json").read_text())
    evaluated = json.loads((tmp_path / "report/results.json").read_text())
    assert scored["panoptic"]["all"] == evaluated["panoptic"]["all"]


def test_pictures_of_one_engine_follow_each_other(model, tmp_path, capsys, monkeypatch):
    sizes = [(32, 32), (32, 64), (64, 64), (64, 96), (90, 90), (32, 32), (30, 60), (91, 96)]
    (tmp_path / "val").mkdir()
    with PanopticWriter(tmp_path / "panoptic_val", Taxonomy.load("cityscapes")) as truth:
        for image_id, size in enumerate(sizes, start=1):
            road = np.zeros(size, np.uint8)
            truth.add(image_id, PanopticResult(road, road.astype(np.uint16), []))
            cv2.imwrite(str(tmp_path / f"val/{image_id:012d}.jpg"), np.dstack([road] * 3))
    opened = []

    def open_engine(checkpoint, size, *arguments, **options):
        opened.append(size)
        return real(checkpoint, size, *arguments, **options)

    real = rt_panoptic_core.segmenter.open_engine
    monkeypatch.setattr("rt_panoptic_core.segmenter.open_engine", open_engine)
    arguments = ["--dataset", "coco-panoptic-folder", "--root", str(tmp_path), "--quiet"]
    assert evaluate(model, *arguments, "--output", str(tmp_path / "report")) == 0
    # The first picture's tells whether it runs on a GPU.
    assert opened == [(32, 32), (32, 64), (64, 64), (64, 96), (96, 96)]
    frames = json.loads((tmp_path / "report/results.json").read_text())["frames"]
    assert [frame["name"] for frame in frames] == [f"{n:012d}" for n in range(1, 9)]
    subject = json.loads((tmp_path / "report/results.json").read_text())["subject"]
    assert subject["engine_size"] == "5 sizes"
    assert "limit" not in subject
    arguments += ["--limit", "1", "--output", str(tmp_path / "one")]
    assert evaluate(model, *arguments) == 0
    subject = json.loads((tmp_path / "one/results.json").read_text())["subject"]
    assert (subject["engine_size"], subject["limit"]) == ("32x32", 1)
    told = "note: the pictures need engines of 5 sizes; --size 96x96 has one for all\n"
    assert told in capsys.readouterr().err


def gone(*_):
    """Printing for a reader that has gone away (`| head -1`)."""
    raise BrokenPipeError


def test_the_files_are_written_before_anything_is_printed(model, tmp_path, monkeypatch):
    # The command lets go of standard output then.
    monkeypatch.setattr("sys.stdout", sys.stdout)
    monkeypatch.setattr("rt_panoptic_core.cli.evaluate._print", gone)
    predictions = tmp_path / "predictions"
    arguments = [*STREETS, "--limit", "1", "--output", str(tmp_path / "out"), "--quiet"]
    assert evaluate(model, *arguments, "--save-predictions", str(predictions)) == 1
    assert json.loads((tmp_path / "out/results.json").read_text())["frames"]
    assert (tmp_path / "out/report.html").is_file()
    assert predictions.with_suffix(".json").is_file()


def test_a_report_of_other_results_does_not_stay(model, tmp_path):
    arguments = [*STREETS, "--limit", "1", "--output", str(tmp_path), "--quiet"]
    (tmp_path / "report.html").write_text("of last week")
    (tmp_path / "notes.html").write_text("mine")
    assert evaluate(model, *arguments, "--no-report") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.html", "results.json"]


def test_predictions_of_an_earlier_run_do_not_stay(model, tmp_path):
    folder = tmp_path / "predictions"

    def run(limit: int) -> set[str]:
        arguments = [*STREETS, "--limit", str(limit), "--output", str(tmp_path), "--quiet"]
        assert evaluate(model, *arguments, "--save-predictions", str(folder)) == 0
        return {path.name for path in folder.iterdir()}

    three = run(3)
    (folder / "mine.png").write_bytes(b"a picture of my own")
    outside = tmp_path / "outside.png"
    outside.touch()
    named = json.loads(folder.with_suffix(".json").read_text())
    for name in ("../outside.png", str(outside)):
        named["annotations"].append({**named["annotations"][0], "file_name": name})
    folder.with_suffix(".json").write_text(json.dumps(named))
    left = run(1)
    assert len(three) == 3
    assert "mine.png" in left
    assert len(left) == 2
    assert outside.exists()


def test_ground_truth_is_not_replaced_by_predictions(model, tmp_path, capsys):
    _coco_folder(tmp_path)
    arguments = [*STREETS, "--limit", "1", "--output", str(tmp_path / "out"), "--quiet"]
    there = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert evaluate(model, *arguments, "--save-predictions", str(tmp_path / "panoptic_val")) == 1
    assert "panoptic_val.json: it is somebody else's" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == there


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
    assert "with 2 frames no p is below 0.5." in " ".join(printed.split())


def test_unreadable_samples_are_all_named_and_nothing_is_written(model, tmp_path, capsys):
    _coco_folder(tmp_path / "data")
    whole = (tmp_path / "data/panoptic_val/2.png").read_bytes()
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
    (tmp_path / "data/panoptic_val/2.png").write_bytes(whole)
    assert evaluate(model, *arguments) == 1
    assert "1 sample cannot be used" in capsys.readouterr().err
    assert evaluate(model, *arguments, "--skip-unreadable") == 0
    assert "left out 1 sample:" in capsys.readouterr().err
    content = json.loads((output / "results.json").read_text())
    assert [frame["name"] for frame in content["frames"]] == ["0", "2"]
    assert content["subject"]["samples_left_out"] == 1


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
        (["--limit", "0"], "--limit: 0: it must be a whole number, 1 or more"),
        (["--pictures", "-1"], "--pictures: -1: it must be a whole number, 0 or more"),
        (["--option", "length"], "--option: length: it must be KEY=VALUE"),
        (["--option", "size=[1"], "not readable"),
        (["--boundary", "1"], "--boundary: 1: it must be a number between 0 and 1"),
        (["--dataset", "kitti"], "--dataset: data set 'kitti': unknown; one of cityscapes, coco"),
    ],
)
def test_arguments_that_make_no_sense(model, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        evaluate(model, *STREETS, "--output", str(tmp_path / "o"), *arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_an_option_that_the_data_set_does_not_have(model, tmp_path, capsys):
    arguments = ["--output", str(tmp_path / "runs/o"), "--option", "colour=red"]
    assert evaluate(model, *STREETS, *arguments) == 1
    assert "unknown option 'colour'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_predictions_need_a_name_of_their_own(model, capsys):
    assert evaluate(model, *STREETS, "--save-predictions", ".") == 2
    assert "--save-predictions .: the folder must have a name" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["--output", "--save-predictions"])
@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_place_that_cannot_be_written_is_found_before_the_first_frame(
    model, tmp_path, capsys, monkeypatch, place, name
):
    def open_engine(*_, **__):
        pytest.fail("the work has begun")

    monkeypatch.setattr("rt_panoptic_core.segmenter.open_engine", open_engine)
    (tmp_path / "file").write_text("mine")
    arguments = ["--output", str(tmp_path / "out"), place, str(tmp_path / name)]
    assert evaluate(model, *STREETS, *arguments) == 1
    assert f"{tmp_path / name}: results cannot be written there" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_predictions_whose_json_is_in_the_way(model, tmp_path, capsys):
    (tmp_path / "pred.json").mkdir()
    arguments = ["--output", str(tmp_path / "out"), "--save-predictions", str(tmp_path / "pred")]
    assert evaluate(model, *STREETS, *arguments) == 1
    assert "pred.json: it is a folder" in capsys.readouterr().err
    assert not (tmp_path / "pred").exists()


def test_a_model_that_was_forgotten_is_thought_of(model, tmp_path, capsys, monkeypatch):
    _coco_folder(tmp_path)
    content = json.loads((tmp_path / "panoptic_val.json").read_text())
    for annotation in content["annotations"]:
        annotation["segments_info"][0]["category_id"] = 1000
    (tmp_path / "panoptic_val.json").write_text(json.dumps(content))
    words = ["evaluate", "--dataset", "coco_panoptic", "--root", str(tmp_path)]
    words += ["--output", str(tmp_path / "out")]
    monkeypatch.setattr(
        "rt_panoptic_core.checkpoint.shipped_models", lambda: {"street": Path(model)}
    )
    assert main(words) == 1
    assert "No --model was given, and the default one (small) was taken" in capsys.readouterr().err
    assert main([*words, "--model", model]) == 1
    assert "No --model" not in capsys.readouterr().err
    # Missing files have nothing to do with the model.
    assert main([*words, "--root", str(tmp_path / "nowhere")]) == 1
    assert "No --model" not in capsys.readouterr().err


def test_models_of_runs_are_told_apart(model, tmp_path, capsys):
    for run in ("a", "b"):
        path = tmp_path / "runs" / run / "final.safetensors"
        path.parent.mkdir(parents=True)
        shutil.copy(model, path)
        arguments = [*STREETS, "--limit", "1", "--output", str(tmp_path / run), "--quiet"]
        assert evaluate(str(path), *arguments) == 0
    assert "<h1>runs/a/final on generated_streets val</h1>" in (
        (tmp_path / "a/report.html").read_text()
    )
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--samples", "100"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("A  runs/a/final · ")
    assert printed[1].startswith("B  runs/b/final · ")
    assert any("1 frame, paired bootstrap of 100 resamples" in line for line in printed)


def test_a_comparison_that_cannot_be_written_is_not_made(model, tmp_path, capsys):
    arguments = [*STREETS, "--limit", "1", "--output", str(tmp_path), "--no-report", "--quiet"]
    assert evaluate(model, *arguments) == 0
    capsys.readouterr()
    words = ["compare", str(tmp_path), str(tmp_path), "--output"]
    assert main([*words, str(tmp_path / "results.json" / "c.json")]) == 1
    printed = capsys.readouterr()
    assert "results cannot be written there" in printed.err
    assert not printed.out
