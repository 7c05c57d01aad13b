"""rt-panoptic cache: what is kept, and what goes."""

import fcntl
import os
import time

import pytest

from rt_panoptic_core.checkpoint import load_checkpoint
from rt_panoptic_core.cli.main import main
from rt_panoptic_core.engines import cached_engines as cached_engines_module
from rt_panoptic_core.engines import hardware
from rt_panoptic_core.engines.cache import cached, engine_path, package_identity
from rt_panoptic_core.engines.cached_engines import cached_engines
from rt_panoptic_core.engines.engine_file import write_engine_file
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.files import replaced_when_complete

DAY = 86400


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RT_PANOPTIC_CACHE", str(tmp_path / "cache"))
    # A process finds out once which libraries there are.
    cached_engines_module._library.cache_clear()
    yield tmp_path / "cache"
    cached_engines_module._library.cache_clear()


def keep(folder, name, days=0, **identity):
    path = folder / f"{name}-0fe448341c7b-64x96-pytorch-bf16-cpu.engine"
    write_engine_file(path, {"package": package_identity(), **identity}, {"a": b"x" * 2_000_000})
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def test_engines_are_listed(folder, capsys):
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"0 engines, 0.0 MB, in {folder}\n"
    keep(folder, "my-model")
    keep(folder, "old", package="0.0.1+abc")
    (folder / "copied.engine").write_bytes(b"damaged")
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    today = time.strftime("%Y-%m-%d")
    assert lines[1] == f"my-model 64x96 pytorch bf16 cpu: 2.0 MB, last used {today}"
    assert lines[0].startswith(
        f"copied.engine: 0.0 MB, last used {today}; stale: the file is no eng"
    )
    assert "old 64x96 pytorch bf16 cpu" in lines[2]
    assert "; stale: built for package 0.0.1+abc, wanted is " in lines[2]
    assert lines[3] == f"3 engines, 4.0 MB, in {folder}"


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["all"], []),
        (["stale"], ["new", "unused"]),
        (["all", "--older-than", "30"], ["new", "stale"]),
        (["stale", "--older-than", "30"], ["new", "stale", "unused"]),
    ],
)
def test_what_is_asked_for_is_removed_and_named(folder, capsys, options, left):
    keep(folder, "new", days=29)
    keep(folder, "stale", library="OpenVINO 1", engine="openvino", package="0")
    keep(folder, "unused", days=31)
    (folder / "triton").mkdir()
    assert main(["cache", "--clear", *options]) == 0
    assert [engine.label.split()[0] for engine in cached_engines()] == left
    assert (folder / "triton").is_dir()
    *named, total = capsys.readouterr().out.splitlines()
    gone = [name for name in ("new", "stale", "unused") if name not in left]
    assert [line.split()[:2] for line in named] == [["removed", name] for name in gone]
    assert total.startswith(f"removed: {len(gone)} engine")
    assert total.endswith(f" of 3 in {folder}")


def test_what_a_process_is_building_stays(folder, capsys):
    path = keep(folder, "new")
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["cache", "--clear", "all"]) == 0
        assert path.is_file()
        assert "kept new 64x96 pytorch bf16 cpu: another process is building it" in (
            capsys.readouterr().out
        )
    assert main(["cache", "--clear", "all"]) == 0
    assert not path.exists()


def test_a_file_that_is_being_written_is_no_engine_yet(folder, capsys):
    folder.mkdir()
    with replaced_when_complete(folder / "x.engine") as temporary:
        temporary.write_bytes(b"half")
        assert cached_engines() == []
        assert main(["cache", "--clear", "all"]) == 0
    assert (folder / "x.engine").read_bytes() == b"half"


@pytest.mark.parametrize("engine", ["tensorrt", "openvino"])
def test_a_library_that_cannot_be_imported_is_none(folder, monkeypatch, engine):
    def fail(*_):
        raise ImportError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(hardware, "tensorrt_module", fail)
    monkeypatch.setattr(hardware, "missing_openvino", fail)
    keep(folder, "new", engine=engine, library="of another machine")
    (found,) = cached_engines()
    assert found.stale is None
    assert main(["cache", "--clear", "all"]) == 0


def test_an_engine_that_is_opened_is_used(folder):
    path = keep(folder, "new", days=100)
    identity = {"package": package_identity()}
    cached(path, identity, build=lambda: pytest.fail("it is there"), load=lambda sections: sections)
    assert cached_engines()[0].last_used > time.time() - DAY


@pytest.mark.usefixtures("needs_openvino")
def test_the_library_and_the_name_are_those_that_engines_get(save_small_model):
    from rt_panoptic_core.engines.openvino_engine import LIBRARY

    checkpoint = load_checkpoint(save_small_model())
    spec = EngineSpec((64, 96), "openvino", "fp32", "cpu")
    path = engine_path(checkpoint, spec)
    for library in (LIBRARY, "OpenVINO 1"):
        identity = {"package": package_identity(), "engine": "openvino", "library": library}
        write_engine_file(path, identity, {})
        (engine,) = cached_engines()
        assert engine.label == f"{checkpoint.name} 64x96 openvino fp32 cpu"
        assert (engine.stale is None) == (library == LIBRARY)


def test_an_age_needs_to_be_told_what_for(capsys):
    assert main(["cache", "--older-than", "3"]) == 2
    assert "--older-than: it is for --clear all or --clear stale" in capsys.readouterr().err
