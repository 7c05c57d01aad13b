"""What the sun leaves dark: outlines on the ground, and who stands in them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets.camera import NEAR, Camera, clip_near
from rt_panoptic_core.datasets.generated_streets.canvas import fixed_point
from rt_panoptic_core.datasets.generated_streets.layout import House, Plant, Solid
from rt_panoptic_core.datasets.generated_streets.light import Light


def cast_shadows(
    camera: Camera, light: Light, solids: list[Solid], houses: list[House]
) -> Iterator[npt.NDArray[np.int32]]:
    """Outlines of the shadows of vehicles, people, poles and buildings on the ground."""
    boxes = []
    for solid in solids:
        length, width, height = (v * solid.scale for v in solid.mesh.size)
        if width > 3.0 and height > 5.0:
            width = 0.3  # a lamp's or gantry's arm is thin
        boxes.append((solid.x, solid.y, solid.yaw, length / 2, width / 2, min(height, 12.0) * 0.92))
    if light.has_shadows:
        for house in houses:
            boxes.append(
                (
                    house.x,
                    house.y,
                    house.yaw,
                    house.length / 2,
                    house.depth / 2,
                    house.height + house.roof * 0.6,
                )
            )
    if not boxes:
        return
    array = np.array(boxes)
    cos, sin = np.cos(array[:, 2]), np.sin(array[:, 2])
    signs = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)], dtype=np.float64)
    lx, ly = array[:, 3:4] * signs[:, 0], array[:, 4:5] * signs[:, 1]
    x = array[:, 0:1] + cos[:, None] * lx - sin[:, None] * ly
    y = array[:, 1:2] + sin[:, None] * lx + cos[:, None] * ly
    # Without sun only what is right under a thing is darker.
    cast = -light.sun[:2] / max(float(light.sun[2]), 0.12) * light.has_shadows
    x2, y2 = x + cast[0] * array[:, 5:6], y + cast[1] * array[:, 5:6]
    ground = np.stack(
        [np.concatenate([x, x2], 1), np.concatenate([y, y2], 1), np.zeros((len(array), 8))], axis=2
    )
    inside = camera.to_camera(ground.reshape(-1, 3)).reshape(-1, 8, 3)
    nearest, furthest = inside[..., 2].min(axis=1), inside[..., 2].max(axis=1)
    pixels = camera.pixels(inside[nearest > NEAR])
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    shown = (high[:, 1] - low[:, 1] > 0.8) & (high[:, 0] > 0)
    shown &= low[:, 0] < camera.intrinsics.width
    for corners in fixed_point(pixels[shown]):
        yield np.asarray(cv2.convexHull(corners)[:, 0], dtype=np.int32)
    for points in inside[(nearest <= NEAR) & (furthest > NEAR)]:
        flat = cv2.convexHull(points[:, [0, 2]].astype(np.float32), returnPoints=False)[:, 0]
        clipped = clip_near(points[flat])
        if len(clipped) >= 3:
            yield fixed_point(camera.pixels(clipped))


def cast_by_crowns(
    camera: Camera, light: Light, plants: list[Plant]
) -> Iterator[npt.NDArray[np.int32]]:
    """Outlines of the ragged shadows of crowns."""
    if not light.has_shadows:
        return
    if not plants:
        return
    cast = -light.sun[:2] / max(float(light.sun[2]), 0.12)
    angle = np.linspace(0, 2 * math.pi, 20, endpoint=False)
    place = np.array([(p.x, p.y, p.z + p.height * 0.45, p.width, p.height) for p in plants])
    middle = place[:, :2] + cast * place[:, 2:3]
    ahead = (middle - camera.position[:2]) @ camera.rotation[2, :2]
    near = (ahead > -6) & (ahead < 90)
    place, middle = place[near], middle[near]
    x, y, width, height = (place[:, i : i + 1] for i in (0, 1, 3, 4))
    ragged = 1.0 + 0.3 * np.sin(angle * 5 + x * 7) * np.cos(angle * 3 + y * 5)
    stretch = np.hypot(1.0, float(np.hypot(*cast)) * height / np.maximum(width, 0.1) * 0.6)
    heading = math.atan2(cast[1], cast[0])
    u = width * 0.42 * ragged * np.cos(angle) * stretch
    v = width * 0.42 * ragged * np.sin(angle)
    ground = np.zeros((*u.shape, 3))
    ground[..., 0] = middle[:, 0:1] + math.cos(heading) * u - math.sin(heading) * v
    ground[..., 1] = middle[:, 1:2] + math.sin(heading) * u + math.cos(heading) * v
    inside = camera.to_camera(ground.reshape(-1, 3)).reshape(ground.shape)
    lowest, highest = inside[..., 2].min(axis=1), inside[..., 2].max(axis=1)
    for points in inside[lowest > NEAR]:
        yield fixed_point(camera.pixels(points))
    for points in inside[(lowest <= NEAR) & (highest > NEAR)]:
        clipped = clip_near(points)
        if len(clipped) >= 3:
            yield fixed_point(camera.pixels(clipped))


def in_shadow(solids: list[Solid], houses: list[House], light: Light) -> npt.NDArray[np.bool_]:
    """bool [N]: whether a building keeps the sun from a solid's middle."""
    number = len(solids)
    result = np.zeros(number, dtype=bool)
    if number == 0 or not houses or not light.has_shadows:
        return result
    position = np.array([(s.x, s.y, s.z + 0.6 * s.mesh.size[2] * s.scale) for s in solids])
    sun = light.sun[:2] / max(float(np.hypot(*light.sun[:2])), 1e-6)
    climb = float(light.sun[2]) / max(float(np.hypot(*light.sun[:2])), 1e-6)
    box = np.array([(h.x, h.y, h.yaw, h.length / 2, h.depth / 2, h.height) for h in houses])
    cos, sin = np.cos(box[:, 2]), np.sin(box[:, 2])
    dx, dy = position[:, 0:1] - box[:, 0], position[:, 1:2] - box[:, 1]
    enter = np.zeros((number, len(houses)))
    leave = np.full((number, len(houses)), 60.0)
    for local, direction, half in (
        (cos * dx + sin * dy, cos * sun[0] + sin * sun[1], box[:, 3]),
        (-sin * dx + cos * dy, -sin * sun[0] + cos * sun[1], box[:, 4]),
    ):
        steep = np.where(np.abs(direction) < 1e-6, 1e-6, direction)
        one, other = (-half - local) / steep, (half - local) / steep
        enter = np.maximum(enter, np.minimum(one, other))
        leave = np.minimum(leave, np.maximum(one, other))
    hit = (enter < leave) & (position[:, 2:3] + enter * climb < box[:, 5])
    return np.asarray(hit.any(axis=1), dtype=np.bool_)
