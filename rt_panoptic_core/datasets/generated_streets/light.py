"""Sun, sky, haze and what the camera makes of them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """The light of one street.

    Attributes:
        sun: float64 [3], direction to the sun (world).
        sunshine: float64 [3], what full sun adds to a surface's colour (factor per channel).
        ambient: float64 [3], what the sky adds.
        zenith, horizon: float64 [3], sky colours, 0 … 255.
        cloud: share of the sky that is clouded; ``cloud_color`` [3]; ``cloud_shift`` [2] places them.
        haze: per metre; distant things fade into ``horizon``.
        exposure, contrast, balance [3]: the camera's.
        noise: deviation of sensor noise, grey values; blur: deviation of the lens' blur, pixels at 1024 wide.
        vignette: darkening of the corners, 0 … 1.
        lamps: whether vehicles have their lights on.
    """

    sun: Float
    sunshine: Float
    ambient: Float
    zenith: Float
    horizon: Float
    cloud: float
    cloud_color: Float
    cloud_shift: tuple[float, float]
    haze: float
    exposure: float
    contrast: float
    balance: Float
    noise: float
    blur: float
    vignette: float
    lamps: bool

    @property
    def shadow_factor(self) -> Float:
        """float64 [3]: colour of level ground in shadow over that in the sun."""
        lit = self.ambient + self.sunshine * max(float(self.sun[2]), 0.0)
        return self.ambient / lit

    @property
    def has_shadows(self) -> bool:
        """Whether the sun is strong enough to cast shadows."""
        return float(self.sunshine.mean()) > 0.12


def random_light(rng: random.Random) -> Light:
    """A light drawn from ``rng``: mostly sun or thin cloud, at times overcast, low sun or dusk."""
    weather = rng.choices(
        ("sun", "fair", "overcast", "white", "low", "dusk"), (30, 24, 16, 14, 9, 7)
    )[0]
    azimuth = rng.uniform(-math.pi, math.pi)
    elevation = math.radians(rng.uniform(24, 62))
    sunshine, ambient = np.array([0.74, 0.68, 0.58]), np.array([0.46, 0.50, 0.56])
    zenith, horizon = np.array([92.0, 138.0, 196.0]), np.array([196.0, 212.0, 226.0])
    cloud, cloud_color, haze = rng.uniform(0.0, 0.25), np.array([246.0, 247.0, 250.0]), 0.0014
    exposure, lamps = rng.uniform(0.85, 1.25), False
    if weather == "sun":
        deep = rng.uniform(0.0, 1.0)
        zenith = zenith * (1 - deep) + np.array([58.0, 108.0, 186.0]) * deep
        horizon = horizon * (1 - deep) + np.array([168.0, 196.0, 224.0]) * deep
    elif weather == "fair":
        cloud = rng.uniform(0.35, 0.75)
        sunshine = sunshine * rng.uniform(0.5, 0.9)
        ambient = ambient * 1.15
    elif weather == "overcast":
        cloud, haze = rng.uniform(0.9, 1.2), 0.003
        sunshine, ambient = sunshine * 0.06, np.array([0.80, 0.82, 0.86])
        zenith, horizon = np.array([150.0, 158.0, 170.0]), np.array([206.0, 210.0, 214.0])
        cloud_color = np.array([196.0, 200.0, 206.0])
    elif weather == "white":
        # What cheap cameras make of a bright sky.
        cloud = 0.2
        sunshine, ambient = sunshine * rng.uniform(0.1, 0.8), np.array([0.70, 0.71, 0.73])
        zenith, horizon = np.array([238.0, 243.0, 250.0]), np.array([252.0, 253.0, 254.0])
        exposure = rng.uniform(0.95, 1.35)
    elif weather == "low":
        elevation = math.radians(rng.uniform(9, 20))
        sunshine = np.array([0.86, 0.66, 0.42])
        horizon = np.array([236.0, 216.0, 180.0])
        zenith = np.array([120.0, 150.0, 190.0])
    else:
        cloud, lamps = rng.uniform(0.5, 1.1), True
        sunshine, ambient = sunshine * 0.03, np.array([0.54, 0.56, 0.62])
        zenith, horizon = np.array([96.0, 108.0, 128.0]), np.array([176.0, 178.0, 180.0])
        cloud_color = np.array([120.0, 126.0, 136.0])
        exposure = rng.uniform(0.55, 0.9)
    if rng.random() < 0.12:
        haze *= rng.uniform(2.0, 5.0)
    warm = rng.gauss(0.0, 0.035)
    sun = np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    return Light(
        sun=sun,
        sunshine=sunshine,
        ambient=ambient,
        zenith=zenith,
        horizon=horizon,
        cloud=cloud,
        cloud_color=cloud_color,
        cloud_shift=(rng.random(), rng.random()),
        haze=haze * rng.uniform(0.5, 1.6),
        exposure=exposure,
        contrast=rng.uniform(0.88, 1.24),
        balance=np.array([1.0 + warm, 1.0 + rng.gauss(0.0, 0.012), 1.0 - warm]),
        noise=rng.uniform(1.0, 5.0) * (1.5 if weather == "dusk" else 1.0),
        blur=rng.uniform(0.55, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.6),
        vignette=rng.uniform(0.0, 0.25),
        lamps=lamps or rng.random() < 0.1,
    )
