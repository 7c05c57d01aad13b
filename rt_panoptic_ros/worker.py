"""The inference thread: newest frame in, result out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rt_panoptic_ros.inbox import Inbox


class Worker:
    """One thread that takes from an inbox: requests are called, frames go to ``process``."""

    def __init__(
        self,
        process: Callable[[Any], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        """Start the thread.

        Args:
            process: called with each frame.
            on_error: told what ``process`` or a request raised; the thread goes on.
        """
        self.inbox: Inbox[Any] = Inbox()
        self._process = process
        self._on_error = on_error
        self._busy = threading.Lock()
        self._ending = threading.Lock()
        self._ended = False
        self._at_end: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._work()
        with self._ending:
            self._ended = True
        if self._at_end is not None:
            self._at_end()

    def _work(self) -> None:
        while True:
            item = self.inbox.take()
            if item is None:
                return
            with self._busy:
                try:
                    if callable(item):
                        item()
                    else:
                        self._process(item)
                # The last resort: whatever a frame does, the next one is to be tried.
                except Exception as error:  # noqa: BLE001
                    self._on_error(error)
            # Not to hold the last frame's buffers while waiting for the next.
            del item

    def wait_idle(self, timeout: float) -> bool:
        """Whether the frame in work is done within ``timeout`` seconds."""
        if self._busy.acquire(timeout=timeout):
            self._busy.release()
            return True
        return False

    def at_end(self, action: Callable[[], None]) -> None:
        """Call ``action`` once the thread has ended: on it at its end, or now if that is over."""
        with self._ending:
            if not self._ended:
                self._at_end = action
                return
        action()

    def stop(self, timeout: float) -> bool:
        """Whether the thread ended within ``timeout`` seconds; what waits is thrown away."""
        self.inbox.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()


class Rate:
    """Frames a second, smoothed over about ten frames."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Without a frame yet; ``clock`` gives seconds."""
        self._clock = clock
        self._last: float | None = None
        self._interval: float | None = None

    def tick(self) -> float | None:
        """Count a frame: the rate in Hz, or None at the first."""
        now = self._clock()
        last, self._last = self._last, now
        if last is None:
            return None
        interval = now - last
        if self._interval is None or interval > 10 * self._interval:
            self._interval = interval  # the first, or after a pause
        else:
            self._interval += 0.1 * (interval - self._interval)
        return 1.0 / self._interval if self._interval > 0 else None
