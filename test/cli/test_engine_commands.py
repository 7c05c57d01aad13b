"""rt-panoptic export, benchmark and models."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from rt_panoptic_core.checkpoint import DEFAULT_MODEL, load_checkpoint, save_checkpoint
from rt_panoptic_core.cli.main import main
from rt_panoptic_core.engines import hardware
from rt_panoptic_core.engines.engine_file import read_identity
from rt_panoptic_core.engines.measurement import BOUNDARY
from rt_panoptic_core.resources import cpu_threads


@pytest.fixture(scope="module")
def model(save_small_model):
    return save_small_model(suppression_rounds=2, candidates=50)


@pytest.fixture(autouse=True)
def engine_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RT_PANOPTIC_CACHE", str(tmp_path / "cache"))


def test_models_are_listed(model, capsys):
    save_file({"a": torch.zeros(3)}, model.parent / "other.safetensors", {"format": "pt"})
    assert main(["models", str(model.parent)]) == 0
    out, err = capsys.readouterr()
    assert "other" not in err
    assert "resnet18" in out
    assert "only for" in out
    assert "19 classes, 8 of" in out
    assert "other" not in out


def test_the_default_model_is_marked(tmp_path, capsys):
    assert main(["models", str(tmp_path)]) == 0
    marked = [line for line in capsys.readouterr().out.splitlines() if "the default" in line]
    assert [line.split()[0] for line in marked] == [DEFAULT_MODEL]


@pytest.mark.parametrize("command", ["models", "cache"])
def test_a_reader_of_what_is_listed_may_go_away(command, tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "rt_panoptic_core", command]
    # Models are listed that lie in the current folder, too.
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, env=paths, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_lines_about_models_are_neither_broken_nor_padded(model, tmp_path, capsys):
    checkpoint = load_checkpoint(model)
    licence = "to be had from those who made the pictures, " * 4 + "and from nobody else"
    save_checkpoint(
        tmp_path / "mine.safetensors",
        checkpoint.network,
        inference=checkpoint.inference,
        metadata={"licence": licence},
    )
    assert main(["models", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"  licence: {licence}" in lines
    assert lines == [line.rstrip() for line in lines]


@pytest.mark.parametrize("metadata", [{}, {"licence": ""}])
def test_a_model_without_terms_says_so(model, tmp_path, capsys, metadata):
    checkpoint = load_checkpoint(model)
    save_checkpoint(
        tmp_path / "mine.safetensors",
        checkpoint.network,
        inference=checkpoint.inference,
        metadata=metadata,
    )
    assert main(["models", str(tmp_path)]) == 0
    assert "licence: not stated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("cut", lambda data: data[: len(data) // 2], "not a readable safetensors file"),
        ("empty", lambda _: b"", "not a readable safetensors file"),
        ("newer", lambda data: data.replace(b"rt_panoptic/1", b"rt_panoptic/2"), "rt_panoptic/2"),
        ("spoilt", lambda data: data.replace(b'"taxonomy"', b'"taxonomi"'), "header is malformed"),
    ],
)
def test_models_that_cannot_be_read_are_named(model, tmp_path, capsys, name, damage, words):
    shutil.copy(model, tmp_path / "whole.safetensors")
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(damage(model.read_bytes()))
    assert main(["models", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "whole" in out
    assert name not in out
    (line,) = err.splitlines()
    assert line.startswith(f"rt-panoptic models: left out {path}: ")
    assert words in line


def test_a_folder_that_is_not_there(capsys):
    assert main(["models", "nowhere"]) == 1
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_export_to_onnx(model, tmp_path, capsys):
    target = tmp_path / "out" / "graph.onnx"
    words = ["export", "--model", str(model), "--engine", "onnx", "--size", "64x96"]
    assert main([*words, "--output", str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    graph = onnx.load(target)
    assert [value.name for value in graph.graph.input] == ["image", "thresholds"]
    assert main(words) == 2
    assert "--output" in capsys.readouterr().err


@pytest.mark.usefixtures("needs_openvino")
def test_export_of_an_engine(model, tmp_path, capsys, monkeypatch):
    target = tmp_path / "a.engine"
    words = ["--model", str(model), "--size", "64x96", "--precision", "fp32"]
    assert main(["export", *words, "--output", str(target)]) == 0
    assert read_identity(target)["size"] == "64x96"
    # Under the name that was told it is found in another machine's cache, and nothing is built there.
    told = capsys.readouterr().out.splitlines()[-1]
    name = told.removeprefix("in the engine cache of the machine that is to run it: ")
    monkeypatch.setenv("RT_PANOPTIC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    target.rename(tmp_path / "cache" / name)
    monkeypatch.setattr("rt_panoptic_core.engines.openvino_engine.build_openvino", None)
    image = tmp_path / "x.png"
    cv2.imwrite(str(image), np.zeros((64, 96, 3), np.uint8))
    words += ["--engine", "openvino", "--output", str(tmp_path / "out")]
    assert main(["segment", *words, str(image)]) == 0


@pytest.mark.parametrize(("precision", "told"), [("bf16", True), ("fp32", False)])
def test_what_onnx_runtime_cannot_load_is_told(model, tmp_path, capsys, precision, told):
    words = ["--engine", "onnx", "--size", "64x96", "--output", str(tmp_path / "a.onnx")]
    assert main(["export", "--model", str(model), *words, "--precision", precision]) == 0
    assert ("ONNX Runtime has no convolution in bf16" in capsys.readouterr().out) == told


@pytest.mark.usefixtures("needs_openvino")
def test_an_engine_that_the_cache_has_is_not_built_again(model, tmp_path, capsys, monkeypatch):
    builds = []

    def build(*_):
        builds.append(None)
        return {"network.xml": b"graph %d" % len(builds)}

    monkeypatch.setattr("rt_panoptic_core.engines.openvino_engine.build_openvino", build)
    words = ["export", "--model", str(model), "--size", "64x96", "--precision", "fp32"]
    target = tmp_path / "a.engine"
    said = "the engine cache had it; --force builds it again\n"
    for options, number, told in (
        ([], 1, False),
        ([], 1, True),
        (["--output", str(target)], 1, True),
        (["--force"], 2, False),
    ):
        assert main([*words, *options]) == 0
        assert (said in capsys.readouterr().out) == told
        assert len(builds) == number
    (kept,) = (tmp_path / "cache").glob("*.engine")
    assert read_identity(target) == read_identity(kept)
    assert target.read_bytes().endswith(b"graph 1")
    # What does not fit is built again, as everywhere.
    kept.write_bytes(kept.read_bytes()[:-1])
    assert main(words) == 0
    assert len(builds) == 3


@pytest.mark.usefixtures("needs_openvino")
def test_of_int8_the_cache_serves_whoever_names_no_images(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rt_panoptic_core.engines.quantization.find_spec", lambda _: True)
    builds = []

    def build(*arguments):
        builds.append(arguments[2])
        return {"network.xml": b"graph"}

    monkeypatch.setattr("rt_panoptic_core.engines.openvino_engine.build_openvino", build)
    words = ["export", "--model", str(model), "--size", "64x96", "--precision", "int8"]
    assert main([*words, "--calibration", str(tmp_path)]) == 0
    assert main(words) == 0
    assert "the engine cache had it" in capsys.readouterr().out
    assert main([*words, "--calibration", str(tmp_path)]) == 0
    assert builds == [tmp_path, tmp_path]


def test_options_are_written_out(model, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["export", "--mode", str(model), "--size", "64x96"])
    assert "unrecognized arguments: --mode" in capsys.readouterr().err


@pytest.mark.usefixtures("needs_openvino")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "fp16"], "no fp16; use bf16, fp32 or int8"),
        (["--precision", "int8"], "will see (--calibration FOLDER)"),
        (["--precision", "int8", "--engine", "onnx"], "will see (--calibration FOLDER)"),
    ],
)
def test_exports_that_cannot_be(model, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.setattr("rt_panoptic_core.engines.quantization.find_spec", lambda _: True)
    words = ["--size", "64x96", "--output", str(tmp_path / "x"), *words]
    assert main(["export", "--model", str(model), *words]) == 1
    # The last words: nobody is sent to the command that speaks.
    assert capsys.readouterr().err.endswith(f"{message}\n")


@pytest.mark.usefixtures("needs_openvino")
def test_an_export_to_int8_says_first_what_is_not_installed(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rt_panoptic_core.engines.quantization.find_spec", lambda _: None)
    for engine in ("openvino", "onnx"):
        words = ["--size", "64x96", "--precision", "int8", "--engine", engine]
        assert main(["export", "--model", str(model), *words, "--output", str(tmp_path / "x")]) == 1
        error = capsys.readouterr().err
        assert "module nncf, which is not installed" in error
        assert "--calibration" not in error


@pytest.mark.usefixtures("needs_openvino")
def test_an_engine_that_this_cpu_cannot_run_is_for_another(model, tmp_path, capsys, monkeypatch):
    """The file holds a graph that is compiled where it is opened, on whatever CPU that is."""
    built = lambda *_: {"network.xml": b"graph"}  # noqa: E731
    monkeypatch.setattr("rt_panoptic_core.engines.openvino_engine.build_openvino", built)
    words = ["export", "--model", str(model), "--size", "64x96", "--precision", "bf16"]
    for flags, told in (((), True), (("avx512_bf16",), False)):
        monkeypatch.setattr(hardware, "cpu_flags", lambda flags=flags: frozenset(flags))
        target = tmp_path / "a.engine"
        assert main([*words, "--output", str(target)]) == 0
        said = "this machine cannot run it: the CPU has no bf16 instructions; use fp32 or int8"
        assert (said in capsys.readouterr().out) == told
        assert read_identity(target)["device"] == read_identity(target)["driver"] == "any"


def test_benchmark(model, tmp_path, capsys):
    target = tmp_path / "b.json"
    words = ["benchmark", "--model", str(model), "--size", "64x96", "--engine", "pytorch"]
    words += ["--device", "cpu", "--precision", "fp32", "--against", "pytorch-bf16"]
    assert main([*words, "--frames", "3", "--json", str(target)]) == 0
    out = capsys.readouterr().out
    assert BOUNDARY in out.replace("\n", " ")
    assert "times as fast as" in out
    assert "pytorch fp32 with pytorch bf16 as the truth: " in out
    # Nothing of the table is cut off on a terminal of 80 columns.
    assert "…" not in out
    written = json.loads(target.read_text())
    first, second = written["results"]
    assert first["boundary"] == second["boundary"] == BOUNDARY
    assert first["stages_ms"].keys() == {"prepare", "network", "post-processing"}
    assert (first["precision"], second["precision"]) == ("fp32", "bf16")
    # Random weights find nothing that is large enough to be a segment.
    assert written["pq_against_second"] is None or 0 <= written["pq_against_second"] <= 100
    assert written["machine"]["cpu"]


def test_a_benchmark_tells_how_many_threads_it_gave(model, tmp_path, capsys):
    target = tmp_path / "b.json"
    words = ["benchmark", "--model", str(model), "--size", "64x96", "--engine", "pytorch"]
    words += ["--device", "cpu", "--precision", "fp32", "--frames", "1", "--json", str(target)]
    assert main([*words, "--threads", "3"]) == 0
    assert ", 3 threads, load" in capsys.readouterr().out.replace("\n", " ")
    written = json.loads(target.read_text())
    assert [result["threads"] for result in written["results"]] == [3]
    assert written["machine"]["threads"] == cpu_threads()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothere", "there is no such folder; name a folder of images"),
        ("v.mp4", "it is no folder; name a folder of images"),
    ],
)
def test_a_benchmark_of_images_that_are_none(model, tmp_path, capsys, name, message):
    (tmp_path / "v.mp4").touch()
    words = ["benchmark", "--model", str(model), "--size", "64x96", "--engine", "pytorch"]
    assert main([*words, "--images", str(tmp_path / name)]) == 1
    assert f"{tmp_path / name}: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--frames", "0"], "--frames: 0: it must be a whole number, 1 or more"),
        (["--warm-up", "-1"], "--warm-up: -1: it must be a whole number, 0 or more"),
        (["--against", "torch"], "--against: torch: it must be auto or one of tensorrt, openvino"),
        (["--against", "pytorch-fp8"], "a precision, one of fp32"),
    ],
)
def test_benchmarks_that_cannot_be(model, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(["benchmark", "--model", str(model), *words])
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("needs_openvino")
@pytest.mark.parametrize(
    "words",
    [
        ["benchmark", "--engine", "pytorch", "--json"],
        ["export", "--engine", "openvino", "--output"],
        ["export", "--engine", "onnx", "--output"],
    ],
)
def test_a_file_that_cannot_be_written_is_found_first(model, tmp_path, capsys, monkeypatch, words):
    def begin(*_, **__):
        pytest.fail("the work has begun")

    monkeypatch.setattr("rt_panoptic_core.engines.select.open_engine", begin)
    monkeypatch.setattr("rt_panoptic_core.engines.openvino_engine.build_openvino", begin)
    monkeypatch.setattr("rt_panoptic_core.engines.onnx_export.export_onnx", begin)
    words = [words[0], "--model", str(model), "--size", "64x96", *words[1:]]
    (tmp_path / "file").touch()
    assert main([*words, str(tmp_path / "file" / "result")]) == 1
    assert f"{tmp_path / 'file'}: results cannot be written there" in capsys.readouterr().err
    assert main([*words, str(tmp_path)]) == 1
    assert f"{tmp_path}: it is a folder; name a file in it" in capsys.readouterr().err


@pytest.mark.usefixtures("needs_openvino")
def test_a_cache_that_cannot_be_written_is_found_before_an_export(
    model, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RT_PANOPTIC_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(
        "rt_panoptic_core.engines.openvino_engine.build_openvino",
        lambda *_: pytest.fail("the work has begun"),
    )
    assert main(["export", "--model", str(model), "--size", "64x96"]) == 1
    assert f"{tmp_path / 'file'}: results cannot be written there" in capsys.readouterr().err
