"""The options that choose a model and its engine are the same in every command that has them."""

import argparse
import shutil

import cv2
import numpy as np
import pytest

from rt_panoptic_core.checkpoint import load_checkpoint
from rt_panoptic_core.cli.arguments import number
from rt_panoptic_core.cli.main import main
from rt_panoptic_core.cli.model_options import many_sizes_hint, model_name
from rt_panoptic_core.errors import EngineError

# What each command needs beside them.
SEGMENT = ["segment", "nowhere.png"]
EVALUATE = ["evaluate", "--dataset", "generated"]
EVALUATE_BAG = ["evaluate-bag", "nowhere", "--output", "nowhere"]
BENCHMARK = ["benchmark"]
EXPORT = ["export"]
MAKE_BAG = ["make-bag", "--output", "nowhere"]

RUNNING = [SEGMENT, EVALUATE, EVALUATE_BAG, BENCHMARK]
JUDGING = [SEGMENT, EVALUATE, EVALUATE_BAG]


@pytest.fixture(scope="module")
def model(save_small_model):
    return save_small_model()


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        *((c, ["--size", "64"], "HEIGHTxWIDTH") for c in [*RUNNING, EXPORT, MAKE_BAG]),
        *((c, ["--size", "64x9000"], "1 to 8192") for c in [*RUNNING, EXPORT, MAKE_BAG]),
        *((c, ["--device", "gpu"], "cpu, cuda or cuda:N") for c in RUNNING),
        *((c, ["--threads", "0"], "a whole number, 1 or more") for c in RUNNING),
        *((c, ["--threads", "all"], "a whole number, 1 or more") for c in RUNNING),
        *((c, ["--score", "7"], "a number from 0 to 1") for c in JUDGING),
        *((c, ["--mask", "-0.1"], "a number from 0 to 1") for c in JUDGING),
        *((c, ["--precision", "fp8"], "invalid choice") for c in [*RUNNING, EXPORT]),
        *((c, ["--engine", "caffe"], "invalid choice") for c in [*RUNNING, EXPORT]),
    ],
)
def test_a_wrong_value_ends_the_same_way_everywhere(capsys, command, words, message):
    with pytest.raises(SystemExit, match="2"):
        main([*command, *words])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"rt-panoptic {command[0]}: argument {words[0]}: ")
    assert message in last


@pytest.fixture
def inputs(tmp_path):
    """Words of a whole command, by its name: one small picture or frame for each."""
    bag = tmp_path / "bag"
    words = ["make-bag", "--frames", "1", "--size", "32x48", "--no-depth", "--no-ground-truth"]
    assert main([*words, "--output", str(bag)]) == 0
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 48, 3), np.uint8))
    output = ["--output", str(tmp_path / "out")]
    return {
        "segment": ["segment", str(tmp_path / "a.png"), *output],
        "evaluate": [*EVALUATE, "--option", "size=[32,48]", "--limit", "1", *output],
        "evaluate-bag": ["evaluate-bag", str(bag), *output],
    }


@pytest.mark.parametrize("command", ["segment", "evaluate", "evaluate-bag"])
def test_all_that_is_chosen_reaches_the_engine(model, tmp_path, monkeypatch, inputs, command):
    asked = {}

    def open_engine(checkpoint, size, engine, precision, device, **options):
        asked.update(options, model=checkpoint.path, size=size, engine=engine)
        asked.update(precision=precision, device=device)
        raise EngineError("far enough")

    monkeypatch.setattr("rt_panoptic_core.segmenter.open_engine", open_engine)
    words = ["--model", str(model), "--engine", "openvino", "--precision", "int8"]
    words += ["--device", "cuda", "--size", "64x96", "--threads", "3"]
    assert main([*inputs[command], *words, "--calibration", str(tmp_path)]) == 1
    del asked["progress"]
    assert asked == {
        "model": model,
        "size": (64, 96),
        "engine": "openvino",
        "precision": "int8",
        "device": "cuda:0",
        "threads": 3,
        "calibration": tmp_path,
        # Only where each frame's time is asked for does a frame get all threads.
        "mode": "latency" if command == "evaluate" else "throughput",
    }


@pytest.mark.parametrize("command", ["segment", "evaluate", "evaluate-bag", "export", "benchmark"])
def test_a_calibration_that_nothing_would_look_at_is_refused(
    model, tmp_path, capsys, inputs, command
):
    more = {"export": ["export", "--size", "64x96"], "benchmark": ["benchmark"]}
    words = [*(inputs | more)[command], "--model", str(model), "--precision", "fp32"]
    assert main([*words, "--calibration", str(tmp_path)]) == 2
    assert "--calibration is for --precision int8" in capsys.readouterr().err


def test_a_training_s_models_are_called_by_their_run(model, tmp_path):
    def named(*parts):
        path = tmp_path.joinpath(*parts).with_suffix(".safetensors")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(model, path)
        return model_name(load_checkpoint(path))

    assert named("runs", "a", "final") == "runs/a/final"
    assert named("runs", "b", "best") == "runs/b/best"
    assert named("runs", "b", "mine") == "mine"
    assert model_name(load_checkpoint()) == "street"


@pytest.mark.parametrize(
    ("type_", "right", "wrong"),
    [
        (number(int, 1), ["1", "1000000"], ["0", "-1", "1.5", "one", "", "inf"]),
        (number(int, 1, 100), ["1", "100"], ["0", "101"]),
        (number(float, 0, 1), ["0", "1", "1e-3"], ["-0.001", "1.001", "nan", "inf", "x"]),
        (number(float, 0, 1, open_ended=True), ["0.001", "0.999"], ["0", "1", "nan"]),
    ],
)
def test_numbers(type_, right, wrong):
    for text in right:
        assert type_(text) == float(text)
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match="it must be"):
            type_(text)


@pytest.mark.parametrize(
    ("pictures", "size"),
    [
        ({(384, 768): 9, (768, 384): 1, (544, 544): 2}, "768x768"),
        # A panorama and a strip are not worth an engine of their two long sides.
        ({(384, 768): 9, (32, 4000): 1, (4000, 32): 1}, "384x768"),
    ],
)
def test_the_size_for_pictures_of_many_sizes(pictures, size):
    assert many_sizes_hint(pictures) == (
        f"the pictures need engines of 3 sizes; --size {size} has one for all"
    )
