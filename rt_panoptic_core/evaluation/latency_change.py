"""What changed in the time that frames take, between two evaluations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rt_panoptic_core.evaluation.record import FrameRecord


@dataclass(frozen=True)
class LatencyChange:
    """Medians in ms, over the ``frames`` that were timed in both evaluations."""

    frames: int
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """``after / before``; nan where ``before`` is 0."""
        return self.after / self.before if self.before else math.nan

    @classmethod
    def of(cls, pairs: Iterable[tuple[FrameRecord, FrameRecord]]) -> LatencyChange | None:
        """The change over ``pairs`` of frames; None where none was timed in both evaluations."""
        times = [(first.latency_ms, second.latency_ms) for first, second in pairs]
        known = [pair for pair in times if None not in pair]
        if not known:
            return None
        before, after = np.median(np.array(known, dtype=np.float64), axis=0)
        return cls(len(known), float(before), float(after))
