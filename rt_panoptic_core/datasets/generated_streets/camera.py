"""The pinhole camera and its place in the street."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.camera_intrinsics import CameraIntrinsics

Float = npt.NDArray[np.float64]

NEAR = 0.4
"""Metres in front of the camera at which geometry is cut off."""


@dataclass(frozen=True)
class Camera:
    """Intrinsics and pose: ``position`` [3] in the world (x, y, z up; metres) and ``rotation`` [3, 3].

    ``rotation`` takes world directions to camera directions (x right, y down, z forward).
    """

    intrinsics: CameraIntrinsics
    position: Float
    rotation: Float

    @classmethod
    def looking(
        cls,
        intrinsics: CameraIntrinsics,
        position: Float,
        yaw: float,
        pitch: float,
        roll: float,
    ) -> Camera:
        """Camera heading ``yaw`` (radians from +x to +y), looking down by ``pitch``, tilted by ``roll``."""
        forward = np.array(
            [
                math.cos(yaw) * math.cos(pitch),
                math.sin(yaw) * math.cos(pitch),
                -math.sin(pitch),
            ]
        )
        right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
        down = np.cross(forward, right)
        cos_roll, sin_roll = math.cos(roll), math.sin(roll)
        rotation = np.stack(
            [cos_roll * right + sin_roll * down, cos_roll * down - sin_roll * right, forward]
        )
        return cls(intrinsics, np.asarray(position, dtype=np.float64), rotation)

    def to_camera(self, points: npt.NDArray[np.floating]) -> Float:
        """Camera coordinates [N, 3] of world points [N, 3]."""
        return turned_by(self.rotation, points - self.position)

    def pixels(self, points: Float) -> Float:
        """Pixel coordinates [..., 2] of camera-space points [..., 3] with Z > 0."""
        k = self.intrinsics
        result = np.empty((*points.shape[:-1], 2))
        inverse = 1.0 / points[..., 2]
        result[..., 0] = points[..., 0] * inverse * k.fx + k.cx
        result[..., 1] = points[..., 1] * inverse * k.fy + k.cy
        return result

    def plane(self, normal: Float, offset: Float | float) -> Float:
        """(a, b, c) [..., 3] with 1 / Z = a u + b v + c on the camera-space plane normal . X = offset."""
        k = self.intrinsics
        scale = 1.0 / np.asarray(offset)
        a = normal[..., 0] / k.fx * scale
        b = normal[..., 1] / k.fy * scale
        c = (normal[..., 2] - normal[..., 0] * k.cx / k.fx - normal[..., 1] * k.cy / k.fy) * scale
        return np.stack([a, b, c], axis=-1)

    def level_plane(self, height: float) -> Float:
        """(a, b, c) of the horizontal world plane at ``height``; see :meth:`plane`."""
        return self.plane(self.rotation[:, 2], height - float(self.position[2]))


def turned_by(rotation: Float, points: Float) -> Float:
    """``rotation`` [3, 3] times each of ``points`` [N, 3].

    Without a matrix product, whose last bits depend on the row's place and on the machine: equal points
    must stay equal, and pictures must not depend on where they are made.
    """
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    result = np.empty((len(points), 3))
    for row in range(3):
        result[:, row] = x * rotation[row, 0] + y * rotation[row, 1] + z * rotation[row, 2]
    return result


def clip_near(points: Float, near: float = NEAR) -> Float:
    """Camera-space polygon [M, 3] cut at Z >= near (Sutherland-Hodgman); M may be 0."""
    inside = points[:, 2] >= near
    if inside.all():
        return points
    if not inside.any():
        return points[:0]
    following = np.roll(points, -1, axis=0)
    crossing = inside != np.roll(inside, -1)
    share = (near - points[crossing, 2]) / (following[crossing, 2] - points[crossing, 2])
    cuts = points[crossing] + share[:, None] * (following[crossing] - points[crossing])
    # Each corner that is in front, and after each edge that crosses the plane, the cut.
    count = inside.astype(np.int64) + crossing
    place = np.cumsum(count) - count
    result = np.empty((int(count.sum()), 3))
    result[place[inside]] = points[inside]
    result[(place + inside)[crossing]] = cuts
    return result
