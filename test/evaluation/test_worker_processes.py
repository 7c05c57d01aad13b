"""Counting in processes: nothing is lost or counted twice, and a death is told."""

from __future__ import annotations

import signal
import subprocess
import sys

import counting_job
import pytest
from counting_job import Listing

from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.evaluation.worker_processes import work_through


def test_forked_processes_count_every_item_once_and_deaths_are_told():
    # In a process of its own, without PyTorch, beside which nothing is forked.
    done = subprocess.run(
        [sys.executable, counting_job.__file__], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_forked_processes_end_with_the_one_that_started_them():
    # They hold its standard output: reading it to the end is waiting for all of them.
    done = subprocess.run(
        [sys.executable, counting_job.__file__, "leave"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout


def test_spawned_processes_count_every_item_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys)
    done = []
    total = work_through(Listing(), [range(4), range(4, 9), range(9, 10)], 2, done.append)
    assert sorted(total) == list(range(10))
    assert sum(done) == 10


def test_a_spawned_process_that_dies_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys)
    with pytest.raises(DatasetError, match="a worker process died"):
        work_through(Listing(2), [range(2), range(2, 4), range(4, 6)], 2)
