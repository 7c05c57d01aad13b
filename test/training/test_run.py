"""Whole runs: resumed after a kill, stopped by a NaN, refused when they do not fit."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import lightning as L
import numpy as np
import pytest
import torch
import yaml

from rt_panoptic_core.checkpoint import load_checkpoint, read_header, save_checkpoint
from rt_panoptic_core.cli.main import main
from rt_panoptic_core.engines import hardware
from rt_panoptic_core.errors import CheckpointError, ConfigError, DatasetError, TrainingError
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.check import check_run
from rt_panoptic_core.training.configuration import (
    OptimizationConfig,
    config_from,
    load_config,
)
from rt_panoptic_core.training.initial_weights import build_network, inherited_terms
from rt_panoptic_core.training.interruption import TrainingInterruptedError
from rt_panoptic_core.training.precision import training_precision
from rt_panoptic_core.training.run import train
from rt_panoptic_core.training.schedule import learning_rate_factor

sys.path.append(str(Path(__file__).parents[1] / "datasets"))
from camera_pictures import with_orientation

CPU = {"progress": False, "accelerator": "cpu", "devices": 1}


def weights_of(path):
    return load_checkpoint(path).network.state_dict()


def assert_same(a, b):
    assert a.keys() == b.keys()
    different = [key for key in a if not torch.equal(a[key], b[key])]
    assert not different, f"{len(different)} of {len(a)} weights differ, first {different[:1]}"


def test_a_run_leaves_a_model_curves_and_pictures(toy_config):
    result = train(toy_config, **CPU)
    folder = Path(toy_config.output)
    assert result.model == folder / "final.safetensors"
    assert load_checkpoint(result.model).taxonomy.names == ("box", "disc", "ground", "sky")
    assert (folder / "best.safetensors").is_file()
    assert (folder / "pictures" / "toys_0.jpg").is_file()
    assert set(result.measures["toys"]) == {"pq", "pq_things", "pq_stuff", "miou"}
    history = json.loads((folder / "history.json").read_text())
    assert [e["step"] for e in history["evaluations"]] == [3, 6]
    assert {"box_regression", "mask", "total"} <= set(history["losses"][0])
    assert 0 <= result.data_wait <= 1


def test_beginning_anew_removes_what_the_run_left_and_nothing_else(toy_config):
    first = train(toy_config, **CPU)
    folder = Path(toy_config.output)
    (folder / "notes.txt").write_text("mine")
    (folder / "pictures" / "left.jpg").write_text("")
    again = train(toy_config, resume=False, **CPU)
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / "pictures" / "left.jpg").exists()
    assert len(again.evaluations) == len(first.evaluations)
    assert_same(weights_of(first.model), weights_of(again.model))


def test_beginning_anew_removes_nothing_before_the_data_is_there(toy_config):
    train(toy_config, **CPU)
    before = sorted(Path(toy_config.output).iterdir())
    nowhere = replace(toy_config.data.train[0], root="/nowhere")
    broken = replace(toy_config, data=replace(toy_config.data, train=(nowhere,)))
    with pytest.raises(DatasetError, match="/nowhere"):
        train(broken, resume=False, **CPU)
    assert sorted(Path(toy_config.output).iterdir()) == before


def test_beginning_anew_removes_nothing_before_the_weights_are_there(toy_config):
    train(toy_config, **CPU)
    before = sorted(Path(toy_config.output).iterdir())
    broken = replace(toy_config, initial_checkpoint="/nowhere.safetensors")
    with pytest.raises(CheckpointError, match="/nowhere"):
        train(broken, resume=False, **CPU)
    assert sorted(Path(toy_config.output).iterdir()) == before


def test_a_run_can_begin_anew_with_its_own_weights(toy_config):
    toy_config = replace(toy_config, metadata={"licence": "for tests"})
    made = train(toy_config, **CPU).model
    lent = weights_of(made)
    settings = replace(toy_config.optimization, steps=1, learning_rate=1e-9, ema=0)
    again = replace(toy_config, optimization=settings, initial_checkpoint=str(made), metadata={})
    assert train(again, resume=False, **CPU).model == made
    key = "head.semantics.weight"
    assert torch.allclose(weights_of(made)[key], lent[key], atol=1e-6)
    assert read_header(made)["licence"] == "for tests"


def test_a_killed_run_ends_as_if_nothing_had_happened(toy_settings, start_training, tmp_path):
    settings = {**toy_settings, "output": str(tmp_path / "whole")}
    settings["data"]["workers"] = 1  # prefetched batches are lost with the process
    train(config_from(settings), **CPU)

    settings["output"] = str(tmp_path / "killed")
    process, last, _ = start_training(settings, "--quiet")
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    step = torch.load(last, weights_only=True)["global_step"]
    assert 0 < step < 6
    assert not (tmp_path / "killed" / "final.safetensors").exists()

    resumed = train(config_from(settings), **CPU)
    assert_same(
        weights_of(tmp_path / "whole" / "final.safetensors"),
        weights_of(tmp_path / "killed" / "final.safetensors"),
    )
    assert [e["step"] for e in resumed.evaluations] == [3, 6]


def test_a_complete_run_can_be_made_longer(toy_settings, tmp_path):
    # The learning rate does not depend on the run's length, so the way to the end must not either.
    toy_settings["optimization"]["schedule"] = "steps"
    toy_settings["evaluation"]["every"] = 2
    whole = {**toy_settings, "output": str(tmp_path / "whole")}
    train(config_from(whole), **CPU)
    toy_settings["output"] = str(tmp_path / "longer")
    toy_settings["optimization"]["steps"] = 4
    train(config_from(toy_settings), **CPU)
    toy_settings["optimization"]["steps"] = 6
    longer = train(config_from(toy_settings), **CPU)
    assert_same(
        weights_of(tmp_path / "whole" / "final.safetensors"),
        weights_of(tmp_path / "longer" / "final.safetensors"),
    )
    assert [e["step"] for e in longer.evaluations] == [2, 4, 6]


class Signal(L.Callback):
    """Sends the process a signal in the middle of an update, or of an evaluation."""

    def __init__(self, number, *, batch=None, evaluation=None):
        self.number, self.batch, self.evaluation = number, batch, evaluation

    def on_before_backward(self, trainer, pl_module, loss):  # noqa: ARG002
        if trainer.global_step == self.batch:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer, *_):
        if trainer.global_step == self.evaluation:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("when", "number"),
    [
        ({"batch": 3}, signal.SIGINT),
        ({"batch": 3}, signal.SIGTERM),
        ({"evaluation": 3}, signal.SIGINT),
    ],
)
def test_a_signal_costs_no_update(toy_settings, tmp_path, when, number):
    whole = {**toy_settings, "output": str(tmp_path / "whole")}
    train(config_from(whole), **CPU)
    before = signal.getsignal(number)
    stopped = 4 if "batch" in when else 3
    name = signal.Signals(number).name
    with pytest.raises(
        TrainingInterruptedError, match=f"{name} after update {stopped} of 6; the same command"
    ) as caught:
        train(config_from(toy_settings), callbacks=[Signal(number, **when)], **CPU)
    assert caught.value.signal == number
    assert signal.getsignal(number) is before
    folder = Path(toy_settings["output"])
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == stopped
    train(config_from(toy_settings), **CPU)
    assert_same(
        weights_of(tmp_path / "whole" / "final.safetensors"),
        weights_of(folder / "final.safetensors"),
    )


TWO_SIGNALS = """
import os, signal, sys
from rt_panoptic_core.cli.main import main
from rt_panoptic_core.training.callbacks import Report

