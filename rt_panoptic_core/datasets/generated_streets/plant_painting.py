"""Paints crowns and bushes."""

from __future__ import annotations

import math

import cv2
import numpy as np

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.camera import Camera
from rt_panoptic_core.datasets.generated_streets.canvas import Canvas
from rt_panoptic_core.datasets.generated_streets.foliage import foliage_table
from rt_panoptic_core.datasets.generated_streets.layout import Plant
from rt_panoptic_core.datasets.generated_streets.light import Light


def paint_plant(canvas: Canvas, camera: Camera, light: Light, plant: Plant) -> None:
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
