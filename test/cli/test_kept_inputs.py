"""No command replaces what it reads, whatever is named as its output."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rt_panoptic_core.cli.main import main
from rt_panoptic_core.panoptic_format import write_ids

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
from evaluation_pictures import write_files


@pytest.fixture(scope="module")
def model(save_small_model) -> Path:
    return save_small_model()


@pytest.fixture
def files(tmp_path) -> list[Path]:
    return [Path(path) for path in write_files(tmp_path)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(words: list[object], named: object, folder: Path, capsys) -> None:
    """``words`` are a wrong command line that names the input ``named`` and leaves ``folder`` as it was."""
    before = content(folder)
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    assert f"it would replace the input {named}; name another place" in capsys.readouterr().err
    assert content(folder) == before


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("way", ["itself", "link", "detour"])
def test_score(files, which, way, tmp_path, capsys):
    output = files[which]
    if way == "link":
        output = tmp_path / "link.json"
        output.symlink_to(files[which])
    elif way == "detour":
        output = tmp_path / "truth" / ".." / files[which].name
    words = ["score", "--ground-truth", files[0], "--predictions", files[1], "--output", output]
    refused(words, files[which], tmp_path, capsys)


def test_compare(files, tmp_path, capsys):
    folder = tmp_path / "run"
    record = folder / "results.json"
    words = ["score", "--ground-truth", files[0], "--predictions", files[1], "--output", record]
    assert main([*map(str, words), "--quiet"]) == 0
    other = shutil.copy(record, tmp_path / "other.json")
    compare = ["compare", folder, other, "--samples", "100", "--output"]
    for target in (record, other):
        refused([*compare, target], target, tmp_path, capsys)
    # A comparison may go beside, and again.
    for _ in range(2):
        assert main([*map(str, compare), str(folder / "comparison.json")]) == 0


def test_export_and_benchmark(model, tmp_path, capsys):
    mine = Path(shutil.copy(model, tmp_path / "mine.safetensors"))
    words = ["--model", mine, "--size", "64x96"]
    refused(["export", *words, "--engine", "onnx", "--output", mine], mine, tmp_path, capsys)
    refused(["export", *words, "--output", mine], mine, tmp_path, capsys)
    refused(["benchmark", *words, "--json", mine], mine, tmp_path, capsys)


def test_convert_checkpoint(tmp_path, capsys):
    theirs = tmp_path / "theirs.pth"
    theirs.write_bytes(b"weights")
    link = tmp_path / "link.safetensors"
    link.symlink_to(theirs)
    refused(["convert-checkpoint", theirs, link], theirs, tmp_path, capsys)


@pytest.mark.parametrize("inside", [".", "pictures"])
def test_make_bag(inside, tmp_path, capsys):
    """With an mcap in it a folder counts as a bag, which --overwrite replaces with all that is there."""
    bag = tmp_path / "bag"
    (bag / inside).mkdir(parents=True)
    (bag / "drive.mcap").touch()
    cv2.imwrite(str(bag / inside / "a.png"), np.zeros((16, 16, 3), np.uint8))
    words = ["make-bag", "--source", bag / inside, "--output", bag, "--overwrite"]
    refused(words, bag / inside, tmp_path, capsys)


def test_make_bag_called_as_the_generated_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "generated").mkdir()
    words = ["make-bag", "--frames", "1", "--size", "32x64", "--output", "generated", "--overwrite"]
    assert main(words) == 0


def test_evaluate_bag(model, tmp_path, capsys):
    run = tmp_path / "run"
    bag = run / "annotated"
    words = ["make-bag", "--frames", "1", "--size", "32x64", "--output", str(bag)]
    assert main(words) == 0
    words = ["--model", model, "--engine", "pytorch", "--overwrite", "--output"]
    refused(["evaluate-bag", bag, *words, run], bag, tmp_path, capsys)
    refused(["evaluate-bag", bag, *words, bag], bag, tmp_path, capsys)
    (file,) = bag.glob("*.mcap")
    refused(["evaluate-bag", file, *words, run], file, tmp_path, capsys)


@pytest.mark.parametrize("place", ["overlays", "panoptic/deep"])
def test_segment(place, model, tmp_path, capsys):
    picture = tmp_path / place / "a.jpg"
    picture.parent.mkdir(parents=True)
    cv2.imwrite(str(picture), np.zeros((32, 64, 3), np.uint8))
    before = content(tmp_path)
    words = ["segment", "--model", str(model), str(picture), "--output"]
    assert main([*words, str(tmp_path)]) == 2
    assert f"results cannot go where the input {picture} is" in capsys.readouterr().err
    assert content(tmp_path) == before


def test_a_hard_link_is_the_input_too(files, tmp_path, capsys):
    os.link(files[0], tmp_path / "same.json")
    words = ["score", "--ground-truth", files[0], "--predictions", files[1], "--output"]
    refused([*words, tmp_path / "same.json"], files[0], tmp_path, capsys)


def test_what_comes_out_beside_the_inputs_is_welcome(files, tmp_path):
    words = ["score", "--ground-truth", str(files[0]), "--predictions", str(files[1]), "--quiet"]
    for _ in range(2):
        assert main([*words, "--output", str(tmp_path / "score.json")]) == 0
    assert json.loads((tmp_path / "score.json").read_text())["frames"]


def test_evaluate(model, tmp_path, capsys):
    """Its predictions into the folder of pictures: photos by the names of the id maps are there."""
    names = [f"{number:012d}" for number in range(2)]
    categories = [{"id": 7, "name": "road", "isthing": 0}]
    annotations = []
    (tmp_path / "val").mkdir()
    for number, name in enumerate(names):
        cv2.imwrite(str(tmp_path / f"val/{name}.png"), np.full((32, 64, 3), 90, np.uint8))
        write_ids(tmp_path / f"panoptic_val/{name}.png", np.full((32, 64), 5))
        segments = [{"id": 5, "category_id": 7}]
        annotations.append(
            {"image_id": number, "file_name": f"{name}.png", "segments_info": segments}
        )
    words = {"annotations": annotations, "categories": categories}
    (tmp_path / "panoptic_val.json").write_text(json.dumps(words))
    before = content(tmp_path)
    words = ["evaluate", "--model", str(model), "--engine", "pytorch", "--quiet"]
    words += ["--dataset", "coco-panoptic-folder", "--root", str(tmp_path)]
    words += ["--output", str(tmp_path / "out"), "--save-predictions", str(tmp_path / "val")]
    assert main(words) == 1
    assert f"{tmp_path / 'val' / names[0]}.png: it is not of an earlier run" in (
        capsys.readouterr().err
    )
    assert content(tmp_path) == before
