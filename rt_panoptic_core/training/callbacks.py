"""What happens around the steps: averaging, checkpoints, curves, pictures, timing."""

# Lightning calls these hooks with everything it has.
# ruff: noqa: ARG002

from __future__ import annotations

import json
import math
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.callbacks.weight_averaging import WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rt_panoptic_core.checkpoint import read_header, save_checkpoint
from rt_panoptic_core.datasets.sample import PanopticSample
from rt_panoptic_core.errors import CheckpointError
from rt_panoptic_core.files import replaced_when_complete, write_json
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.training.configuration import TrainingConfig
from rt_panoptic_core.training.initial_weights import inherited_terms
from rt_panoptic_core.training.module import PanopticModule
from rt_panoptic_core.training.time_limit import TimeLimit
from rt_panoptic_core.visualization.overlay import draw_overlay

BEST, FINAL = "best.safetensors", "final.safetensors"
"""Files of a run's models: that of the best evaluation, and the last one."""

_HISTORY = "history.json"
# In the header of the best model.
_QUALITY = "quality"


class ExponentialAverage(WeightAveraging):
    """Averaged weights, w̄ ← d·w̄ + (1 − d)·w after every update; they are what is evaluated.

    d rises as (1 + n) / (10 + n) up to ``decay``: an average over the first steps would otherwise
    remember the random start for thousands of them.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
            n = float(count)
            held = min(decay, (1 + n) / (10 + n))
            # All tensors at once: on a GPU one after the other would take longer than the rest.
            get_ema_multi_avg_fn(held)(averaged, current, count)  # type: ignore[no-untyped-call]

        super().__init__(multi_avg_fn=average)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Bring the average to where the weights are by now: it was made before they were moved there."""
        assert self._average_model is not None
        self._average_model.to(pl_module.device)