number = int(sys.argv.pop(1))

def twice(*_args, **_options):
    os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)

Report.on_train_batch_end = twice
# What a shell starts in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
status = main()
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
    ],
)
def test_a_second_signal_ends_the_command_at_once(toy_settings, tmp_path, number, status, word):
    # In a process of its own: a signal that nobody handles would take the tests along.
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(toy_settings))
    words = [str(int(number)), "train", "--config", str(file), "--accelerator", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", TWO_SIGNALS, *words], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == status, done.stderr
    assert done.stderr.splitlines()[-1] == f"rt-panoptic train: {word}"
    assert "Detected KeyboardInterrupt" not in done.stderr + done.stdout
    assert done.stdout.splitlines()[-1] == "True"


def test_a_library_that_ends_the_process_does_so(toy_config):
    class End(L.Callback):
        def on_train_start(self, *_):
            sys.exit(5)

    with pytest.raises(SystemExit, match="5"):
        train(toy_config, callbacks=[End()], **CPU)


def test_a_stopped_command_is_no_success(toy_settings, tmp_path, monkeypatch, capsys):
    def stopped(*_args, **_options):
        raise TrainingInterruptedError(signal.SIGTERM, 4, 6)

    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(toy_settings))
    monkeypatch.setattr("rt_panoptic_core.training.run.train", stopped)
    assert main(["train", "--config", str(file), "--accelerator", "cpu"]) == 143
    assert "stopped by SIGTERM after update 4 of 6" in capsys.readouterr().err


def test_a_complete_run_is_left_as_it_is(toy_settings, caplog):
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    first = train(config_from(toy_settings), **CPU)
    folder = Path(toy_settings["output"])

    def content():
        return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}

    before = content()
    for steps in (6, 4):
        toy_settings["optimization"]["steps"] = steps
        again = train(config_from(toy_settings), **CPU)
        assert content() == before
        assert again.measures["toys"].keys() == first.measures["toys"].keys()
        assert again.measures["toys"]["miou"] == pytest.approx(
            first.measures["toys"]["miou"], abs=1e-4
        )
    assert "complete already, 6 updates are done, in" in caplog.text


def test_a_run_of_any_length_is_complete(toy_settings, caplog):
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    toy_settings["optimization"]["steps"] = 1
    first = train(config_from(toy_settings), **CPU)
    again = train(config_from(toy_settings), **CPU)
    assert "complete already, 1 updates are done" in caplog.text
    assert again.evaluations == first.evaluations


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_run_that_is_shortened_is_what_it_has_learnt(toy_settings, caplog, evaluated):
    """Nothing is left to do but to write the model, which is there whenever its name is told."""
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    if not evaluated:
        toy_settings["data"]["validation"] = []
    with pytest.raises(TrainingInterruptedError):
        train(config_from(toy_settings), callbacks=[Signal(signal.SIGINT, batch=3)], **CPU)
    last = Path(toy_settings["output"]) / "last.ckpt"
    before = last.read_bytes()
    toy_settings["optimization"]["steps"] = 2
    result = train(config_from(toy_settings), **CPU)
    assert "hours, and optimization.steps is 2; raise it" in caplog.text
    assert last.read_bytes() == before
    averaged = torch.load(last, weights_only=True)["state_dict"]
    written = weights_of(result.model)
    assert_same(written, {key: averaged[f"network.{key}"].cpu() for key in written})
    assert_same(written, result.network.state_dict())
    assert read_header(result.model)["description"] == "run, 4 updates"
    assert [e["step"] for e in result.evaluations] == ([3, 4] if evaluated else [])
    assert ("toys" in result.measures) == evaluated


