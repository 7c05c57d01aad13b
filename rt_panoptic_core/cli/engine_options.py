"""What the commands that build engines share."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rt_panoptic_core.engines.base import Progress


def add_model(parser: argparse.ArgumentParser) -> None:
    """The argument ``--model``."""
    parser.add_argument(
        "--model", metavar="M", help="checkpoint, or a shipped model's name (default: the default)"
    )


@contextmanager
def build_progress(title: str) -> Iterator[Progress]:
    """Shows the steps of a build on standard error, and what the engine cache has to say.

    On a terminal one line that moves; elsewhere one line a step.
    """
    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False)
    logger = logging.getLogger("rt_panoptic_core.engines")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    bar = Bar(
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
