"""The images that a data set's JSON names: where their files are, and whose annotations there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rt_panoptic_core.wording import shown


def written_names(file_name: str) -> tuple[str, ...]:
    """``file_name``, and second, where it has backslashes, the same with slashes, as meant on Windows."""
    slashes = file_name.replace("\\", "/")
    return (file_name,) if slashes == file_name else (file_name, slashes)


def sample_name(file_name: str) -> str:
    """What a sample is called by its picture: the path without suffix, and never from the root on."""
    path = PurePosixPath(written_names(file_name)[-1]).with_suffix("")
    return path.relative_to(path.anchor).as_posix()


def found_files(pictures: Sequence[Sequence[str]], folders: Sequence[Path]) -> list[Path] | None:
    """The file of each picture in the first of ``folders`` that has one of them; None where none has.

    Args:
        pictures: for each its possible names, which may hold folders, first what is taken first; where none
            is there, the file is that of the first. Absolute ones are where they say.
        folders: where they may be.
    """
    relative = [place for place, names in enumerate(pictures) if not Path(names[0]).is_absolute()]
    if not relative:
        return [_file(Path(), names) for names in pictures]
    for folder in folders:
        if folder.is_dir():
            files = [_file(folder, names) for names in pictures]
            if any(_is_there(files[place]) for place in relative):
                return files
    return None


def no_such_image(image_id: int | str, known: Collection[Any]) -> str:
    """``there is no image '1'``, and that 1 is there, where text and number are all that differs."""
    other = other_form(image_id, known)
    told = f"there is no image {shown(image_id)}"
    if other is None:
        return told
    return f"{told}, but {shown(other)}: one is a text, the other a number; write both in one way"


def other_form(image_id: int | str, known: Collection[Any]) -> int | str | None:
    """The id among ``known`` that is the number which ``image_id`` is the text of, or its text; else None."""
    if not isinstance(image_id, str):
        return str(image_id) if str(image_id) in known else None
    digits = image_id.removeprefix("-")
    # Python refuses to read thousands of digits, and takes other scripts' digits for its own.
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        return None
    return int(image_id) if int(image_id) in known else None


def _file(folder: Path, names: Sequence[str]) -> Path:
    paths = [folder / name for name in names]
    if len(paths) == 1:
        # Nothing to choose: of a hundred thousand files none is looked at.
        return paths[0]
    return next((path for path in paths if _is_there(path)), paths[0])


def _is_there(file: Path) -> bool:
    """Whether ``file`` is one; False where the path is too long, or may not be looked at."""
    try:
        return file.is_file()
    except OSError:
        return False
