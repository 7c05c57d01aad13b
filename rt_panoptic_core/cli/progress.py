"""The progress bar of all subcommands."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_REDRAW_SECONDS = 0.1


@contextmanager
def progress_bar(
    title: str, total: int | None, unit: str, *, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; yields what to call with the number of units done since the last call.

    On a terminal it shows title, bar, count, speed and time left; elsewhere, or when ``quiet``, nothing.

    Args:
        title: what is going on, in a word.
        total: units until done; None if nobody knows.
        unit: name of the units.
        quiet: show nothing.
    """
    if quiet or not sys.stderr.isatty():
        # Not even imported then: it would take longer than scoring a hundred images.
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f} {unit}/s", style="cyan")

    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn(unit),
        Speed(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        # No thread of its own: what runs under the bar may want to fork.
        auto_refresh=False,
    )
    last_drawn = 0.0
    with bar:
        task = bar.add_task(title, total=total)

        def advance(done: int) -> None:
            nonlocal last_drawn
            bar.advance(task, done)
            if time.monotonic() - last_drawn > _REDRAW_SECONDS or bar.finished:
                bar.refresh()
                last_drawn = time.monotonic()

        bar.refresh()
        yield advance


def counting(advance: Callable[[int], None]) -> Callable[[int], None]:
    """What to call with the number of units done so far, for an ``advance`` that takes those since last."""
    last = 0

    def reached(done: int) -> None:
        nonlocal last
        advance(done - last)
        last = done

    return reached


def _nothing(done: int) -> None:
    del done
