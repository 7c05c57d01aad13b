"""Counting in several processes at once, where all that comes back is one total from each."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import cv2

from rt_panoptic_core.allocator import keep_freed_memory
from rt_panoptic_core.errors import DatasetError

if TYPE_CHECKING:
    from multiprocessing.context import ForkContext, SpawnContext

Total = TypeVar("Total")

# Spans that a worker holds: one to work on, and one to go on with while the next is on its way.
_AHEAD = 2


class CountingJob(Protocol[Total]):
    """Work on numbered items that can be split in any way; it is handed to the workers once."""

    def new_total(self) -> Total:
        """A total with nothing counted."""

    def add(self, total: Total, span: range) -> None:
        """Count the items of ``span`` into ``total``."""

    def merge(self, total: Total, part: Total) -> None:
        """Add what ``part`` counted to ``total``."""


def work_through(
    job: CountingJob[Total],
    spans: Sequence[range],
    processes: int,
    progress: Callable[[int], None] | None = None,
) -> Total:
    """The total over all ``spans``, whichever process counted which.

    Args:
        job: what to do; pickled where processes cannot be forked.
        spans: the items in parts. Each is handed out when a process is free for it.
        processes: worker processes; 1 for none besides this one.
        progress: called with the number of items that were done since the last call.

    Raises:
        DatasetError: a worker died.
    """
    total = job.new_total()
    advance = progress if progress is not None else _nothing
    if processes <= 1:
        for span in spans:
            job.add(total, span)
            advance(len(span))
        return total
    # Forking is instant and shares what was read, but only safe while no other thread holds a lock
    # (PyTorch's pools do); spawned workers get it as a pickle once.
    forking = (
        "fork" in multiprocessing.get_all_start_methods()
        and threading.active_count() == 1
        and "torch" not in sys.modules
    )
    context: ForkContext | SpawnContext = (
        multiprocessing.get_context("fork") if forking else multiprocessing.get_context("spawn")
    )
    left = iter(spans)
    workers = []
    connections: list[Connection] = []
    try:
        for _ in range(processes):
            connection, far_end = context.Pipe()
            worker = context.Process(target=_work, args=(job, far_end), daemon=True)
            worker.start()
            far_end.close()
            workers.append(worker)
            connections.append(connection)
            for _ in range(_AHEAD):
                connection.send(next(left, None))
        while connections:
            for connection in cast("list[Connection]", wait(connections)):
                answer = connection.recv()
                if isinstance(answer, int):
                    connection.send(next(left, None))
                    advance(answer)
                else:
                    job.merge(total, answer)
                    connections.remove(connection)
    except (EOFError, ConnectionError):
        raise DatasetError(
            "a worker process died while scoring, probably for want of memory; use fewer processes"
        ) from None
    finally:
        for worker in workers:
            if connections:
                worker.terminate()
            worker.join()
    return total


def _work(job: CountingJob[Total], connection: Connection) -> None:
    """A worker: counts every span it is sent, tells when each is done, and ends with its total."""
    # Ctrl-C goes to all processes of a terminal; the one that was started says what happened.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The processes share the cores out among themselves; OpenCV's threads would only queue for them.
    cv2.setNumThreads(1)
    # Every image needs the same few large arrays.
    keep_freed_memory()
    # Counting leaves no cycles behind, so there is no use in looking for them.
    gc.disable()
    total = job.new_total()
    # Every answer brings one message more; None where no span is left. All are taken before the end, so
    # that nothing is ever sent to a process that is gone.
    coming = _AHEAD
    # A forked worker has both ends of its pipe, so the pipe alone would not tell when the other is gone.
    parent = multiprocessing.parent_process()
    assert parent is not None
    while coming:
        if connection not in wait([connection, parent.sentinel]):
            return
        span = connection.recv()
        coming -= 1
        if span is not None:
            job.add(total, span)
            connection.send(len(span))
            coming += 1
    connection.send(total)


def _nothing(done: int) -> None:
    del done
