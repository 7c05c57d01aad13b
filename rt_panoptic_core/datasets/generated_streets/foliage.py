"""Crowns and bushes as sprites, and the colours of their leaves; made once a process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets.textures import SEED, Image, Rgb, Texture


@dataclass(frozen=True)
class Sprite:
    """A plant: brightness with its mask, uint8 [H, W, 2] per level; mask > 127 is leaf."""

    texture: Texture
    aspect: float  # width over height


def _blobs(rng: np.random.Generator, outline: str, size: int, density: float) -> Image:
    """Brightness and mask of a crown: many small leaf clusters, darker below and inside."""
    shade = np.zeros((size, size), dtype=np.uint8)
    mask = np.zeros((size, size), dtype=np.uint8)
    clusters: list[tuple[float, float, float]] = []
    while len(clusters) < int(340 * density):
        x, y = rng.uniform(-1, 1), rng.uniform(-1, 1)
        if outline == "round":
            lobes = 1.0 - 0.2 * math.cos(3 * math.atan2(y, x)) * abs(x)
            within = x * x + (y * 1.08) ** 2 < 0.74 * lobes
        elif outline == "tall":
            within = (x / 0.62) ** 2 + (y / 0.92) ** 2 < 0.95
        elif outline == "cone":
            within = abs(x) < 0.06 + 0.72 * (y + 1) / 2 and y < 0.92
        else:  # bush: a flat base
            within = y > -0.75 + 0.45 * x * x - 0.2 * math.sin(5 * x)
        if within:
            clusters.append((x, y, rng.uniform()))
    for index in rng.permutation(len(clusters)):
        x, y, extra = clusters[index]
        cx, cy = (x * 0.88 + 1) * size / 2, (y * 0.88 + 1) * size / 2
        radius = size * rng.uniform(0.02, 0.055)
        # Light from the upper left, shade below and to the right.
        light = 112 - 56 * y - 24 * x + 64 * (extra - 0.5)
        for _ in range(9):
            ox, oy = rng.normal(0, radius, 2)
            r = radius * rng.uniform(0.22, 0.55)
            # A clump is brighter on top than underneath.
            tone = int(np.clip(light - 26 * oy / radius + rng.normal(0, 16), 8, 250))
            center = (round(cx + ox), round(cy + oy))
            axes = (max(1, round(r)), max(1, round(r * rng.uniform(0.5, 1.0))))
            angle = float(rng.uniform(0, 180))
            cv2.ellipse(shade, center, axes, angle, 0, 360, tone, -1)
            cv2.ellipse(mask, center, axes, angle, 0, 360, 255, -1)
    # Leaves: what is solid so far becomes ragged at its rim and speckled inside.
    leaves = _unit(
        cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), 1.6)
    )
    soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), size / 90), np.float32) / 255
    ragged = (soft + 0.16 * leaves > 0.42) & (soft > 0.06)
    inside = np.asarray(cv2.GaussianBlur(shade, (0, 0), 2.5), np.float32) / np.maximum(
        np.asarray(cv2.GaussianBlur(mask, (0, 0), 2.5), np.float32) / 255, 0.05
    )
    grain = _unit(
        cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), 1.0)
    )
    full = np.where(mask > 0, 0.65 * shade + 0.35 * inside, inside * 0.8) + 15 * grain + 15 * leaves
    return np.dstack([np.clip(full, 0, 255).astype(np.uint8), ragged.astype(np.uint8) * 255])


def _unit(noise: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(noise / noise.std(), dtype=np.float32)


def _branches(rng: np.random.Generator, size: int) -> Image:
    """A leafless crown."""
    shade = np.zeros((size, size), dtype=np.uint8)
    mask = np.zeros((size, size), dtype=np.uint8)

    def grow(x: float, y: float, angle: float, length: float, width: float, depth: int) -> None:
        ex, ey = x + length * math.sin(angle), y - length * math.cos(angle)
        tone = int(rng.uniform(70, 150))
        line = ((round(x), round(y)), (round(ex), round(ey)))
        cv2.line(shade, *line, tone, max(1, round(width)))
        cv2.line(mask, *line, 255, max(1, round(width)))
        if depth == 0:
            return
        for _ in range(3 if depth > 2 else 4):
            grow(
                ex,
                ey,
                angle + rng.normal(0, 0.45),
                length * rng.uniform(0.6, 0.86),
                width * 0.66,
                depth - 1,
            )

    for lean in (-0.35, 0.0, 0.35):
        grow(size / 2, size - 1, lean + rng.normal(0, 0.1), size * 0.22, size * 0.022, 5)
    return np.dstack([shade, mask])


@cache
def plants(kind: str) -> tuple[Sprite, ...]:
    """Sprites of ``"round"``, ``"tall"`` or ``"cone"`` crowns, ``"bare"`` ones, or a ``"bush"``."""
    kinds = ("round", "tall", "cone", "bare", "bush")
    rng = np.random.default_rng([SEED, 4, kinds.index(kind)])
    made = []
    for index in range(6 if kind == "round" else 4):
        size = 512
        density = (0.75, 1.0, 1.25)[index % 3]
        image = _branches(rng, size) if kind == "bare" else _blobs(rng, kind, size, density)
        rows = np.flatnonzero(image[..., 1].max(axis=1))
        columns = np.flatnonzero(image[..., 1].max(axis=0))
        cut = np.ascontiguousarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        made.append(Sprite(Texture.of(cut), cut.shape[1] / cut.shape[0]))
    return tuple(made)


FOLIAGE: dict[str, tuple[tuple[Rgb, Rgb], ...]] = {
    "summer": (
        ((22, 34, 16), (126, 152, 78)),
        ((16, 28, 14), (98, 132, 66)),
        ((26, 36, 18), (140, 150, 84)),
        ((18, 30, 20), (84, 118, 72)),
    ),
    "autumn": (
        ((40, 26, 14), (180, 128, 52)),
        ((36, 32, 16), (164, 146, 62)),
        ((44, 20, 14), (160, 84, 44)),
        ((24, 34, 16), (128, 140, 70)),
    ),
    "conifer": (((10, 20, 14), (62, 86, 58)), ((12, 22, 18), (70, 92, 70))),
    "bare": (((44, 36, 32), (122, 108, 98)), ((34, 30, 28), (96, 88, 82))),
    "dry": (((46, 44, 22), (164, 152, 92)), ((34, 38, 20), (124, 128, 74))),
}
"""Darkest and brightest leaf colour by season or kind."""


@cache
def foliage_table(kind: str, index: int) -> Image:
    """Colours of brightness 0 … 255, uint8 [256, 1, 3], for :func:`cv2.LUT`."""
    choices = FOLIAGE[kind]
    dark, bright = (np.array(c, dtype=np.float64) for c in choices[index % len(choices)])
    t = np.linspace(0, 1, 256)[:, None] ** 1.15
    return np.clip(dark + t * (bright - dark), 0, 255).round().astype(np.uint8)[:, None, :]
