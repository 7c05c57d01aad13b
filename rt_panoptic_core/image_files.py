"""Pictures and videos on disk: finding them, and reading them as RGB or saying what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.compressed_size import compressed_size
from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.files import read_bytes, resolved, stream_kind
from rt_panoptic_core.image_codec import COMPRESSED_SIGNATURES, decode_compressed
from rt_panoptic_core.result_folders import RESULTS_MARKER

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")


@dataclass(frozen=True)
class InputFile:
    """A picture or video to work on.

    Attributes:
        path: of the file.
        name: unique among the inputs, without suffix; below a folder that was named, the path from there.
        kind: ``image`` or ``video``, by the suffix.
    """

    path: Path
    name: str
    kind: Literal["image", "video"]


class Inputs(NamedTuple):
    """What was found.

    Attributes:
        files: to work on.
        problems: a line for every input that is missing, of an unknown kind, an empty folder, a device or a
            pipe, or a link in a folder that leads to nothing.
        results: folders below those that were named that hold results of an earlier run, left out.
    """

    files: list[InputFile]
    problems: list[str]
    results: list[Path]


def find_inputs(
    inputs: Iterable[str | os.PathLike[str]], *, leave_out: Path | None = None
) -> Inputs:
    """What ``inputs`` name, folders searched to their depth, in order of their names.

    Hidden files in folders are passed over, and so are folders of results (:func:`mark_results`), but for one
    that is named itself. A file named twice is taken once. Of two files that would have one name, the second
    gets its suffix too (``a.png`` beside ``a.jpg`` is ``a_png``), and a number where that is not enough.

    Args:
        inputs: files and folders.
        leave_out: a folder whose content is not searched: where the results go.
    """
    files: list[InputFile] = []
    problems: list[str] = []
    results: list[Path] = []
    names: set[str] = set()
    seen: set[Path] = set()
    skipped = resolved(leave_out) if leave_out is not None else None

    def add(path: Path, name: str) -> bool:
        kind = _kind(path)
        if kind is None:
            return False
        target = resolved(path)
        if target in seen:
            return True
        seen.add(target)
        unique = name
        if unique in names:
            unique = f"{name}_{path.suffix[1:].lower()}"
        number = 2
        while unique in names:
            unique = f"{name}_{number}"
            number += 1
        names.add(unique)
        files.append(InputFile(path, unique, kind))
        return True

    for item in inputs:
        path = Path(item)
        if not os.fspath(item):
            # It would be the current folder.
            problems.append("'': a name is empty; is the variable set that it came from?")
        elif path.is_dir():
            found = False
            content = sorted(path.rglob("*"))
            earlier = {below.parent for below in content if below.name == RESULTS_MARKER} - {path}
            for below in content:
                if skipped is not None and skipped in resolved(below).parents:
                    continue
                if below.name == RESULTS_MARKER and below.parent in earlier.difference(results):
                    results.append(below.parent)
                if not earlier.isdisjoint(below.parents):
                    continue
                relative = below.relative_to(path)
                if any(part.startswith(".") for part in relative.parts):
                    continue
                if below.is_file() and add(below, relative.with_suffix("").as_posix()):
                    found = True
                elif _kind(below) and below.is_symlink() and not below.exists():
                    problems.append(f"{below}: the link leads to no file")
                elif _kind(below) and (stream := stream_kind(below)):
                    problems.append(f"{below}: it is {stream}, not a file")
            if not found:
                problems.append(f"{path}: the folder holds no pictures or videos")
        elif "://" in os.fspath(item):
            problems.append(f"{item}: addresses are not read; save it as a file first")
        elif _is_camera(path):
            problems.append(
                f"{item}: cameras are not read here; scripts/demo --source {item}, or the node with "
                f"source:={item}, takes one"
            )
        elif not path.exists():
            problems.append(f"{path}: there is no such file or folder")
        elif stream := stream_kind(path):
            problems.append(f"{path}: it is {stream}, not a file")
        elif not add(path, path.stem):
            known = ", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
            problems.append(f"{path}: neither picture nor video by its suffix (known: {known})")
    return Inputs(files, problems, results)


def read_image(
    path: str | os.PathLike[str], *, oriented: bool = True, most_pixels: int | None = None
) -> npt.NDArray[np.uint8]:
    """A picture as uint8 [H, W, 3] RGB; 16 bits become 8, transparency is dropped.

    Args:
        path: of the file.
        oriented: turn it as its EXIF says; False where something else belongs to its pixels as they lie.
        most_pixels: refuse a JPEG or PNG that says it has more, before it is decoded: a small file may fill
            the memory.

    Raises:
        ImageError: the file cannot be read, is cut off, damaged, too large, or no picture; it is named.
    """
    name = os.fspath(path)
    try:
        data = read_bytes(path)
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror}") from error
    if not data:
        raise ImageError(f"{name}: the file is empty")
    size = compressed_size(data) if most_pixels is not None else None
    if most_pixels is not None and size is not None and size[0] * size[1] > most_pixels:
        raise ImageError(
            f"{name}: {size[1]}x{size[0]} pixels; at most {most_pixels // 2**20} megapixels are taken; "
            "scale it down, or cut it into pieces"
        )
    # OpenCV would fill up what is missing in these, and call it a success.
    if data.startswith(COMPRESSED_SIGNATURES):
        try:
            return decode_compressed("", data, oriented=oriented)
        except ImageError as error:
            raise ImageError(f"{name}: {str(error).removeprefix('compressed image: ')}") from error
    flags = cv2.IMREAD_COLOR if oriented else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"{name}: cannot be decoded: {error.err}") from error
    if pixels is None:
        raise ImageError(f"{name}: {_why_undecoded(data)}")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


class Video:
    """A video file: its rate, its length as far as the file tells, and its frames."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open ``path``.

        Raises:
            ImageError: it is no video that can be decoded here; it is named.
        """
        self.path = Path(path)
        if stream := stream_kind(path):
            raise ImageError(f"{self.path}: it is {stream}, not a file")
        if not self.path.exists():
            raise ImageError(f"{self.path}: there is no such file")
        self._capture = cv2.VideoCapture(os.fspath(path))
        if not self._capture.isOpened():
            raise ImageError(f"{self.path}: not a video, damaged, or of a codec unknown here")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps: float | None = float(rate) if 0 < rate < 1000 else None
        self.length: int | None = int(count) if 0 < count < 1e9 else None
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC))
        self._codec = code.to_bytes(4, "little").decode("ascii", "ignore").strip(" \0")

    def frames(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The frames, uint8 [H, W, 3] RGB, once, until the end or until the file can be read no further.

        Raises:
            ImageError: there is not one that can be read, or they were read before, or the video is closed.
        """
        if not self._capture.isOpened():
            raise ImageError(
                f"{self.path}: its frames have been read, or it is closed; open it again"
            )
        any_frame = False
        try:
            while True:
                there, pixels = self._capture.read()
                if not there:
                    break
                any_frame = True
                yield np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            if not any_frame:
                raise ImageError(
                    f"{self.path}: no frame can be read: damaged, or of a codec that OpenCV lacks here "
                    f"({self._codec or 'unnamed'}); where a player shows it, convert it: "
                    "ffmpeg -i IN -c:v libx264 OUT.mp4"
                )
        finally:
            self._capture.release()

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()


def quiet_decoders() -> None:
    """Keep OpenCV and ffmpeg from writing to stderr what is said here in other words.

    For programs; before the first video is opened.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if hasattr(cv2.utils, "logging"):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    else:  # OpenCV before 4.13
        cv2.setLogLevel(0)  # type: ignore[attr-defined]


def _why_undecoded(data: bytes) -> str:
    """What is wrong with a file that OpenCV makes no colours of."""
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        values = None
    if values is None:
        return "damaged, or of a format that cannot be decoded here"
    return f"its values are {values.dtype}; save it with 8 or 16 bits a channel"


def _is_camera(path: Path) -> bool:
    return path.is_char_device() or (path.name.isdigit() and not path.exists())


def _kind(path: Path) -> Literal["image", "video"] | None:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return None
