"""The engine cache: built once per machine, checked whenever it is read, rebuilt when it does not fit."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from rt_panoptic_core import __version__
from rt_panoptic_core.checkpoint import Checkpoint
from rt_panoptic_core.engines.base import Progress, no_progress
from rt_panoptic_core.engines.engine_file import (
    ANY,
    EngineFileError,
    read_engine_file,
    write_engine_file,
)
from rt_panoptic_core.engines.hardware import device_identity
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.errors import EngineError, EngineMemoryError

FOLDER_VARIABLE = "RT_PANOPTIC_CACHE"
"""Environment variable that names the cache's folder."""

BUILD_TIMEOUT = 3600.0
"""Longest wait in seconds for another process that builds the same engine."""

_POLL = 0.1

Sections = Mapping[str, bytes]
Loaded = TypeVar("Loaded")

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Folder of built engines: ``$RT_PANOPTIC_CACHE``, or ``rt_panoptic`` in the user's cache folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rt_panoptic"


def engine_identity(checkpoint: Checkpoint, spec: EngineSpec, library: str) -> dict[str, str]:
    """Everything that an engine depends on: if one of these differs, it has to be built again.

    A file for CPUs holds a graph that is compiled where it is opened: it is for every CPU.
    """
    height, width = spec.image_size
    on_cpu = spec.device == "cpu"
    return {
        "checkpoint": checkpoint.digest,
        "size": f"{height}x{width}",
        "engine": spec.engine,
        "precision": spec.precision,
        "library": library,
        "package": package_identity(),
        **({"device": ANY, "driver": ANY} if on_cpu else device_identity(spec.device)),
    }


def package_identity() -> str:
    """What an engine depends on of this package: its version, and the sources of graph and export."""
    return f"{__version__}+{_source_digest()}"


def engine_path(checkpoint: Checkpoint, spec: EngineSpec) -> Path:
    """Where the cache keeps the engine.

    The name holds what tells engines apart that are wanted side by side. Versions are in the file's
    identity only, so that a new version's engine takes the place of the old one.
    """
    height, width = spec.image_size
    device = spec.device.replace(":", "")
    name = (
        f"{checkpoint.name}-{checkpoint.digest[:12]}-{height}x{width}"
        f"-{spec.engine}-{spec.precision}-{device}.engine"
    )
    return cache_folder() / name


def open_cached(
    checkpoint: Checkpoint,
    spec: EngineSpec,
    library: str,
    build: Callable[[], Sections],
    load: Callable[[Sections], Loaded],
    *,
    engine_file: str | os.PathLike[str] | None = None,
    progress: Progress = no_progress,
) -> Loaded:
    """:func:`cached` for ``spec`` run by ``library``, at ``engine_file`` or (None) in the cache.

    Raises:
        EngineError: ``build`` or ``load`` of what was just built failed.
    """
    path = engine_path(checkpoint, spec) if engine_file is None else Path(engine_file)
    return cached(path, engine_identity(checkpoint, spec, library), build, load, progress)


def cached(
    path: Path,
    identity: Mapping[str, str],
    build: Callable[[], Sections],
    load: Callable[[Sections], Loaded],
    progress: Progress = no_progress,
) -> Loaded:
    """``load(sections)`` of the engine file at ``path``, which is built first if it does not fit.

    A file that is stale, foreign, truncated, corrupted or refused by ``load`` is explained in one line of
    the log and built again. Processes that want the same engine at the same time build it once: the others
    wait. A folder that cannot be written costs the next start a build, not this one its engine.

    Raises:
        EngineMemoryError: the memory does not suffice to load it; the file is left as it is.
        EngineError: ``build`` or ``load`` of what was just built failed.
    """
    try:
        return load(_read(path, identity))
    except FileNotFoundError:
        pass
    except EngineMemoryError:
        raise
    except EngineError:
        # Said once, under the lock, by the process that builds it again.
        pass
    lock = _lock_file(path)
    if lock is None:
        return load(build())
    try:
        _wait(lock, path, progress)
        return _load_or_build(path, identity, build, load)
    finally:
        os.close(lock)  # which gives the lock away, as the end of the process would


def remove_engine(path: Path) -> bool:
    """Remove the engine file at ``path``; False where another process is building it.

    Raises:
        OSError: it cannot be removed.
    """
    lock = _lock_file(path)
    try:
        if lock is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        if lock is not None:
            os.close(lock)
    return True


def _read(path: Path, identity: Mapping[str, str]) -> Sections:
    """As :func:`read_engine_file`; the file's time of change says from then on when it was used last."""
    sections = read_engine_file(path, identity)
    with contextlib.suppress(OSError):  # somebody else's, or in a folder that is read-only
        os.utime(path)
    return sections


def _wait(lock: int, path: Path, progress: Progress) -> None:
    """Hold the lock once no other process does.

    Raises:
        EngineError: another process holds it for longer than a build can take.
    """
    deadline = time.monotonic() + BUILD_TIMEOUT
    told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        if time.monotonic() > deadline:
            raise EngineError(
                f"{path}: another process has been building it for {BUILD_TIMEOUT:.0f} s; "
                "end that process"
            )
        if not told:
            progress("wait for another process that builds the same engine", None)
            told = True
        time.sleep(_POLL)


def _load_or_build(
    path: Path,
    identity: Mapping[str, str],
    build: Callable[[], Sections],
    load: Callable[[Sections], Loaded],
) -> Loaded:
    try:
        return load(_read(path, identity))
    except FileNotFoundError:
        _log.info("%s: not built yet; building it", path.name)
    except EngineFileError as error:
        _log.warning("%s: %s; building it again", path.name, error)
    except EngineMemoryError:
        raise
    except EngineError as error:
        _log.warning("%s: the engine library refuses it (%s); building it again", path.name, error)
    sections = build()
    _return_memory()
    loaded = load(sections)
    try:
        write_engine_file(path, identity, sections)
    except OSError as error:
        _log.warning(
            "%s: not kept (%s); the next start builds it again. Free some space, or name another "
            "folder in %s",
            path,
            error.strerror or error,
            FOLDER_VARIABLE,
        )
    return loaded


def _return_memory() -> None:
    """Give what a build has freed back to the system: hundreds of megabytes that nobody here needs again."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _lock_file(path: Path) -> int | None:
    """Descriptor of the file whose lock guards ``path``; None where the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made here and now, so that a read-only folder is noticed before the build.
        return os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        _log.warning(
            "%s: cannot be written (%s); engines are built at every start. Name a writable folder in %s",
            path.parent,
            error.strerror or error,
            FOLDER_VARIABLE,
        )
        return None


@cache
def _source_digest() -> str:
    """First digits of the SHA-256 of the sources that make up the graph and its export."""
    digest = hashlib.sha256()
    for package in ("network", "inference", "engines"):
        module = import_module(f"rt_panoptic_core.{package}")
        for source in sorted(Path(str(module.__file__)).parent.glob("*.py")):
            digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:12]
