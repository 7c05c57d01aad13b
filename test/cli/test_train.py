"""`rt-panoptic train`: what is said before anything is trained."""

from pathlib import Path

from rt_panoptic_core.cli import train
from rt_panoptic_core.cli.main import main

CONFIG = Path(__file__).parents[2] / "config" / "train" / "small_street.yaml"


def test_without_lightning_it_is_said_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(train, "find_spec", lambda _: None)
    words = ["train", "--config", str(CONFIG), "--output", str(tmp_path / "run")]
    assert main(words) == 1
    assert "needs the module lightning" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