class ModelWriter(L.Callback):
    """Writes the model (safetensors, ready for use) when its evaluation is the best so far, and at the end.

    How good the best one was stands in its header: what a resumed run has to beat.
    """

    def __init__(self, folder: Path, config: TrainingConfig) -> None:
        self.folder = folder
        self.config = config
        self.best = -1.0
        self._inherited = inherited_terms(config)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember the best quality of the run that goes on."""
        try:
            self.best = float(read_header(self.folder / BEST)[_QUALITY])
        except (CheckpointError, KeyError, ValueError):
            self.best = -1.0

    def state_dict(self) -> dict[str, Any]:
        """The terms of the model that the run began with, which need not be there any more later."""
        return {"inherited": self._inherited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the terms of the run that goes on."""
        self._inherited = dict(state_dict["inherited"])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``best.safetensors`` if ``pq`` rose."""
        assert isinstance(pl_module, PanopticModule)
        quality = float(trainer.callback_metrics.get("pq", torch.tensor(-1.0)))
        if trainer.sanity_checking or quality <= self.best:
            return
        self.best = quality
        if trainer.is_global_zero:
            self.write(BEST, trainer, pl_module, {_QUALITY: repr(quality)})

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write ``final.safetensors`` after the last update: the evaluation that may follow adds nothing."""
        assert isinstance(pl_module, PanopticModule)
        if trainer.global_step >= trainer.max_steps and trainer.is_global_zero:
            self.write(FINAL, trainer, pl_module, {})

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``final.safetensors`` of a checkpoint that no update was left to make after."""
        assert isinstance(pl_module, PanopticModule)
        if trainer.is_global_zero and not (self.folder / FINAL).is_file():
            self.write(FINAL, trainer, pl_module, {})
        # The other processes read it.
        trainer.strategy.barrier()

    def write(
        self, name: str, trainer: L.Trainer, module: PanopticModule, metadata: dict[str, str]
    ) -> None:
        """Write the averaged weights, or the present ones where nothing is averaged."""
        found: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        average = next((c for c in found if isinstance(c, WeightAveraging)), None)
        network = module.network
        if average is not None and average._average_model is not None:
            averaged = average._average_model.module
            assert isinstance(averaged, PanopticModule)
            network = averaged.network
        description = f"{self.config.name}, {trainer.global_step} updates"
        # A text that is empty says nothing, and a model has the terms of the one that it began with.
        texts = {key: text for key, text in self.config.metadata.items() if text}
        save_checkpoint(
            self.folder / name,
            network,
            inference=self.config.inference,
            metadata={"description": description, **self._inherited, **texts, **metadata},
            dtype=torch.float16 if self.config.stored == "float16" else torch.float32,
        )


class Curves(L.Callback):
    """Keeps ``history.json`` beside the checkpoints: step, seconds, losses and every evaluation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.evaluations: list[dict[str, Any]] = []
        self.losses: list[dict[str, float]] = []
        self.seconds = 0.0
        self._since = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; an evaluation made after the last checkpoint is only in the file."""
        self._since = time.monotonic()
        known = self.steps
        self.evaluations += [
            evaluation
            for evaluation in written_evaluations(self.folder)
            if evaluation["step"] <= trainer.global_step and evaluation["step"] not in known
        ]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the logged losses."""
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = now
        assert isinstance(pl_module, PanopticModule)
        if batch_idx % pl_module.config.batches_per_log == 0:
            values = {
                name.removeprefix("loss/"): round(float(value), 5)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("loss/")
            }
            self.losses.append({"step": trainer.global_step, **values})

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the measures and write the file."""
        assert isinstance(pl_module, PanopticModule)
        if trainer.sanity_checking:
            return
        measured = {
            label: {name: None if np.isnan(v) else round(v, 4) for name, v in values.items()}
            for label, values in pl_module.results.items()
        }
        self.evaluations.append(
            {"step": trainer.global_step, "seconds": round(self.seconds), **measured}
        )
        self._since = time.monotonic()
        self._write(trainer)

    @property
    def steps(self) -> set[int]:
        """Updates after which there was an evaluation."""
        return {evaluation["step"] for evaluation in self.evaluations}

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the file beside the checkpoint."""
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            write_json(
                self.folder / _HISTORY, {"evaluations": self.evaluations, "losses": self.losses}
            )

    def state_dict(self) -> dict[str, Any]:
        """All that was kept, for the checkpoint."""
        return {
            "evaluations": self.evaluations,
            "losses": self.losses,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what the earlier part of the run kept."""
        self.evaluations = list(state_dict["evaluations"])
        self.losses = list(state_dict["losses"])
        self.seconds = float(state_dict["seconds"])


class Pictures(L.Callback):
    """Writes results of the first samples of every validation set: image, truth, prediction."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder / "pictures"
        self.count = count

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw one sample if it is among the first."""
        assert isinstance(pl_module, PanopticModule)
        if batch_idx >= self.count or not trainer.is_global_zero or trainer.sanity_checking:
            return
        result = pl_module.last_result
        assert isinstance(batch, PanopticSample)
        assert result is not None
        taxonomy = pl_module.network.taxonomy
        truth = PanopticResult(batch.semantic, batch.instance.astype(np.uint16))
        parts = [
            batch.image,
            draw_overlay(batch.image, truth, taxonomy, names=False),
            draw_overlay(batch.image, result, taxonomy),
        ]
        picture = np.concatenate(parts, axis=1)
        label = pl_module.config.data.validation[dataloader_idx].label
        with replaced_when_complete(self.folder / f"{label}_{batch_idx}.jpg") as path:
            cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1]))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(
                    f"{label}/{batch_idx}", picture, trainer.global_step, dataformats="HWC"
                )


class Progress(RichProgressBar):
    """Lightning's progress bar with the run's name: a run is counted in updates and has no epochs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def _get_train_description(self, current_epoch: int) -> str:
        return self._name


class DataWait(L.Callback):
    """Measures the share of the time that training waits for data, after ``warmup`` batches."""

    def __init__(self, warmup: int = 2) -> None:
        self.warmup = warmup
        self.waited = 0.0
        self.worked = 0.0
        self._mark: float | None = None

    @property
    def share(self) -> float:
        """Waiting over waiting and working, in [0, 1]."""
        total = self.waited + self.worked
        return self.waited / total if total else 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is here: waiting ends."""
        now = time.perf_counter()
        if batch_idx < self.warmup:
            self._mark = None
        elif self._mark is not None:
            self.waited += now - self._mark
        self._mark = now

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """The step is done: waiting begins."""
        now = time.perf_counter()
        if batch_idx >= self.warmup and self._mark is not None:
            self.worked += now - self._mark
        self._mark = now
        if batch_idx % 50 == 49:
            pl_module.log("data_wait_share", self.share)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What follows is neither."""
        self._mark = None


class Report(L.Callback):
    """Says on standard error how the run goes, a line now and then: for logs, where no bar can be drawn."""

    SECONDS = 30.0
    """Between two lines."""

    def __init__(self, steps: int, limit: TimeLimit) -> None:
        """For a run of ``steps`` updates that ends earlier where ``limit`` says so."""
        self._steps = steps
        self._limit = limit
        self._start = self._told = time.monotonic()
        self._first = 0
        self._losses: list[Tensor] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = self._told = time.monotonic()
        self._first = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Tell update, mean loss since the last line and the time that is left, if it is time again."""
        # Kept where it is: looking at a number on a GPU waits for it.
        self._losses.append(outputs["loss"].detach())
        now = time.monotonic()
        done = trainer.global_step - self._first
        if now < self._told + self.SECONDS or done < 1 or not trainer.is_global_zero:
            return
        self._told = now
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        each = (now - self._start) / done
        left = each * (self._steps - trainer.global_step)
        of = f" of {self._steps}"
        if self._limit.left < left:
            left, of = self._limit.left, ""
        self._say(
            f"update {trainer.global_step}{of}  loss {loss:.3f}  {each:.3g} s each, "
            f"{timedelta(seconds=round(left))} left"
        )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell what was measured."""
        assert isinstance(pl_module, PanopticModule)
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        for label, values in pl_module.results.items():
            told = ", ".join(
                f"{title} {100 * values[name]:.1f}"
                for name, title in (("pq", "PQ"), ("miou", "mIoU"))
                if name in values and not math.isnan(values[name])
            )
            self._say(f"evaluation after update {trainer.global_step}: {label}: {told}")

    def _say(self, words: str) -> None:
        print(words, file=sys.stderr, flush=True)


def last_checkpoint(folder: Path, config: TrainingConfig) -> ModelCheckpoint:
    """Writes ``last.ckpt``, to go on from."""
    return ModelCheckpoint(
        folder,
        filename="last",
        every_n_train_steps=config.evaluation.checkpoint_every,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )


def written_evaluations(folder: Path) -> list[dict[str, Any]]:
    """The evaluations in the ``history.json`` of a run's folder; none where it cannot be read."""
    try:
        content = json.loads((folder / _HISTORY).read_text("utf-8"))
        written: list[dict[str, Any]] = content["evaluations"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return written