def test_a_final_model_that_was_moved_away_is_written_again(toy_settings, tmp_path):
    first = train(config_from(toy_settings), **CPU)
    first.model.rename(tmp_path / "moved.safetensors")
    again = train(config_from(toy_settings), **CPU)
    assert_same(weights_of(tmp_path / "moved.safetensors"), weights_of(again.model))
    assert again.evaluations == first.evaluations


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_two_runs_do_not_write_to_one_folder(toy_settings, start_training, end):
    toy_settings["data"]["workers"] = 1
    toy_settings["optimization"]["steps"] = 100_000
    toy_settings["evaluation"].update(every=0, checkpoint_every=1)
    process, last, log = start_training(toy_settings)
    with pytest.raises(TrainingError, match=r"run: another run writes its files .*--output"):
        train(config_from(toy_settings), **CPU)
    with pytest.raises(TrainingError, match="another run writes"):
        train(config_from(toy_settings), resume=False, **CPU)
    assert last.is_file()
    # Not to the group: its workers outlive a killed process for a while.
    process.send_signal(end)
    process.wait(60)
    toy_settings["optimization"]["steps"] = 1
    assert train(config_from(toy_settings), **CPU).model.is_file(), log.read_text()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("train", "data.train"),
        ("validation", "data.validation"),
        ("metadata", "metadata"),
        (None, ""),
    ],
)
def test_a_complete_run_says_what_it_ignores(toy_settings, caplog, change, named):
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    toy_settings["optimization"]["steps"] = 2
    train(config_from(toy_settings), **CPU)
    if change == "metadata":
        toy_settings["metadata"] = {"licence": "mine"}
    elif change:
        toy_settings["data"][change][0]["limit"] = 2
    caplog.clear()
    train(config_from(toy_settings), **CPU)
    told = (
        f"note: the run was made with other settings in {named}, which are ignored now; --restart"
    )
    assert (told in caplog.text) == bool(change)
    assert "goes on" not in caplog.text


def without_labels(root, toys):
    """The toys at ``root`` with every pixel void."""
    shutil.copytree(toys, root)
    for split in ("train", "val"):
        for mask in (root / f"panoptic_{split}").iterdir():
            cv2.imwrite(str(mask), np.zeros((64, 96, 3), np.uint8))
        file = root / f"panoptic_{split}.json"
        content = json.loads(file.read_text())
        for annotation in content["annotations"]:
            annotation["segments_info"] = []
        file.write_text(json.dumps(content))


def test_data_in_which_nothing_is_labelled_is_noticed(toy_settings, toys, tmp_path, caplog):
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    toy_settings["optimization"]["steps"] = 2
    toy_settings["evaluation"]["every"] = 1
    train(config_from(toy_settings), **CPU)
    assert "labelled" not in caplog.text
    without_labels(tmp_path / "void", toys)
    toy_settings["data"]["toys_root"] = str(tmp_path / "void")
    train(config_from(toy_settings), resume=False, **CPU)
    assert "warning: nothing in the first 2 batches is labelled; are the run's" in caplog.text
    assert caplog.text.count("nothing in the validation set 'toys' is labelled") == 1


def test_a_resumed_run_keeps_its_best_model(toy_settings):
    best = Path(toy_settings["output"]) / "best.safetensors"
    with pytest.raises(TrainingInterruptedError):
        train(config_from(toy_settings), callbacks=[Signal(signal.SIGINT, batch=3)], **CPU)
    assert 0 <= float(read_header(best)["quality"]) <= 1
    # As if the evaluation so far had gone better than any that comes.
    unbeaten = load_checkpoint(best)
    save_checkpoint(
        best, unbeaten.network, inference=unbeaten.inference, metadata={"quality": "1.0"}
    )
    before = best.read_bytes()
    train(config_from(toy_settings), **CPU)
    assert best.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_waits_for_the_update_as_well(
    toy_settings, start_training, number
):
    """As a terminal's Ctrl-C and a service manager send it: the workers get it, too."""
    toy_settings["data"]["workers"] = 1
    toy_settings["optimization"]["steps"] = 100_000
    toy_settings["evaluation"]["every"] = 0
    process, last, log = start_training(toy_settings)
    os.killpg(process.pid, number)
    if number == signal.SIGHUP:
        # Of one lost terminal both the kernel and the shell tell.
        os.killpg(process.pid, number)
    assert process.wait(60) == 128 + number, log.read_text()
    told = log.read_text()
    update = torch.load(last, weights_only=True)["global_step"]
    assert f"after update {update} of 100000; the same command goes on from there" in told
    assert "Traceback" not in told


