"""Noticing data in which nothing is labelled: it trains without an error, and to no end."""

# Lightning calls these hooks with everything it has.
# ruff: noqa: ARG002

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_info

from rt_panoptic_core.datasets.batch import TrainingBatch
from rt_panoptic_core.taxonomy import UNLABELLED
from rt_panoptic_core.training.module import PanopticModule


def nothing_labelled(where: str) -> str:
    """What to say of data, ``where``, that has no labelled pixel."""
    return f"nothing in {where} is labelled; are the run's taxonomy and its source_id right?"


class Unlabelled(L.Callback):
    """Says once where the first batches, or a validation set, have no labelled pixel at all."""

    BATCHES = 10
    """So many are looked at: windows of a few samples may be void by chance."""

    def __init__(self) -> None:
        self._batches = 0
        self._labelled = False
        self._told: set[str] = set()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at one of the first batches, until one has a label: looking waits for the GPU."""
        assert isinstance(batch, TrainingBatch)
        if self._labelled or self._batches == self.BATCHES:
            return
        self._batches += 1
        self._labelled = bool((batch.semantic != UNLABELLED).any())
        if self._batches == self.BATCHES:
            self._tell_of_batches()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell of a run of less batches than are looked at."""
        if 0 < self._batches < self.BATCHES:
            self._tell_of_batches()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell of validation sets whose classes could not be measured: there is no IoU without labels."""
        assert isinstance(pl_module, PanopticModule)
        if trainer.sanity_checking:
            return
        for label, values in pl_module.results.items():
            if "miou" not in values and label not in self._told:
                self._told.add(label)
                rank_zero_info(f"warning: {nothing_labelled(f'the validation set {label!r}')}")

    def _tell_of_batches(self) -> None:
        if not self._labelled:
            where = (
                "the first batch" if self._batches == 1 else f"the first {self._batches} batches"
            )
            rank_zero_info(f"warning: {nothing_labelled(where)} --check looks at all samples")
