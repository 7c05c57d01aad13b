"""One run at a time in a folder: two would write over each other's files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rt_panoptic_core.errors import TrainingError
from rt_panoptic_core.files import hold_folder

_held: set[int] = set()
"""Descriptors that hold folders."""


@contextmanager
def held_for_the_run(folder: Path) -> Iterator[None]:
    """Keep other runs out of ``folder``, which is made, until the block or the process ends, however that is.

    Raises:
        TrainingError: another run has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = hold_folder(folder)
    if handle is None:
        raise TrainingError(
            f"{folder}: another run writes its files there at this moment; wait for its end, or choose "
            "another 'output' (--output FOLDER)"
        )
    _held.add(handle)
    try:
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


def leave_the_folder_to_the_run(worker: int) -> None:
    """Let go, in a process that prepares batches: what it inherits would hold the folder after a kill."""
    del worker
    while _held:
        os.close(_held.pop())
