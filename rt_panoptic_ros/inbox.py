"""What waits for the inference thread: one slot for the newest frame, and requests in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Frame = TypeVar("Frame")


class Inbox(Generic[Frame]):
    """One slot for the newest frame beside a queue of requests; one thread takes, any thread puts.

    A frame that was not taken when the next one comes is replaced by it: the latency of what is taken is
    then never more than one frame's age, however much faster frames come than they are taken.
    """

    def __init__(self) -> None:
        """An open, empty inbox."""
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._requests: deque[Callable[[], None]] = deque()
        self._closed = False

    def put_frame(self, frame: Frame) -> bool:
        """Whether ``frame`` replaced one that nobody had taken; on a closed inbox it is dropped."""
        with self._changed:
            if self._closed:
                return False
            replaced = self._frame is not None
            self._frame = frame
            self._changed.notify()
            return replaced

    def put_request(self, request: Callable[[], None]) -> bool:
        """Whether ``request`` will be called by the taking thread, before the next frame; not once closed."""
        with self._changed:
            if self._closed:
                return False
            self._requests.append(request)
            self._changed.notify()
            return True

    def clear_frame(self) -> bool:
        """Whether there was a frame to throw away."""
        with self._changed:
            found, self._frame = self._frame is not None, None
            return found

    def take(self) -> Callable[[], None] | Frame | None:
        """The next request, else the newest frame; waits for one. None once the inbox is closed."""
        with self._changed:
            while not (self._closed or self._requests or self._frame is not None):
                self._changed.wait()
            if self._closed:
                return None
            if self._requests:
                return self._requests.popleft()
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> list[Callable[[], None]]:
        """The requests that nobody took; from now on ``take`` returns None. Harmless twice."""
        with self._changed:
            self._closed = True
            self._frame = None
            left = list(self._requests)
            self._requests.clear()
            self._changed.notify_all()
            return left
