"""The depth image that belongs to a picture, found by stamp among the newest few."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class DepthBuffer(Generic[Item]):
    """The newest ``size`` items with their stamps; any thread may add or look."""

    def __init__(self, size: int = 8) -> None:
        """Empty."""
        self._lock = threading.Lock()
        self._items: deque[tuple[int, Item]] = deque(maxlen=size)

    def add(self, stamp: int, item: Item) -> None:
        """Keep ``item`` of ``stamp`` (nanoseconds); the oldest goes if there are too many."""
        with self._lock:
            self._items.append((stamp, item))

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._items.clear()

    def find(self, stamp: int, tolerance: int) -> Item | None:
        """The item with the stamp nearest to ``stamp``, at most ``tolerance`` ns away; else None."""
        with self._lock:
            if not self._items:
                return None
            found, item = min(self._items, key=lambda entry: abs(entry[0] - stamp))
            return item if abs(found - stamp) <= tolerance else None
