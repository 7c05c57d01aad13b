"""The sky and what closes the view: hills, woods, roofs far away."""

from __future__ import annotations

import math
import random

import cv2
import numpy as np

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.camera import Camera, Float
from rt_panoptic_core.datasets.generated_streets.canvas import Canvas, Rgb
from rt_panoptic_core.datasets.generated_streets.layout import Street
from rt_panoptic_core.datasets.generated_streets.light import Light
from rt_panoptic_core.datasets.generated_streets.textures import clouds

_COARSE = 4


def paint_sky(canvas: Canvas, camera: Camera, light: Light) -> None:
    """Fill the canvas with sky, surface 0: it is painted at a quarter of the size and enlarged."""
    canvas.announce([labels.SKY], [0], np.zeros((1, 3)), furthest=np.array([np.inf]))
    k = camera.intrinsics
    horizon = k.cy + k.fy * math.tan(math.asin(float(np.clip(camera.rotation[2, 2], -0.9, 0.9))))
    bottom = int(np.clip(horizon + 0.03 * canvas.height + 4, 4, canvas.height))
    height, width = max(2, bottom // _COARSE + 1), canvas.width // _COARSE + 1
    rows = (np.arange(height) + 0.5) * _COARSE
    elevation = np.arctan2(horizon - rows, k.fy)
    share = np.clip(elevation / math.radians(32), 0, 1) ** 0.7
    base = light.horizon + share[:, None] * (light.zenith - light.horizon)
    picture = np.repeat(base[:, None, :], width, axis=1).astype(np.float32)
    if light.cloud > 0.02:
        yaw = math.atan2(camera.rotation[2, 1], camera.rotation[2, 0])
        azimuth = np.arctan2((np.arange(width) + 0.5) * _COARSE - k.cx, k.fx) - yaw
        texture = clouds()
        columns = (
            (azimuth / (2 * math.pi) * 2.5 + light.cloud_shift[0]) * texture.shape[1]
        ).astype(np.int64)
        # Clouds lie in a layer: nearer the horizon they are flatter.
        up = 0.22 / (np.maximum(elevation, 0.0) + 0.12)
        lines = ((up + light.cloud_shift[1]) * texture.shape[0]).astype(np.int64)
        part = texture[np.ix_(lines % texture.shape[0], columns % texture.shape[1])]
        density = np.asarray(cv2.GaussianBlur(part.astype(np.float32), (0, 0), 1.2), np.float32)
        threshold = 205 - 150 * light.cloud
        cover = np.clip((density - threshold) / 70, 0, 1)[..., None] * min(1.0, 0.5 + light.cloud)
        relief = 1.0 - 0.22 * np.clip((density - threshold - 40) / 110, 0, 1)[..., None]
        picture += cover * (light.cloud_color.astype(np.float32) * relief - picture)
    big = cv2.resize(
        np.clip(picture, 0, 255).astype(np.uint8),
        (width * _COARSE, height * _COARSE),
        interpolation=cv2.INTER_LINEAR,
    )
    rows_painted = min(canvas.height, big.shape[0])
    canvas.color[:rows_painted] = big[:rows_painted, : canvas.width]


def paint_distance(canvas: Canvas, camera: Camera, street: Street, light: Light) -> None:
    """Hills, woods and roofs beyond what is built, standing on the horizon."""
    rng = random.Random(f"{street.seed}/distance")
    k = camera.intrinsics
    yaw = math.atan2(camera.rotation[2, 1], camera.rotation[2, 0])
    reach = math.atan2(k.width / 2, k.fx) + 0.15
    lit = light.ambient + light.sunshine * 0.6

    def ridge(distance: float, profile: Float, azimuth: Float, color: Rgb, class_id: int) -> None:
        top = np.stack([np.cos(azimuth) * distance, np.sin(azimuth) * distance, profile], axis=1)
        low = top[::-1].copy()
        low[:, 2] = -2.0 - distance * 0.004
        points = np.concatenate([top, low])
        inside = points @ camera.rotation.T
        clear = math.exp(-light.haze * distance)
        shaded = np.asarray(color) * lit * clear + light.horizon * (1 - clear)
        surface = canvas.announce_one(class_id, (0.0, 0.0, 1.0 / distance))
        r, g, b = np.clip(shaded, 0, 255).tolist()
        canvas.fill(camera.pixels(inside), (r, g, b), surface, convex=False)

    if street.hills > 0.05:
        azimuth = np.linspace(yaw + reach, yaw - reach, 60, dtype=np.float64)
        phases = [rng.uniform(0, 2 * math.pi) for _ in range(3)]
        profile = np.zeros_like(azimuth)
        for number, phase in enumerate(phases):
            profile += np.sin(azimuth * (3 + 4 * number) + phase) / (1 + number)
        ridge(
            1500.0,
            70 * street.hills * (1.1 + 0.6 * profile),
            azimuth,
            (92, 104, 88),
            labels.VEGETATION,
        )
    # Steps of the azimuth fixed to the world.
    if street.urban and street.kind != "park":
        step = 0.028
        first = math.floor((yaw - reach) / step)
        count = math.ceil(2 * reach / step) + 2
        numbers = np.arange(first, first + count)[::-1]
        tall = np.array([random.Random(f"{street.seed}/roof/{n}").uniform(7, 22) for n in numbers])
        azimuth = np.repeat(numbers * step, 2).astype(np.float64)
        azimuth[::2] += step
        ridge(330.0, np.repeat(tall, 2), azimuth, (112, 104, 100), labels.BUILDING)
    if not street.urban or street.kind in ("park", "suburb"):
        step = 0.006
        first = math.floor((yaw - reach) / step)
        numbers = np.arange(first, first + math.ceil(2 * reach / step) + 2)[::-1]
        wave = (
            np.sin(numbers * 0.37 + rng.uniform(0, 6))
            + np.sin(numbers * 0.113 + 1.3)
            + 0.8 * np.sin(numbers * 1.71)
        )
        height = (4.0 + 8.0 * street.forest) * (1 + 0.22 * wave)
        ridge(300.0, height, (numbers * step).astype(np.float64), (58, 72, 48), labels.VEGETATION)