def test_a_worker_that_died_is_told_in_a_line(toy_settings):
    toy_settings["data"]["workers"] = 1

    class Kill(L.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 1:
                for child in multiprocessing.active_children():
                    child.kill()
                    child.join()

    with pytest.raises(TrainingError, match=r"prepares batches died .*lower data\.workers"):
        train(config_from(toy_settings), callbacks=[Kill()], **CPU)


@pytest.mark.parametrize(
    ("flags", "cuda", "bf16", "accelerator", "expected"),
    [
        ("avx2", False, False, "auto", "32-true"),
        ("amx_bf16", False, False, "auto", "bf16-mixed"),
        ("avx2", True, True, "auto", "bf16-mixed"),
        ("avx2", True, False, "gpu", "16-mixed"),
        ("avx2", True, True, "cpu", "32-true"),
    ],
)
def test_the_precision_is_what_the_device_multiplies(
    monkeypatch, flags, cuda, bf16, accelerator, expected
):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({flags}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda _emulated: bf16)
    assert training_precision("auto", accelerator) == expected
    assert training_precision("16-mixed", accelerator) == "16-mixed"


def test_a_log_tells_how_it_goes(toy_config, capsys, monkeypatch):
    monkeypatch.setattr("rt_panoptic_core.training.callbacks.Report.SECONDS", 0.0)
    train(toy_config, **CPU)
    told = capsys.readouterr().err
    assert re.search(r"update 4 of 6  loss \d+\.\d+  [\d.]+ s each, 0:00:\d\d left", told)
    assert re.search(r"evaluation after update 3: toys: PQ \d+\.\d, mIoU \d+\.\d", told)
    train(toy_config, resume=False, quiet=True, **CPU)
    assert "update 4" not in capsys.readouterr().err


@pytest.fixture
def clock(monkeypatch):
    """The time limit's clock: an hour passes whenever it is looked at."""
    now = iter(range(0, 3_600_000, 3600))
    monkeypatch.setattr("rt_panoptic_core.training.time_limit.monotonic", lambda: next(now))


class Rates(L.Callback):
    """Keeps the learning rate of every update."""

    def __init__(self):
        self.kept = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):  # noqa: ARG002
        self.kept.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_ends_when_its_hours_are_over(toy_settings, caplog, clock, accumulate):
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    toy_settings["optimization"].update(
        steps=1000, hours=4, warmup=0, schedule="cosine", learning_rate=0.01, accumulate=accumulate
    )
    rates = Rates()
    result = train(config_from(toy_settings), callbacks=[rates], **CPU)
    assert f"1000 updates of 2 x {accumulate} a process, at most 4 hours" in caplog.text
    # The fourth update ends with the fourth hour; the rate of one is known before the last one's time.
    assert rates.kept == pytest.approx(
        [0.01 * 0.5 * (1 + np.cos(np.pi * share)) for share in (0, 0, 0.25, 0.5)], rel=1e-4
    )
    assert read_header(result.model)["description"] == "run, 4 updates"
    assert [e["step"] for e in result.evaluations] == [3, 4]
    folder = Path(toy_settings["output"])
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 4
    train(config_from(toy_settings), **CPU)
    assert (
        "complete already, 4 updates are done, in 4 hours, and optimization.hours is 4"
        in caplog.text
    )
    # The same, where the model has to be written again.
    result.model.unlink()
    assert read_header(train(config_from(toy_settings), **CPU).model)["description"] == (
        "run, 4 updates"
    )
    toy_settings["optimization"]["hours"] = 6
    longer = train(config_from(toy_settings), **CPU)
    assert read_header(longer.model)["description"] == "run, 6 updates"
    assert "changed settings" not in caplog.text


def test_an_interruption_costs_no_hours(toy_settings, clock):
    toy_settings["optimization"].update(steps=1000, hours=6)
    with pytest.raises(TrainingInterruptedError):
        train(config_from(toy_settings), callbacks=[Signal(signal.SIGINT, batch=3)], **CPU)
    result = train(config_from(toy_settings), **CPU)
    assert read_header(result.model)["description"] == "run, 6 updates"


def test_hours_are_counted_without_a_limit_too(toy_settings, clock, caplog):
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    toy_settings["optimization"].update(steps=4)
    train(config_from(toy_settings), **CPU)
    toy_settings["optimization"].update(steps=1000, hours=3)
    train(config_from(toy_settings), **CPU)
    assert "complete already, 4 updates are done, in 4 hours, and optimization.hours is 3" in (
        caplog.text
    )
    toy_settings["optimization"].update(hours=6)
    result = train(config_from(toy_settings), **CPU)
    assert read_header(result.model)["description"] == "run, 6 updates"


def test_a_run_goes_on_with_other_rates(toy_settings, tmp_path, caplog):
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    settings = toy_settings["optimization"]
    settings.update(steps=4, optimizer="adamw", warmup=0, schedule="steps", backbone_factor=0.5)
    first = Path(toy_settings["output"])
    train(config_from(toy_settings), **CPU)
    weights = {}
    for name, changes in {
        "same": {},
        "slower": {"learning_rate": settings["learning_rate"] / 100},
        "still": {"backbone_factor": 0.0},
        "again": {"backbone_factor": 0.0, "steps": 8},
    }.items():
        toy_settings["output"] = str(tmp_path / name.replace("again", "still"))
        if name != "again":
            shutil.copytree(first, toy_settings["output"])
        rates = Rates()
        changed = {**toy_settings, "optimization": {**settings, "steps": 6, **changes}}
        result = train(config_from(changed), callbacks=[rates], **CPU)
        rate = changed["optimization"]["learning_rate"] * changed["optimization"]["backbone_factor"]
        assert rates.kept == pytest.approx([rate] * 2), name
        weights[name] = weights_of(result.model)
    key = "head.semantics.weight"
    assert not torch.equal(weights["same"][key], weights["slower"][key])
    stored = torch.load(tmp_path / "slower" / "last.ckpt", weights_only=True)
    assert stored["lr_schedulers"][0]["base_lrs"][-1] == settings["learning_rate"] / 100


