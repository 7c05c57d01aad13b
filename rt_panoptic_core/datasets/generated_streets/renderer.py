"""Paints a street as a camera sees it, with its labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.camera import (
    NEAR,
    Camera,
    Float,
    clip_near,
    turned_by,
)
from rt_panoptic_core.datasets.generated_streets.canvas import SHIFT, Canvas, fixed_point
from rt_panoptic_core.datasets.generated_streets.foliage import foliage_table
from rt_panoptic_core.datasets.generated_streets.ground import Ground
from rt_panoptic_core.datasets.generated_streets.ground_areas import paint_ground
from rt_panoptic_core.datasets.generated_streets.ground_finish import finish_ground
from rt_panoptic_core.datasets.generated_streets.layout import House, Key, Plant, Solid, Street
from rt_panoptic_core.datasets.generated_streets.light import Light
from rt_panoptic_core.datasets.generated_streets.mesh import (
    FACE_POINTS,
    GLASS,
    LABEL_ONLY,
    LAMP,
    TWO_SIDED,
)
from rt_panoptic_core.datasets.generated_streets.ordering import painting_order
from rt_panoptic_core.datasets.generated_streets.shadows import (
    cast_by_crowns,
    cast_shadows,
    in_shadow,
)
from rt_panoptic_core.datasets.generated_streets.sky import paint_distance, paint_sky
from rt_panoptic_core.datasets.generated_streets.textures import Texture
from rt_panoptic_core.datasets.generated_streets.visibility import (
    WALL_NORMALS,
    Occlusion,
    as_rows,
    in_view,
    wall_ends,
)

_SMALLEST = 1.1  # pixels: faces with a smaller bounding box, rounded up, are left out

_COARSE_FROM = 0.055  # metres per pixel of focal length from where on small faces are left out
_TEXTURED = 160  # pixels of a wall's bounding box from where on it has windows
_GLOSSY = np.zeros(256, dtype=bool)
_GLOSSY[[labels.CAR, labels.TRUCK, labels.BUS, labels.TRAIN, labels.MOTORCYCLE]] = True


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


@dataclass(frozen=True)
class _Faces:
    """Visible polygons of all solids, sorted by object and by depth within it.

    They are painted as surface numbers alone, from ``first`` on; their colours follow in one go when all
    is painted, for each has but one.
    """

    points: npt.NDArray[np.int32]
    colors: npt.NDArray[np.uint8]
    see_through: npt.NDArray[np.bool_]
    first: int
    starts: list[int]


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
    faces = _faces(canvas, camera, light, solids, shaded, keys, key_classes)
    # Solids come first in the list, so their place there is their number among the faces.
    for index in _order(things, rows, camera).tolist():
        thing = things[index]
        if isinstance(thing, Solid):
            _paint_faces(canvas, faces, index)
        elif isinstance(thing, Plant):
            _paint_plant(canvas, camera, light, thing)
        else:
            _paint_house(canvas, camera, light, thing, walls[id(thing)])
    _color_faces(canvas.color, canvas.surface, faces)
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


# -- solids ------------------------------------------------------------------------------------------


def _faces(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    solids: list[Solid],
    shaded: npt.NDArray[np.bool_],
    keys: list[Key | None],
    key_classes: list[int],
) -> _Faces:
    """Project, shade and sort the faces and limbs of all solids; announce their surfaces."""
    if not solids:
        return _Faces(
            np.zeros((0, FACE_POINTS, 2), np.int32),
            np.zeros((0, 3), np.uint8),
            np.zeros(0, np.bool_),
            canvas.count,
            [0],
        )
    number = len(solids)
    place = np.array([(s.x, s.y, s.z) for s in solids]) - camera.position
    far = place @ camera.rotation[2] > _COARSE_FROM * camera.intrinsics.fx
    meshes = [
        s.mesh.coarse if distant else s.mesh
        for s, distant in zip(solids, far.tolist(), strict=True)
    ]
    yaw = np.array([s.yaw for s in solids])
    scale = np.array([s.scale for s in solids])
    cos, sin = np.cos(yaw), np.sin(yaw)
    palettes = np.array([s.palette for s in solids])
    # First instance of each solid; its parts follow.
    first_key = np.zeros(number, dtype=np.int32)
    for index, solid in enumerate(solids):
        if solid.keys:
            first_key[index] = len(keys)
            keys.extend(solid.keys)
            key_classes.extend(solid.mesh.part_labels)

    def world_to_camera(points: Float, owner: npt.NDArray[np.int64], moved: bool) -> Float:
        c, s = cos[owner], sin[owner]
        turned = np.empty((len(points), 3))
        turned[:, 0] = c * points[:, 0] - s * points[:, 1]
        turned[:, 1] = s * points[:, 0] + c * points[:, 1]
        turned[:, 2] = points[:, 2]
        if moved:
            turned *= scale[owner, None]
            turned += place[owner]
        return turned_by(camera.rotation, turned)

    numbers = np.arange(number)
    vertex_count = np.array([len(m.vertices) for m in meshes])
    face_count = np.array([len(m.faces) for m in meshes])
    limb_count = np.array([len(m.limbs) for m in meshes])
    vertex_start = np.concatenate([[0], np.cumsum(vertex_count)[:-1]])
    vertex_owner, face_owner = np.repeat(numbers, vertex_count), np.repeat(numbers, face_count)
    vertices = world_to_camera(
        np.concatenate([m.vertices for m in meshes]).astype(np.float64), vertex_owner, True
    )
    corners = np.concatenate([m.faces for m in meshes]) + vertex_start[face_owner][:, None]
    normals_local = np.concatenate([m.normals for m in meshes]).astype(np.float64)
    normals = world_to_camera(normals_local, face_owner, False)
    centers = world_to_camera(
        np.concatenate([m.centers for m in meshes]).astype(np.float64), face_owner, True
    )
    flags = np.concatenate([m.flags for m in meshes])
    offset = (normals * vertices[corners[:, 0]]).sum(axis=1)
    seen = (offset < -1e-6) | ((flags & TWO_SIDED) > 0) & (np.abs(offset) > 1e-6)
    # A solid far away shows its large faces only.
    seen = np.flatnonzero(seen)
    corners, normals, centers, offset, face_owner = (
        corners[seen],
        normals[seen],
        centers[seen],
        offset[seen],
        face_owner[seen],
    )
    flags = flags[seen]
    flip = np.where(offset > 0, -1.0, 1.0)
    slots = np.concatenate([m.slots for m in meshes])[seen]
    base = np.concatenate([m.colors for m in meshes])[seen].astype(np.float64)
    chosen = palettes[face_owner, np.maximum(slots, 0)]
    base = np.where((slots >= 0)[:, None], chosen * base / 128.0, base)
    world_normals = (normals * flip[:, None]) @ camera.rotation
    sunny = np.maximum(world_normals @ light.sun, 0.0) * ~shaded[face_owner]
    up = world_normals[:, 2]
    lit = light.ambient * (0.82 + 0.2 * up)[:, None] + light.sunshine * sunny[:, None]
    color = base * lit
    # Paint mirrors a little of the sky where it faces up.
    label = np.concatenate([m.labels for m in meshes])[seen]
    glossy = (slots >= 0) & _GLOSSY[label]
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
    instance = first_key[face_owner] + np.concatenate([m.parts for m in meshes])[seen] * (
        first_key[face_owner] > 0
    )
    shape = vertices[corners]

    # Limbs become 12-cornered shapes turned towards the camera.
    limb_owner = np.repeat(numbers, limb_count)
    limbs = np.concatenate([m.limbs for m in meshes]).astype(np.float64)
    start = world_to_camera(limbs[:, 0:3], limb_owner, True)
    end = world_to_camera(limbs[:, 3:6], limb_owner, True)
    radii = limbs[:, 6:8] * scale[limb_owner, None]
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
    limb_shape = np.concatenate(
        [
            end[:, None] + cap * radii[:, 1, None, None],
            start[:, None] + tail * radii[:, 0, None, None],
        ],
        axis=1,
    )
    ahead = np.flatnonzero((start[:, 2] > NEAR) & (end[:, 2] > NEAR))
    limb_normal = np.cross(side, along)
    limb_offset = (limb_normal * middle).sum(axis=1)
    limb_slots = np.concatenate([m.limb_slots for m in meshes])
    limb_base = np.concatenate([m.limb_colors for m in meshes]).astype(np.float64)
    limb_chosen = palettes[limb_owner, np.maximum(limb_slots, 0)]
    limb_base = np.where((limb_slots >= 0)[:, None], limb_chosen * limb_base / 128.0, limb_base)
    # A round thing is lit as a surface turned half to the camera, half to the sun.
    to_eye = (
        -(middle / np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-9))
        @ camera.rotation
    )
    facing = np.clip(0.25 + 0.5 * (to_eye @ light.sun), 0.05, 0.8) * ~shaded[limb_owner]
    limb_color = limb_base * (light.ambient * 0.86 + light.sunshine * facing[:, None])
    limb_label = np.concatenate([m.limb_labels for m in meshes])
    limb_instance = first_key[limb_owner] + np.concatenate([m.limb_parts for m in meshes]) * (
        first_key[limb_owner] > 0
    )

    shape = np.concatenate([shape, limb_shape[ahead]])
    owner = np.concatenate([face_owner, limb_owner[ahead]])
    color = np.concatenate([color, limb_color[ahead]])
    label = np.concatenate([label, limb_label[ahead]])
    instance = np.concatenate([instance, limb_instance[ahead]])
    normal = np.concatenate([normals, limb_normal[ahead]])
    offset = np.concatenate([offset, limb_offset[ahead]])
    distance = np.concatenate(
        [np.linalg.norm(centers, axis=1), np.linalg.norm(middle[ahead], axis=1)]
    )
    visible = np.concatenate([(flags & LABEL_ONLY) == 0, np.ones(len(ahead), dtype=bool)])

    shape, cut = _cut_near(shape)
    alive = np.flatnonzero(cut)
    pixels = camera.pixels(shape[alive])
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
    order = np.lexsort((np.arange(len(alive)), -distance[alive], owner[alive]))
    alive = alive[order]
    clear = np.exp(-light.haze * distance[alive])[:, None]
    final = np.clip(color[alive] * clear + light.horizon * (1 - clear), 0, 255)
    z = shape[alive][..., 2]
    first = canvas.announce(
        label[alive],
        instance[alive],
        camera.plane(normal[alive], offset[alive]),
        z.min(axis=1) - 0.01,
        z.max(axis=1) + 0.01,
    )
    starts = np.searchsorted(owner[alive], np.arange(number + 1))
    return _Faces(
        fixed_point(pixels[order]),
        np.rint(final).astype(np.uint8),
        ~visible[alive],
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


def _paint_faces(canvas: Canvas, faces: _Faces, index: int) -> None:
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


def _keep_colors(canvas: Canvas, faces: _Faces, polygon: npt.NDArray[np.int32]) -> None:
    """Colour what is painted so far under ``polygon``, before its numbers are lost to a label."""
    low, high = (polygon.min(axis=0) >> SHIFT).tolist(), (polygon.max(axis=0) >> SHIFT).tolist()
    x0, y0 = max(low[0] - 1, 0), max(low[1] - 1, 0)
    x1, y1 = min(high[0] + 2, canvas.width), min(high[1] + 2, canvas.height)
    if x1 > x0 and y1 > y0:
        _color_faces(canvas.color[y0:y1, x0:x1], canvas.surface[y0:y1, x0:x1], faces)


def _color_faces(
    color: npt.NDArray[np.uint8], surface: npt.NDArray[np.int32], faces: _Faces
) -> None:
    """Give the pixels that show faces their colours."""
    number = (surface - faces.first).ravel()
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


# -- plants ------------------------------------------------------------------------------------------


def _paint_plant(canvas: Canvas, camera: Camera, light: Light, plant: Plant) -> None:
    """Enlarge or shrink the plant's sprite to its place; its mask is its label."""
    foot = camera.rotation @ (np.array([plant.x, plant.y, plant.z]) - camera.position)
    k = camera.intrinsics
    z = float(foot[2])
    if z < 1.0:
        return
    u = float(foot[0]) / z * k.fx + k.cx
    v = float(foot[1]) / z * k.fy + k.cy
    width, height = plant.width * k.fx / z, plant.height * k.fy / z
    x0, x1 = max(0, math.floor(u - width / 2)), min(canvas.width, math.ceil(u + width / 2))
    y0, y1 = max(0, math.floor(v - height)), min(canvas.height, math.ceil(v))
    if x1 - x0 < 1 or y1 - y0 < 1:
        return
    texture = plant.sprite.texture
    image = texture.level(texture.levels[0].shape[0] / max(height, 1.0))
    sx, sy = image.shape[1] / width, image.shape[0] / height
    left = u - width / 2
    matrix = np.array(
        [[sx, 0.0, (x0 + 0.5 - left) * sx - 0.5], [0.0, sy, (y0 + 0.5 - (v - height)) * sy - 0.5]]
    )
    if plant.mirrored:
        matrix[0] = [-sx, 0.0, image.shape[1] - 1 - matrix[0, 2]]
    patch = cv2.warpAffine(
        image,
        matrix,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    shade, mask = cv2.split(patch)
    mask = cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)[1]
    clear = math.exp(-light.haze * z)
    strength = light.ambient * 0.85 + light.sunshine * 0.55
    table = foliage_table(*plant.table).astype(np.float64) * strength * clear + light.horizon * (
        1 - clear
    )
    colored = cv2.LUT(cv2.merge([shade, shade, shade]), np.clip(table, 0, 255).astype(np.uint8))
    cv2.copyTo(colored, mask, canvas.color[y0:y1, x0:x1])
    surface = canvas.announce_one(labels.VEGETATION, (0.0, 0.0, 1.0 / z))
    part = canvas.surface[y0:y1, x0:x1]
    cv2.copyTo(np.full(part.shape, surface, dtype=np.int32), mask, part)


