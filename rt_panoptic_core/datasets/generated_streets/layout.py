"""Where everything stands: the road's course and cross-section, junctions, and what lines it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets.facades import Facade
from rt_panoptic_core.datasets.generated_streets.foliage import Sprite
from rt_panoptic_core.datasets.generated_streets.mesh import Color, Mesh

Float = npt.NDArray[np.float64]
Key = tuple[object, ...]
Palette = tuple[Color, Color, Color, Color]

_GREY: Color = (128, 128, 128)


def palette(*colors: Color) -> Palette:
    """Four colour slots, the last ones grey where fewer colours are given."""
    filled = (*colors, _GREY, _GREY, _GREY, _GREY)
    return (filled[0], filled[1], filled[2], filled[3])


class Footprint(NamedTuple):
    """The ground a thing stands on: an oriented rectangle, and how far it can be seen. Metres, radians."""

    x: float
    y: float
    yaw: float
    half_length: float
    half_width: float
    spread: float  # radius of all of it, seen from above
    top: float
    reach: float  # distance at which it is no longer drawn


@dataclass
class Solid:
    """A mesh placed in the world; ``keys`` name its instances by part, none for stuff."""

    mesh: Mesh
    x: float
    y: float
    yaw: float
    palette: Palette
    keys: tuple[Key, ...] = ()
    z: float = 0.0
    scale: float = 1.0
    reach: float = 250.0  # metres at which it is no longer drawn

    def __post_init__(self) -> None:
        (length, width, height), (cx, cy) = self.mesh.size, self.mesh.center
        cos, sin, scale = math.cos(self.yaw), math.sin(self.yaw), self.scale
        self.footprint = Footprint(
            self.x + scale * (cos * cx - sin * cy),
            self.y + scale * (sin * cx + cos * cy),
            self.yaw,
            length / 2 * scale,
            width / 2 * scale,
            math.hypot(length, width) / 2 * scale,
            self.z + height * scale,
            self.reach,
        )


@dataclass
class Plant:
    """A billboard of leaves or twigs: middle of its foot, size in metres, colour table."""

    sprite: Sprite
    x: float
    y: float
    z: float
    width: float
    height: float
    table: tuple[str, int]
    mirrored: bool

    def __post_init__(self) -> None:
        self.footprint = Footprint(
            self.x, self.y, 0.0, 0.12, 0.12, self.width / 2, self.z + self.height, 260.0
        )


@dataclass
class House:
    """A building: the middle of its footprint, its front facing -y of its own frame turned by ``yaw``."""

    x: float
    y: float
    yaw: float
    length: float  # along the street
    depth: float
    height: float
    facade: Facade
    roof: float  # height of a pitched roof above the walls; 0 for a flat one
    roof_color: Color
    tint: float

    def __post_init__(self) -> None:
        self.footprint = Footprint(
            self.x,
            self.y,
            self.yaw,
            self.length / 2,
            self.depth / 2,
            math.hypot(self.length, self.depth) / 2 + 0.4,
            self.height + self.roof,
            330.0,
        )


@dataclass
class Section:
    """What stands between two junctions, or in and beside one."""

    solids: list[Solid] = field(default_factory=list)
    plants: list[Plant] = field(default_factory=list)
    houses: list[House] = field(default_factory=list)


@dataclass(frozen=True)
class Side:
    """Cross-section of one side, distances from the centre line in metres, growing outwards."""

    sign: int  # +1 left of the direction of travel, -1 right
    carriageway: float  # outer edge of the driving lanes
    curb: float  # outer edge of parking lane or shoulder
    verge: float  # outer edge of the grass strip behind the curb
    sidewalk: float  # outer edge of the sidewalk
    front: float  # where buildings start
    parking: bool
    front_paved: bool


@dataclass(frozen=True)
class Junction:
    """A crossing street: where on the road, and half its width."""

    at: float
    half: float


class Course:
    """The road's centre line: a gently winding curve, known as far as needed."""

    def __init__(self, rng: random.Random, bend: float) -> None:
        """Draw a course whose curvature stays below ``bend`` [1/m]."""
        # Heading as sine waves: amplitude [rad], rate [1/m], phase.
        self._waves = []
        for _ in range(2):
            curvature, length = bend * rng.uniform(0.2, 0.6), rng.uniform(70, 400)
            rate = 2 * math.pi / length
            self._waves.append((curvature / rate, rate, rng.uniform(0, 2 * math.pi)))
        # The centre line, a point every metre.
        self._start = -200.0
        self._x: Float = np.zeros(1)
        self._y: Float = np.zeros(1)
        self._x_list, self._y_list = [0.0], [0.0]

    def heading(self, s: float) -> float:
        """Heading [rad] at ``s`` metres along the road."""
        return sum(size * math.sin(rate * s + phase) for size, rate, phase in self._waves)

    def point(self, s: float, d: float = 0.0) -> tuple[float, float]:
        """World (x, y) at ``s`` along and ``d`` to the left of the centre line."""
        place = s - self._start
        if place > len(self._x) - 2:
            self._extend(s)
        index = int(place)
        share = place - index
        heading = self.heading(s)
        x, y = self._x_list, self._y_list
        return (
            x[index] + share * (x[index + 1] - x[index]) - math.sin(heading) * d,
            y[index] + share * (y[index + 1] - y[index]) + math.cos(heading) * d,
        )

    def position(self, s: Float, d: Float | float = 0.0) -> Float:
        """World (x, y) [..., 2] at ``s`` along and ``d`` to the left; ``s`` from 200 m before 0."""
        furthest = float(s.max())
        if furthest - self._start > len(self._x) - 2:
            self._extend(furthest)
        place = s - self._start
        index = place.astype(np.int64)
        share = place - index
        heading = np.zeros_like(s)
        for size, rate, phase in self._waves:
            heading += size * np.sin(rate * s + phase)
        result = np.empty((*s.shape, 2))
        x, y = self._x[index], self._y[index]
        result[..., 0] = x + share * (self._x[index + 1] - x) - np.sin(heading) * d
        result[..., 1] = y + share * (self._y[index + 1] - y) + np.cos(heading) * d
        return result

    def _extend(self, furthest: float) -> None:
        count = 1024
        while self._start + count - 3 < furthest:
            count *= 2
        middle = self._start + np.arange(count - 1) + 0.5
        heading = np.zeros_like(middle)
        for size, rate, phase in self._waves:
            heading += size * np.sin(rate * middle + phase)
        self._x = np.concatenate([[0.0], np.cumsum(np.cos(heading))])
        self._y = np.concatenate([[0.0], np.cumsum(np.sin(heading))])
        self._x_list, self._y_list = self._x.tolist(), self._y.tolist()


