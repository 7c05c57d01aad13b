"""Paints a street as a camera sees it, with its labels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.camera import Camera, Float
from rt_panoptic_core.datasets.generated_streets.canvas import Canvas
from rt_panoptic_core.datasets.generated_streets.ground import Ground
from rt_panoptic_core.datasets.generated_streets.ground_areas import paint_ground
from rt_panoptic_core.datasets.generated_streets.ground_finish import finish_ground
from rt_panoptic_core.datasets.generated_streets.house_painting import paint_house
from rt_panoptic_core.datasets.generated_streets.layout import House, Key, Plant, Solid, Street
from rt_panoptic_core.datasets.generated_streets.light import Light
from rt_panoptic_core.datasets.generated_streets.ordering import painting_order
from rt_panoptic_core.datasets.generated_streets.plant_painting import paint_plant
from rt_panoptic_core.datasets.generated_streets.shadows import (
    cast_by_crowns,
    cast_shadows,
    in_shadow,
)
from rt_panoptic_core.datasets.generated_streets.sky import paint_distance, paint_sky
from rt_panoptic_core.datasets.generated_streets.solid_painting import (
    color_faces,
    paint_faces,
    project_faces,
)
from rt_panoptic_core.datasets.generated_streets.visibility import Occlusion, as_rows, in_view


@dataclass
class Scene:
    """All that a frame shows."""

    street: Street
    light: Light
    camera: Camera
    along: float  # where on the road the camera is
    solids: list[Solid] = field(default_factory=list)
    plants: list[Plant] = field(default_factory=list)
    houses: list[House] = field(default_factory=list)


@dataclass(frozen=True)
class Painted:
    """A canvas and the keys of the instances that its surfaces refer to (index 0 is none)."""

    canvas: Canvas
    keys: list[Key | None]
    key_classes: list[int]


def paint(scene: Scene) -> Painted:
    """Paint ``scene`` from the sky to the nearest thing."""
    camera, light = scene.camera, scene.light
    k = camera.intrinsics
    canvas = Canvas(k.width, k.height)
    paint_sky(canvas, camera, light)
    paint_distance(canvas, camera, scene.street, light)
    things: list[Solid | Plant | House] = [*scene.solids, *scene.plants, *scene.houses]
    rows = as_rows([thing.footprint for thing in things])
    keep = np.flatnonzero(in_view(rows, camera))
    things, rows = [things[i] for i in keep.tolist()], rows[keep]
    occlusion = Occlusion([t for t in things if isinstance(t, House)], camera)
    ground = Ground(canvas, camera, scene.street, light, scene.along)
    paint_ground(ground)
    finish_ground(
        ground,
        cast_shadows(camera, light, [t for t in things if isinstance(t, Solid)], scene.houses),
        cast_by_crowns(camera, light, scene.plants),
    )

    keep = np.flatnonzero(~occlusion.hidden(rows))
    walls = dict(zip((id(t) for t in things if isinstance(t, House)), occlusion.walls, strict=True))
    things, rows = [things[i] for i in keep.tolist()], rows[keep]
    solids = [t for t in things if isinstance(t, Solid)]
    keys: list[Key | None] = [None]
    key_classes = [labels.VOID]
    shaded = in_shadow(solids, scene.houses, light)
    faces = project_faces(canvas, camera, light, solids, shaded, keys, key_classes)
    # Solids come first in the list, so their place there is their number among the faces.
    for index in _order(things, rows, camera).tolist():
        thing = things[index]
        if isinstance(thing, Solid):
            paint_faces(canvas, faces, index)
        elif isinstance(thing, Plant):
            paint_plant(canvas, camera, light, thing)
        else:
            paint_house(canvas, camera, light, thing, walls[id(thing)])
    color_faces(canvas.color, canvas.surface, faces)
    return Painted(canvas, keys, key_classes)


def _order(
    things: list[Solid | Plant | House], rows: Float, camera: Camera
) -> npt.NDArray[np.int64]:
    """From back to front; a crown comes right after its trunk."""
    centers = rows[:, :2].copy()
    crowns = np.array([isinstance(thing, Plant) for thing in things], dtype=bool)
    away = centers[crowns] - camera.position[:2]
    centers[crowns] -= 0.02 * away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 0.1)
    forward = camera.rotation[2, :2]
    forward = forward / max(float(np.hypot(*forward)), 1e-6)
    return painting_order(centers, rows[:, 2], rows[:, 3:5], camera.position[:2], forward)
