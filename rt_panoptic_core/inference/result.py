"""What comes out for a frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic result: an instance of a thing, or all of one stuff class.

    Attributes:
        id: the instance's id in ``PanopticResult.instance``, from 1; 0 for stuff.
        class_id: class in the taxonomy.
        is_thing: whether the class is a thing.
        score: for things the detection's score in [0, 1]; for stuff 1.
        area: visible pixels.
        box: (x1, y1, x2, y2) in pixels of the input, x2 and y2 exclusive, float; for stuff None.
    """

    id: int
    class_id: int
    is_thing: bool
    score: float
    area: int
    box: tuple[float, float, float, float] | None


# Arrays have no one answer to ==, so a result is equal to itself alone, as is every object without __eq__.
@dataclass(frozen=True, eq=False)
class PanopticResult:
    """Class and instance of every pixel, always in the size of the input image.

    Equal to itself alone: to compare two, compare their maps (``numpy.array_equal``) and ``segments``.

    Attributes:
        semantic: uint8 [H, W], class id; 255 where unlabelled.
        instance: uint16 [H, W], instance id; 0 where there is none. A pixel of a thing class with
            instance 0 belongs to the class but to no detected instance; panoptic files hold void there.
        segments: instances by falling score, then stuff by class id.
        confidence: uint8 [H, W], probability of the pixel's class times 255, or None if not asked for.
    """

    semantic: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.uint16]
    segments: list[Segment] = field(default_factory=list)
    confidence: npt.NDArray[np.uint8] | None = None

    @property
    def instances(self) -> list[Segment]:
        """The segments that are instances of things, by falling score."""
        return [segment for segment in self.segments if segment.is_thing]


@dataclass(frozen=True, eq=False)
class Detections:
    """Instances with their whole, possibly overlapping masks. Equal to itself alone, as results are.

    Attributes:
        boxes: float32 [N, 4], (x1, y1, x2, y2) in pixels of the input.
        class_ids: int64 [N], class in the taxonomy.
        scores: float32 [N], falling.
        masks: bool [N, H, W].
    """

    boxes: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.scores)


def label_areas(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """int64 [256], pixels of each value of a uint8 [H, W]."""
    # OpenCV counts uint8 as it is, eight times as fast as numpy, but in float32: exact up to 2^24.
    if labels.size >= 1 << 24:
        return np.bincount(labels.ravel(), minlength=256)
    counts = cv2.calcHist([np.ascontiguousarray(labels)], [0], None, [256], [0, 256])
    return np.asarray(counts, dtype=np.int64).reshape(256)
