"""The training loop's two steps: a loss of a batch, a measure of a sample."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from torch import Tensor

from rt_panoptic_core.checkpoint import Checkpoint
from rt_panoptic_core.datasets.batch import TrainingBatch
from rt_panoptic_core.datasets.sample import PanopticSample
from rt_panoptic_core.errors import TrainingError
from rt_panoptic_core.evaluation.frame import Frame, compared_as
from rt_panoptic_core.evaluation.panoptic_quality import PanopticQuality
from rt_panoptic_core.evaluation.semantic_iou import SemanticIoU
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.segmenter import Segmenter
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.configuration import TrainingConfig
from rt_panoptic_core.training.criterion import panoptic_losses, weight_of_classes
from rt_panoptic_core.training.schedule import (
    RATES,
    freeze_stages,
    frozen_parts,
    learning_rate_factor,
    make_optimizer,
    set_rates,
)


class Measures:
    """Panoptic quality and semantic IoU of one validation set, as it comes in."""

    def __init__(self, taxonomy: Taxonomy, counts_as: npt.NDArray[np.uint8] | None = None) -> None:
        """Start with nothing counted.

        Args:
            counts_as: uint8 [256], class that a predicted one is compared as, for
                labels that are coarser than the taxonomy.
        """
        self.taxonomy = taxonomy
        self.counts_as = counts_as
        self.quality = PanopticQuality.for_taxonomy(self.taxonomy)
        self.semantics = SemanticIoU.for_taxonomy(self.taxonomy)
        self.has_instances = False

    def add(self, sample: PanopticSample, result: PanopticResult) -> None:
        """Count one sample."""
        result = compared_as(result, self.counts_as)
        frame = Frame.of(sample, result, self.taxonomy)
        self.quality.add(frame.matches, frame.truth, frame.predicted)
        self.semantics.update(sample.semantic, result.semantic)
        self.has_instances |= sample.has_instances

    def merge(self, other: Measures) -> None:
        """Count what another process counted."""
        self.quality.merge(other.quality)
        self.semantics.merge(other.semantics)
        self.has_instances |= other.has_instances

    def values(self) -> dict[str, float]:
        """``pq``, ``pq_things``, ``pq_stuff``, ``miou`` in [0, 1].

        ``miou`` is the mean over the classes that the labels hold at all: a data set with fewer classes
        than the taxonomy is not marked down for the others. Without instances there is ``pq_stuff`` only.
        """
        quality, semantics = self.quality.result(), self.semantics.result()
        labelled = semantics.confusion.sum(1) > 0
        values = {"pq_stuff": quality.stuff.pq}
        if labelled.any():
            values["miou"] = float(np.nan_to_num(semantics.per_class[labelled]).mean())
        if self.has_instances:
            values = {"pq": quality.all.pq, "pq_things": quality.things.pq, **values}
        return values


class PanopticModule(L.LightningModule):
    """A network in training.

    Attributes:
        results: measures by validation set and name, of the last evaluation.
        last_result: of the sample that was evaluated last.
        time_share: of the hours that the run may take, how much is over; 0 where there is no limit.
    """

    def __init__(self, network: PanopticNetwork, config: TrainingConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        # Before any wrapping for several processes: those wait for the gradients of what may learn.
        freeze_stages(network, config.optimization.frozen_stages)
        self.class_weights: Tensor | None
        weights = weight_of_classes(config.losses, network.taxonomy)
        self.register_buffer("class_weights", weights, persistent=False)
        self.results: dict[str, dict[str, float]] = {}
        self._measures: list[Measures] = []
        self._segmenter: Segmenter | None = None
        self.last_result: PanopticResult | None = None
        self.time_share = 0.0
        self._batch_names: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> PanopticModule:
        """As always, but what is frozen keeps its batch statistics too."""
        super().train(mode)
        for part in frozen_parts(self.network, self.config.optimization.frozen_stages):
            part.eval()
        return self

    def training_step(self, batch: TrainingBatch, batch_index: int) -> Tensor:
        """The total loss of ``batch``.

        Raises:
            TrainingError: it is not finite; the samples of the batch and the losses are named.
        """
        self._batch_names = batch.names
        images = batch.images
        if self.config.optimization.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        output = self.network(images.float())
        # The losses run in float32: sums over a hundred thousand locations and box areas need it.
        with torch.autocast(images.device.type, enabled=False):
            share = self._mean_over_processes if self.trainer.world_size > 1 else None
            losses = panoptic_losses(
                output,
                batch,
                self.network.config.strides,
                self.config.losses,
                share,
                self.class_weights,
            )
        finite = torch.isfinite(losses.total)
        if not bool(finite):
            listed = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.parts.items())
            raise TrainingError(
                f"step {self.trainer.global_step}: the loss is not finite ({listed}) on batch "
                f"{', '.join(batch.names)}; the last good checkpoint is kept. "
                "Check these samples, or lower optimization.learning_rate or set optimization.clip"
            )
        if batch_index % self.config.batches_per_log == 0:
            values = {f"loss/{name}": value for name, value in losses.parts.items()}
            self.log_dict({**values, "loss/total": losses.total.detach()}, rank_zero_only=True)
            self.log("loss", losses.total.detach(), prog_bar=True, logger=False)
        return losses.total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse a gradient that would ruin the weights.

        Raises:
            TrainingError: a gradient is not finite (in fp16 the scaler skips such a step by itself).
        """
        if self.config.optimization.precision == "16-mixed":
            return
        gradients = [
            p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None
        ]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if not bool(torch.isfinite(norm)):
            raise TrainingError(
                f"step {self.trainer.global_step}: the gradient is not finite on batch "
                f"{', '.join(self._batch_names)}; the last good checkpoint is kept. "
                "Lower optimization.learning_rate or set optimization.clip"
            )

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule, stepped once an update."""
        settings = self.config.optimization
        optimizer = make_optimizer(self.network, settings)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda update: learning_rate_factor(update, settings, self.time_share)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_validation_epoch_start(self) -> None:
        """Start counting, with the weights of this moment in the very path that users run."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self._measures = [
            Measures(self.network.taxonomy, getattr(dataset, "counts_as", None))
            for dataset in data.validation_sets
        ]
        self._segmenter = self.segmenter()

    def validation_step(self, sample: PanopticSample, _index: int, dataloader_idx: int = 0) -> None:
        """Count one sample."""
        assert self._segmenter is not None
        self.last_result = result = self._segmenter.segment(sample.image)
        self._measures[dataloader_idx].add(sample, result)

    def on_validation_epoch_end(self) -> None:
        """Gather the counts of all processes and log the measures."""
        assert self._segmenter is not None
        self._segmenter.close()
        self._segmenter = None
        measures = self._gathered()
        self.results = {}
        for source, measure in zip(self.config.data.validation, measures, strict=True):
            self.results[source.label] = measure.values()
        for label, values in self.results.items():
            named = {f"{label}/{name}": value for name, value in values.items()}
            self.log_dict(named, sync_dist=self.trainer.world_size > 1)
        # One number that every run has, to choose its best checkpoint by.
        primary = [v["pq"] for v in self.results.values() if "pq" in v]
        fallback = [v["miou"] for v in self.results.values() if "miou" in v]
        best = (primary or fallback or [0.0])[0]
        several = self.trainer.world_size > 1  # all of them hold the same number
        self.log("pq", float(np.nan_to_num(best)), prog_bar=True, sync_dist=several)

    def segmenter(self) -> Segmenter:
        """A segmenter with a copy of the present weights."""
        network = copy.deepcopy(self.network).cpu().float().eval().requires_grad_(False)
        # What the model will say of itself: the size that it is used at is told there.
        checkpoint = Checkpoint(
            *(network, self.config.inference, dict(self.config.metadata)),
            *(Path(self.config.name), ""),
        )
        device = f"cuda:{self.device.index or 0}" if self.device.type == "cuda" else "cpu"
        mixed = self.config.optimization.precision == "bf16-mixed"
        return Segmenter(
            checkpoint, engine="pytorch", device=device, precision="bf16" if mixed else "fp32"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the run's configuration and the state of the random numbers beside the weights."""
        checkpoint["configuration"] = self.config.to_dict()
        checkpoint["taxonomy"] = self.network.taxonomy.to_dict()
        checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the random numbers where they stopped, with other rates, and a run made longer."""
        if "random_state" in checkpoint:
            torch.set_rng_state(checkpoint["random_state"].cpu())
        settings = self.config.optimization
        before = checkpoint["configuration"]["optimization"]
        if any(before[name] != getattr(settings, name) for name in RATES):
            set_rates(checkpoint, self.network, settings)
        if checkpoint["global_step"] < settings.steps:
            # Of the run as it was: the loop would believe that there are no batches left.
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            progress["is_last_batch"] = False

    def _mean_over_processes(self, counts: Tensor) -> Tensor:
        summed = counts.clone()
        torch.distributed.all_reduce(summed)
        return summed / self.trainer.world_size

    def _gathered(self) -> list[Measures]:
        world = self.trainer.world_size
        if world == 1:
            return self._measures
        parts: list[Any] = [None] * world
        torch.distributed.all_gather_object(parts, self._measures)
        merged: list[Measures] = parts[0]
        for part in parts[1:]:
            for own, other in zip(merged, part, strict=True):
                own.merge(other)
        return merged
