"""Looking at a data set's files before training does."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.compressed_size import compressed_size
from rt_panoptic_core.errors import DatasetError, ImageError
from rt_panoptic_core.image_files import read_image
from rt_panoptic_core.png_chunks import PNG_SIGNATURE, check_chunks
from rt_panoptic_core.wording import counted

LISTED_PROBLEMS = 20
"""So many of the bad files are named; the rest are counted."""

_EXIF_STARTS = (b"Exif\0\0", b"eXIf")
"""What stands before a JPEG's and a PNG's EXIF."""

_HEADER_WITHIN = 1 << 16
"""Bytes of a picture that are looked at for its size."""

_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
_ORIENTATION_TAG = 0x0112
_UPRIGHT = 1
_QUARTER_TURNS = range(5, 9)

_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"P5", b"P6")

_UNSUPPORTED = {b"GIF8": "GIF", b"ftyphe": "HEIC", b"ftypmif1": "HEIC", b"ftypavi": "AVIF"}
"""What is in the first bytes of formats that phones and browsers write and that are not read here."""


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


def read_labelled_rgb(
    path: Path, size: tuple[int, int], labels: str | os.PathLike[str]
) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB of an image file as its labels were drawn on it.

    It is turned as its EXIF says, which is how viewers, browsers and annotation tools show it, unless only
    its pixels as they lie have the labels' size.

    Args:
        path: of the file.
        size: (height, width) of its labels.
        labels: the file that has them, for the error.

    Raises:
        DatasetError: it cannot be read, is cut off or damaged, or of another size either way; both files are
            named.
    """
    try:
        image = read_image(path)
        if image.shape[:2] != size and image.shape[1::-1] == size:
            image = read_image(path, oriented=False)
    except ImageError as error:
        raise DatasetError(f"{error}; copy the file again") from error
    if image.shape[:2] != size:
        orientation = _exif_orientation(path)
        turned = f" (turned by its EXIF, orientation {orientation})" if orientation > 1 else ""
        raise DatasetError(
            f"{path}: {image.shape[1]}x{image.shape[0]} pixels{turned}, but its labels in "
            f"{os.fspath(labels)} are for {size[1]}x{size[0]}; they must be of one size"
        )
    return image


def may_be_turned_wrongly(path: Path) -> bool:
    """Whether the EXIF of an image file turns or mirrors it without a change of its size.

    Then nothing tells whether its labels were drawn on it turned, or as its pixels lie.
    """
    orientation = _exif_orientation(path)
    if orientation not in _QUARTER_TURNS:
        return orientation != _UPRIGHT
    try:
        height, width = read_image(path).shape[:2]
    except ImageError:
        return False
    return height == width


def _exif_orientation(path: Path) -> int:
    """The orientation, 2 to 8, that the EXIF of a JPEG or PNG says; 1, upright, where it says none."""
    try:
        data = path.read_bytes()
        start = next((data.index(m) + len(m) for m in _EXIF_STARTS if m in data), len(data))
        tiff = memoryview(data)[start:]
        order = _BYTE_ORDERS[bytes(tiff[:2])]
        (table,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, table)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, table + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return value if value in range(2, 9) else _UPRIGHT
    except (OSError, KeyError, struct.error):
        pass
    return _UPRIGHT


def picture_size(path: Path) -> tuple[int, int] | None:
    """(height, width) that a JPEG or PNG says it has, neither decoded nor turned; None where it says none."""
    try:
        with path.open("rb") as file:
            return compressed_size(file.read(_HEADER_WITHIN))
    except OSError:
        return None


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
            start = file.read(12)
    except FileNotFoundError:
        return f"{path}: missing"
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not start:
        return f"{path}: empty"
    if not start.startswith(_SIGNATURES):
        format_name = next((n for begin, n in _UNSUPPORTED.items() if begin in start), None)
        if format_name is not None:
            return f"{path}: {format_name} is not supported; convert to JPEG or PNG"
        return f"{path}: no image"
    return None
