"""Writing files: nothing half-written, and nothing replaced that is no file."""

import errno
import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from rt_panoptic_core import files
from rt_panoptic_core.errors import ConfigError, ImageError
from rt_panoptic_core.files import (
    HeldFolder,
    read_json,
    replaced_when_complete,
    write_json,
    write_text,
)
from rt_panoptic_core.panoptic_png import read_ids


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there/a.json", tmp_path / "link.json"
    link.symlink_to(target)
    for value in (1, 2):
        write_json(link, value)
        assert link.is_symlink()
        assert target.read_text() == f"{value}\n"
    assert list((tmp_path / "there").iterdir()) == [target]


def test_a_pipe_is_written_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_text(pipe, "words")
    reader.join(10)
    assert read == ["words"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_one():
    # A terminal of this test's own: were it replaced, nothing of the machine would miss it.
    master, slave = os.openpty()
    try:
        device = Path(os.ttyname(slave))
        before = device.stat()
        write_text(device, "words")
        assert os.read(master, 100) == b"words"
        assert os.path.samestat(before, device.stat())
    finally:
        os.close(slave)
        os.close(master)


def test_nothing_is_read_that_need_not_end(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path, kind in (
        (pipe, "a named pipe"),
        (tmp_path / "link", "a named pipe"),
        ("/dev/zero", "a device"),
    ):
        with pytest.raises(ConfigError, match=f"{path}: cannot be read: it is {kind}, not a file"):
            read_json(path, ConfigError)
        with pytest.raises(ImageError, match=f"{path}: cannot be read: it is {kind}, not a file"):
            read_ids(path)


@pytest.mark.parametrize(
    ("data", "packer"),
    [(gzip.compress(b"[1]"), "gzip"), (b"PK\x03\x04 and the rest of an archive", "zip")],
    ids=["gzip", "zip"],
)
def test_a_packed_json_is_told_as_such(tmp_path, data, packer):
    path = tmp_path / "a.json.gz"
    path.write_bytes(data)
    said = rf"a\.json\.gz: it is packed \({packer}\); unpack it, and name the JSON"
    with pytest.raises(ConfigError, match=said):
        read_json(path, ConfigError)


def test_standard_output_may_be_a_pipe():
    words = "from rt_panoptic_core.files import write_json; write_json('/dev/stdout', [1])"
    done = subprocess.run([sys.executable, "-c", words], stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout) == [1]


def test_links_in_a_circle_lead_nowhere_and_are_replaced(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    write_json(tmp_path / "a", 1)
    assert (tmp_path / "b").read_text() == "1\n"


def test_a_folder_is_named(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_json(tmp_path / "a.json", 1)
    assert caught.value.filename == str(tmp_path / "a.json")


def test_errors_name_the_file_and_not_the_temporary_one():
    with pytest.raises(OSError, match=r"'/proc/a\.json'"):
        write_json("/proc/a.json", 1)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_errors_while_it_is_written_name_the_file(tmp_path, number):
    target = tmp_path / "a.json"
    with (
        pytest.raises(OSError, match="full") as caught,
        replaced_when_complete(target) as temporary,
    ):
        named = (str(temporary),) if number == errno.EACCES else ()
        raise OSError(number, "full", *named)
    assert caught.value.filename == str(target)


def test_a_name_may_be_as_long_as_any(tmp_path):
    for name in (f"{'a' * 250}.json", f"a.{'b' * 250}", "ä" * 127):
        write_json(tmp_path / name, 1)
        assert (tmp_path / name).read_text() == "1\n"


def test_a_name_that_is_no_utf_8_can_be_written_of(tmp_path):
    write_text(tmp_path / "a.html", f"<h1>{os.fsdecode(b'stra' + bytes([0xDF]) + b'e')}</h1>")
    assert (tmp_path / "a.html").read_text("utf-8") == "<h1>stra\\udcdfe</h1>"


def test_nothing_is_left_of_what_fails(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError), replaced_when_complete(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_what_a_killed_process_left_is_removed_when_the_file_is_written_again(tmp_path):
    words = (
        "import os, signal, sys; from rt_panoptic_core.files import replaced_when_complete\n"
        "with replaced_when_complete(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    target = tmp_path / "a.mp4"
    done = subprocess.run([sys.executable, "-c", words, target], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    write_text(tmp_path / "b.mp4", "other")
    assert left.read_text() == "half"
    write_text(target, "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    assert target.read_text() == "whole"


def test_what_was_left_of_several_that_wrote_at_once_is_removed(tmp_path):
    target = tmp_path / "a.mp4"
    left = []
    with replaced_when_complete(target) as first, replaced_when_complete(target) as second:
        with replaced_when_complete(target) as third:
            left += [second.name, third.name]
        assert first.name not in left
    for name in left:
        (tmp_path / name).write_text("half")
        write_text(target, "whole")
        assert list(tmp_path.iterdir()) == [target]


def test_what_another_one_writes_at_the_moment_stays(tmp_path):
    target = tmp_path / "a.json"
    with replaced_when_complete(target) as first:
        first.write_text("1")
        with replaced_when_complete(target) as second:
            second.write_text("2")
            write_json(target, 3)
            assert (first.read_text(), second.read_text()) == ("1", "2")
    assert target.read_text() == "1"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("lock", [lambda *_: None, lambda *_: False], ids=["no locks", "in use"])
def test_what_may_still_be_written_is_not_removed(tmp_path, monkeypatch, lock):
    with replaced_when_complete(tmp_path / "a") as temporary:
        temporary.write_text("half")
        (tmp_path / "kept").hardlink_to(temporary)
    (tmp_path / "kept").rename(temporary)
    locked = files._lock
    inode = temporary.stat().st_ino
    monkeypatch.setattr(
        files, "_lock", lambda d: (lock if os.fstat(d).st_ino == inode else locked)(d)
    )
    write_text(tmp_path / "a", "whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert temporary.read_text() == "half"


def test_a_folder_is_held_in_two_threads(tmp_path, monkeypatch):
    """Of which the second asks while the first one is about to note that it holds it."""
    held, first, second = {}, threading.Event(), threading.Event()
    lock = files.hold_folder

    def hold_folder(path):
        handle = lock(path)
        if not first.is_set():
            first.set()
            # Where it has to wait for this thread, there is nothing to wait for.
            second.wait(0.5)
        return handle

    def ask(name, done):
        held[name] = HeldFolder.of(tmp_path)
        done.set()

    monkeypatch.setattr(files, "hold_folder", hold_folder)
    one = threading.Thread(target=ask, args=("one", threading.Event()))
    one.start()
    assert first.wait(60)
    ask("two", second)
    one.join(60)
    assert held["one"] is not None
    assert held["two"] is not None
    assert held["one"].descriptor == held["two"].descriptor


def test_a_folder_can_be_held_again_while_it_is_let_go_of(tmp_path):
    folder = tmp_path / "out"
    held, again = HeldFolder.of(folder), []
    # The references end before the folder is let go of, and another thread may come in between.
    noted = weakref.ref(held, lambda _: again.append(HeldFolder.of(folder)))
    del held
    assert noted() is None
    assert again[0] is not None
    assert folder.is_dir()
    again.clear()
    assert not folder.exists()


def test_a_fork_does_not_remove_the_folder_that_its_parent_holds(tmp_path):
    folder = tmp_path / "out"
    held = HeldFolder.of(folder)
    child = os.fork()
    if not child:
        del held
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert folder.is_dir()
    assert another_process_holds(folder)
    del held
    assert not folder.exists()


def test_a_fork_can_hold_a_folder_whatever_the_threads_of_its_parent_do(tmp_path):
    locked = threading.Event()

    def lock():
        with files._HOLDING:
            locked.set()
            time.sleep(0.3)

    thread = threading.Thread(target=lock)
    thread.start()
    assert locked.wait(60)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        os._exit(HeldFolder.of(tmp_path) is None)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()


def another_process_holds(folder):
    """Whether it would be told so by another descriptor."""
    handle = files.hold_folder(folder)
    if handle is not None:
        os.close(handle)
    return handle is None
