"""Writing files so that a reader never meets half of one, reading what is a file, and JSON."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import shutil
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from weakref import finalize

from rt_panoptic_core.errors import PanopticError

_LONGEST_STEM = 32
# More do not write the same file at once; listing a folder of thousands of files for each would take long.
_WRITERS = 8
_STREAMS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Data sets are handed out packed.
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip"}


@contextmanager
def replaced_when_complete(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without error.

    The temporary file keeps the suffix of ``path`` (encoders choose the format by it), is flushed to
    disk before the rename, and is removed when the block raises; what a killed process left of one is removed
    when ``path`` is written again. It must not be made anew: its lock says that it is being written.
    Parent folders are made. Where ``path`` is a link, what it leads to is replaced; a device or a pipe cannot
    be, and is written itself.

    Raises:
        OSError: ``path`` is a folder, or its folder cannot be made or written.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if is_stream(path):
        yield Path(path)
        return
    target = resolved(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary, handle = _temporary(target)
    except OSError as error:
        # The user knows nothing of temporary names.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        # Libraries that make the file anew make it private.
        temporary.chmod(mode)
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # Writing to a full disk names no file.
            full = error.errno in _FULL and error.filename is None
            if full or error.filename == os.fspath(temporary):
                error.filename = os.fspath(path)
        raise
    finally:
        os.close(handle)


def _temporary(target: Path) -> tuple[Path, int]:
    """A new file beside ``target``, and the descriptor whose lock says that it is being written.

    Its name is the first that is free; what killed processes left at the names up to it, and at those that
    follow, is removed.
    """
    # Cut short, so that no name is too long for a temporary one that is not too long itself.
    stem, suffix = target.stem[:_LONGEST_STEM], target.suffix
    if len(suffix) > _LONGEST_STEM:
        suffix = ""

    def named(number: int) -> Path:
        return target.with_name(f".{stem}.rt_panoptic_{number}.part{suffix}")

    # (tempfile.mkstemp's files are private, and what open() gives others can be asked for only by changing it
    # for all threads.)
    for number in itertools.count():
        path = named(number)
        _remove_abandoned(path)
        handle = None
        try:
            with suppress(FileExistsError):
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
                # Another process may have taken it for abandoned before it was locked.
                if _lock(handle) is not False and _is_at(handle, path):
                    for following in range(number + 1, number + _WRITERS):
                        _remove_abandoned(named(following))
                    return path, handle
                os.close(handle)
        except BaseException:
            if handle is not None:
                os.close(handle)
            # An interrupt leaves nothing.
            _remove_abandoned(path)
            raise
    raise AssertionError("unreachable: there is always another number")


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary file at ``path`` unless somebody is writing it, or that cannot be known."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        if _lock(handle) and _is_at(handle, path):
            path.unlink()
    except OSError:
        pass  # not ours to remove: there is another name
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file ``handle`` is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _lock(handle: int) -> bool | None:
    """Whether the descriptor has the lock of its file or folder now; None where there are no locks."""
    import fcntl  # POSIX alone has it; the rest of this module is for every system

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def stream_kind(path: str | os.PathLike[str]) -> str | None:
    """What there is at ``path`` that is neither file nor folder, in words; else None.

    It need not end when it is read, and may not even begin.
    """
    try:
        # /dev/stdout leads to a pipe by a link that names no file: what it is, only stat() knows.
        mode = os.stat(path).st_mode  # noqa: PTH116 - thousands of times, and Path takes its time
    except (OSError, ValueError):
        return None
    return _STREAMS.get(stat.S_IFMT(mode))


def resolved(path: str | os.PathLike[str]) -> Path:
    """``path`` without links; unlike ``Path.resolve()`` before Python 3.13 it takes links in a circle."""
    return Path(os.path.realpath(path))


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether there is something at ``path`` that is neither file nor folder: a device, a pipe, a socket."""
    return stream_kind(path) is not None


