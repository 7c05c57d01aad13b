"""rt-panoptic export, benchmark and models."""

import json

import onnx
import pytest

from rt_panoptic_core.cli.main import main
from rt_panoptic_core.engines.engine_file import read_identity
from rt_panoptic_core.engines.measurement import BOUNDARY


@pytest.fixture(scope="module")
def model(save_small_model):
    return save_small_model(suppression_rounds=2, candidates=50)


@pytest.fixture(autouse=True)
def engine_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RT_PANOPTIC_CACHE", str(tmp_path / "cache"))


def test_models_are_listed(model, capsys):
    (model.parent / "other.safetensors").write_bytes(b"not a model")
    assert main(["models", str(model.parent)]) == 0
    out = capsys.readouterr().out
    assert "resnet18" in out
    assert "only for" in out
    assert "19 classes, 8 of" in out
    assert "other" not in out


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
    assert main(words) == 1
    assert "--output" in capsys.readouterr().err


def test_export_of_an_engine(model, tmp_path, capsys):
    pytest.importorskip("openvino", reason="openvino is not installed")
    target = tmp_path / "a.engine"
    words = ["export", "--model", str(model), "--size", "64x96", "--precision", "fp32"]
    assert main([*words, "--output", str(target)]) == 0
    assert read_identity(target)["size"] == "64x96"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "64"], "HEIGHTxWIDTH"),
        (["--size", "64x96", "--precision", "fp16"], "no fp16"),
        (["--size", "64x96", "--precision", "int8"], "--calibration"),
    ],
)
def test_exports_that_cannot_be(model, capsys, words, message):
    pytest.importorskip("openvino", reason="openvino is not installed")
    assert main(["export", "--model", str(model), *words]) == 1
    assert message in capsys.readouterr().err


def test_benchmark(model, tmp_path, capsys):
    target = tmp_path / "b.json"
    words = ["benchmark", "--model", str(model), "--size", "64x96", "--engine", "pytorch"]
    words += ["--device", "cpu", "--precision", "fp32", "--against", "pytorch-bf16"]
    assert main([*words, "--frames", "3", "--json", str(target)]) == 0
    out = capsys.readouterr().out
    assert BOUNDARY in out.replace("\n", " ")
    assert "times as fast as" in out
    written = json.loads(target.read_text())
    first, second = written["results"]
    assert first["boundary"] == second["boundary"] == BOUNDARY
    assert first["stages_ms"].keys() == {"prepare", "network", "post-processing"}
    assert (first["precision"], second["precision"]) == ("fp32", "bf16")
    # Random weights find nothing that is large enough to be a segment.
    assert written["pq_against_second"] is None or 0 <= written["pq_against_second"] <= 100
    assert written["machine"]["cpu"]


def test_a_benchmark_of_nothing(model, capsys):
    assert main(["benchmark", "--model", str(model), "--frames", "0"]) == 1
    assert "--frames 0" in capsys.readouterr().err
