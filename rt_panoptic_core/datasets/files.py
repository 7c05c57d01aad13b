"""Looking at a data set's files before training does."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import DatasetError, ImageError
from rt_panoptic_core.image_files import read_image
from rt_panoptic_core.png_chunks import PNG_SIGNATURE, check_chunks
from rt_panoptic_core.wording import counted

LISTED_PROBLEMS = 20
"""So many of the bad files are named; the rest are counted."""

_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"RIFF")


def check_files(paths: Sequence[Path], data_set: str) -> None:
    """Accept ``paths`` if all of them exist and begin like an image.

    Raises:
        DatasetError: names every file that is missing, empty, unreadable or no image, up to
            :data:`LISTED_PROBLEMS` of them.
    """
    # Opening files is waiting, on a network drive above all: threads wait side by side.
    with ThreadPoolExecutor(16) as pool:
        problems = [problem for problem in pool.map(_problem, paths, chunksize=64) if problem]
    if problems:
        raise DatasetError(
            f"{data_set}: {counted(len(problems), 'file')} cannot be used; nothing runs before they are "
            f"mended or taken out of the data set, none is skipped:{listed(problems)}"
        )


def listed(problems: Sequence[str]) -> str:
    """``problems``, each on an indented line of its own, up to :data:`LISTED_PROBLEMS` of them."""
    rest = len(problems) - LISTED_PROBLEMS
    more = [f"… and {rest} more"] if rest > 0 else []
    return "".join(f"\n  {line}" for line in [*problems[:LISTED_PROBLEMS], *more])


def check_folder(folder: Path, data_set: str, meaning: str) -> None:
    """Accept ``folder`` if it is one.

    Raises:
        DatasetError: it is not; ``meaning`` says what should be there.
    """
    if not folder.is_dir():
        raise DatasetError(f"{data_set}: {folder} is no folder; it must hold {meaning}")


def first_folder(candidates: Sequence[Path]) -> Path:
    """The first of ``candidates`` that exists, else the first: an error then names it."""
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])


def read_rgb(path: Path, *, oriented: bool = False) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB of an image file, its pixels as they lie: labels belong to them.

    Args:
        path: of the file.
        oriented: turn it as its EXIF says instead.

    Raises:
        DatasetError: it cannot be read, is cut off or damaged.
    """
    try:
        return read_image(path, oriented=oriented)
    except ImageError as error:
        raise DatasetError(f"{error}; copy the file again") from error


def read_grey(path: Path) -> npt.NDArray[np.uint8]:
    """Integers [H, W] of a grey image file with 8 or 16 bits, as they are.

    Raises:
        DatasetError: it cannot be decoded, or has colours.
    """
    try:
        data = path.read_bytes()
        # OpenCV and libpng would say on standard error what is wrong with a damaged one, and not where.
        if data.startswith(PNG_SIGNATURE):
            check_chunks(data, str(path))
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except ImageError as error:
        raise DatasetError(f"{error}; copy the file again") from error
    except cv2.error as error:
        raise DatasetError(f"{path}: cannot be decoded: {error.err}") from error
    if image is None:
        raise DatasetError(f"{path}: cannot be decoded; copy the file again")
    if image.ndim != 2:
        raise DatasetError(f"{path}: {image.shape[2]} channels; a map of ids has one")
    return np.asarray(image)


def _problem(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError:
        return f"{path}: missing"
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not start:
        return f"{path}: empty"
    if not start.startswith(_SIGNATURES):
        return f"{path}: no image"
    return None
