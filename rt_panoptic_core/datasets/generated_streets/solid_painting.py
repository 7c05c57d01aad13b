"""Paints solids: all are projected at once, then their pixels are numbered, and coloured last."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets.camera import (
    NEAR,
    Camera,
    Float,
    clip_near,
)
from rt_panoptic_core.datasets.generated_streets.canvas import SHIFT, Canvas, fixed_point
from rt_panoptic_core.datasets.generated_streets.layout import Key, Solid
from rt_panoptic_core.datasets.generated_streets.light import Light
from rt_panoptic_core.datasets.generated_streets.mesh import (
    FACE_POINTS,
)
from rt_panoptic_core.datasets.generated_streets.solid_shapes import solid_shapes

_SMALLEST = 1.1  # pixels: faces with a smaller bounding box, rounded up, are left out


@dataclass(frozen=True)
class Faces:
    """Visible polygons of all solids, sorted by object and by depth within it.

    They are painted as surface numbers alone, from ``first`` on; their colours follow in one go when all
    is painted, for each has but one.
    """

    points: npt.NDArray[np.int32]
    colors: npt.NDArray[np.uint8]
    see_through: npt.NDArray[np.bool_]
    first: int
    starts: list[int]


def project_faces(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    solids: list[Solid],
    shaded: npt.NDArray[np.bool_],
    keys: list[Key | None],
    key_classes: list[int],
) -> Faces:
    """Project and sort the faces and limbs of all solids; announce their surfaces.

    ``keys`` and ``key_classes`` get the solids' instances appended.
    """
    if not solids:
        return Faces(
            np.zeros((0, FACE_POINTS, 2), np.int32),
            np.zeros((0, 3), np.uint8),
            np.zeros(0, np.bool_),
            canvas.count,
            [0],
        )
    # First instance of each solid; its parts follow.
    first_key = np.zeros(len(solids), dtype=np.int32)
    for index, solid in enumerate(solids):
        if solid.keys:
            first_key[index] = len(keys)
            keys.extend(solid.keys)
            key_classes.extend(solid.mesh.part_labels)
    shapes = solid_shapes(camera, light, solids, shaded, first_key)

    points, cut = _cut_near(shapes.points)
    alive = np.flatnonzero(cut)
    pixels = camera.pixels(points[alive])
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    k = camera.intrinsics
    on_screen = (
        (high[:, 0] > -1)
        & (low[:, 0] < k.width)
        & (high[:, 1] > -1)
        & (low[:, 1] < k.height)
        & ((high - low + 0.5).prod(axis=1) > _SMALLEST)
    )
    alive = alive[on_screen]
    pixels = pixels[on_screen]
    order = np.lexsort((np.arange(len(alive)), -shapes.distance[alive], shapes.owner[alive]))
    alive = alive[order]
    clear = np.exp(-light.haze * shapes.distance[alive])[:, None]
    final = np.clip(shapes.color[alive] * clear + light.horizon * (1 - clear), 0, 255)
    z = points[alive][..., 2]
    first = canvas.announce(
        shapes.label[alive],
        shapes.instance[alive],
        camera.plane(shapes.normal[alive], shapes.offset[alive]),
        z.min(axis=1) - 0.01,
        z.max(axis=1) + 0.01,
    )
    starts = np.searchsorted(shapes.owner[alive], np.arange(len(solids) + 1))
    return Faces(
        fixed_point(pixels[order]),
        np.rint(final).astype(np.uint8),
        ~shapes.visible[alive],
        first,
        starts.tolist(),
    )


def _cut_near(shape: Float) -> tuple[Float, npt.NDArray[np.bool_]]:
    """Cut polygons [M, 12, 3] at the near plane; also which of them are left."""
    behind = shape[..., 2] < NEAR
    some = np.asarray(behind.any(axis=1))
    every = np.asarray(behind.all(axis=1))
    for index in np.flatnonzero(some & ~every):
        clipped = clip_near(shape[index])
        # Repeated corners give repeated cuts; drop them before fitting twelve.
        keep = np.ones(len(clipped), dtype=bool)
        keep[1:] = np.abs(np.diff(clipped, axis=0)).max(axis=1) > 1e-9
        clipped = clipped[keep]
        if len(clipped) < 3:
            every[index] = True
            continue
        clipped = clipped[:FACE_POINTS]
        shape[index, : len(clipped)] = clipped
        shape[index, len(clipped) :] = clipped[-1]
    return shape, ~every


def paint_faces(canvas: Canvas, faces: Faces, index: int) -> None:
    """Number the pixels of solid ``index``."""
    surface, points, first = canvas.surface, faces.points, faces.first
    fill = cv2.fillConvexPoly
    start, stop = faces.starts[index], faces.starts[index + 1]
    if faces.see_through[start:stop].any():
        for i in range(start, stop):
            if faces.see_through[i]:
                _keep_colors(canvas, faces, points[i])
            fill(surface, points[i], (first + i,), 8, SHIFT)
    else:
        for i in range(start, stop):
            fill(surface, points[i], (first + i,), 8, SHIFT)


def _keep_colors(canvas: Canvas, faces: Faces, polygon: npt.NDArray[np.int32]) -> None:
    """Colour what is painted so far under ``polygon``, before its numbers are lost to a label."""
    low, high = (polygon.min(axis=0) >> SHIFT).tolist(), (polygon.max(axis=0) >> SHIFT).tolist()
    x0, y0 = max(low[0] - 1, 0), max(low[1] - 1, 0)
    x1, y1 = min(high[0] + 2, canvas.width), min(high[1] + 2, canvas.height)
    if x1 > x0 and y1 > y0:
        color_faces(canvas.color[y0:y1, x0:x1], canvas.surface[y0:y1, x0:x1], faces)


def color_faces(color: npt.NDArray[np.uint8], surface: npt.NDArray[np.int32], faces: Faces) -> None:
    """Give the pixels that show faces their colours."""
    number: npt.NDArray[np.int32] = (surface - faces.first).ravel()
    # As unsigned numbers, those before the first are large.
    place = np.flatnonzero(number.view(np.uint32) < len(faces.colors))
    number = number[place]
    if faces.see_through.any():
        solid = ~faces.see_through[number]
        place, number = place[solid], number[solid]
    if color.flags.c_contiguous:
        color.reshape(-1, 3)[place] = faces.colors[number]
    else:
        color[np.unravel_index(place, surface.shape)] = faces.colors[number]
