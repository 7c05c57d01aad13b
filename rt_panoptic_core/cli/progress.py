"""The progress bars of all subcommands."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rt_panoptic_core.engines.base import Progress as BuildProgress

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
    # Python has no standard error at all where it was closed: `command 2>&-`.
    if quiet or sys.stderr is None or not sys.stderr.isatty():
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


@contextmanager
def build_progress(title: str) -> Iterator[BuildProgress]:
    """Shows the steps of a build on standard error, and what the engine cache has to say.

    On a terminal one line that moves; elsewhere one line a step.
    """
    import logging

    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False)
    logger = logging.getLogger("rt_panoptic_core.engines")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    said = ""
    try:
        with bar:
            task = bar.add_task(title, total=None)

            def show(step: str, fraction: float | None) -> None:
                nonlocal said
                total = None if fraction is None else 1.0
                bar.update(
                    task, description=f"{title}: {step}", completed=fraction or 0.0, total=total
                )
                if not console.is_terminal and step != said:
                    console.print(f"{title}: {step}", highlight=False)
                    said = step

            yield show
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


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
