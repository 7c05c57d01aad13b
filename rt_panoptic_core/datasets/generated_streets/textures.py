"""Textures in several sizes, and the noise of ground and clouds; made once a process from a fixed seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Rgb = tuple[int, int, int]

SEED = 20200613
"""Of all textures: the streets of every process look alike."""


@dataclass(frozen=True)
class Texture:
    """A texture with its half, quarter, … sizes."""

    levels: tuple[Image, ...]

    @classmethod
    def of(cls, image: Image, count: int = 5) -> Texture:
        """Texture of ``image`` with up to ``count`` levels, none below 4 pixels."""
        levels = [image]
        while len(levels) < count and min(levels[-1].shape[:2]) >= 8:
            last = levels[-1]
            half = (max(last.shape[1] // 2, 1), max(last.shape[0] // 2, 1))
            levels.append(
                np.asarray(cv2.resize(last, half, interpolation=cv2.INTER_AREA), np.uint8)
            )
        return cls(tuple(levels))

    def level(self, shrink: float) -> Image:
        """The level for a picture ``shrink`` times smaller than the texture."""
        index = int(math.log2(shrink) + 0.5) if shrink > 1.0 else 0
        return self.levels[min(index, len(self.levels) - 1)]


def octaves(
    rng: np.random.Generator, size: tuple[int, int], first: int, last: int
) -> npt.NDArray[np.float32]:
    """Tileable noise, mean 0 and deviation 1, from grids of ``first`` … ``last`` cells (powers of 2)."""
    height, width = size
    total = np.zeros(size, dtype=np.float32)
    cells = first
    weight = 1.0
    while cells <= last:
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        # Wrapped by two cells on each side so that the interpolation is seamless.
        padded = np.pad(grid, 2, mode="wrap")
        big = cv2.resize(
            padded,
            (width * (cells + 4) // cells, height * (cells + 4) // cells),
            interpolation=cv2.INTER_CUBIC,
        )
        y, x = 2 * height // cells, 2 * width // cells
        total += weight * big[y : y + height, x : x + width]
        cells *= 2
        weight *= 0.6
    return np.asarray((total - total.mean()) / total.std(), dtype=np.float32)


def _to_gray(noise: npt.NDArray[np.float32], contrast: float) -> Image:
    return np.clip(128 + contrast * noise, 0, 255).astype(np.uint8)


@cache
def ground_noise() -> dict[str, Image]:
    """Tileable grey textures about 128, uint8 [512, 512]: ``asphalt``, ``paving``, ``grass``."""
    rng = np.random.default_rng([SEED, 1])
    size = (512, 512)
    fine = rng.standard_normal(size).astype(np.float32)
    blotches = octaves(rng, size, 2, 32)
    asphalt = 7.0 * blotches + 9.0 * fine
    paving = 5.0 * blotches + 5.0 * fine
    slab = 512 // 16
    tone = rng.standard_normal((16, 16)).astype(np.float32)
    paving += 5.0 * np.kron(tone, np.ones((slab, slab), dtype=np.float32))
    for k in range(16):
        paving[k * slab : k * slab + 2] -= 26
        shifted = (np.arange(512) // slab) % 2 == 0
        paving[shifted, k * slab : k * slab + 2] -= 22
        column = (k * slab + slab // 2) % 512
        paving[~shifted, column : column + 2] -= 22
    grass = (
        14.0 * blotches
        + 10.0 * cv2.GaussianBlur(fine, (3, 3), 0.8) * 2
        + 8.0 * octaves(rng, size, 32, 128)
    )
    return {
        "asphalt": np.clip(128 + asphalt, 40, 220).astype(np.uint8),
        "paving": np.clip(128 + paving, 40, 220).astype(np.uint8),
        "grass": np.clip(128 + grass, 40, 220).astype(np.uint8),
    }


@cache
def clouds() -> Image:
    """Tileable cloud density, uint8 [256, 1024]."""
    rng = np.random.default_rng([SEED, 2])
    noise = octaves(rng, (256, 1024), 4, 128)
    return _to_gray(noise, 48)
