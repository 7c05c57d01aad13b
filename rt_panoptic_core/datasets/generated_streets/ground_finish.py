"""Gives painted ground its grain, the shadows that fall on it, and haze."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets.canvas import SHIFT
from rt_panoptic_core.datasets.generated_streets.ground import Ground
from rt_panoptic_core.datasets.generated_streets.textures import Texture, ground_noise

_TILE = 8.0  # metres that one ground texture spans


def finish_ground(
    ground: Ground,
    shadows: Iterator[npt.NDArray[np.int32]],
    dapples: Iterator[npt.NDArray[np.int32]],
) -> None:
    """Give the painted ground its grain, the shadows (polygons in fixed point) and haze."""
    canvas, camera = ground.canvas, ground.camera
    k = camera.intrinsics
    forward = camera.rotation[2]
    # The row of the horizon in the middle; a margin covers the camera's roll.
    horizon = k.cy + k.fy * (
        math.tan(math.asin(float(np.clip(forward[2], -1, 1)))) if abs(forward[2]) < 1 else 0.0
    )
    roll = abs(float(camera.rotation[0, 2])) * canvas.width / 2
    top = int(max(0, min(canvas.height, horizon - roll)))
    if top >= canvas.height - 2:
        return
    color = canvas.color[top:]
    surface = canvas.surface[top:].astype(np.uint8)
    texture = _texture(ground, top, horizon, surface)
    cv2.multiply(color, texture, dst=color, scale=1.0 / 128)
    mask = np.zeros(color.shape[:2], dtype=np.uint8)
    shift = np.array([0, -top << SHIFT], dtype=np.int32)
    strong = ground.light.has_shadows
    for polygon in shadows:
        cv2.fillConvexPoly(mask, polygon + shift, (255 if strong else 150,), cv2.LINE_8, SHIFT)
    for polygon in dapples:
        cv2.fillPoly(mask, [polygon + shift], (225,), cv2.LINE_8, SHIFT)
    mask = np.asarray(cv2.blur(mask, (5, 3) if strong else (9, 5)), dtype=np.uint8)
    mask[surface < ground.road] = 0
    factor = ground.light.shadow_factor if ground.light.has_shadows else np.full(3, 0.45)
    steps = np.arange(256)[:, None] / 255.0
    table = np.rint(255 * (1 - steps * (1 - factor))).astype(np.uint8)[:, None, :]
    cv2.multiply(color, cv2.LUT(cv2.merge([mask, mask, mask]), table), dst=color, scale=1.0 / 255)
    _haze(ground, top, horizon)


def _texture(
    ground: Ground, top: int, horizon: float, surface: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Grey multiplier about 128 of every pixel from row ``top`` on, as three channels."""
    canvas, camera = ground.canvas, ground.camera
    k = camera.intrinsics
    height, width = canvas.height - top, canvas.width
    result = np.full((height, width), 128, dtype=np.uint8)
    position = camera.position.copy()
    position[:2] -= np.floor(position[:2] / _TILE) * _TILE
    kind_of = np.zeros(256, dtype=np.uint8)
    kind_of[[ground.sidewalk, ground.paving]] = 1
    kind_of[ground.terrain] = 2
    kinds = cv2.LUT(surface, kind_of)
    camera_height = float(camera.position[2])
    # Bands of rows by distance, each from the level of the texture that fits.
    distances = (1.0, 7.0, 14.0, 30.0)
    rows = [int(np.clip(horizon + k.fy * camera_height / z - top, 0, height)) for z in distances]
    for (near, far), (bottom, upper) in zip(pairwise(distances), pairwise(rows), strict=True):
        if bottom <= upper:
            continue
        middle = math.sqrt(near * far) if near > 1.0 else 5.0
        for number, name in enumerate(("asphalt", "paving", "grass")):
            mask = (kinds[upper:bottom] == number).view(np.uint8)
            if not mask.any():
                continue
            left, _, wide, _ = cv2.boundingRect(mask)
            texture = _ground_textures()[name]
            shrink = texture.levels[0].shape[0] / _TILE * middle / k.fx * 1.6
            image = texture.level(shrink)
            scale = _TILE / image.shape[0]
            matrix = k.matrix @ np.column_stack(
                [
                    camera.rotation[:, 0] * scale,
                    camera.rotation[:, 1] * scale,
                    -camera.rotation @ position,
                ]
            )
            offset = np.array([[1.0, 0, left], [0, 1.0, top + upper], [0, 0, 1.0]])
            patch = cv2.warpPerspective(
                image,
                np.linalg.inv(matrix) @ offset,
                (wide, bottom - upper),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_WRAP,
            )
            area = slice(left, left + wide)
            cv2.copyTo(patch, mask[:, area], result[upper:bottom, area])
    return np.asarray(cv2.merge([result, result, result]), dtype=np.uint8)


def _haze(ground: Ground, top: int, horizon: float) -> None:
    """Fade the ground into the horizon's colour with distance."""
    canvas, camera, light = ground.canvas, ground.camera, ground.light
    k = camera.intrinsics
    nearest = 0.03 / max(light.haze, 1e-6)
    bottom = int(
        min(canvas.height, horizon + k.fy * float(camera.position[2]) / max(nearest, 4.0) + 1)
    )
    if bottom <= top:
        return
    rows = np.arange(top, bottom)
    depth = k.fy * float(camera.position[2]) / np.maximum(rows - horizon, 0.6)
    clear = np.exp(-light.haze * depth).astype(np.float32)[:, None, None]
    part = canvas.color[top:bottom]
    on_ground = canvas.surface[top:bottom] >= ground.road
    mixed = part * clear + light.horizon.astype(np.float32) * (1 - clear)
    cv2.copyTo(np.rint(mixed).astype(np.uint8), on_ground.view(np.uint8), part)


@cache
def _ground_textures() -> dict[str, Texture]:
    return {name: Texture.of(image, 7) for name, image in ground_noise().items()}
