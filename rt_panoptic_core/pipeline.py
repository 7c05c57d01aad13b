"""Working ahead of, beside, and behind the thread that hands frames on."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")

_MOST_WAITING = 64
"""Items that wait for one before them: a frame in the making may have many messages behind it."""

_END = object()

_NICE = 10
"""Added to a helping thread's niceness: it fills what the inference leaves of the processor.

An engine's threads wait for each other after every layer. Work that takes one of them off its core for a
moment stops them all; work that waits for the next gap costs only itself.
"""


def give_way() -> None:
    """Make the calling thread, and whatever it starts, give way to others; does nothing where it cannot."""
    # Linux has a niceness for each thread; elsewhere this would be the whole process's.
    with suppress(OSError, AttributeError):
        if os.uname().sysname == "Linux":
            own = threading.get_native_id()
            nice = os.getpriority(os.PRIO_PROCESS, own)
            os.setpriority(os.PRIO_PROCESS, own, min(19, nice + _NICE))


class Ahead(Generic[Item]):
    """An iterator that another thread runs ahead, by up to ``depth`` items.

    An error of the iterable is raised where its item would have come.

    Attributes:
        processor: seconds of processor time that the thread took, once it has ended.
    """

    def __init__(self, items: Iterable[Item], depth: int, *, gives_way: bool = False) -> None:
        """Start to iterate; with ``gives_way`` at a lower priority than everybody else's."""
        self._gives_way = gives_way
        self.processor = 0.0
        self._queue: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(items,), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        while True:
            item, error = self._queue.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item  # type: ignore[misc]

    def close(self) -> None:
        """Stop the thread; items not yet taken are lost."""
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def _run(self, items: Iterable[Item]) -> None:
        if self._gives_way:
            give_way()
        try:
            for item in items:
                self._queue.put((item, None))
                if self._stop.is_set():
                    return
            self._queue.put((_END, None))
        # Whatever it is belongs to the thread that takes the items.
        except BaseException as error:  # noqa: BLE001
            self._queue.put((_END, error))
        finally:
            self.processor = time.thread_time()


class Behind(Generic[Item]):
    """A thread that handles items in order, up to ``depth`` of them behind the one that hands them over.

    The first error stops the handling and is raised by the next :meth:`put`, or by :meth:`close`.

    Attributes:
        processor: seconds of processor time that the thread took, once it has ended.
    """

    def __init__(
        self, handle: Callable[[Item], None], depth: int, *, gives_way: bool = False
    ) -> None:
        """Start to wait for items; with ``gives_way`` at a lower priority than everybody else's."""
        self._gives_way = gives_way
        self.processor = 0.0
        self._handle = handle
        self._queue: queue.Queue[object] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand ``item`` over; waits while ``depth`` items are unhandled."""
        self._raise()
        self._queue.put(item)

    def close(self) -> None:
        """Wait until everything is handled."""
        if self._thread.is_alive():
            self._queue.put(_END)
            self._thread.join()
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        if self._gives_way:
            give_way()
        failed = False
        while (item := self._queue.get()) is not _END:
            if failed:
                # Keep taking, so that put() never waits for a thread that is gone.
                continue
            try:
                self._handle(item)  # type: ignore[arg-type]
            except BaseException as error:  # noqa: BLE001 - raised in the other thread
                self._error = error
                failed = True
        self.processor = time.thread_time()


class Beside(Generic[Item]):
    """Hands items on in the order in which they came, where making some takes a while.

    Up to ``streams`` of these are made at a time, by threads; with one, the calling thread makes it. Few
    wait to be made, and few others for those before them. As a context manager it hands on what is left when
    the block ends, and gives it up where the block fails.
    """

    def __init__(self, hand_on: Callable[[Item], None], streams: int) -> None:
        """Call ``hand_on`` with every item, on the thread that calls."""
        self._hand_on = hand_on
        self._streams = streams
        self._pool = ThreadPoolExecutor(streams) if streams > 1 else None
        self._waiting: deque[Item | Future[Item]] = deque()
        self._making = 0

    def put(self, item: Item) -> None:
        """Hand ``item`` on after those before it."""
        self._waiting.append(item)
        self._flush()

    def put_made(self, make: Callable[[], Item]) -> None:
        """Hand on what ``make`` returns; raises what an earlier one raised."""
        if self._pool is None:
            self._hand_on(make())
            return
        self._waiting.append(self._pool.submit(make))
        self._making += 1
        self._flush()

    def _flush(self, at_most: int | None = None) -> None:
        # One more than is being made, so that no thread waits for the next.
        limit = self._streams + 1 if at_most is None else at_most
        while self._waiting:
            item = self._waiting[0]
            if isinstance(item, Future):
                crowded = self._making > limit or len(self._waiting) > _MOST_WAITING
                if not crowded and not item.done():
                    return
                self._making -= 1
                item = item.result()
            self._waiting.popleft()
            self._hand_on(item)

    def __enter__(self) -> Beside[Item]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._flush(at_most=0)
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
