"""Solid objects as convex faces and rounded limbs, and the tools to build them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

FACE_POINTS = 12
"""Corners of every stored face; faces with fewer repeat their last one."""

PAINT, PAINT2, PAINT3, PAINT4 = 0, 1, 2, 3
"""Colour slots that each placed object fills with its own colours."""

TWO_SIDED = 1  # seen from both sides
LABEL_ONLY = 2  # see-through: it labels pixels and leaves their colour
LAMP = 4  # shines by itself
GLASS = 8  # mirrors the sky

Color = tuple[float, float, float]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Mesh:
    """A prototype in its own frame: x forward, y left, z up, metres, standing on z = 0.

    Attributes:
        vertices: float32 [V, 3].
        faces: int32 [F, 12], counter-clockwise seen from outside.
        normals: float32 [F, 3].
        colors: float32 [F, 3], 0 … 255; used where ``slots`` is -1, and else a factor of 128 on the slot's.
        slots, labels, flags, parts, groups: [F]. ``parts`` tells which of the object's instances a face
            belongs to; faces of one group are painted in their order.
        limbs: float32 [C, 8]: two end points and two radii of each limb.
        limb_colors, limb_slots, limb_labels, limb_parts: as for faces.
        size: (length, width, height) of the bounding box.
        center: (x, y) of its middle.
    """

    vertices: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    normals: npt.NDArray[np.float32]
    centers: npt.NDArray[np.float32]
    colors: npt.NDArray[np.float32]
    slots: npt.NDArray[np.int8]
    labels: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]
    parts: npt.NDArray[np.int8]
    groups: npt.NDArray[np.int32]
    limbs: npt.NDArray[np.float32]
    limb_colors: npt.NDArray[np.float32]
    limb_slots: npt.NDArray[np.int8]
    limb_labels: npt.NDArray[np.uint8]
    limb_parts: npt.NDArray[np.int8]
    size: tuple[float, float, float]
    center: tuple[float, float]

    @cached_property
    def part_labels(self) -> tuple[int, ...]:
        """Class of each part."""
        parts = np.concatenate([self.parts, self.limb_parts])
        classes = np.concatenate([self.labels, self.limb_labels])
        return tuple(int(classes[parts == p][0]) for p in range(int(parts.max()) + 1))

    @cached_property
    def coarse(self) -> Mesh:
        """The mesh without its small faces and limbs, for far away; itself where little would go."""
        corner = self.vertices[self.faces]
        extent = np.sort(corner.max(axis=1) - corner.min(axis=1), axis=1)
        faces = (extent[:, 2] > 0.3) & (extent[:, 2] * extent[:, 1] > 0.04)
        length = np.linalg.norm(self.limbs[:, 0:3] - self.limbs[:, 3:6], axis=1)
        limbs = (length + 2 * self.limbs[:, 6]) * self.limbs[:, 6] > 0.006
        if len(faces) == 0:
            faces = np.zeros(0, dtype=bool)
        if not (faces.any() or limbs.any()) or faces.sum() + limbs.sum() > 0.85 * (
            len(faces) + len(limbs)
        ):
            return self
        if any(
            not ((self.parts[faces] == p).any() or (self.limb_parts[limbs] == p).any())
            for p in range(len(self.part_labels))
        ):
            return self
        return replace(
            self,
            faces=self.faces[faces],
            normals=self.normals[faces],
            centers=self.centers[faces],
            colors=self.colors[faces],
            slots=self.slots[faces],
            labels=self.labels[faces],
            flags=self.flags[faces],
            parts=self.parts[faces],
            groups=self.groups[faces],
            limbs=self.limbs[limbs],
            limb_colors=self.limb_colors[limbs],
            limb_slots=self.limb_slots[limbs],
            limb_labels=self.limb_labels[limbs],
            limb_parts=self.limb_parts[limbs],
        )


@dataclass
class MeshBuilder:
    """Collects faces and limbs of one prototype; ``label`` is the class of what is added next."""

    label: int
    part: int = 0
    _faces: list[list[Point]] = field(default_factory=list)
    _attributes: list[tuple[Color, int, int, int, int, int]] = field(default_factory=list)
    _limbs: list[tuple[float, ...]] = field(default_factory=list)
    _limb_attributes: list[tuple[Color, int, int, int]] = field(default_factory=list)
    _groups: int = 0
    _side_groups: dict[int, int] = field(default_factory=dict)

    def new_group(self) -> int:
        """A fresh group number for faces that are painted in the order they are added."""
        self._groups += 1
        return self._groups - 1

    def side_group(self, side: int) -> int:
        """The group of all that lies flat on the left (1) or right (-1) side, in the order it is added."""
        if side not in self._side_groups:
            self._side_groups[side] = self.new_group()
        return self._side_groups[side]

    def face(
        self,
        points: Sequence[Point],
        color: Color | int,
        *,
        group: int | None = None,
        flags: int = 0,
        shade: float = 1.0,
    ) -> None:
        """Add a convex face; ``color`` is RGB or a colour slot, ``shade`` a factor on a slot's colour."""
        slot, rgb = (color, (128.0 * shade,) * 3) if isinstance(color, int) else (-1, color)
        self._faces.append([(float(x), float(y), float(z)) for x, y, z in points])
        self._attributes.append(
            (
                (rgb[0], rgb[1], rgb[2]),
                slot,
                self.label,
                flags,
                self.part,
                self.new_group() if group is None else group,
            )
        )

    def box(
        self,
        low: Point,
        high: Point,
        color: Color | int,
        *,
        top: Color | int | None = None,
        shade: float = 1.0,
        bottom: bool = False,
        group: int | None = None,
        flags: int = 0,
    ) -> None:
        """Add the faces of an axis-aligned box; the underside only when asked for."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        sides: list[list[Point]] = [
            [(x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)],
            [(x0, y1, z0), (x0, y0, z0), (x0, y0, z1), (x0, y1, z1)],
            [(x1, y1, z0), (x0, y1, z0), (x0, y1, z1), (x1, y1, z1)],
            [(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)],
        ]
        for side in sides:
            self.face(side, color, shade=shade, group=group, flags=flags)
        self.face(
            [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)],
            color if top is None else top,
            shade=shade,
            group=group,
            flags=flags,
        )
        if bottom:
            self.face(
                [(x0, y1, z0), (x1, y1, z0), (x1, y0, z0), (x0, y0, z0)],
                color,
                shade=shade * 0.6,
                group=group,
                flags=flags,
            )

    def disc(
        self,
        center: Point,
        radius: float,
        axis: str,
        color: Color | int,
        *,
        group: int | None = None,
        flags: int = 0,
        start: float = 0.0,
        turn: float = 2 * math.pi,
        corners: int = FACE_POINTS,
        shade: float = 1.0,
    ) -> None:
        """Add a disc (or a part of one from angle ``start`` over ``turn``) facing ``axis``: '+x', '-y', ….

        Angles count from the axis' right-hand side upwards as seen from outside.
        """
        x, y, z = center
        count = corners if turn >= 2 * math.pi else corners - 1
        points: list[Point] = []
        for k in range(corners):
            angle = start + turn * k / count
            c, s = radius * math.cos(angle), radius * math.sin(angle)
            points.append(
                {
                    "+x": (x, y + c, z + s),
                    "-x": (x, y - c, z + s),
                    "+y": (x - c, y, z + s),
                    "-y": (x + c, y, z + s),
                }[axis]
            )
        self.face(points, color, group=group, flags=flags, shade=shade)

    def limb(
        self,
        start: Point,
        end: Point,
        radius: float,
        color: Color | int,
        *,
        end_radius: float | None = None,
        shade: float = 1.0,
    ) -> None:
        """Add a rounded stick from ``start`` to ``end``: always seen from its broad side."""
        slot, rgb = (color, (128.0 * shade,) * 3) if isinstance(color, int) else (-1, color)
        last = radius if end_radius is None else end_radius
        self._limbs.append((*start, *end, radius, last))
        self._limb_attributes.append(((rgb[0], rgb[1], rgb[2]), slot, self.label, self.part))

    def build(self) -> Mesh:
        """The finished prototype."""
        vertices: list[Point] = []
        faces = np.zeros((len(self._faces), FACE_POINTS), dtype=np.int32)
        normals = np.zeros((len(self._faces), 3), dtype=np.float32)
        centers = np.zeros((len(self._faces), 3), dtype=np.float32)
        for index, points in enumerate(self._faces):
            start = len(vertices)
            vertices.extend(points)
            count = len(points)
            faces[index] = start + np.minimum(np.arange(FACE_POINTS), count - 1)
            corner = np.array(points)
            # Newell's normal is right for every planar polygon, however its first corners lie.
            normal = np.cross(corner, np.roll(corner, -1, axis=0)).sum(axis=0)
            normals[index] = normal / max(float(np.linalg.norm(normal)), 1e-9)
            centers[index] = corner.mean(axis=0)
        groups = np.array([a[5] for a in self._attributes], dtype=np.int32)
        for group in np.unique(groups):
            centers[groups == group] = centers[groups == group].mean(axis=0)
        limbs = np.array(self._limbs, dtype=np.float32).reshape(-1, 8)
        corners = np.concatenate(
            [
                np.array(vertices, dtype=np.float32).reshape(-1, 3),
                limbs[:, 0:3] - limbs[:, 6:7],
                limbs[:, 0:3] + limbs[:, 6:7],
                limbs[:, 3:6] - limbs[:, 7:8],
                limbs[:, 3:6] + limbs[:, 7:8],
            ]
        )
        low, high = corners.min(axis=0), corners.max(axis=0)
        return Mesh(
            vertices=np.array(vertices, dtype=np.float32).reshape(-1, 3),
            faces=faces,
            normals=normals,
            centers=centers,
            colors=np.array([a[0] for a in self._attributes], dtype=np.float32).reshape(-1, 3),
            slots=np.array([a[1] for a in self._attributes], dtype=np.int8),
            labels=np.array([a[2] for a in self._attributes], dtype=np.uint8),
            flags=np.array([a[3] for a in self._attributes], dtype=np.uint8),
            parts=np.array([a[4] for a in self._attributes], dtype=np.int8),
            groups=groups,
            limbs=limbs,
            limb_colors=np.array([a[0] for a in self._limb_attributes], dtype=np.float32).reshape(
                -1, 3
            ),
            limb_slots=np.array([a[1] for a in self._limb_attributes], dtype=np.int8),
            limb_labels=np.array([a[2] for a in self._limb_attributes], dtype=np.uint8),
            limb_parts=np.array([a[3] for a in self._limb_attributes], dtype=np.int8),
            size=(float(high[0] - low[0]), float(high[1] - low[1]), float(high[2])),
            center=(float(high[0] + low[0]) / 2, float(high[1] + low[1]) / 2),
        )