# -- buildings ---------------------------------------------------------------------------------------


def _paint_house(
    canvas: Canvas, camera: Camera, light: Light, house: House, walls: list[int]
) -> None:
    """Paint ``walls``, those in view, with their windows, then the roof."""
    cos, sin = math.cos(house.yaw), math.sin(house.yaw)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    to_camera = camera.rotation @ turn
    origin = camera.rotation @ (np.array([house.x, house.y, 0.0]) - camera.position)
    eye = turn.T @ (camera.position - np.array([house.x, house.y, 0.0]))
    half_l, half_d, h = house.length / 2, house.depth / 2, house.height
    distance = max(float(np.linalg.norm(origin)), 1.0)
    clear = math.exp(-light.haze * distance)

    def view(points: list[tuple[float, float, float]]) -> Float:
        result: Float = np.array(points) @ to_camera.T + origin
        return result

    def shade(normal: tuple[float, float, float]) -> Float:
        world = turn @ np.array(normal)
        lit: Float = light.ambient * (0.82 + 0.2 * world[2]) + light.sunshine * max(
            0.0, float(world @ light.sun)
        )
        return lit

    pitched = house.roof > 0
    for wall in walls:
        left, right = wall_ends(house, wall)
        normal = (*WALL_NORMALS[wall], 0.0)
        texture = house.facade.texture if wall == 0 else house.facade.side
        points = view([(*left, h), (*right, h), (*right, 0.0), (*left, 0.0)])
        if pitched and normal[0] != 0.0:
            gable = view(
                [(*left, h - 0.02), (normal[0] * half_l, 0.0, h + house.roof), (*right, h - 0.02)]
            )
            wall_color = np.asarray(house.facade.color) * house.tint * 0.97 * shade(
                normal
            ) * clear + light.horizon * (1 - clear)
            r, g, b = np.clip(wall_color, 0, 255).tolist()
            n = to_camera @ np.array(normal)
            surface = canvas.announce_one(labels.BUILDING, camera.plane(n, float(n @ gable[0])))
            canvas.fill_in_space(camera, gable, (r, g, b), surface)
        _paint_wall(
            canvas,
            camera,
            points,
            texture,
            to_camera @ np.array(normal),
            shade(normal) * house.tint,
            light,
            clear,
        )
    if pitched:
        slope = house.roof / half_d
        over = 0.3
        for sign in (-1.0, 1.0):
            normal = (0.0, sign * slope / math.hypot(1, slope), 1.0 / math.hypot(1, slope))
            eaves = sign * (half_d + over)
            low = h - over * slope
            if (eye[1] - eaves) * normal[1] + (eye[2] - low) * normal[2] <= 0.0:
                continue
            points = view(
                [
                    (-half_l - over, eaves, low),
                    (half_l + over, eaves, low),
                    (half_l + over, 0.0, h + house.roof),
                    (-half_l - over, 0.0, h + house.roof),
                ]
            )
            tone = np.asarray(house.roof_color) * shade(normal) * clear + light.horizon * (
                1 - clear
            )
            r, g, b = np.clip(tone, 0, 255).tolist()
            n = to_camera @ np.array(normal)
            surface = canvas.announce_one(labels.BUILDING, camera.plane(n, float(n @ points[0])))
            canvas.fill_in_space(camera, points, (r, g, b), surface)


