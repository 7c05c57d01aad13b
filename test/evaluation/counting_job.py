"""The simplest job for worker processes; run as a program it tries them forked, in many groupings."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.evaluation.worker_processes import work_through


class Listing:
    """Lists every number it is given; dies at one of them."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at

    def new_total(self) -> list[int]:
        return []

    def add(self, total: list[int], span: range) -> None:
        if self.dies_at in span:
            os._exit(1)
        total += span

    def merge(self, total: list[int], part: list[int]) -> None:
        total += part


class Leaving(Listing):
    """Ends the process that started the workers, with no time left to stop them."""

    def __init__(self) -> None:
        super().__init__()
        self.started_by = os.getpid()

    def add(self, total: list[int], span: range) -> None:
        super().add(total, span)
        print(total, flush=True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.started_by, signal.SIGKILL)


def main() -> None:
    if sys.argv[1:] == ["leave"]:
        work_through(Leaving(), [range(n, n + 1) for n in range(20)], 2)
    assert "torch" not in sys.modules, "processes are not forked beside PyTorch"
    for processes in (1, 2, 5):
        for count in (1, 2, 3, 4, 5, 11, 40):
            spans = [range(3 * n, 3 * n + 3) for n in range(count)]
            done: list[int] = []
            total = work_through(Listing(), spans, processes, done.append)
            assert sorted(total) == list(range(3 * count)), (processes, count)
            assert sum(done) == 3 * count, (processes, count)
    for dies_at in (0, 13, 29):
        try:
            work_through(Listing(dies_at), [range(n, n + 3) for n in range(0, 30, 3)], 2)
        except DatasetError:
            continue
        raise AssertionError(f"no error when a worker died at {dies_at}")


if __name__ == "__main__":
    main()