def check_no_stream(path: str | os.PathLike[str]) -> None:
    """Refuse to read what is neither file nor folder.

    Raises:
        OSError: ``path`` is a device, a pipe or a socket; its ``strerror`` says so.
    """
    kind = stream_kind(path)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """All of a file.

    Raises:
        OSError: it cannot be read, or :func:`check_no_stream` refuses it.
    """
    check_no_stream(path)
    return Path(path).read_bytes()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Write ``text`` (UTF-8) to ``path`` atomically.

    A byte of a file's name that is no UTF-8, which Python keeps as a lone surrogate, is written as
    ``\udcdf``: it must not cost the results of which it is the title.
    """
    with replaced_when_complete(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with replaced_when_complete(path) as temporary:
        temporary.write_bytes(data)


def json_values(value: Any) -> Any:
    """``value`` with nan and infinity, which JSON has not, as None, and tuples as lists."""
    kind = type(value)
    if kind is int or kind is str:
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        # A confusion matrix has thousands of whole numbers; a call for each takes longer than writing them.
        return [item if type(item) is int else json_values(item) for item in value]
    return value


def read_json(path: str | os.PathLike[str], error: type[PanopticError]) -> Any:
    """What a JSON file holds.

    Raises:
        PanopticError: as an ``error``: it is missing, no file, or no JSON; it is named.
    """
    name = os.fspath(path)
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise error(f"{name}: there is no such file") from None
    except OSError as cause:
        raise error(f"{name}: cannot be read: {cause.strerror}") from cause
    for start, packer in _PACKED.items():
        if data.startswith(start):
            raise error(f"{name}: it is packed ({packer}); unpack it, and name the JSON")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as cause:  # no JSON, no UTF-8, or nested without end
        raise error(f"{name}: no JSON: {cause}") from cause


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically.

    Raises:
        ValueError: a number is not finite; see :func:`json_values`.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def remove(path: Path) -> None:
    """Remove the file, the link or the folder with all that is in it at ``path``, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def hold_folder(path: str | os.PathLike[str]) -> int | None:
    """A file descriptor that holds the folder ``path`` until it is closed; None where another one holds it.

    Between processes that ask, for nothing is kept from those that do not. The kernel lets go when a process
    ends, in whichever way. Where the file system knows no such locks, everyone gets one.
    """
    handle = os.open(path, os.O_RDONLY)
    if _lock(handle) is False:
        os.close(handle)
        return None
    return handle


# Of what this process holds. The same thread may take it again: a garbage collection may let go of a folder
# anywhere.
_HOLDING = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A child has no thread that could release what another one had at the moment of the fork.
    os.register_at_fork(
        before=_HOLDING.acquire,
        after_in_parent=_HOLDING.release,
        after_in_child=_HOLDING.release,
    )


@dataclass
class _Hold:
    """A folder that is held, whether it was ``made`` for it by this ``process``, and in how many places."""

    folder: Path
    handle: int
    made: bool
    process: int
    places: int = 0


class HeldFolder:
    """A folder that this process holds, in one place or in several, until the last of these forgets this.

    Where nothing came into a folder that was made for it, it is gone again then.
    """

    _HELD: ClassVar[dict[tuple[int, int], _Hold]] = {}
    """By device and inode."""

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> HeldFolder | None:
        """The folder ``path``, made if need be; None where another process holds it.

        Raises:
            OSError: it cannot be made or read.
        """
        folder = Path(path)
        # The lock of another thread's descriptor would look like another process.
        with _HOLDING:
            while True:
                made = not folder.exists()
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    key = _identity(folder.stat())
                    hold = cls._HELD.get(key)
                    if hold is not None:
                        hold.places += 1
                        if cls._HELD.get(key) is hold:
                            return cls(hold)
                        continue  # a garbage collection let go of it just now
                    handle = hold_folder(folder)
                except FileNotFoundError:
                    continue  # nothing came into it, and whoever had made it let go
                if handle is None:
                    return None
                if _is_at(handle, folder.resolve()):
                    hold = _Hold(folder.resolve(), handle, made, os.getpid(), places=1)
                    cls._HELD[_identity(os.fstat(handle))] = hold
                    return cls(hold)
                os.close(handle)

    def __init__(self, hold: _Hold) -> None:
        """One of the places of ``hold``; use :meth:`of`."""
        self._hold = hold
        finalize(self, self._let_go, hold)

    @property
    def descriptor(self) -> int:
        """The file descriptor that holds the folder: a process that inherits it holds it, too."""
        return self._hold.handle

    @classmethod
    def _let_go(cls, hold: _Hold) -> None:
        with _HOLDING:
            hold.places -= 1
            if hold.places:
                return
            cls._HELD.pop(_identity(os.fstat(hold.handle)), None)
            # What a fork has is a copy: the process that made the folder may still be about to write.
            if hold.made and hold.process == os.getpid():
                with suppress(OSError):  # there is something in it
                    hold.folder.rmdir()
            os.close(hold.handle)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