def _paint_wall(
    canvas: Canvas,
    camera: Camera,
    points: Float,
    texture: Texture,
    normal: Float,
    lit: Float,
    light: Light,
    clear: float,
) -> None:
    """Paint a textured rectangle: corners top left, top right, bottom right, bottom left as seen."""
    clipped = clip_near(points)
    if len(clipped) < 3:
        return
    pixels = camera.pixels(clipped)
    k = camera.intrinsics
    x0, y0 = np.floor(np.maximum(pixels.min(axis=0), 0)).astype(int).tolist()
    x1, y1 = (
        np.minimum(np.ceil(pixels.max(axis=0)) + 1, (canvas.width, canvas.height))
        .astype(int)
        .tolist()
    )
    if x1 - x0 < 1 or y1 - y0 < 1:
        return
    surface = canvas.announce_one(labels.BUILDING, camera.plane(normal, float(normal @ points[0])))
    if (x1 - x0) * (y1 - y0) < _TEXTURED:
        mean = texture.levels[-1].mean(axis=(0, 1)) * lit * clear + light.horizon * (1 - clear)
        r, g, b = np.minimum(mean, 255.0).tolist()
        canvas.fill(pixels, (r, g, b), surface)
        return
    meters = float(np.linalg.norm(points[3] - points[0]))
    depth = float(np.sqrt(max(clipped[:, 2].min(), 1.0) * clipped[:, 2].max()))
    image = texture.level(texture.levels[0].shape[0] / meters * depth / k.fy)
    height, width = image.shape[:2]
    gain = lit * clear
    fog = light.horizon * (1 - clear)
    shaded = np.asarray(cv2.transform(image, np.column_stack([np.diag(gain), fog])))
    matrix = k.matrix @ np.column_stack(
        [(points[1] - points[0]) / width, (points[3] - points[0]) / height, points[0]]
    )
    if abs(np.linalg.det(matrix)) < 1e-9:
        return
    inverse = np.linalg.inv(matrix) @ np.array([[1.0, 0, x0], [0, 1.0, y0], [0, 0, 1.0]])
    patch = cv2.warpPerspective(
        shaded,
        inverse,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    corner = fixed_point(pixels)
    mask = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    cv2.fillConvexPoly(
        mask,
        corner - np.array([x0 << SHIFT, y0 << SHIFT], dtype=np.int32),
        (255,),
        cv2.LINE_8,
        SHIFT,
    )
    cv2.copyTo(patch, mask, canvas.color[y0:y1, x0:x1])
    cv2.fillConvexPoly(canvas.surface, corner, (surface,), cv2.LINE_8, SHIFT)
