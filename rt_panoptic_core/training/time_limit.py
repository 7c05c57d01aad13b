"""Ending a run after so many hours, however far it is by then."""

from __future__ import annotations

import math
from time import monotonic
from typing import Any

import lightning as L

from rt_panoptic_core.training.module import PanopticModule

# Updates after which several processes agree on the time again: each asks the first one for it.
_AGREED_EVERY = 10


class TimeLimit(L.Callback):
    """Tells the schedule how much of the time is over; when all of it is, the update at hand is the last.

    It counts without a limit too, for a later command may set one. Evaluations in between count, what a run
    was interrupted for does not. It has to come before the callbacks that act after the last update.

    Attributes:
        seconds: of training so far, those before an interruption included.
    """

    def __init__(self, hours: float) -> None:
        """A limit of ``hours``, 0 for none."""
        self._limit = 3600.0 * hours or math.inf
        self._before = self.seconds = 0.0
        self._start = monotonic()

    @property
    def left(self) -> float:
        """Seconds, 0 when the time is over, infinite without a limit."""
        return max(0.0, self._limit - self.seconds)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; a run whose time is over already makes no update."""
        self._start = monotonic()
        self._end_if_over(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the clock after an update."""
        del outputs, batch
        update, rest = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        several = trainer.world_size > 1 and self._limit < math.inf
        if rest or (several and update % _AGREED_EVERY):
            return
        self.seconds = self._before + monotonic() - self._start
        if several:
            # Another time would be another learning rate, and other weights.
            self.seconds = float(trainer.strategy.broadcast(self.seconds))
        self._end_if_over(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The seconds so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._before = self.seconds = float(state_dict["seconds"])

    def _end_if_over(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PanopticModule)
        module.time_share = min(1.0, self.seconds / self._limit)
        if self.seconds >= self._limit:
            # As if the run had been one of so many updates: everything else looks at that number.
            trainer.fit_loop.epoch_loop.max_steps = trainer.global_step
