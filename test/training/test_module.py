"""A network in training: what its evaluations have to do with the model that comes of it."""

from __future__ import annotations

import lightning as L
import torch

from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.callbacks import ExponentialAverage
from rt_panoptic_core.training.configuration import config_from
from rt_panoptic_core.training.module import PanopticModule


def test_a_model_is_evaluated_at_the_size_that_its_users_get(toy_settings):
    toy_settings["metadata"] = {"pixels": str(128 * 192)}
    config = config_from(toy_settings)
    network = PanopticNetwork(config.network, Taxonomy.load(toy_settings["taxonomy"]))
    segmenter = PanopticModule(network, config).segmenter()
    assert segmenter.engine_size((64, 96)) == (128, 192)


def test_the_average_follows_the_weights_and_keeps_counters_whole():
    average = ExponentialAverage(0.9)._kwargs["multi_avg_fn"]
    mean, count = torch.full((3,), 2.0), torch.tensor(4)
    # After one update d is 2/11; later 0.9.
    average([mean], [torch.full((3,), 13.0)], torch.tensor(1))
    torch.testing.assert_close(mean, torch.full((3,), 11.0))
    average([mean], [torch.full((3,), 21.0)], torch.tensor(10_000))
    torch.testing.assert_close(mean, torch.full((3,), 12.0))
    average([count], [torch.tensor(7)], torch.tensor(10_000))
    assert count.dtype == torch.int64
    assert 4 <= int(count) <= 7


def test_the_average_is_where_the_weights_are():
    module = L.LightningModule()
    module.layer = torch.nn.Linear(2, 2)
    callback = ExponentialAverage(0.9)
    callback.setup(None, module, "fit")
    # A device that every machine has and that is not the CPU.
    callback.on_fit_start(None, module.to("meta"))
    assert {p.device.type for p in callback._average_model.parameters()} == {"meta"}
