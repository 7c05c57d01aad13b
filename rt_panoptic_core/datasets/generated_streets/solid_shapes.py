"""The polygons of all solids in camera space, with their colours in this light."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.camera import NEAR, Camera, Float, turned_by
from rt_panoptic_core.datasets.generated_streets.layout import Solid
from rt_panoptic_core.datasets.generated_streets.light import Light
from rt_panoptic_core.datasets.generated_streets.mesh import (
    FACE_POINTS,
    GLASS,
    LABEL_ONLY,
    LAMP,
    TWO_SIDED,
    Mesh,
)

_COARSE_FROM = 0.055  # metres per pixel of focal length from where on small faces are left out
_GLOSSY = np.zeros(256, dtype=bool)
_GLOSSY[[labels.CAR, labels.TRUCK, labels.BUS, labels.TRAIN, labels.MOTORCYCLE]] = True


@dataclass(frozen=True)
class Shapes:
    """M polygons.

    Attributes:
        points: [M, FACE_POINTS, 3], camera space; corners may repeat.
        owner: [M], place of its solid in the list.
        color: [M, 3], lit, without haze.
        label, instance: [M], its class and the place of its instance among the keys, 0 for none.
        normal, offset: [M, 3] and [M], its plane.
        distance: [M], metres from the camera.
        visible: [M], False where only its label shows.
    """

    points: Float
    owner: npt.NDArray[np.int64]
    color: Float
    label: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32]
    normal: Float
    offset: Float
    distance: Float
    visible: npt.NDArray[np.bool_]


def solid_shapes(
    camera: Camera,
    light: Light,
    solids: list[Solid],
    shaded: npt.NDArray[np.bool_],
    first_key: npt.NDArray[np.int32],
) -> Shapes:
    """The faces of ``solids`` that face the camera, then their limbs that lie ahead of it.

    Args:
        shaded: [N], which solids stand in a shadow.
        first_key: [N], place of the first instance of each among the keys, 0 for none.
    """
    placed = _Placed(camera, solids, first_key)
    parts = (_flat_shapes(placed, light, shaded), _limb_shapes(placed, light, shaded))
    return Shapes(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Shapes))
    )


class _Placed:
    """All solids' meshes as one, and how their points get into camera space."""

    def __init__(
        self, camera: Camera, solids: list[Solid], first_key: npt.NDArray[np.int32]
    ) -> None:
        self.camera = camera
        self.first_key = first_key
        self.place = np.array([(s.x, s.y, s.z) for s in solids]) - camera.position
        # A solid far away shows its large faces only.
        far = self.place @ camera.rotation[2] > _COARSE_FROM * camera.intrinsics.fx
        self.meshes: list[Mesh] = [
            s.mesh.coarse if distant else s.mesh
            for s, distant in zip(solids, far.tolist(), strict=True)
        ]
        yaw = np.array([s.yaw for s in solids])
        self.scale = np.array([s.scale for s in solids])
        self.cos, self.sin = np.cos(yaw), np.sin(yaw)
        self.palettes = np.array([s.palette for s in solids])

    def joined(self, field: str) -> npt.NDArray[Any]:
        """That array of all meshes."""
        return np.concatenate([getattr(mesh, field) for mesh in self.meshes])

    def owners(self, field: str) -> npt.NDArray[np.int64]:
        """Whose each entry of :meth:`joined` is."""
        counts = [len(getattr(mesh, field)) for mesh in self.meshes]
        return np.repeat(np.arange(len(self.meshes)), counts)

    def to_camera(self, points: Float, owner: npt.NDArray[np.int64], moved: bool = True) -> Float:
        """Points (``moved``) or directions [M, 3] of their owners in camera space."""
        c, s = self.cos[owner], self.sin[owner]
        turned = np.empty((len(points), 3))
        turned[:, 0] = c * points[:, 0] - s * points[:, 1]
        turned[:, 1] = s * points[:, 0] + c * points[:, 1]
        turned[:, 2] = points[:, 2]
        if moved:
            turned *= self.scale[owner, None]
            turned += self.place[owner]
        return turned_by(self.camera.rotation, turned)

    def painted(
        self, colors: Float, slots: npt.NDArray[np.int8], owner: npt.NDArray[np.int64]
    ) -> Float:
        """``colors``, of the owner's palette where they have a slot in it."""
        chosen = self.palettes[owner, np.maximum(slots, 0)]
        return np.where((slots >= 0)[:, None], chosen * colors / 128.0, colors)

    def instances(
        self, parts: npt.NDArray[np.int32], owner: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int32]:
        """Place of each part's instance among the keys, 0 for none."""
        first = self.first_key[owner]
        return first + parts * (first > 0)


