"""Printing what is a command's only result."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """The block ends, without an error, where the reader of standard output (`| head -1`) has gone away."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Keep Python from complaining at exit.
        sys.stdout = None
