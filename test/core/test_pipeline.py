"""Threads beside the one that hands frames on."""

import random
import threading
import time

import pytest

from rt_panoptic_core.pipeline import Beside


@pytest.mark.parametrize("streams", [1, 2, 4])
def test_items_are_handed_on_in_their_order(streams):
    chance, handed = random.Random(streams), []
    running, most, lock = 0, 0, threading.Lock()

    def made(number, seconds):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(seconds)
        with lock:
            running -= 1
        return number

    with Beside(handed.append, streams) as beside:
        for number in range(60):
            if chance.random() < 0.4:
                beside.put(number)
            else:
                seconds = chance.random() / 100
                beside.put_made(lambda number=number, seconds=seconds: made(number, seconds))
    assert handed == list(range(60))
    assert most == streams


def test_items_are_not_held_back_by_those_after_them():
    handed, gate = [], threading.Event()
    with Beside(handed.append, 2) as beside:
        beside.put(0)
        assert handed == [0]
        beside.put_made(lambda: gate.wait(60) and 1)
        beside.put(2)
        assert handed == [0]
        gate.set()
    assert handed == [0, 1, 2]


def test_no_more_are_begun_than_are_soon_needed():
    """Each holds a picture."""
    begun, handed = [], []
    with Beside(handed.append, 2) as beside:
        for number in range(30):
            begun.append(number)
            beside.put_made(lambda number=number: number)
            assert len(begun) - len(handed) <= 3


def test_what_waits_for_one_in_the_making_is_bounded():
    """A recording may hold thousands of messages between two pictures."""
    handed, gate, put = [], threading.Event(), []
    with Beside(handed.append, 2) as beside:
        beside.put_made(lambda: gate.wait(60) and "made")
        threading.Timer(0.3, gate.set).start()
        for number in range(1000):
            beside.put(number)
            put.append(number)
            assert gate.is_set() or len(put) <= 64
    assert handed == ["made", *range(1000)]


@pytest.mark.parametrize("streams", [1, 3])
def test_an_error_comes_in_the_place_of_its_item(streams):
    handed, made = [], []

    def make(number):
        made.append(number)
        if number == 4:
            raise ValueError("four")
        return number

    with pytest.raises(ValueError, match="four"), Beside(handed.append, streams) as beside:
        for number in range(100):
            beside.put_made(lambda number=number: make(number))
    assert handed == [0, 1, 2, 3]
    assert len(made) <= 5 + streams + 1


def test_a_block_that_fails_leaves_what_is_not_begun():
    gate, made = threading.Event(), []

    def make(number):
        gate.wait(60)
        made.append(number)

    def fill():
        with Beside(lambda _: None, 2) as beside:
            for number in range(3):
                beside.put_made(lambda number=number: make(number))
            threading.Timer(0.2, gate.set).start()
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        fill()
    assert set(made) <= {0, 1}
