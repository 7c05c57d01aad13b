"""The picture being painted, and beside it which surface each pixel shows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets.camera import Camera, Float, clip_near

SHIFT = 3
"""Polygon corners are given to OpenCV in 1 / 2**SHIFT pixels."""

Rgb = tuple[float, float, float]
HORIZON = 20000.0
"""Metres beyond which nothing but sky is."""

_LIMIT = 30000.0


def fixed_point(pixels: Float) -> npt.NDArray[np.int32]:
    """Pixel coordinates in OpenCV's fixed point, kept within what its polygon filler can hold."""
    return np.rint(np.clip(pixels, -_LIMIT, _LIMIT) * (1 << SHIFT)).astype(np.int32)


class Canvas:
    """Colour and surface number of every pixel.

    Surfaces are numbered as they are announced; each has a class, an instance (an index into the
    painter's own list of instances, 0 for none) and a plane (a, b, c): 1 / depth = a u + b v + c.
    """

    def __init__(self, width: int, height: int) -> None:
        """A black canvas whose every pixel shows surface 0, which the sky must announce first."""
        self.width, self.height = width, height
        self.color = np.zeros((height, width, 3), dtype=np.uint8)
        self.surface = np.zeros((height, width), dtype=np.int32)
        self.count = 0
        self._classes: list[npt.NDArray[np.uint8]] = []
        self._instances: list[npt.NDArray[np.int32]] = []
        self._planes: list[npt.NDArray[np.float32]] = []
        self._ranges: list[npt.NDArray[np.float32]] = []

    def announce(
        self,
        classes: Sequence[int] | npt.NDArray[np.uint8],
        instances: Sequence[int] | npt.NDArray[np.int32],
        planes: Float,
        nearest: Float | None = None,
        furthest: Float | None = None,
    ) -> int:
        """Number of the first of the announced surfaces; the others follow it.

        ``planes`` is [M, 3]; ``nearest`` and ``furthest`` [M] bound the depth [m]; else :data:`HORIZON` does.
        """
        first = self.count
        number = len(planes)
        self._classes.append(np.asarray(classes, dtype=np.uint8))
        self._instances.append(np.asarray(instances, dtype=np.int32))
        self._planes.append(np.asarray(planes, dtype=np.float32))
        bounds = np.empty((number, 2), dtype=np.float32)
        bounds[:, 0] = 1.0 / (HORIZON if furthest is None else furthest)
        bounds[:, 1] = 1e3 if nearest is None else 1.0 / np.maximum(nearest, 1e-3)
        self._ranges.append(bounds)
        self.count += number
        return first

    def announce_one(self, class_id: int, plane: Float | Sequence[float]) -> int:
        """Number of a surface of stuff on ``plane``."""
        return self.announce([class_id], [0], np.asarray(plane, dtype=np.float64).reshape(1, 3))

    def fill(self, pixels: Float, color: Rgb, surface: int, convex: bool = True) -> None:
        """Paint the polygon ``pixels`` [M, 2]; several loops are not supported."""
        if len(pixels) < 3:
            return
        points = fixed_point(pixels)
        if convex:
            cv2.fillConvexPoly(self.color, points, color, cv2.LINE_8, SHIFT)
            cv2.fillConvexPoly(self.surface, points, (surface,), cv2.LINE_8, SHIFT)
        else:
            cv2.fillPoly(self.color, [points], color, cv2.LINE_8, SHIFT)
            cv2.fillPoly(self.surface, [points], (surface,), cv2.LINE_8, SHIFT)

    def fill_in_space(
        self, camera: Camera, points: Float, color: Rgb, surface: int, convex: bool = True
    ) -> None:
        """Paint the polygon with camera-space corners ``points`` [M, 3], cut at the near plane."""
        clipped = clip_near(points)
        if len(clipped) >= 3:
            self.fill(camera.pixels(clipped), color, surface, convex)

    # -- what came out ------------------------------------------------------------------------

    @cached_property
    def _index(self) -> npt.NDArray[np.intp]:
        """``surface`` as NumPy likes its indices; painting is over when it is first asked for."""
        return self.surface.astype(np.intp)

    def class_map(self) -> npt.NDArray[np.uint8]:
        """uint8 [H, W] class of every pixel."""
        return np.take(np.concatenate(self._classes), self._index)

    def instance_map(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """int32 [H, W] of ``ids`` [M] by the painter's index of the instance; ``ids[0]`` for none."""
        return np.take(ids[np.concatenate(self._instances)], self._index)

    def visible_instances(self) -> npt.NDArray[np.int64]:
        """Indices, rising and without 0, of the instances that at least one pixel shows."""
        seen = np.zeros(self.count, dtype=bool)
        seen[self._index] = True
        shown = np.unique(np.concatenate(self._instances)[seen])
        return shown[shown > 0].astype(np.int64)

    def depth_map(self) -> npt.NDArray[np.float32]:
        """float32 [H, W] metres along the optical axis; inf for the sky (surface 0)."""
        planes, bounds = np.concatenate(self._planes), np.concatenate(self._ranges)
        u = np.arange(self.width, dtype=np.float32)
        v = np.arange(self.height, dtype=np.float32)[:, None]
        index = self._index
        inverse = np.take(planes[:, 0], index)
        inverse *= u
        part = np.take(planes[:, 1], index)
        part *= v
        inverse += part
        inverse += np.take(planes[:, 2], index, out=part)
        np.maximum(inverse, np.take(bounds[:, 0], index, out=part), out=inverse)
        np.minimum(inverse, np.take(bounds[:, 1], index, out=part), out=inverse)
        with np.errstate(divide="ignore"):
            depth: npt.NDArray[np.float32] = np.divide(np.float32(1.0), inverse, out=inverse)
        return depth