@pytest.mark.parametrize(
    ("name", "value"), [("optimizer", "adamw"), ("decay_norms", False), ("frozen_stages", 2)]
)
def test_another_optimizer_does_not_continue_the_run(toy_settings, name, value):
    train(config_from(toy_settings), **CPU)
    folder = Path(toy_settings["output"])
    before = (folder / "configuration.yaml").read_bytes()
    toy_settings["optimization"].update({"steps": 8, name: value})
    with pytest.raises(TrainingError, match=f"another 'optimization.{name}'.*--restart"):
        train(config_from(toy_settings), **CPU)
    assert (folder / "configuration.yaml").read_bytes() == before


def test_narrow_crops_are_not_trained_on_in_bf16_on_a_cpu(monkeypatch):
    monkeypatch.setattr("rt_panoptic_core.training.precision.cpu_precision", lambda: ("bf16", ""))
    assert training_precision("auto", "cpu", (256, 65)) == "bf16-mixed"
    assert training_precision("auto", "cpu", (256, 64)) == "32-true"
    assert training_precision("auto", "cpu") == "bf16-mixed"
    with pytest.raises(TrainingError, match=r"\[64, 64\].*32-true"):
        training_precision("bf16-mixed", "cpu", (64, 64))


def test_milestones_are_passed_in_hours_too():
    settings = OptimizationConfig(steps=100, warmup=0, milestones=(50, 80), gamma=0.1, hours=2)
    shares = (0, 0.49, 0.5, 0.79, 0.8, 1)
    factors = [learning_rate_factor(3, settings, share) for share in shares]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert learning_rate_factor(60, settings, 0.2) == pytest.approx(0.1)


