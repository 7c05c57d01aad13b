"""What the node counts and times while it runs; read by the diagnostics."""

from __future__ import annotations

import enum
import threading
from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

WINDOW = 300
"""Frames that the percentiles look back over."""


class Input(enum.Enum):
    """What the node may subscribe; the words stand in the diagnostics."""

    IMAGE = "image"
    DEPTH = "depth"
    CAMERA_INFO = "camera_info"


class Drop(enum.Enum):
    """Why a frame that came was not answered; the words stand in the diagnostics."""

    REPLACED = "replaced by a newer frame"
    NO_SUBSCRIBER = "no subscriber"
    DISABLED = "disabled"
    RATE = "over input.max_rate"
    BAD_IMAGE = "bad image"
    ENGINE_FAILED = "engine failed"
    LOST = "lost in transport"
    STOPPED = "deactivated meanwhile"


class Trouble(enum.Enum):
    """What was wrong with frames that were answered all the same, or with depth."""

    ZERO_STAMP = "stamp of zero"
    STAMP_BACK = "stamp went back"
    STAMP_FUTURE = "stamp in the future"
    STAMP_OLD = "stamp is old"
    BAD_DEPTH = "bad depth or camera_info"
    NO_DEPTH = "no depth for the image"


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment. Times in seconds, percentiles over the last :data:`WINDOW` frames.

    ``words`` holds, for troubles that have some, what was said of the last of their kind; ``last_came``,
    for inputs that came, when they did last.
    """

    frames_in: int
    frames_out: int
    drops: dict[str, int]
    troubles: dict[str, int]
    words: dict[str, str]
    latency: tuple[float, float] | None
    inference: tuple[float, float] | None
    failures_in_a_row: int
    last_error: str
    last_engine_error: str
    last_came: dict[Input, float]


class Statistics:
    """Counters that any thread may raise and any thread may read."""

    def __init__(self) -> None:
        """All at zero."""
        self._lock = threading.Lock()
        self._frames_in = 0
        self._frames_out = 0
        self._drops: Counter[Drop] = Counter()
        self._troubles: Counter[Trouble] = Counter()
        self._words: dict[str, str] = {}
        self._latency: deque[float] = deque(maxlen=WINDOW)
        self._inference: deque[float] = deque(maxlen=WINDOW)
        self._failures_in_a_row = 0
        self._last_error = ""
        self._last_engine_error = ""
        self._last_came: dict[Input, float] = {}

    def frame_came(self, now: float) -> None:
        """Count an input frame; ``now`` is the monotonic clock's."""
        with self._lock:
            self._frames_in += 1
            self._last_came[Input.IMAGE] = now

    def input_came(self, kind: Input, now: float) -> None:
        """Note that depth or camera_info came; ``now`` is the monotonic clock's."""
        with self._lock:
            self._last_came[kind] = now

    def frame_answered(self, latency: float | None, inference: float | None) -> None:
        """Count a published result: seconds from its stamp, and of inference; None leaves one out."""
        with self._lock:
            self._frames_out += 1
            self._failures_in_a_row = 0
            if inference is not None:
                self._inference.append(inference)
            if latency is not None:
                self._latency.append(latency)

    def drop(self, reason: Drop, error: str = "", count: int = 1) -> None:
        """Count frames that are not answered; ``error`` is kept as the last one."""
        with self._lock:
            self._drops[reason] += count
            if reason is Drop.ENGINE_FAILED:
                self._failures_in_a_row += 1
                self._last_engine_error = error
            if error:
                self._last_error = error

    def trouble(self, kind: Trouble, words: str = "", error: str = "") -> None:
        """Count a fault that did not cost the frame: ``words`` tell of it, ``error`` is kept as the last."""
        with self._lock:
            self._troubles[kind] += 1
            if words:
                self._words[kind.value] = words
            if error:
                self._last_error = error

    def engine_renewed(self) -> None:
        """Forget the times of an engine that was replaced; its failures stand until a frame succeeds."""
        with self._lock:
            self._inference.clear()

    @property
    def failures_in_a_row(self) -> int:
        """Engine failures since the last answer."""
        with self._lock:
            return self._failures_in_a_row

    def wait_anew(self, *kinds: Input) -> None:
        """Start waiting for the first of ``kinds`` again."""
        with self._lock:
            for kind in kinds:
                self._last_came.pop(kind, None)

    def snapshot(self) -> Snapshot:
        """All counts and percentiles now."""
        with self._lock:
            latency, inference = list(self._latency), list(self._inference)
            return Snapshot(
                frames_in=self._frames_in,
                frames_out=self._frames_out,
                drops={reason.value: self._drops[reason] for reason in Drop},
                troubles={kind.value: self._troubles[kind] for kind in Trouble},
                words=dict(self._words),
                latency=_percentiles(latency),
                inference=_percentiles(inference),
                failures_in_a_row=self._failures_in_a_row,
                last_error=self._last_error,
                last_engine_error=self._last_engine_error,
                last_came=dict(self._last_came),
            )


def _percentiles(values: list[float]) -> tuple[float, float] | None:
    if not values:
        return None
    p50, p95 = np.percentile(values, [50, 95])
    return float(p50), float(p95)
