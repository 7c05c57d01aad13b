"""Warnings that come with every frame, said once a while instead of every time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable


class ThrottledLog:
    """Lets one message a ``period`` through for each key, with the number of those held back.

    (rclpy's own throttling goes by the calling line: two topics or two reasons would silence each other.)
    """

    def __init__(
        self,
        write: Callable[[str], object],
        period: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Messages go to ``write``; ``clock`` gives seconds."""
        self._write = write
        self._period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[Hashable, tuple[float, int]] = {}

    def __call__(self, key: Hashable, message: str) -> None:
        """Write ``message`` unless one of the same ``key`` was written less than a period ago."""
        now = self._clock()
        with self._lock:
            last = self._last.get(key)
            if last is not None and now - last[0] < self._period:
                self._last[key] = (last[0], last[1] + 1)
                return
            held_back = last[1] if last else 0
            self._last[key] = (now, 0)
        self._write(f"{message} ({held_back} more like it since)" if held_back else message)


def kind_of(error: BaseException) -> Hashable:
    """The kind of fault that ``error`` tells of, for a key: its class and the line that raised it.

    The text is none: it holds sizes and counts, which differ from frame to frame.
    """
    trace = error.__traceback__
    if trace is None:
        return (type(error),)
    while trace.tb_next is not None:
        trace = trace.tb_next
    return (type(error), trace.tb_frame.f_code.co_filename, trace.tb_lineno)