class Poison(L.Callback):
    """Makes one weight NaN before a given step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):  # noqa: ARG002
        if trainer.global_step == self.step:
            with torch.no_grad():
                pl_module.network.head.semantics.weight[0, 0, 0, 0] = float("nan")


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(toy_config):
    with pytest.raises(
        TrainingError, match=r"step 4: the loss is not finite .*semantics nan.* 000\d"
    ):
        train(toy_config, callbacks=[Poison(4)], **CPU)
    kept = torch.load(Path(toy_config.output) / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 4
    assert all(torch.isfinite(v).all() for v in kept["state_dict"].values())


class InfiniteGradient(L.Callback):
    """Makes one gradient infinite."""

    def on_after_backward(self, trainer, pl_module):  # noqa: ARG002
        pl_module.network.head.semantics.bias.grad[0] = float("inf")


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_ruined(toy_config):
    with pytest.raises(TrainingError, match="gradient is not finite on batch"):
        train(toy_config, callbacks=[InfiniteGradient()], **CPU)


def test_another_network_does_not_continue_the_run(toy_settings):
    train(config_from(toy_settings), **CPU)
    toy_settings["network"]["pyramid_channels"] = 24
    with pytest.raises(TrainingError, match="another 'network'"):
        train(config_from(toy_settings), **CPU)


@pytest.mark.parametrize("source", ["train", "validation"])
def test_missing_data_is_told_before_anything_starts(toy_settings, source):
    toy_settings["data"][source][0]["root"] = "/nowhere"
    with pytest.raises(DatasetError, match=r"/nowhere/panoptic_(train|val)\.json"):
        train(config_from(toy_settings), **CPU)
    assert not Path(toy_settings["output"]).exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_picture_that_cannot_be_decoded_is_named_from_a_worker(toy_settings, tmp_path, split):
    root = tmp_path / "broken"
    shutil.copytree(toy_settings["data"]["toys_root"], root)
    for image in (root / "images" / split).iterdir():
        image.write_bytes(image.read_bytes()[:50])
    toy_settings["data"].update(toys_root=str(root), workers=1)
    with pytest.raises(DatasetError) as caught:
        train(config_from(toy_settings), **CPU)
    assert re.fullmatch(
        rf"\S+/images/{split}/000\d\.png: .*(cut|damaged|decoded).*", str(caught.value)
    )
    # The process would wait for them for ever when it ends.
    assert not multiprocessing.active_children()


def test_accumulated_gradients_update_as_often_as_configured(toy_settings):
    toy_settings["optimization"]["accumulate"] = 2
    result = train(config_from(toy_settings), **CPU)
    assert [e["step"] for e in result.evaluations] == [3, 6]


def test_weak_supervision_and_variants_run(toy_settings):
    toy_settings["losses"].update(supervision="boxes", mask=0)
    toy_settings["network"].update(levelness=False, two_towers=False)
    toy_settings["optimization"]["steps"] = 3
    assert "toys" in train(config_from(toy_settings), **CPU).measures


def test_a_model_of_other_classes_lends_what_has_the_same_name(toy_settings, tmp_path, caplog):
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    start = train(config_from(toy_settings), **CPU).model
    taxonomy = tmp_path / "other.yaml"
    taxonomy.write_text(
        "classes: [{name: sky, thing: false, source_id: 6}, {name: disc, thing: true, source_id: 2},"
        " {name: crate, thing: true, source_id: 1}, {name: floor, thing: false, source_id: 5}]"
    )
    toy_settings.update(taxonomy=str(taxonomy), initial_checkpoint=str(start))
    config = config_from(toy_settings)
    mine = build_network(config, Taxonomy.load(config.taxonomy)).state_dict()
    lent = weights_of(start)
    # Theirs: box, disc, ground, sky; ours: sky, disc, crate, floor.
    assert torch.equal(mine["head.semantics.weight"][[0, 1]], lent["head.semantics.weight"][[3, 1]])
    assert torch.equal(mine["head.box_logits.weight"][0], lent["head.box_logits.weight"][1])
    assert not torch.equal(mine["head.box_logits.weight"][1], lent["head.box_logits.weight"][0])
    assert mine["head.semantics.bias"][[2, 3]].tolist() == [0, 0]
    same = [k for k in mine if not k.startswith(("head.semantics.", "head.box_logits."))]
    assert_same({k: mine[k] for k in same}, {k: lent[k] for k in same})
    assert "2 of 4 classes have a name in common" in caplog.text
    assert inherited_terms(config) == {}

    toy_settings["network"]["pyramid_channels"] = 24
    config = config_from(toy_settings)
    with pytest.raises(CheckpointError, match="pyramid_channels is 16 there and 24 in the run"):
        build_network(config, Taxonomy.load(config.taxonomy))


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [({}, "for tests"), ({"licence": ""}, "for tests"), ({"licence": "mine"}, "mine")],
)
def test_a_model_has_the_terms_of_the_one_that_it_began_with(
    toy_settings, tmp_path, metadata, licence
):
    toy_settings["optimization"]["steps"] = 1
    first = train(config_from({**toy_settings, "metadata": {"licence": "for tests"}}), **CPU).model
    second = {"output": str(tmp_path / "second"), "initial_checkpoint": str(first)}
    made = train(config_from({**toy_settings, **second, "metadata": metadata}), **CPU).model
    assert read_header(made)["licence"] == licence


@pytest.mark.parametrize("known", [True, False])
def test_a_run_that_goes_on_keeps_the_terms_it_began_with(toy_settings, tmp_path, known):
    first = {**toy_settings, "output": str(tmp_path / "first"), "metadata": {"licence": "tests"}}
    start = train(config_from(first), **CPU).model
    toy_settings["initial_checkpoint"] = str(start)
    with pytest.raises(TrainingInterruptedError):
        train(config_from(toy_settings), callbacks=[Signal(signal.SIGINT, batch=3)], **CPU)
    if known:
        start.unlink()
    else:
        # As checkpoints were before they knew the terms.
        last = Path(toy_settings["output"]) / "last.ckpt"
        content = torch.load(last, weights_only=True)
        del content["callbacks"]["ModelWriter"]
        torch.save(content, last)
    assert read_header(train(config_from(toy_settings), **CPU).model)["licence"] == "tests"


class TestCheck:
    def test_it_tells_what_is_there(self, toy_settings):
        lines = check_run(config_from(toy_settings))
        assert [line.splitlines()[0] for line in lines] == [
            "train       coco_panoptic: 10 samples",
            "validation  toys: 5 samples",
        ]
        counted = re.search(r"instances: box (\d+), disc (\d+)", lines[0])
        assert int(counted[1]) + int(counted[2]) > 10
        assert "samples with: ground 10, sky 10" in lines[0]

    def test_classes_that_do_not_occur_are_named_or_counted(self, toy_settings, tmp_path):
        unseen = [f"{{name: unseen{n}, thing: true, source_id: {20 + n}}}" for n in range(9)]
        names = "{name: box, thing: true, source_id: 1}, {name: disc, thing: true, source_id: 2}, "
        names += (
            "{name: ground, thing: false, source_id: 5}, {name: sky, thing: false, source_id: 6}, "
        )
        told = []
        for count in (1, 9):
            file = tmp_path / f"{count}.yaml"
            file.write_text(f"classes: [{names}{', '.join(unseen[:count])}]")
            told += check_run(config_from({**toy_settings, "taxonomy": str(file)}))
        assert re.search(r"instances: box \d+, disc \d+; none of: unseen0\n", told[0])
        assert re.search(r"disc \d+; none of 9 classes: unseen0, .*, unseen7, …\n", told[2])

    def test_a_sample_of_both_mixtures_is_counted_once(self, toy_settings, tmp_path):
        root = tmp_path / "broken"
        shutil.copytree(toy_settings["data"]["toys_root"], root)
        cut = root / "images" / "val" / "0003.png"
        cut.write_bytes(cut.read_bytes()[:-200])
        toy_settings["data"]["toys_root"] = str(root)
        toy_settings["data"]["train"][0]["split"] = "val"
        with pytest.raises(DatasetError) as caught:
            check_run(config_from(toy_settings))
        assert str(caught.value).startswith("1 sample cannot be used:")
        assert str(caught.value).count("0003.png") == 1

    def test_data_without_labels_is_an_error(self, toy_settings, toys, tmp_path):
        without_labels(tmp_path / "void", toys)
        toy_settings["data"]["toys_root"] = str(tmp_path / "void")
        with pytest.raises(DatasetError) as caught:
            check_run(config_from(toy_settings))
        assert "nothing in data set 'coco_panoptic' (train) is labelled" in str(caught.value)
        assert "nothing in data set 'toys' (validation) is labelled" in str(caught.value)

    def test_the_answer_goes_to_standard_output_in_whole_lines(
        self, toy_settings, tmp_path, capsys, monkeypatch
    ):
        monkeypatch.setenv("COLUMNS", "20")
        file = tmp_path / "my run.yaml"
        file.write_text(yaml.safe_dump(toy_settings))
        changes = ["--set", "optimization.steps=9", "--nodes", "2", "--quiet"]
        assert main(["train", "--config", str(file), *changes, "--check"]) == 0
        told = capsys.readouterr()
        assert told.err == ""
        assert "samples with: ground 10, sky 10\n" in told.out
        assert told.out.splitlines()[-1] == (
            f"all is well; to train: rt-panoptic train --config '{file}' --set optimization.steps=9 "
            "--nodes 2 --quiet"
        )

    def test_what_only_this_machine_refuses_is_a_note(
        self, toy_settings, tmp_path, capsys, monkeypatch
    ):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        file = tmp_path / "run.yaml"
        toy_settings["augmentation"] = {"crop": [64, 64]}
        file.write_text(yaml.safe_dump(toy_settings))
        words = ["train", "--config", str(file), "--check", "--quiet"]
        changes = ["--set", "optimization.precision=bf16-mixed"]
        for more, told in (([], False), (changes, True), (["--accelerator", "gpu"], True)):
            assert main([*words, *more]) == 0
            lines = capsys.readouterr().out.splitlines()
            assert lines[-2].startswith("note: this machine would refuse the run: ") == told
            assert lines[-1].startswith("all is well; to train: ")

    def test_every_file_is_decoded(self, toy_settings, tmp_path):
        root = tmp_path / "broken"
        shutil.copytree(toy_settings["data"]["toys_root"], root)
        cut, small = (root / "images" / "train" / f"000{n}.png" for n in (3, 4))
        cut.write_bytes(cut.read_bytes()[:-200])
        small.write_bytes((root / "images" / "train" / "0005.png").read_bytes())
        image = cv2.imread(str(small))
        cv2.imwrite(str(small), image[:32])
        grey = root / "panoptic_val" / "0001.png"
        cv2.imwrite(str(grey), np.zeros((64, 96), np.uint8))
        toy_settings["data"]["toys_root"] = str(root)
        with pytest.raises(DatasetError) as caught:
            check_run(config_from(toy_settings))
        told = str(caught.value)
        assert told.startswith("3 samples cannot be used:")
        assert re.search(rf"{cut}: .*(cut|damaged|decoded)", told)
        assert f"{small}: 96x32 pixels, but its labels in {root}/panoptic_train/0004.png" in told
        assert f"{grey}: a grey PNG" in told

    def test_what_the_numbers_do_not_tell_is_noted(self, toy_settings, toys, tmp_path):
        root = tmp_path / "own"
        shutil.copytree(toys, root)
        for split, orientation in (("train", 3), ("val", 1)):
            file = root / "images" / split / "0001.png"
            jpeg = cv2.imencode(".jpg", cv2.imread(str(file)))[1].tobytes()
            file.write_bytes(with_orientation(jpeg, orientation))
        file = root / "panoptic_val.json"
        content = json.loads(file.read_text())
        content["images"] = [{"id": n, "file_name": f"000{n}.png"} for n in (0, 1, 2, 3, 8)]
        file.write_text(json.dumps(content))
        toy_settings["data"]["toys_root"] = str(root)
        train_told, told = check_run(config_from(toy_settings))
        assert (
            "note: 1 picture that the EXIF turns or mirrors within its size, read as viewers show it"
        ) in train_told
        assert f"\n  {root}/images/train/0001.png" in train_told
        assert "note: 1 image of the JSON without annotation, left out" in told
        assert "note: 1 annotation of an image that is not in the JSON's 'images'" in told
        assert "EXIF" not in told
        assert "data.train" not in told

    def test_pictures_that_are_learnt_and_validated_are_counted(self, toy_settings):
        toy_settings["data"]["validation"][0]["split"] = "train"
        toy_settings["data"]["train"][0]["limit"] = 4
        assert (
            "note: 4 of its pictures are in data.train too"
            in check_run(config_from(toy_settings))[1]
        )

    def test_weights_are_looked_for(self, toy_settings):
        toy_settings["backbone_weights"] = "/nowhere.pth"
        with pytest.raises(CheckpointError, match=r"/nowhere\.pth"):
            check_run(config_from(toy_settings))


def test_a_picture_of_another_size_stops_training(toy_settings, tmp_path):
    root = tmp_path / "broken"
    shutil.copytree(toy_settings["data"]["toys_root"], root)
    for image in (root / "images" / "train").iterdir():
        cv2.imwrite(str(image), cv2.imread(str(image))[:, :80])
    toy_settings["data"]["toys_root"] = str(root)
    with pytest.raises(DatasetError, match=r"80x64 pixels, but its labels in .*png are for 96x64"):
        train(config_from(toy_settings), **CPU)


class TestConfiguration:
    def test_changes_on_the_command_line(self, toy_settings, tmp_path):
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(toy_settings))
        config = load_config(file, ["optimization.steps=9", "augmentation.crop=[32, 64]"])
        assert config.optimization.steps == 9
        assert config.augmentation.crop == (32, 64)

    def test_changes_of_an_entry_of_a_list(self, toy_settings, tmp_path):
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(toy_settings))
        changes = ["data.train.0.options.pixels=900", "data.train.0.weight=2"]
        (source,) = load_config(file, changes).data.train
        assert (source.kind, source.weight, source.options) == ("coco_panoptic", 2, {"pixels": 900})

    def test_values_as_yaml_reads_them(self, toy_settings, tmp_path):
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(toy_settings))
        config = load_config(file, ["optimization.learning_rate=1e-3", "metadata.pixels=6144"])
        assert config.optimization.learning_rate == 0.001
        assert config.metadata == {"pixels": "6144"}

    def test_no_value_is_an_empty_text(self, toy_settings, tmp_path):
        """A shell hands over --set backbone_weights="" without the quotes."""
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(toy_settings))
        config = load_config(file, ["backbone_weights=", "metadata.licence= "])
        assert (config.backbone_weights, config.metadata["licence"]) == ("", "")

    def test_a_base_that_is_not_there_is_named_with_who_asks_for_it(self, tmp_path):
        (tmp_path / "run.yaml").write_text("base: other.yaml\n")
        with pytest.raises(ConfigError, match=r"run\.yaml: its 'base: other\.yaml' is not there"):
            load_config(tmp_path / "run.yaml")

    def test_a_file_may_build_on_another(self, toy_settings, tmp_path):
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(toy_settings))
        (tmp_path / "run.yaml").write_text("base: base.yaml\noptimization: {steps: 7}\n")
        config = load_config(tmp_path / "run.yaml")
        assert (config.optimization.steps, config.optimization.batch_size) == (7, 2)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("optimisation.steps=3", "unknown key 'optimisation'; did you mean 'optimization'"),
            ("optimization.stepz=3", "optimization: unknown key 'stepz'; did you mean 'steps'"),
            ("optimization.steps=many", "optimization.steps: 'many'; it must be a whole number"),
            ("optimization.learning_rate=fast", "'fast'; it must be a number"),
            ("augmentation.crop=300", "augmentation.crop: 300; it must be a list"),
            ("data.workers=-1", "data.workers -1: it must be at least 0"),
            ("data.toyz_root=x", r"data.toyz_root: .* in use are data.toys_root"),
            ("data.train=[{kind: coco, weight: x}]", r"data.train\[0\].weight: 'x'; it must be"),
            ("evaluation.log_every=0", "evaluation.log_every 0: it must be at least 1"),
            ("metadata.licence=[a]", r"metadata: \['a'\]; it must be a text"),
            ("losses.box_loss=l1", "'l1': unknown; one of iou"),
            ("losses.supervision=boxes", "knows no masks"),
            ("network.levelness=false", "losses.mask needs network.levelness"),
            ("data.train=[]", "data.train: empty"),
            ("data.train=[{kind: coco, limit: -2}]", r"train\[0\]: limit -2; it must be positive"),
            ("data.train=[{root: x}]", r"data.train\[0\]: it has no 'kind'"),
            ("augmentation.scale=[2, 1]", "lowest, highest"),
            ("seed=-1", "seed -1: it must be from 0 to 4294967295"),
            ("metadata={pixels: 0.5M}", "metadata.pixels '0.5M': it must be a whole number"),
            ("seed=4294967296", "seed 4294967296: it must be from 0"),
            (
                "optimization.learning_rate=.inf",
                "learning_rate inf: it must be above 0, and finite",
            ),
            ("optimization.momentum=-0.9", "optimization.momentum -0.9: it must be at least 0 and"),
            ("optimization.momentum=1", "optimization.momentum 1.0: .* below 1"),
            ("optimization.warmup=-5", "optimization.warmup -5: it must be at least 0"),
            ("optimization.warmup_factor=2", "warmup_factor 2.0: it must be from 0 to 1"),
            ("optimization.clip=-1", "optimization.clip -1.0: it must be at least 0"),
            ("optimization.clip=.nan", "optimization.clip nan: it must be at least 0"),
            ("optimization.weight_decay=-1", "optimization.weight_decay -1.0: it must be at least"),
            ("optimization.gamma=-0.1", "optimization.gamma -0.1: it must be at least 0"),
            ("optimization.backbone_factor=-1", "backbone_factor -1.0: it must be at least 0"),
            (
                "optimization.milestones=[-3]",
                r"milestones \[-3\]: each must be a whole number from",
            ),
            ("losses.focal_alpha=2", "losses.focal_alpha 2.0: it must be from 0 to 1"),
            ("losses.focal_gamma=-2", "losses.focal_gamma -2.0: it must not be negative"),
            ("augmentation.noise=-1", "augmentation.noise -1.0: it must be from 0 to 255"),
            ("augmentation.hue=-1", "augmentation.hue -1.0: it must be from 0 to 180"),
            ("augmentation.longest=0", "augmentation.longest 0: it must be at least 1"),
            ("augmentation.copy_paste_most=0", "copy_paste_most 0: it must be at least 1"),
            ("data.train.options.pixels=9", r"data\.train is a list of 1; .* data\.train\.0, …"),
            ("data.train.1.weight=9", r"data\.train is a list of 1; .* data\.train\.0, …"),
            ("seed.0=9", "seed is no section"),
            ("steps", "section.key=value"),
        ],
    )
    def test_mistakes_are_named(self, toy_settings, tmp_path, change, message):
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(toy_settings))
        with pytest.raises(ConfigError, match=message):
            load_config(file, [change])

    def test_options_of_data_sets_are_checked(self, toy_settings):
        toy_settings["data"]["train"][0]["options"] = {"pixels": "many"}
        with pytest.raises(
            ConfigError, match="option 'pixels' is 'many'; it must be a whole number"
        ):
            train(config_from(toy_settings), **CPU)

    def test_plain_data_reads_back(self, toy_config):
        assert config_from(toy_config.to_dict()) == toy_config

    def test_a_root_that_is_not_set_names_the_option(self, toy_settings):
        toy_settings["data"]["toys_root"] = ""
        with pytest.raises(ConfigError, match=r"--set data\.toys_root=FOLDER"):
            train(config_from(toy_settings), **CPU)
