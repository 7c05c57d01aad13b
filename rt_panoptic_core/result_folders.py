"""Telling folders of results from folders of pictures, so that results are not taken for input later."""

from __future__ import annotations

from pathlib import Path

from rt_panoptic_core.files import write_text

RESULTS_MARKER = ".rt_panoptic_results"
"""Name of the file that says that all in its folder, and below, are results."""


def mark_results(folder: Path) -> None:
    """Make ``folder`` and mark it as one of results, unless there is something in it, which may be an input.

    Raises:
        OSError: it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        write_text(
            folder / RESULTS_MARKER, "Results of rt-panoptic segment: no input of a later run.\n"
        )
