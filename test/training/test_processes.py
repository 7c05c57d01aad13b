"""Two processes are one process with the double batch; samplers that split the work."""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
import torch
import yaml

from rt_panoptic_core.checkpoint import load_checkpoint
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.configuration import config_from
from rt_panoptic_core.training.initial_weights import build_network
from rt_panoptic_core.training.run import train
from rt_panoptic_core.training.sampler import Draw, EvaluationSampler, MixtureSampler


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_the_double_batch(toy_settings, tmp_path):
    # BatchNorm is frozen here, as in the paper: a sample's gradient does not depend on its company.
    # One update without momentum: the weights moved by the gradient itself.
    toy_settings["optimization"].update(steps=1, warmup=0, ema=0, clip=0.0, momentum=0.0)
    toy_settings["evaluation"]["every"] = 1

    toy_settings["optimization"]["batch_size"] = 2
    toy_settings["output"] = str(tmp_path / "one")
    one = train(config_from(toy_settings), progress=False, accelerator="cpu", devices=1)

    toy_settings["optimization"]["batch_size"] = 1
    toy_settings["output"] = str(tmp_path / "two")
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(toy_settings))
    command = [sys.executable, "-m", "rt_panoptic_core", "train", "--config", str(file), "--quiet"]
    done = subprocess.run(
        [*command, "--accelerator", "cpu", "--devices", "2"],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first = load_checkpoint(tmp_path / "one" / "final.safetensors").network.state_dict()
    second = load_checkpoint(tmp_path / "two" / "final.safetensors").network.state_dict()
    config = config_from(toy_settings)
    torch.manual_seed(config.seed)
    start = build_network(config, Taxonomy.load(config.taxonomy)).state_dict()
    for key, value in first.items():
        moved = (value - start[key]).abs().max()
        difference = (value - second[key]).abs().max()
        # Equal up to the order in which float32 sums are taken.
        assert difference <= 1e-3 * moved + 1e-7, key
    assert (first["head.semantics.weight"] - start["head.semantics.weight"]).abs().max() > 1e-5
    # Five validation samples over two processes: each counted once.
    assert f"{100 * one.measures['toys']['pq_stuff']:.1f}" in done.stdout


@pytest.mark.slow
def test_two_processes_begin_anew_with_the_weights_of_the_run(toy_settings, tmp_path):
    toy_settings["optimization"].update(steps=1, warmup=0, ema=0.9, learning_rate=1e-9)
    toy_settings["evaluation"]["every"] = 1
    made = train(config_from(toy_settings), progress=False, accelerator="cpu", devices=1).model
    lent = load_checkpoint(made).network.state_dict()
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump({**toy_settings, "initial_checkpoint": str(made), "seed": 4}))
    command = [sys.executable, "-m", "rt_panoptic_core", "train", "--config", str(file)]
    done = subprocess.run(
        [*command, "--quiet", "--restart", "--accelerator", "cpu", "--devices", "2"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again = load_checkpoint(made).network.state_dict()
    key = "head.semantics.weight"
    assert torch.allclose(again[key], lent[key], atol=1e-6)


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_after_the_same_update(toy_settings, start_training):
    toy_settings["optimization"].update(steps=100_000, batch_size=1)
    toy_settings["data"]["validation"] = []
    process, last, log = start_training(toy_settings, devices=2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM, log.read_text()
    update = torch.load(last, weights_only=True)["global_step"]
    assert log.read_text().count(f"stopped by SIGTERM after update {update} of 100000") == 1


def test_evaluation_neither_drops_nor_repeats():
    for world in (1, 2, 3, 4, 8):
        seen = Counter(i for rank in range(world) for i in EvaluationSampler(7, rank, world))
        assert seen == Counter(range(7))
        assert sum(len(EvaluationSampler(7, rank, world)) for rank in range(world)) == 7


def draws(**changes):
    settings = {"lengths": [5, 3], "weights": [3, 1], "draws": 400, "seed": 1, **changes}
    return list(MixtureSampler(**settings))


def test_processes_share_the_draws_of_one():
    whole = draws()
    parts = [draws(rank=rank, world_size=2) for rank in (0, 1)]
    assert [d for pair in zip(*parts, strict=True) for d in pair] == whole


@pytest.mark.parametrize("start", [1, 7, 64, 399, 400])
def test_a_later_start_continues_the_same_sequence(start):
    assert draws(start=start) == draws()[start:]


def test_weights_and_rounds():
    whole = draws()
    counts = Counter(d.source for d in whole)
    assert 270 < counts[0] < 330  # 3 of 4
    for source, length in ((0, 5), (1, 3)):
        indices = [d.index for d in whole if d.source == source]
        rounds = [indices[i : i + length] for i in range(0, len(indices) - length + 1, length)]
        assert all(sorted(part) == list(range(length)) for part in rounds)
        assert len({tuple(part) for part in rounds}) > 1
    assert [d.number for d in whole] == list(range(400))
    assert draws(seed=2) != whole
    assert isinstance(whole[0], Draw)
