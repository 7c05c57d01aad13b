"""Fronts of buildings: walls, windows, shops, doors; made once a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from rt_panoptic_core.datasets.generated_streets.textures import SEED, Image, Rgb, Texture, octaves

FLOOR_PIXELS = 48
"""Texture pixels of one storey, and of one window bay."""


@dataclass(frozen=True)
class Facade:
    """A street front: its texture, its number of storeys and bays, and the wall's mean colour."""

    texture: Texture
    side: Texture
    floors: int
    bays: int
    color: tuple[int, int, int]
    kind: str  # "house", "block" or "office"


_WALLS = (
    (150, 92, 70),
    (128, 74, 58),
    (168, 120, 86),
    (196, 184, 160),
    (214, 206, 188),
    (226, 222, 214),
    (176, 168, 152),
    (188, 160, 120),
    (120, 112, 104),
    (156, 150, 146),
    (204, 176, 140),
    (96, 84, 78),
)
_OFFICES = ((120, 128, 134), (150, 152, 150), (92, 100, 108), (176, 174, 166), (70, 78, 86))
_SIGNS = (
    (170, 30, 34),
    (30, 70, 140),
    (28, 104, 66),
    (220, 190, 40),
    (40, 40, 44),
    (120, 40, 100),
    (230, 230, 226),
    (210, 110, 30),
)


def _rect(image: Image, x0: float, y0: float, x1: float, y1: float, color: Rgb) -> None:
    cv2.rectangle(image, (round(x0), round(y0)), (round(x1) - 1, round(y1) - 1), color, -1)


def _scaled(color: Rgb, factor: float) -> Rgb:
    return tuple(int(min(255, max(0, c * factor))) for c in color)  # type: ignore[return-value]