def _flat_shapes(placed: _Placed, light: Light, shaded: npt.NDArray[np.bool_]) -> Shapes:
    """The faces that face the camera."""
    rotation = placed.camera.rotation
    vertex_owner, owner = placed.owners("vertices"), placed.owners("faces")
    vertices = placed.to_camera(placed.joined("vertices").astype(np.float64), vertex_owner)
    counts = np.array([len(m.vertices) for m in placed.meshes])
    start = np.concatenate([[0], np.cumsum(counts)[:-1]])
    corners = placed.joined("faces") + start[owner][:, None]
    normals = placed.to_camera(placed.joined("normals").astype(np.float64), owner, False)
    centers = placed.to_camera(placed.joined("centers").astype(np.float64), owner)
    flags = placed.joined("flags")
    offset = (normals * vertices[corners[:, 0]]).sum(axis=1)
    seen = np.flatnonzero((offset < -1e-6) | ((flags & TWO_SIDED) > 0) & (np.abs(offset) > 1e-6))
    corners, normals, centers = corners[seen], normals[seen], centers[seen]
    offset, owner, flags = offset[seen], owner[seen], flags[seen]
    slots, label = placed.joined("slots")[seen], placed.joined("labels")[seen]
    base = placed.painted(placed.joined("colors")[seen].astype(np.float64), slots, owner)
    flip = np.where(offset > 0, -1.0, 1.0)
    color = _lit_faces(
        base,
        (normals * flip[:, None]) @ rotation,
        ~shaded[owner],
        (slots >= 0) & _GLOSSY[label],
        flags,
        light,
    )
    return Shapes(
        points=vertices[corners],
        owner=owner,
        color=color,
        label=label,
        instance=placed.instances(placed.joined("parts")[seen], owner),
        normal=normals,
        offset=offset,
        distance=np.linalg.norm(centers, axis=1),
        visible=(flags & LABEL_ONLY) == 0,
    )


def _lit_faces(
    base: Float,
    normals: Float,
    sunlit: npt.NDArray[np.bool_],
    glossy: npt.NDArray[np.bool_],
    flags: npt.NDArray[np.uint8],
    light: Light,
) -> Float:
    """Colours ``base`` of faces with ``normals`` in the world, in ``light``."""
    sunny = np.maximum(normals @ light.sun, 0.0) * sunlit
    up = normals[:, 2]
    lit = light.ambient * (0.82 + 0.2 * up)[:, None] + light.sunshine * sunny[:, None]
    color = base * lit
    # Paint mirrors a little of the sky where it faces up.
    color[glossy] += 0.14 * np.maximum(up[glossy], 0.0)[:, None] * light.horizon * light.ambient
    glass = (flags & GLASS) > 0
    if glass.any():
        # Panes that lean back mirror the sky, upright ones the street.
        mirrored = np.clip(0.1 + 0.2 * np.maximum(up[glass], 0.0), 0.0, 0.3)[:, None]
        sky = light.zenith * 0.55 + light.horizon * 0.35
        tone = sky * np.clip(0.35 + 0.5 * up[glass, None], 0.35, 0.85)
        color[glass] = (
            color[glass] * (1 - mirrored) + tone * np.minimum(light.ambient * 1.3, 1.0) * mirrored
        )
    lamp = (flags & LAMP) > 0
    color[lamp] = base[lamp]
    return color


def _limb_shapes(placed: _Placed, light: Light, shaded: npt.NDArray[np.bool_]) -> Shapes:
    """Limbs as 12-cornered shapes turned towards the camera."""
    rotation = placed.camera.rotation
    owner = placed.owners("limbs")
    limbs = placed.joined("limbs").astype(np.float64)
    start = placed.to_camera(limbs[:, 0:3], owner)
    end = placed.to_camera(limbs[:, 3:6], owner)
    radii = limbs[:, 6:8] * placed.scale[owner, None]
    axis = end - start
    middle = (start + end) / 2
    side = np.cross(axis, middle)
    length = np.linalg.norm(side, axis=1, keepdims=True)
    side = np.where(length > 1e-6, side / np.maximum(length, 1e-9), np.array([1.0, 0.0, 0.0]))
    along = np.cross(middle, side)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    along *= np.where((along * axis).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    bow = np.linspace(0, math.pi, FACE_POINTS // 2)
    cap = np.cos(bow)[None, :, None] * side[:, None] + np.sin(bow)[None, :, None] * along[:, None]
    tail = -np.cos(bow)[None, :, None] * side[:, None] - np.sin(bow)[None, :, None] * along[:, None]
    points = np.concatenate(
        [
            end[:, None] + cap * radii[:, 1, None, None],
            start[:, None] + tail * radii[:, 0, None, None],
        ],
        axis=1,
    )
    ahead = np.flatnonzero((start[:, 2] > NEAR) & (end[:, 2] > NEAR))
    normal = np.cross(side, along)
    base = placed.painted(
        placed.joined("limb_colors").astype(np.float64), placed.joined("limb_slots"), owner
    )
    # A round thing is lit as a surface turned half to the camera, half to the sun.
    to_eye = -(middle / np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-9)) @ rotation
    facing = np.clip(0.25 + 0.5 * (to_eye @ light.sun), 0.05, 0.8) * ~shaded[owner]
    color = base * (light.ambient * 0.86 + light.sunshine * facing[:, None])
    return Shapes(
        points=points[ahead],
        owner=owner[ahead],
        color=color[ahead],
        label=placed.joined("limb_labels")[ahead],
        instance=placed.instances(placed.joined("limb_parts"), owner)[ahead],
        normal=normal[ahead],
        offset=(normal * middle).sum(axis=1)[ahead],
        distance=np.linalg.norm(middle[ahead], axis=1),
        visible=np.ones(len(ahead), dtype=bool),
    )
