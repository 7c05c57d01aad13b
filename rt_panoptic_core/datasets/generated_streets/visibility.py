"""What of a street a camera can see at all: in its view, within reach, not behind buildings."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets.camera import Camera, Float
from rt_panoptic_core.datasets.generated_streets.layout import Footprint, House

_BINS = 160  # columns in which buildings keep what is behind them from view
_AHEAD = 0.5  # metres from which on something can hide what is behind it

WALL_NORMALS = ((0.0, -1.0), (0.0, 1.0), (1.0, 0.0), (-1.0, 0.0))
"""Outward normals of a house's walls in its own frame: front, back, right, left."""

Bools = npt.NDArray[np.bool_]


def wall_ends(house: House, wall: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Left and right end of a wall as seen from outside, in the house's frame."""
    x, y = house.length / 2, house.depth / 2
    return (
        ((-x, -y), (x, -y)),
        ((x, y), (-x, y)),
        ((x, -y), (x, y)),
        ((-x, y), (-x, -y)),
    )[wall]


def in_view(footprints: npt.NDArray[np.float64], camera: Camera) -> Bools:
    """bool [N]: whether things with rows of :class:`Footprint` may show in the picture."""
    rotation, k = camera.rotation, camera.intrinsics
    dx = footprints[:, 0] - camera.position[0]
    dy = footprints[:, 1] - camera.position[1]
    # Pitch and roll are small: what they change is covered by the slack.
    x = rotation[0, 0] * dx + rotation[0, 1] * dy
    z = rotation[2, 0] * dx + rotation[2, 1] * dy
    spread = footprints[:, 5]
    widest = max(k.cx, k.width - k.cx) / k.fx
    slack = spread * math.hypot(1.0, widest) + 1.0
    ahead = z > -spread
    return np.asarray(
        ahead
        & (z - spread < footprints[:, 7])
        & (np.abs(x) < np.maximum(z, 0.0) * (widest * 1.03) + slack)
    )


class Occlusion:
    """Which things, and which walls, the fronts of buildings hide completely.

    Every wall that faces the camera hides what lies behind its far end and below its lowest line of sight.
    """

    def __init__(self, houses: list[House], camera: Camera) -> None:
        """Find the walls of ``houses`` that face the camera and those of them that others leave in view."""
        self._camera = camera
        k = camera.intrinsics
        self._low = -(k.cx + 8) / k.fx
        self._scale = _BINS / ((k.width + 16) / k.fx)
        self._eye = float(camera.position[2])
        self.walls: list[list[int]] = [[] for _ in houses]
        rows: list[tuple[float, float, float, float, float, int, int]] = []
        for number, house in enumerate(houses):
            cos, sin = math.cos(house.yaw), math.sin(house.yaw)
            ex, ey = camera.position[0] - house.x, camera.position[1] - house.y
            eye = (cos * ex + sin * ey, -sin * ex + cos * ey)
            for wall, (nx, ny) in enumerate(WALL_NORMALS):
                (lx, ly), (rx, ry) = wall_ends(house, wall)
                if (eye[0] - lx) * nx + (eye[1] - ly) * ny <= 0.02:
                    continue
                rows.append(
                    (
                        house.x + cos * lx - sin * ly,
                        house.y + sin * lx + cos * ly,
                        house.x + cos * rx - sin * ry,
                        house.y + sin * rx + cos * ry,
                        house.height,
                        number,
                        wall,
                    )
                )
        self._cover = np.zeros((0, _BINS))
        self._depths: npt.NDArray[np.float64] = np.zeros(0)
        if not rows:
            return
        array = np.array(rows)
        left, right = self._project(array[:, 0:2]), self._project(array[:, 2:4])
        near = np.minimum(left[:, 1], right[:, 1])
        far = np.maximum(left[:, 1], right[:, 1])
        whole = near > _AHEAD
        with np.errstate(divide="ignore", invalid="ignore"):
            ul, ur = left[:, 0] / left[:, 1], right[:, 0] / right[:, 1]
        first = np.ceil((np.minimum(ul, ur) - self._low) * self._scale)
        last = np.floor((np.maximum(ul, ur) - self._low) * self._scale)
        # One wall after the other from the nearest far end on: row r holds what the first r walls hide.
        order = np.argsort(np.where(whole, far, np.inf), kind="stable")
        order = order[whole[order]]
        cover = np.full((len(order) + 1, _BINS), -np.inf)
        for row, index in enumerate(order.tolist()):
            cover[row + 1] = cover[row]
            a, b = int(np.clip(first[index], 0, _BINS)), int(np.clip(last[index], 0, _BINS))
            if b > a:
                slope = (array[index, 4] - self._eye) / far[index]
                part = cover[row + 1, a:b]
                np.maximum(part, slope, out=part)
        self._cover = cover
        self._depths = far[order]
        for index, (number, wall) in enumerate(array[:, 5:7].astype(int).tolist()):
            low, high = sorted((float(ul[index]), float(ur[index]))) if whole[index] else (0.0, 0.0)
            if not whole[index] or not self._hides(
                low, high, float(near[index]), float(array[index, 4])
            ):
                self.walls[number].append(wall)

    def _project(self, points: Float) -> Float:
        """Sideways and forward distance [N, 2] of ground points."""
        rotation = self._camera.rotation
        delta = points - self._camera.position[:2]
        result: Float = delta @ np.stack([rotation[0, :2], rotation[2, :2]], axis=1)
        return result

    def _hides(self, low: float, high: float, depth: float, top: float) -> bool:
        """Whether columns ``low`` to ``high`` (x / z) are hidden from ``depth`` on, up to ``top``."""
        row = int(np.searchsorted(self._depths, depth, side="right"))
        a = max(0, math.floor((low - self._low) * self._scale))
        b = min(_BINS, math.ceil((high - self._low) * self._scale))
        if row == 0:
            return False
        if b <= a:
            return True  # outside the picture
        return bool(self._cover[row, a:b].min() > (top - self._eye) / depth + 1e-3)

    def hidden(self, footprints: npt.NDArray[np.float64]) -> Bools:
        """bool [N]: whether things with rows of :class:`Footprint` are hidden."""
        result = np.zeros(len(footprints), dtype=bool)
        if len(self._depths) == 0 or len(footprints) == 0:
            return result
        place = self._project(footprints[:, :2])
        spread = footprints[:, 5]
        depth = place[:, 1] - spread
        for index in np.flatnonzero(depth > max(float(self._depths[0]), _AHEAD)).tolist():
            x, z, r = float(place[index, 0]), float(depth[index]), float(spread[index])
            # The widest it can look is at its nearest.
            low, high = (x - r) / z, (x + r) / z
            if x - r > 0:
                low = (x - r) / (z + 2 * r)
            if x + r < 0:
                high = (x + r) / (z + 2 * r)
            result[index] = self._hides(low, high, z, float(footprints[index, 6]))
        return result


def as_rows(footprints: list[Footprint]) -> npt.NDArray[np.float64]:
    """float64 [N, 8] of footprints."""
    return np.array(footprints, dtype=np.float64).reshape(-1, 8)
