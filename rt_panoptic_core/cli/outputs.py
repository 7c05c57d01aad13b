"""Places for results, tried before the work of which they are to hold the results."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.files import is_stream


@contextmanager
def output_folder(path: Path | None) -> Iterator[None]:
    """The folder ``path`` is there and can be written; if nothing comes into it, it is gone again at the end.

    None is no folder, and nothing is done.

    Raises:
        ConfigError: it cannot be made or written; the reason is named.
    """
    if path is None:
        yield
        return
    made: list[Path] = []
    try:
        made += [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        _remove(made)
        reason = "it is no folder" if path.is_file() else error.strerror or str(error)
        raise ConfigError(
            f"{path}: results cannot be written there ({reason}); name another folder"
        ) from error
    try:
        yield
    finally:
        _remove(made)


@contextmanager
def output_file(path: Path | None) -> Iterator[None]:
    """As :func:`output_folder`, for the folder of the file ``path``.

    Raises:
        ConfigError: its folder cannot be made or written, or it is a folder itself.
    """
    if path is not None and path.is_dir():
        raise ConfigError(f"{path}: it is a folder; name a file in it")
    with output_folder(None if path is None or is_stream(path) else path.parent):
        yield


def _remove(folders: Iterable[Path]) -> None:
    """Remove those of ``folders`` that are empty, the innermost first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
