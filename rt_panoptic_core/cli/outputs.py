"""Places for results, tried before the work of which they are to hold the results."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rt_panoptic_core.cli.arguments import UsageError
from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.files import is_stream, resolved


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


def refuse_inputs(
    option: str,
    output: Path | None,
    *inputs: str | os.PathLike[str] | None,
    replaced: Iterable[Path] = (),
) -> None:
    """Refuse an output that would replace an input: that is one, or replaces a folder that one is in.

    Args:
        option: that names ``output``, for the message.
        output: file or folder that is written, if one is.
        inputs: files and folders that are read; None is nothing.
        replaced: folders that are written anew with all that is in them.

    Raises:
        UsageError: both are named.
    """
    if output is None or is_stream(output):
        return
    anew = [resolved(folder) for folder in replaced]
    for item in inputs:
        if item is None:
            continue
        path = resolved(item)
        if _is_same(path, output) or any(path.is_relative_to(folder) for folder in anew):
            raise UsageError(
                f"{option} {output}: it would replace the input {os.fspath(item)}; name another place"
            )


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


def _is_same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:  # one of them is not there
        return False


def _remove(folders: Iterable[Path]) -> None:
    """Remove those of ``folders`` that are empty, the innermost first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