def _wall(rng: np.random.Generator, shape: tuple[int, int], color: Rgb, bricks: bool) -> Image:
    height, width = shape
    coarse = rng.standard_normal((height // 2 + 1, width // 2 + 1)).astype(np.float32) * 4
    noise = np.asarray(cv2.resize(coarse, (width, height)), dtype=np.float32)
    stains = octaves(rng, (64, 64), 2, 16) * 5
    noise += np.asarray(cv2.resize(stains, (width, height)), dtype=np.float32)
    # Rain-washed walls are darker near the ground and under the eaves.
    noise -= 10 * np.linspace(0, 1, height, dtype=np.float32)[:, None] ** 6
    if bricks:
        rows = np.arange(height)[:, None]
        noise -= np.where(rows % 4 == 0, 9, 0).astype(np.float32)
        noise += rng.standard_normal((height, width)).astype(np.float32) * 5
    return np.clip(np.array(color, dtype=np.float32) + noise[..., None], 0, 255).astype(np.uint8)


def _window(
    image: Image,
    rng: np.random.Generator,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    frame: Rgb,
    sash: int,
) -> None:
    _rect(image, x0 - 1, y0 - 1, x1 + 1, y1 + 1, frame)
    tone = rng.uniform(0.7, 1.25)
    glass = _scaled((58, 68, 80), tone)
    _rect(image, x0 + 1, y0 + 1, x1 - 1, y1 - 1, glass)
    roll = rng.uniform()
    if roll < 0.3:  # curtains
        cloth = _scaled((196, 188, 176), rng.uniform(0.6, 1.0))
        _rect(image, x0 + 1, y0 + 1, x0 + (x1 - x0) * 0.3, y1 - 1, cloth)
        _rect(image, x1 - (x1 - x0) * 0.3, y0 + 1, x1 - 1, y1 - 1, cloth)
    elif roll < 0.45:  # blind
        _rect(
            image,
            x0 + 1,
            y0 + 1,
            x1 - 1,
            y0 + (y1 - y0) * rng.uniform(0.2, 0.7),
            _scaled((188, 182, 170), tone),
        )
    elif roll < 0.8:  # the sky in its upper part
        bright = _scaled((112, 126, 140), tone)
        for step in range(4):
            share = step / 4
            mixed: Rgb = (
                int(bright[0] + share * (glass[0] - bright[0])),
                int(bright[1] + share * (glass[1] - bright[1])),
                int(bright[2] + share * (glass[2] - bright[2])),
            )
            low, high = y0 + 1 + step * (y1 - y0) * 0.16, y0 + 1 + (step + 1) * (y1 - y0) * 0.16
            _rect(image, x0 + 1, low, x1 - 1, high + 1, mixed)
    if sash >= 1:
        _rect(image, x0, (y0 + y1) / 2, x1, (y0 + y1) / 2 + 1, frame)
    if sash >= 2:
        _rect(image, (x0 + x1) / 2, y0, (x0 + x1) / 2 + 1, y1, frame)


def _shop(image: Image, rng: np.random.Generator, x0: int, x1: int, y0: int, y1: int) -> None:
    sign: Rgb = _SIGNS[int(rng.integers(len(_SIGNS)))]
    band = y0 + (y1 - y0) * 0.22
    _rect(image, x0, y0, x1, y1, _scaled(sign, 0.55))
    _rect(image, x0 + 1, band, x1 - 1, y1 - 5, (46, 50, 54))
    # Lit goods behind the glass.
    for _ in range(int((x1 - x0) / 5)):
        gx = rng.uniform(x0 + 2, x1 - 5)
        gy = rng.uniform(band + 4, y1 - 12)
        shade = rng.uniform(0.5, 1.2)
        goods = [(150, 130, 96), (120, 120, 124), (170, 160, 140), (140, 60, 50), (60, 90, 120)]
        _rect(
            image,
            gx,
            gy,
            gx + rng.uniform(3, 8),
            gy + rng.uniform(3, 8),
            _scaled(goods[int(rng.integers(5))], shade),
        )
    panes = max(2, (x1 - x0) // 30)
    for k in range(panes + 1):
        x = x0 + k * (x1 - x0 - 2) / panes
        _rect(image, x, band, x + 2, y1, _scaled(sign, 0.7))
    door = x0 + int(rng.integers(panes)) * (x1 - x0) / panes + 6
    _rect(image, door, band + 6, door + 16, y1, (30, 32, 34))
    _rect(image, x0, y0 + 1, x1, band, sign)
    letters = (240, 240, 236) if sum(sign) < 500 else (30, 30, 34)
    x = x0 + 8.0
    while x < x1 - 12:
        width = rng.uniform(2, 5)
        if rng.uniform() < 0.85:
            _rect(image, x, y0 + 4, x + width, band - 2, letters)
        x += width + 2
    if rng.uniform() < 0.35:  # awning
        stripes = (232, 230, 224)
        for k in range(0, x1 - x0 - 4, 6):
            _rect(
                image,
                x0 + 2 + k,
                band - 1,
                x0 + 2 + k + 6,
                band + 9,
                sign if (k // 6) % 2 else stripes,
            )


def _facade(rng: np.random.Generator, kind: str, floors: int, bays: int) -> Facade:
    size = FLOOR_PIXELS
    height, width = floors * size, bays * size
    walls = _OFFICES if kind == "office" else _WALLS
    color: Rgb = walls[int(rng.integers(len(walls)))]
    bricks = kind != "office" and max(color) - min(color) > 45
    image = _wall(rng, (height, width), color, bricks)
    side = _wall(rng, (height, max(4, bays) * size), _scaled(color, 0.97), bricks)
    frame: Rgb = (222, 220, 214) if rng.uniform() < 0.6 else (60, 56, 52)
    trim = _scaled(color, 1.22) if sum(color) < 520 else _scaled(color, 0.8)
    if kind == "office":
        window_w, window_h = rng.uniform(0.84, 0.98), rng.uniform(0.5, 0.8)
    else:
        window_w, window_h = rng.uniform(0.36, 0.56), rng.uniform(0.5, 0.66)
    sash = int(rng.integers(0, 3))
    shops = kind != "house" and rng.uniform() < 0.65
    balcony = kind == "block" and rng.uniform() < 0.3
    for floor in range(floors):
        ground = floor == floors - 1
        y0 = floor * size
        if ground and shops:
            start = 0
            while start < bays:
                span = min(int(rng.integers(2, 4)), bays - start)
                _shop(image, rng, start * size + 2, (start + span) * size - 2, y0 + 3, y0 + size)
                start += span
            continue
        top = y0 + (1 - window_h) * size * 0.5
        door_bay = int(rng.integers(bays)) if ground else -1
        for bay in range(bays):
            x = bay * size + (1 - window_w) * size / 2
            if bay == door_bay:
                doors = [(70, 30, 28), (30, 50, 70), (40, 60, 44), (50, 40, 34)]
                _rect(image, x - 1, y0 + 8, x + 0.44 * size + 1, y0 + size, frame)
                _rect(
                    image,
                    x + 1,
                    y0 + 10,
                    x + 0.44 * size - 1,
                    y0 + size,
                    doors[int(rng.integers(4))],
                )
                continue
            bottom = top + window_h * size
            _window(image, rng, x, top, x + window_w * size, bottom, frame, sash)
            if kind != "office":
                _rect(image, x - 3, bottom + 1, x + window_w * size + 3, bottom + 3, trim)
                _rect(image, x - 2, top - 4, x + window_w * size + 2, top - 1, trim)
                if balcony and not ground and bay % 2 == 0:
                    _rect(
                        image,
                        x - 6,
                        bottom - 8,
                        x + window_w * size + 6,
                        bottom + 4,
                        _scaled(color, 0.62),
                    )
        if kind == "office" or (kind == "block" and rng.uniform() < 0.5):
            _rect(image, 0, y0, width, y0 + 3, trim)
    if kind == "office":
        for bay in range(bays + 1):
            _rect(image, bay * size - 2, 0, bay * size + 2, height, _scaled(color, 0.85))
    if kind != "house":
        _rect(image, 0, 0, width, 6, trim)
        _rect(image, 0, 6, width, 8, _scaled(color, 0.6))
        _rect(side, 0, 0, side.shape[1], 6, trim)
    if rng.uniform() < 0.75:
        every = 1 if kind == "office" else int(rng.integers(2, 4))
        for floor in range(floors):
            for bay in range(0, max(4, bays), every):
                top = floor * size + (1 - window_h) * size * 0.5
                x = bay * size + (1 - window_w) * size / 2
                _window(side, rng, x, top, x + window_w * size, top + window_h * size, frame, sash)
    # Drain pipes.
    if kind != "office":
        x = int(rng.integers(0, bays)) * size + 2
        _rect(image, x, 0, x + 2, height, _scaled(color, 0.5))
    return Facade(Texture.of(image), Texture.of(side), floors, bays, color, kind)


@cache
def facades(kind: str) -> tuple[Facade, ...]:
    """The facades of ``"house"`` (2 storeys), ``"block"`` (3 to 6) or ``"office"`` (4 to 10)."""
    number, low, high = {"house": (12, 2, 3), "block": (16, 3, 6), "office": (8, 4, 10)}[kind]
    rng = np.random.default_rng([SEED, 3, low])
    made = []
    for _ in range(number):
        floors = int(rng.integers(low, high + 1))
        bays = int(rng.integers(3, 5)) if kind == "house" else int(rng.integers(3, 8))
        made.append(_facade(rng, kind, floors, bays))
    return tuple(made)