_KINDS = ("canyon", "shops", "suburb", "park", "country", "highway")


class Street:
    """A street without end: everything about it follows from ``seed``, section by section."""

    def __init__(self, seed: str, kind: str | None = None) -> None:
        """Draw the street of ``seed``; ``kind`` fixes its surroundings (see :data:`STREET_KINDS`)."""
        self.seed = seed
        rng = random.Random(f"{seed}/street")
        drawn = rng.choices(_KINDS, (22, 22, 18, 12, 10, 16))[0]
        self.kind = drawn if kind is None else kind
        self.urban = self.kind in ("canyon", "shops", "suburb", "park")
        bend = {"country": 1 / 110, "highway": 1 / 500}.get(self.kind, 1 / 160)
        self.course = Course(rng, bend * rng.random())
        self.drive_sign = 1 if rng.random() < 0.4 else -1  # +1: traffic keeps to the left
        self.season = rng.choices(("summer", "autumn", "bare", "dry"), (50, 14, 20, 16))[0]
        self.tram = self.kind in ("canyon", "shops") and rng.random() < 0.45
        self.lane = rng.uniform(3.0, 3.5)
        self.own_lanes, self.other_lanes, self.median = 1, 1, 0.0
        self.median_kind = "line"
        if self.kind == "highway":
            self.lane = 3.6
            self.own_lanes = rng.randint(2, 4)
            self.other_lanes = self.own_lanes
            self.median = rng.uniform(1.4, 8.0)
            self.median_kind = (
                "barrier" if self.median < 3.0 else rng.choice(("barrier", "rail", "grass"))
            )
        elif self.urban and (self.tram or rng.random() < 0.3):
            self.own_lanes = self.other_lanes = 2
            if not self.tram and rng.random() < 0.4:
                self.median, self.median_kind = (
                    rng.uniform(1.6, 3.5),
                    rng.choice(("grass", "island")),
                )
        elif self.urban and rng.random() < 0.12:
            self.other_lanes = 0  # one way
            self.own_lanes = rng.randint(1, 2)
        self.sides = tuple(self._side(rng, sign) for sign in (-1, 1))
        self.spacing = rng.uniform(70, 150) if self.urban else rng.uniform(90, 160)
        self.phase = rng.uniform(0, 1)
        self.tree_lined = rng.random() < {
            "canyon": 0.25,
            "shops": 0.3,
            "suburb": 0.5,
            "park": 0.9,
        }.get(self.kind, 0)
        self.density = rng.uniform(0.35, 1.0)
        self.pedestrians = rng.uniform(0.2, 1.0) * {
            "canyon": 1.2,
            "shops": 1.6,
            "park": 0.8,
            "suburb": 0.5,
        }.get(self.kind, 0.0)
        self.cycle_lane = self.urban and rng.random() < 0.3
        self.railings = self.urban and rng.random() < 0.25
        self.lamp_dark = rng.random() < 0.5
        self.lamp_height = rng.uniform(6.0, 9.5)
        self.road_color = self._road_color(rng)
        tone = rng.uniform(0.75, 1.15)
        stone = rng.choice(((152, 148, 142), (140, 142, 146), (162, 150, 138), (150, 118, 104)))
        self.sidewalk_color: Color = (stone[0] * tone, stone[1] * tone, stone[2] * tone)
        self.terrain_color: Color = rng.choice(
            ((86, 112, 52), (104, 118, 60), (76, 98, 48))
            if self.season == "summer"
            else ((128, 116, 70), (178, 150, 98), (98, 104, 58))
        )
        self.marking_color: Color = (222, 222, 216)
        self.center_yellow = rng.random() < 0.25
        self.marking_wear = rng.uniform(0.6, 1.0)
        self.forest = rng.random() if self.kind in ("country", "highway", "park") else 0.3
        self.hills = rng.uniform(0.0, 1.0) if not self.urban or rng.random() < 0.3 else 0.0
        self._junctions: dict[int, Junction] = {}
        self.rail_kind = rng.choice(("rail", "rail", "none", "noise", "wire"))

    @staticmethod
    def _road_color(rng: random.Random) -> Color:
        tone = rng.uniform(66, 128)
        warm = rng.gauss(0, 3)
        return (tone + warm, tone, tone - warm + 2)

    def _side(self, rng: random.Random, sign: int) -> Side:
        own = sign == self.drive_sign
        lanes = self.own_lanes if own else self.other_lanes
        edge = self.median / 2 + lanes * self.lane if lanes else self.lane * 0.15
        if self.kind == "highway":
            curb = edge + rng.uniform(1.5, 3.2)
            return Side(sign, edge, curb, curb, curb, curb + 25, False, False)
        if self.kind == "country":
            curb = edge + rng.uniform(0.1, 0.6)
            return Side(sign, edge, curb, curb, curb, curb + rng.uniform(8, 20), False, False)
        parking = rng.random() < 0.62
        curb = edge + (2.15 if parking else 0.3)
        verge = curb + (
            rng.uniform(1.0, 2.5)
            if rng.random() < (0.5 if self.kind in ("suburb", "park") else 0.08)
            else 0.0
        )
        walk = verge + (rng.uniform(2.2, 5.0) if self.kind != "suburb" else rng.uniform(1.6, 2.6))
        if self.kind == "suburb":
            front, paved = walk + rng.uniform(3.0, 8.0), rng.random() < 0.3
        elif self.kind == "park" and rng.random() < 0.7:
            front, paved = walk + 30, False
        else:
            front, paved = walk + (rng.uniform(1, 3) if rng.random() < 0.2 else 0.0), True
        return Side(sign, edge, curb, verge, walk, front, parking, paved)

    # -- junctions and sections ------------------------------------------------------------------

    @property
    def has_junctions(self) -> bool:
        """Whether streets cross; else sections follow each other without a gap."""
        return self.urban

    def junction(self, k: int) -> Junction:
        """The ``k``-th junction; without crossing streets one of width 0."""
        if k not in self._junctions:
            self._junctions[k] = self._make_junction(k)
        return self._junctions[k]

    def _make_junction(self, k: int) -> Junction:
        rng = random.Random(f"{self.seed}/junction/{k}")
        at = (k + self.phase + rng.uniform(-0.18, 0.18)) * self.spacing
        return Junction(at, rng.uniform(3.0, 4.6) if self.has_junctions else 0.0)

    def junction_range(self, start: float, stop: float) -> range:
        """Numbers of the junctions that may lie in [start, stop], generously."""
        return range(
            math.floor(start / self.spacing - self.phase - 0.4),
            math.ceil(stop / self.spacing - self.phase + 0.4) + 1,
        )


STREET_KINDS = _KINDS
"""Surroundings that a street can have."""
