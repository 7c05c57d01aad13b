"""The overlay video of an image topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import BagError, ImageError
from rt_panoptic_core.visualization.text import Label, text_scale
from rt_panoptic_core.visualization.video import VideoWriter

_WIDEST = 960


class OverlayVideo:
    """One picture for each frame of a topic, all in one size: the n-th picture is the n-th frame's.

    At most 960 pixels wide and encoded in a hurry: the encoder competes with the inference for the CPU.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        """A video of frames of ``size`` (height, width); it is there when the context ends without error."""
        self._video = VideoWriter(path, fps, preset="ultrafast", threads=1)
        scale = min(1.0, _WIDEST / size[1])
        shown = (max(2, round(size[0] * scale)), max(2, round(size[1] * scale)))
        self._last: npt.NDArray[np.uint8] = np.zeros((*shown, 3), dtype=np.uint8)

    def write(self, picture: npt.NDArray[np.uint8] | None, *, word: str = "") -> None:
        """Append a picture, with ``word`` in its corner; for None, where a frame has none, the last again.

        Raises:
            BagError: the video cannot be written.
        """
        if picture is None:
            picture = self._last
        if picture.shape != self._last.shape:
            height, width = self._last.shape[:2]
            # Averages of parts of pixels take four times as long, and differ little where few are left out.
            method = cv2.INTER_AREA if 2 * width < picture.shape[1] else cv2.INTER_LINEAR
            picture = np.asarray(
                cv2.resize(picture, (width, height), interpolation=method), np.uint8
            )
        self._last = picture
        try:
            self._video.write(_marked(picture, word) if word else picture)
        except (OSError, ImageError) as error:
            raise BagError(f"{self._video.path}: the video cannot be written: {error}") from error

    def __enter__(self) -> OverlayVideo:
        self._video.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._video.__exit__(*error)


def _marked(picture: npt.NDArray[np.uint8], word: str) -> npt.NDArray[np.uint8]:
    """A copy of ``picture`` with ``word`` in its top left corner."""
    marked = picture.copy()
    Label(word, (0, 0, 0), text_scale(picture.shape[0])).draw(marked, 0, 0)
    return marked
