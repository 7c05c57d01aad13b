"""How steady labels are from frame to frame, once the scene's motion is taken out."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.taxonomy import UNLABELLED

_LONGER_SIDE = 320
_SHORTEST_SIDE = 48
_LARGEST_CHANGE = 24


class TemporalConsistency:
    """Compares the labels of consecutive frames after motion compensation, without ground truth.

    The previous labels are warped along dense optical flow (DIS, on a picture shrunk by a whole number to
    at most 320 pixels on the longer side). Pixels that leave the image, are uncovered (the warped picture
    differs by more than 24 grey levels), or have no label in both are not compared. ``flicker`` is the
    share of the others whose class changed; ``mean_iou`` the mean IoU of warped and new labels over the
    classes, the measure known as temporal consistency (TC).
    """

    def __init__(self, classes: int) -> None:
        """For class ids 0 … ``classes`` - 1."""
        self._classes = classes
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._confusion = np.zeros((classes, classes), dtype=np.int64)
        self._previous: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None = None

    def update(self, image: npt.NDArray[np.uint8], semantic: npt.NDArray[np.uint8]) -> float | None:
        """Flicker of a frame; None for the first, one of a new size, and where nothing compares.

        Args:
            image: uint8 [H, W, 3] RGB.
            semantic: uint8 [H, W], class id; 255 is unlabelled.
        """
        grey, labels = _shrunk(image, semantic)
        previous, self._previous = self._previous, (grey, labels)
        if previous is None or previous[0].shape != grey.shape:
            return None
        return self._compare(*previous, grey, labels)

    def skip(self) -> None:
        """Forget the previous frame: the next one does not follow it (a gap, a missing result)."""
        self._previous = None

    @property
    def flicker(self) -> float | None:
        """Share of all compared pixels whose class changed; None where none were compared."""
        total = int(self._confusion.sum())
        return 1.0 - int(np.trace(self._confusion)) / total if total else None

    @property
    def mean_iou(self) -> float | None:
        """Mean over the classes seen of the IoU of warped and new labels; None where there are none."""
        both = np.diag(self._confusion)
        either = self._confusion.sum(0) + self._confusion.sum(1) - both
        seen = either > 0
        return float((both[seen] / either[seen]).mean()) if seen.any() else None

    def _compare(
        self,
        old_grey: npt.NDArray[np.uint8],
        old_labels: npt.NDArray[np.uint8],
        grey: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.uint8],
    ) -> float | None:
        # From the new frame to the old: each new pixel then has exactly one place to look up.
        height, width = grey.shape
        flow = self._flow.calc(grey, old_grey, np.zeros((height, width, 2), dtype=np.float32))
        places = flow + _places(height, width)
        warped = _looked_up(old_grey, places, cv2.INTER_LINEAR, 0)
        moved = _looked_up(old_labels, places, cv2.INTER_NEAREST, UNLABELLED)
        same_surface = (cv2.absdiff(warped, grey) <= _LARGEST_CHANGE).view(np.uint8)
        # OpenCV leaves out what is no class; its counts are float32, exact for so small pictures.
        counts = cv2.calcHist(
            [moved, labels],
            [0, 1],
            same_surface,
            [self._classes, self._classes],
            [0, self._classes, 0, self._classes],
        )
        confusion = np.asarray(counts).astype(np.int64)
        count = int(confusion.sum())
        if count == 0:
            return None
        self._confusion += confusion
        return 1.0 - int(np.trace(confusion)) / count


@lru_cache(maxsize=4)
def _places(height: int, width: int) -> npt.NDArray[np.float32]:
    """float32 [H, W, 2]: x and y of each pixel."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([columns, rows], axis=2).astype(np.float32)


def _looked_up(
    values: npt.NDArray[np.uint8],
    places: npt.NDArray[np.floating[Any]],
    method: int,
    outside: int,
) -> npt.NDArray[np.uint8]:
    """``values`` at ``places``, ``outside`` beyond their edges."""
    border = cv2.BORDER_CONSTANT
    # OpenCV's types ask for a second map, of which there is none where the first holds x and y.
    found = cv2.remap(values, places, None, method, None, border, (outside,))  # type: ignore[call-overload]
    return np.asarray(found, dtype=np.uint8)


def _shrunk(
    image: npt.NDArray[np.uint8], semantic: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Grey picture and labels at the size for the optical flow.

    Smaller by a whole number: averaging whole blocks is several times as fast as parts of them. What a last
    block lacks is left out.
    """
    height, width = semantic.shape
    factor = -(-max(height, width) // _LONGER_SIDE)
    rows, columns = height // factor, width // factor
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    labels = semantic
    if factor > 1 and min(rows, columns) > 0:
        whole = grey[: rows * factor, : columns * factor]
        grey = np.asarray(
            cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8
        )
        middle = factor // 2
        labels = semantic[middle::factor, middle::factor][:rows, :columns]
    # DIS in OpenCV crashes the process where a side has fewer than 32 pixels.
    size = (max(_SHORTEST_SIDE, grey.shape[1]), max(_SHORTEST_SIDE, grey.shape[0]))
    if size != (grey.shape[1], grey.shape[0]):
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        labels = np.asarray(
            cv2.resize(np.ascontiguousarray(labels), size, interpolation=cv2.INTER_NEAREST),
            np.uint8,
        )
    return grey, np.ascontiguousarray(labels)
