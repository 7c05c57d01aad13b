"""A line per step: ticking on a terminal, printed when something changes elsewhere."""

from __future__ import annotations

import shutil
import sys
import time

_HEARTBEAT = 30.0  # seconds between lines where the output is a file


class Progress:
    """Shows ``[1/3] what ... detail``; all of it on standard error."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._number = 0
        self._terminal = sys.stderr.isatty()
        self._title = ""
        self._started = self._shown = time.monotonic()

    def start(self, title: str) -> None:
        self._number += 1
        self._title = f"  [{self._number}/{self._steps}] {title}"
        self._started = self._shown = time.monotonic()
        self._write(self._title + " ...")

    def update(self, detail: str) -> None:
        """Say where the step is; call it as often as you like."""
        now = time.monotonic()
        if self._terminal or now - self._shown >= _HEARTBEAT:
            self._shown = now
            self._write(f"{self._title} ... {detail} ({now - self._started:.0f} s)")

    def done(self, detail: str = "") -> None:
        took = f"{time.monotonic() - self._started:.0f} s"
        self._write(f"{self._title}: {f'{detail}, ' if detail else ''}{took}", last=True)

    def interrupted(self) -> None:
        """Leave the line as it is and go to a new one."""
        if self._terminal and self._title:
            print(file=sys.stderr)

    def _write(self, line: str, *, last: bool = False) -> None:
        if not self._terminal:
            print(line, file=sys.stderr, flush=True)
            return
        width = shutil.get_terminal_size().columns
        print(f"\r\033[K{line[: width - 1]}", end="\n" if last else "", file=sys.stderr, flush=True)
