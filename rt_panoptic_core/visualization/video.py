"""Writing mp4 videos that every player and browser opens."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from functools import lru_cache
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import ConfigError, ImageError
from rt_panoptic_core.files import replaced_when_complete


class VideoWriter:
    """Writes RGB frames to an mp4 file: H.264 where an encoder is at hand, MPEG-4 part 2 otherwise.

    A context manager: the file appears under its name when the block ends without error, and not at
    all otherwise. H.264 comes from the ffmpeg of the ``imageio-ffmpeg`` package or of the system.
    Sizes that are odd lose their last row or column, which H.264's colour format cannot hold.

    Args:
        path: the file, ending in ``.mp4``; folders are made.
        fps: frames per second at which it plays, positive.
        preset: of the H.264 encoder: how much time it takes to make the file smaller.
        threads: of the H.264 encoder, or None for as many as it likes; one takes the least processor time.

    Raises:
        ConfigError: fps is not positive, or the path does not end in ``.mp4``.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        fps: float,
        *,
        preset: str = "veryfast",
        threads: int | None = None,
    ) -> None:
        if not 0.0 < fps < 1000.0:
            raise ConfigError(f"{path}: {fps} frames per second; it must be in (0, 1000)")
        if Path(path).suffix.lower() != ".mp4":
            raise ConfigError(f"{path}: videos are written as .mp4; choose a name that ends in it")
        self.path = Path(path)
        self.fps = fps
        self._options = ["-preset", preset]
        if threads is not None:
            self._options += ["-threads", str(threads)]
        self.frames = 0
        self._size: tuple[int, int] | None = None
        self._stack = ExitStack()
        self._temporary: Path | None = None
        self._encoder: _Encoder | None = None

    def __enter__(self) -> VideoWriter:
        self._temporary = self._stack.enter_context(replaced_when_complete(self.path))
        return self

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Append one frame, uint8 [H, W, 3] RGB, of the first frame's size.

        Raises:
            ImageError: wrong dtype, rank or size.
            OSError: the encoder failed, with its last words.
        """
        if self._temporary is None:
            raise RuntimeError("VideoWriter.write outside of its `with` block")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ImageError(f"{self.path}: a frame must be uint8 [H, W, 3], not {_kind(image)}")
        size = (image.shape[1], image.shape[0])
        if self._encoder is None:
            if min(size) < 2:
                raise ImageError(f"{self.path}: frames of {size[0]}×{size[1]} are too small")
            self._size = size
            even = (size[0] // 2 * 2, size[1] // 2 * 2)
            ffmpeg = _ffmpeg_with_h264()
            self._encoder = (
                _FfmpegEncoder(ffmpeg, self._temporary, self.fps, even, self._options)
                if ffmpeg
                else _OpenCVEncoder(self._temporary, self.fps, even)
            )
        if size != self._size:
            raise ImageError(
                f"{self.path}: frame {self.frames} is {size[0]}×{size[1]}, the first was "
                f"{self._size[0]}×{self._size[1]}; resize the frames to one size"  # type: ignore[index]
            )
        self._encoder.write(image[: size[1] // 2 * 2, : size[0] // 2 * 2])
        self.frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._encoder is not None:
                self._encoder.close(aborted=error is not None)
            if error is None and self.frames == 0:
                raise ImageError(f"{self.path}: no frame was written, so there is no video")
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)


class _Encoder(Protocol):
    def write(self, image: npt.NDArray[np.uint8]) -> None: ...
    def close(self, *, aborted: bool) -> None: ...


class _FfmpegEncoder:
    """Pipes raw frames through an ffmpeg process."""

    def __init__(
        self, ffmpeg: str, path: Path, fps: float, size: tuple[int, int], options: list[str]
    ) -> None:
        self._path = path
        # A pipe for ffmpeg's messages could fill up and block it; a file cannot.
        self._messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [
                *(ffmpeg, "-hide_banner", "-loglevel", "error", "-y"),
                *("-f", "rawvideo", "-pixel_format", "yuv420p"),
                *("-video_size", f"{size[0]}x{size[1]}", "-framerate", f"{fps:.6f}", "-i", "-"),
                *("-an", "-c:v", "libx264", *options, "-crf", "20"),
                *("-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._messages,
            # Ctrl-C in a terminal reaches the whole process group; the encoder has to outlive it to
            # finish the file.
            start_new_session=True,
        )

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        assert self._process.stdin is not None
        try:
            # The encoder's own format: OpenCV converts to it faster than ffmpeg, and it is half as large.
            pixels = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
            self._process.stdin.write(pixels.data)
        except BrokenPipeError:
            raise OSError(self._failure()) from None

    def close(self, *, aborted: bool) -> None:
        assert self._process.stdin is not None
        try:
            if aborted:
                self._process.kill()
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                aborted = aborted or self._process.wait() == 0
            if self._process.wait() != 0 and not aborted:
                raise OSError(self._failure())
        finally:
            self._messages.close()

    def _failure(self) -> str:
        self._process.wait()
        self._messages.seek(0)
        words = self._messages.read().decode(errors="replace").strip().splitlines()
        return (
            f"{self._path}: the video encoder failed: {words[-1] if words else 'no reason given'}"
        )


class _OpenCVEncoder:
    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(path), fourcc, fps, size)
        if not self._writer.isOpened():
            raise OSError(f"{path}: OpenCV cannot write an mp4 video here")

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self, *, aborted: bool) -> None:  # noqa: ARG002 - the interface of both encoders
        self._writer.release()


@lru_cache(maxsize=1)
def _ffmpeg_with_h264() -> str | None:
    """Path of an ffmpeg that can encode H.264, or None."""
    candidates = []
    try:
        import imageio_ffmpeg

        candidates.append(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        pass
    candidates.append(shutil.which("ffmpeg"))
    for candidate in candidates:
        if candidate is None:
            continue
        try:
            encoders = subprocess.run(
                [candidate, "-hide_banner", "-encoders"],
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            ).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        if "libx264" in encoders:
            return str(candidate)
    return None


def _kind(image: npt.NDArray[np.generic]) -> str:
    return f"{image.dtype} {list(image.shape)}"
