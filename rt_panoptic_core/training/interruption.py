"""Ending a run on SIGINT, SIGTERM or SIGHUP after the update at hand, with all that was learnt on disk."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from rt_panoptic_core.errors import TrainingError
from rt_panoptic_core.hangup import ends_on_hangup, settle_hangup

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_signals_to_the_run(worker: int) -> None:
    """Make a process that prepares batches deaf to what ends a run; it ends with its parent.

    A terminal's Ctrl-C and a service manager reach all processes at once, and the update at hand may still
    need what this one prepares.
    """
    del worker
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class TrainingInterruptedError(TrainingError):
    """A signal ended the run; its checkpoint is written.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int, update: int, steps: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name} after update {update} of {steps}; the same command "
            "goes on from there"
        )
        self.signal = number


class Interruption(L.Callback):
    """Writes ``last.ckpt`` and raises :class:`TrainingInterruptedError` once a signal has come.

    A signal in the middle of an update would leave weights that no update made, so it waits for its end. A
    second one acts as if this was not here. In front of an evaluation the checkpoint is written in any case:
    it may be interrupted at once then, and a killed one costs nothing but itself. So it is after the last
    update: the same command finds a complete run complete, whatever its length.
    """

    def __init__(self, checkpoint: Path, *, accumulate: int, evaluation_every: int) -> None:
        """Without effect until training starts.

        Args:
            checkpoint: the file.
            accumulate: batches of an update.
            evaluation_every: updates between two evaluations; 0 for none.
        """
        self._checkpoint = checkpoint
        self._accumulate = accumulate
        self._evaluation_every = evaluation_every
        self._received: int | None = None
        self._former: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen: from here on there is something to lose."""
        del trainer, pl_module
        if threading.current_thread() is threading.main_thread():
            self._former = {
                number: signal.signal(number, self._note)
                for number in _SIGNALS
                if number != signal.SIGHUP or ends_on_hangup()
            }

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write the checkpoint where an evaluation is next or nothing is; write it and end after a signal."""
        del pl_module, outputs, batch
        if (batch_idx + 1) % self._accumulate:
            return
        update = (batch_idx + 1) // self._accumulate
        stop = self._is_asked(trainer)
        evaluated = self._evaluation_every and update % self._evaluation_every == 0
        if stop or evaluated or trainer.global_step >= trainer.max_steps:
            trainer.save_checkpoint(self._checkpoint, weights_only=False)
        if stop:
            self._raise(trainer)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """End where a signal has come; several processes finish it, for they wait for each other."""
        del pl_module, outputs, batch, batch_idx, dataloader_idx
        fitting = trainer.state.fn == TrainerFn.FITTING
        if self._received is not None and trainer.world_size == 1 and fitting:
            self._raise(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen no more."""
        del trainer, pl_module
        self._restore()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Listen no more."""
        del trainer, pl_module, exception
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._received = number
        if number == signal.SIGHUP:
            self._former.pop(number, None)
            settle_hangup()
        self._restore()
        name = signal.Signals(number).name
        print(f"{name}: the run ends after this update; once more: at once", file=sys.stderr)

    def _is_asked(self, trainer: L.Trainer) -> bool:
        """Whether any of the processes was told to end; all of them have to agree."""
        asked = self._received is not None
        if trainer.world_size == 1:
            return asked
        return bool(trainer.strategy.reduce_boolean_decision(asked, all=False))

    def _raise(self, trainer: L.Trainer) -> None:
        raise TrainingInterruptedError(
            self._received or signal.SIGTERM, trainer.global_step, int(trainer.max_steps)
        )

    def _restore(self) -> None:
        while self._former:
            number, handler = self._former.popitem()
            signal.signal(number, handler)
