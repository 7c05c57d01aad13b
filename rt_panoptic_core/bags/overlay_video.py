"""The overlay video of an image topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import BagError, ImageError
from rt_panoptic_core.visualization.video import VideoWriter


class OverlayVideo:
    """One picture for each frame of a topic, all in one size: the n-th picture is the n-th frame's."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        """A video of ``size`` (height, width) at ``path``; it appears when the context ends without error."""
        self._video = VideoWriter(path, fps)
        self._last = np.zeros((*size, 3), dtype=np.uint8)

    def write(self, picture: npt.NDArray[np.uint8] | None) -> None:
        """Append a picture; for None, where a frame has none, the last one again.

        Raises:
            BagError: the video cannot be written.
        """
        if picture is None:
            picture = self._last
        if picture.shape != self._last.shape:
            size = (self._last.shape[1], self._last.shape[0])
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        self._last = picture
        try:
            self._video.write(picture)
        except (OSError, ImageError) as error:
            raise BagError(f"{self._video.path}: the video cannot be written: {error}") from error

    def __enter__(self) -> OverlayVideo:
        self._video.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._video.__exit__(*error)
