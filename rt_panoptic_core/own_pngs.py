"""Which PNGs of a folder are a writer's own, after an interruption too: no other one is replaced."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.files import read_bytes, write_text


class OwnPngs:
    """The PNGs below a folder that a writer made, by their names in it.

    What the writer leaves when it is done names them. Until then a journal does: a name a line, as JSON,
    each before its PNG is there.

    Attributes:
        begun: whether a PNG was claimed.
    """

    def __init__(self, folder: Path, journal: Path, named: Iterable[str] = ()) -> None:
        """Those that ``named`` and the journal name; one that is missing or damaged names the fewer.

        Args:
            folder: of the PNGs.
            journal: file beside it.
            named: names in the folder; what leads out of it, or is no PNG, is nobody's.
        """
        self.begun = False
        self._folder = folder
        self._journal = journal
        self._names = {name for name in map(_name, [*named, *_read(journal)]) if name is not None}

    def claim(self, name: str) -> None:
        """Note ``name`` as the writer's own, which may write it then.

        Raises:
            DatasetError: there is one that the writer did not make.
            OSError: the journal cannot be written.
        """
        path = self._folder / name
        own = posixpath.normpath(name)
        known = own in self._names
        if not known and os.path.lexists(path):
            raise DatasetError(
                f"{path}: it is not of an earlier run, perhaps a photo or ground truth, and is not "
                "replaced; write into another folder"
            )
        self._names.add(own)
        if not self.begun:
            # All of them, for what else names them may go; and no new line comes after half an old one.
            self._write(self._names)
            self.begun = True
        elif not known:
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(_line(own))

    def remove(self, name: str) -> None:
        """Remove the PNG called ``name`` if it is the writer's own, and then subfolders that are empty."""
        own = posixpath.normpath(name)
        if own not in self._names:
            return
        self._names.remove(own)
        path = self._folder / own
        if path.is_file() or path.is_symlink():
            path.unlink()
            with suppress(OSError):  # there is something else in it, or it is a link
                for parent in PurePosixPath(own).parents[:-1]:
                    (self._folder / parent).rmdir()

    def settle(self, named: Iterable[str], *, keep_rest: bool) -> None:
        """End the journal now that ``named`` are named elsewhere.

        Args:
            named: names in the folder.
            keep_rest: keep the others, and the journal that names them; else they are removed.
        """
        rest = self._names - {posixpath.normpath(name) for name in named}
        if keep_rest:
            rest = {name for name in rest if os.path.lexists(self._folder / name)}
            if rest:
                self._write(rest)
                return
        for name in sorted(rest):
            self.remove(name)
        self._journal.unlink(missing_ok=True)

    def _write(self, names: Iterable[str]) -> None:
        write_text(self._journal, "".join(map(_line, sorted(names))))


def _line(name: str) -> str:
    # As JSON: a name may hold an end of line, and half a line is none.
    return json.dumps(name) + "\n"


def _read(journal: Path) -> list[str]:
    """The names in a journal; what is no name is passed over."""
    try:
        lines = read_bytes(journal).splitlines()
    except OSError:
        return []
    names = []
    for line in lines:
        try:
            name = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(name, str):
            names.append(name)
    return names


def _name(name: str) -> str | None:
    """``name`` in its only form; None where it leads out of the folder or is that of no PNG."""
    own = posixpath.normpath(name)
    if posixpath.isabs(own) or own.split("/")[0] == posixpath.pardir or "\0" in own:
        return None
    return own if own.endswith(".png") else None
