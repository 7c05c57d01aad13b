"""Progress bars stay out of the way where nobody sees them."""

import subprocess
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


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_not_taken_by_the_next_file(closed):
    """A file that got the number of standard error would get what libraries say, too."""
    code = (
        "import os, sys; from rt_panoptic_core.cli import main; "
        "main._open_standard_streams(); "
        "print('said', file=sys.stderr); "
        "sys.exit(0 if os.open(os.devnull, os.O_RDONLY) > 2 else 5)"
    )
    command = f'exec "{sys.executable}" -c "{code}" {closed}'
    done = subprocess.run(["bash", "-c", command], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("command", ["--version", "models", "train --help"])
def test_commands_work_without_standard_error(command):
    line = f'exec "{sys.executable}" -m rt_panoptic_core {command} 2>&-'
    done = subprocess.run(["bash", "-c", line], check=False, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stdout
