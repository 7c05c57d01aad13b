"""The engine cache: checked when read, explained and rebuilt when it does not fit, built once."""

import errno
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from rt_panoptic_core.engines import cache
from rt_panoptic_core.engines.cache import cache_folder, cached, engine_identity, engine_path
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.errors import EngineError

IDENTITY = {"library": "OpenVINO 1", "device": "this CPU", "driver": "1"}
DEADLINE = 60


class Builder:
    """Builds ``payload`` and counts how often."""

    def __init__(self, payload=b"engine"):
        self.count = 0
        self.payload = payload

    def __call__(self):
        self.count += 1
        return {"plan": self.payload}


def fetch(path, build, identity=IDENTITY, load=lambda sections: sections["plan"]):
    return cached(path, identity, build, load)


def test_built_once_then_read(tmp_path):
    path, build = tmp_path / "deep" / "a.engine", Builder()
    assert fetch(path, build) == b"engine"
    assert fetch(path, build) == b"engine"
    assert build.count == 1


def damage(path, how):
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[:-3])
    elif how == "corrupted":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 255]))
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "overwritten":
        path.write_bytes(b"\x7fELF" + data)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("truncated", "truncated"),
        ("corrupted", "corrupted"),
        ("emptied", "no engine"),
        ("overwritten", "no engine"),
    ],
)
def test_a_damaged_file_is_explained_in_one_line_and_rebuilt(tmp_path, caplog, how, words):
    path = tmp_path / "a.engine"
    fetch(path, Builder())
    damage(path, how)
    build = Builder()
    with caplog.at_level(logging.WARNING):
        assert fetch(path, build) == b"engine"
    assert build.count == 1
    (record,) = caplog.records
    assert words in record.message
    assert "building it again" in record.message
    assert "\n" not in record.message
    assert fetch(path, build) == b"engine"
    assert build.count == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("library", "OpenVINO 2"), ("device", "another CPU"), ("driver", "2")],
)
def test_a_stale_or_foreign_file_is_rebuilt_in_place(tmp_path, caplog, field, value):
    path = tmp_path / "a.engine"
    fetch(path, Builder(b"old"))
    build = Builder(b"new")
    with caplog.at_level(logging.WARNING):
        assert fetch(path, build, {**IDENTITY, field: value}) == b"new"
    assert f"built for {field}" in caplog.text
    assert value in caplog.text
    assert [file.name for file in tmp_path.glob("*.engine")] == ["a.engine"]


def test_a_file_that_the_library_refuses_is_rebuilt(tmp_path, caplog):
    path = tmp_path / "a.engine"
    fetch(path, Builder(b"refused"))

    def load(sections):
        if sections["plan"] == b"refused":
            raise EngineError("serialised with another version")
        return sections["plan"]

    with caplog.at_level(logging.WARNING):
        assert fetch(path, Builder(b"good"), load=load) == b"good"
    assert "refuses it (serialised with another version)" in caplog.text


def test_an_engine_that_cannot_be_loaded_is_not_kept(tmp_path):
    path = tmp_path / "a.engine"

    def load(sections):
        raise EngineError("out of memory")

    with pytest.raises(EngineError, match="out of memory"):
        fetch(path, Builder(), load=load)
    assert not path.exists()


def test_no_space_costs_the_file_not_the_engine(tmp_path, caplog, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "write_engine_file", full)
    with caplog.at_level(logging.WARNING):
        assert fetch(tmp_path / "a.engine", Builder()) == b"engine"
    assert "No space left on device" in caplog.text
    assert cache.FOLDER_VARIABLE in caplog.text


def test_a_folder_that_cannot_be_written(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert fetch(tmp_path / "file" / "a.engine", Builder()) == b"engine"
    assert "cannot be written" in caplog.text


def test_folder_of_the_cache(monkeypatch):
    monkeypatch.setenv("RT_PANOPTIC_CACHE", "/named")
    assert cache_folder() == Path("/named")
    monkeypatch.delenv("RT_PANOPTIC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/rt_panoptic")


def test_identity_names_all_that_an_engine_depends_on(checkpoint):
    spec = EngineSpec((64, 96), "openvino", "bf16")
    identity = engine_identity(checkpoint, spec, "OpenVINO 1")
    assert set(identity) == {
        "checkpoint", "size", "engine", "precision", "library", "package", "device", "driver"
    }  # fmt: skip
    assert identity["checkpoint"] == checkpoint.digest
    # What is kept is a graph, compiled where it is opened: for every CPU.
    assert identity["device"] == identity["driver"] == "any"
    other = engine_path(checkpoint, EngineSpec((64, 96), "openvino", "fp32"))
    assert engine_path(checkpoint, spec) != other


PROCESS = """
import json, sys, time
from pathlib import Path
from rt_panoptic_core.engines.cache import cached

folder = Path(sys.argv[1])
deadline = time.monotonic() + float(sys.argv[2])

def until(condition):
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("deadline")
        time.sleep(0.01)

def build():
    with (folder / "builds").open("a") as log:
        log.write("built\\n")
    # Not done before the other process stands at the lock: otherwise they would not meet.
    until((folder / "waiting").exists)
    return {"plan": b"engine"}

def progress(step, fraction):
    if "another process" in step:
        (folder / "waiting").touch()

found = cached(folder / "a.engine", {"library": "1"}, build, lambda s: s["plan"].decode(), progress)
print(json.dumps(found))
"""


def test_two_processes_build_once(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path), str(DEADLINE)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=2 * DEADLINE)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [json.loads(answer) for answer in answers] == ["engine", "engine"]
    assert (tmp_path / "builds").read_text() == "built\n"
    assert (tmp_path / "waiting").exists()


KILLED = """
import os, sys
from pathlib import Path
from rt_panoptic_core.engines.cache import cached

def build():
    print("building", flush=True)
    sys.stdin.read()

cached(Path(sys.argv[1]), {"library": "1"}, build, dict)
"""


def test_a_builder_that_is_killed_leaves_nothing_in_the_way(tmp_path):
    path = tmp_path / "a.engine"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "building\n"
    process.kill()
    process.communicate(timeout=DEADLINE)
    assert fetch(path, Builder(), {"library": "1"}) == b"engine"
