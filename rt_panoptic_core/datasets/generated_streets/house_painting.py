"""Paints buildings: walls with their windows, gables, roofs."""

from __future__ import annotations

import math

import cv2
import numpy as np

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.camera import Camera, Float, clip_near
from rt_panoptic_core.datasets.generated_streets.canvas import SHIFT, Canvas, fixed_point
from rt_panoptic_core.datasets.generated_streets.layout import House
from rt_panoptic_core.datasets.generated_streets.light import Light
from rt_panoptic_core.datasets.generated_streets.textures import Texture
from rt_panoptic_core.datasets.generated_streets.visibility import WALL_NORMALS, wall_ends

_TEXTURED = 160  # pixels of a wall's bounding box from where on it has windows


def paint_house(
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
