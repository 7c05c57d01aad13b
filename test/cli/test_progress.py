"""Progress bars stay out of the way where nobody sees them."""

import sys

import pytest

from rt_panoptic_core.cli.progress import build_progress, progress_bar


@pytest.mark.filterwarnings("error")
def test_without_standard_error_there_is_no_bar(monkeypatch):
    # As Python has it where it was closed: `command 2>&-`.
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar("working", 2, "steps") as advance:
        advance(1)
    with build_progress("building") as show:
        show("a step", 0.5)
