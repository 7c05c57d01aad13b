"""rt-panoptic convert-checkpoint: what it refuses, and what it says. Conversion itself: test/parity."""

from __future__ import annotations

import pickle

import pytest

from rt_panoptic_core.checkpoint import load_checkpoint
from rt_panoptic_core.cli.main import main


def test_a_pickle_is_refused_without_a_warning_of_pytorch(tmp_path, capsys, recwarn):
    path = tmp_path / "model.pth"
    # Of a protocol that PyTorch warns of before it refuses what is in it.
    path.write_bytes(pickle.dumps({"weights": object}, protocol=4))
    assert main(["convert-checkpoint", str(path), str(tmp_path / "out.safetensors")]) == 1
    assert f"{path}: refused" in capsys.readouterr().err
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("name", ["file/out.safetensors", "folder.safetensors"])
def test_a_place_that_cannot_be_written_is_found_before_the_file_is_read(
    tmp_path, capsys, monkeypatch, name
):
    def load(*_):
        pytest.fail("the work has begun")

    monkeypatch.setattr("rt_panoptic_core.network.official_checkpoint.load_official", load)
    (tmp_path / "file").touch()
    (tmp_path / "folder.safetensors").mkdir()
    assert main(["convert-checkpoint", "model.pth", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert "results cannot be written there" in error or "it is a folder" in error


def test_it_says_what_to_do_with_the_file(tmp_path, capsys, monkeypatch, save_small_model):
    network = load_checkpoint(save_small_model()).network
    monkeypatch.setattr(
        "rt_panoptic_core.network.official_checkpoint.load_official", lambda *_: network
    )
    target = tmp_path / "my model.safetensors"
    assert main(["convert-checkpoint", "model.pth", str(target)]) == 0
    assert f"rt-panoptic segment --model '{target}' PICTURE" in capsys.readouterr().err
