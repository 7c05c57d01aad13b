"""A camera of this machine as a source of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from rt_panoptic_core.bags.sources import SourceFrame
from rt_panoptic_core.camera_intrinsics import CameraIntrinsics
from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.taxonomy import Taxonomy


class DeviceSource:
    """Frames of a V4L2 (or other OpenCV) device, by number or path; it sets the pace."""

    taxonomy: Taxonomy | None = None
    length: int | None = None

    def __init__(self, device: str, size: tuple[int, int] | None, fps: float) -> None:
        """Open ``device``, asking for ``size`` (height, width) and ``fps``; 0 and None leave its own.

        Raises:
            ImageError: it cannot be opened.
        """
        self._device = device
        logging = cv2.utils.logging
        level = logging.getLogLevel()
        # A camera that is not there is said below, and is tried again every few seconds.
        logging.setLogLevel(logging.LOG_LEVEL_ERROR)
        try:
            self._capture = cv2.VideoCapture(int(device) if device.isdecimal() else device)
        finally:
            logging.setLogLevel(level)
        if not self._capture.isOpened():
            raise ImageError(
                f"camera {device!r} cannot be opened: does it exist, is it in use, may this user read it?"
            )
        if size is not None:
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
        if fps > 0:
            self._capture.set(cv2.CAP_PROP_FPS, fps)
        # Old frames are of no use: where the driver allows it, it keeps one.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps: float | None = rate if 0 < rate < 1000 else None

    def frames(self) -> Iterator[SourceFrame]:
        """The frames as they come, RGB.

        Raises:
            ImageError: the camera gives none any more.
        """
        try:
            while True:
                there, pixels = self._capture.read()
                if not there:
                    raise ImageError(f"camera {self._device!r} gives no more images: unplugged?")
                rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
                yield SourceFrame(np.asarray(rgb, dtype=np.uint8))
        finally:
            self._capture.release()

    def intrinsics(self, size: tuple[int, int]) -> CameraIntrinsics | None:
        """None: a device does not know."""
        del size
        return None


def is_device(source: str) -> bool:
    """Whether ``source`` is a number or a character device, as /dev/video0 is."""
    return source.isdecimal() or (source.startswith("/dev/") and Path(source).is_char_device())
