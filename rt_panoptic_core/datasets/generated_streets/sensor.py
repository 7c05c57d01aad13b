"""What lens and sensor make of the painted picture."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets.light import Light

_TILE = (640, 1152)


@cache
def _unit_noise() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng([20200613, 9])
    gray = rng.standard_normal((*_TILE, 1), dtype=np.float32)
    chroma = rng.standard_normal((*_TILE, 3), dtype=np.float32)
    # Demosaicing leaves noise that is coarser than a pixel.
    noise = cv2.GaussianBlur(0.8 * gray + 0.5 * chroma, (3, 3), 0.6) * 1.6
    return np.asarray(noise, dtype=np.float32)


@cache
def _noise_tile(deviation: float) -> npt.NDArray[np.int8]:
    return np.clip(np.rint(_unit_noise() * deviation), -127, 127).astype(np.int8)


def develop(color: npt.NDArray[np.uint8], light: Light, seed: int) -> npt.NDArray[np.uint8]:
    """Blur, expose, balance and grain of a painted picture: uint8 [H, W, 3], RGB, a new array."""
    height, width = color.shape[:2]
    deviation = light.blur * max(width / 1024, 0.45)
    reach = 3 if deviation < 0.75 else 5 if deviation < 1.3 else 0
    picture = cv2.GaussianBlur(color, (reach, reach), deviation)
    tone = np.arange(256) / 255.0
    table = np.empty((256, 1, 3), dtype=np.uint8)
    for channel in range(3):
        value = tone * light.exposure * light.balance[channel]
        # A gentle S about middle grey, with a shoulder instead of hard clipping.
        value = 0.5 + (value - 0.5) * light.contrast
        value = np.where(value > 0.8, 0.8 + 0.2 * np.tanh((value - 0.8) / 0.2), value)
        table[:, 0, channel] = np.clip(np.rint(value * 255), 0, 255)
    picture = cv2.LUT(picture, table)
    if light.vignette > 0.02:
        picture = cv2.multiply(
            picture, _vignette(height, width, round(light.vignette * 20)), scale=1.0 / 255
        )
    tile = _noise_tile(float(max(1, round(light.noise))))
    rng = np.random.default_rng([seed, 77])
    y, x = int(rng.integers(0, 64)), int(rng.integers(0, 64))
    if height + 64 > tile.shape[0] or width + 64 > tile.shape[1]:
        repeats = ((height + 64) // tile.shape[0] + 1, (width + 64) // tile.shape[1] + 1, 1)
        tile = np.tile(tile, repeats)
    grain = tile[y : y + height, x : x + width]
    return np.asarray(cv2.add(picture, grain, dtype=cv2.CV_8U), dtype=np.uint8)


@cache
def _vignette(height: int, width: int, strength: int) -> npt.NDArray[np.uint8]:
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)
    falloff = 1.0 - strength / 20 * ((x * x + y * y) / 2) ** 1.3
    gray = np.rint(255 * falloff).astype(np.uint8)
    return np.dstack([gray, gray, gray])
