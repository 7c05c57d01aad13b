"""What is painted or worn on the road: lanes, crossings, arrows, rails, patches, manholes."""

from __future__ import annotations

import math
import random

import numpy as np

from rt_panoptic_core.datasets.generated_streets.canvas import Rgb
from rt_panoptic_core.datasets.generated_streets.ground import Ground, mix
from rt_panoptic_core.datasets.generated_streets.layout import Junction


def crossing(ground: Ground, junction: Junction) -> None:
    """Stop lines and zebra stripes before a junction."""
    street = ground.street
    rng = random.Random(f"{street.seed}/crossing-marks/{junction.at:.3f}")
    width = max(side.carriageway for side in street.sides)
    for before in (-1, 1):
        edge = junction.at + before * (junction.half + 1.0)
        if rng.random() < 0.55:
            d = np.arange(-width + 0.3, width - 0.3, 0.95, dtype=np.float64)
            far = edge + before * 3.0
            s0, s1 = min(edge, far), max(edge, far)
            full = np.full(len(d), 1.0)
            ground.quads(full * s0, full * s1, d, d + 0.48, _paint_color(ground), ground.road)
            edge = far
        line = edge + before * 0.8
        one = np.ones(1)
        lanes, sign = (
            (street.own_lanes, street.drive_sign)
            if before < 0
            else (street.other_lanes, -street.drive_sign)
        )
        if lanes:
            d0, d1 = sorted((sign * 0.12, sign * (street.median / 2 + lanes * street.lane)))
            ground.quads(
                one * (line - 0.2),
                one * (line + 0.2),
                one * d0,
                one * d1,
                _paint_color(ground),
                ground.road,
            )


def markings(ground: Ground, gaps: list[tuple[float, float]], junctions: list[Junction]) -> None:
    """Lane lines, edge lines, rails."""
    street = ground.street
    color = _paint_color(ground)
    center = (214.0, 168.0, 54.0) if street.center_yellow else color
    width = 0.07 if street.urban else 0.08
    own, other = street.own_lanes, street.other_lanes
    half = street.median / 2
    dash, period = (6.0, 14.0) if street.kind == "highway" else (3.0, 7.5)
    low, high = float(ground.along[0]), min(float(ground.along[-1]), ground.s + 160)
    starts = np.arange(math.floor(low / period) * period, high, period, dtype=np.float64)
    for start, stop in gaps:
        inside = starts[(starts > start + 3) & (starts + dash < stop - 3)]
        for count, sign in ((own, street.drive_sign), (other, -street.drive_sign)):
            for lane in range(1, count):
                d = sign * (half + lane * street.lane)
                ground.quads(
                    inside,
                    inside + dash,
                    np.full(len(inside), d - width),
                    np.full(len(inside), d + width),
                    color,
                    ground.road,
                )
        if street.median == 0 and other:
            if street.center_yellow:
                for d in (-0.12, 0.12):
                    ground.band(
                        d - 0.05, d + 0.05, center, ground.road, start=start + 2, stop=stop - 2
                    )
            elif street.kind != "suburb" or street.marking_wear > 0.75:
                ground.quads(
                    inside,
                    inside + dash,
                    np.full(len(inside), -width),
                    np.full(len(inside), width),
                    color,
                    ground.road,
                )
        edges = []
        if street.kind in ("highway", "country"):
            edges = [side.sign * (side.carriageway - 0.1) for side in street.sides]
            if street.median > 0:
                edges += [half + 0.1, -half - 0.1]
        elif street.marking_wear > 0.85:
            # No-parking lines along the curb, as in Britain.
            edges = [side.sign * (side.curb - 0.35) for side in street.sides if not side.parking]
        for d in edges:
            yellow = street.kind == "highway" and abs(d) < half + 0.2
            tone = (206.0, 164.0, 58.0) if yellow or street.urban else color
            ground.band(d - width, d + width, tone, ground.road, start=start + 1, stop=stop - 1)
    for side in street.sides:
        if side.parking:
            bays = np.arange(math.floor(low / 6.0) * 6.0, ground.s + 60, 6.0, dtype=np.float64)
            for start, stop in gaps:
                inside = bays[(bays > start + 5) & (bays < stop - 5)]
                d0, d1 = sorted((side.sign * side.carriageway, side.sign * (side.curb - 0.1)))
                if street.marking_wear > 0.8:
                    ground.quads(
                        inside,
                        inside + 0.1,
                        np.full(len(inside), d0),
                        np.full(len(inside), d1),
                        color,
                        ground.road,
                    )
    if street.tram:
        for sign in (1, -1):
            middle = sign * (half + 0.5 * street.lane)
            for rail in (-0.72, 0.72):
                ground.band(middle + rail - 0.06, middle + rail + 0.06, (62, 62, 64), ground.road)
                ground.band(
                    middle + rail - 0.03, middle + rail + 0.03, (132, 132, 134), ground.road
                )
    if street.urban and junctions and own:
        rng = random.Random(f"{street.seed}/arrows")
        if rng.random() < 0.5:
            for junction in junctions:
                for lane in range(own):
                    d = street.drive_sign * (half + (lane + 0.5) * street.lane)
                    _arrow(ground, junction.at - junction.half - 14.0, d)


def _arrow(ground: Ground, s: float, d: float) -> None:
    """An arrow straight ahead that begins at (s, d)."""
    color = _paint_color(ground)
    one = np.ones(1)
    ground.quads(one * s, one * (s + 2.6), one * (d - 0.08), one * (d + 0.08), color, ground.road)
    tip = np.array([[s + 2.4, d - 0.4], [s + 2.4, d + 0.4], [s + 4.0, d]])
    xy = ground.street.course.position(tip[:, 0], tip[:, 1])
    points = ground.camera.to_camera(np.column_stack([xy, np.zeros(3)]))
    ground.canvas.fill_in_space(ground.camera, points, ground.shade(color), ground.road)


def wear(ground: Ground) -> None:
    """Patches, manholes, wheel tracks and cracks in the road."""
    street = ground.street
    left, right = (max(s.curb for s in street.sides if s.sign == sign) for sign in (1, -1))
    tone = street.road_color
    for lane in range(street.own_lanes):
        middle = street.drive_sign * (street.median / 2 + (lane + 0.5) * street.lane)
        for track in (-0.75, 0.75):
            ground.band(
                middle + track - 0.28,
                middle + track + 0.28,
                mix(tone, (40, 40, 42), 0.06),
                ground.road,
                stop=ground.s + 70,
            )
    cell = 12.0
    for k in range(math.floor((ground.s - 2) / cell), math.floor((ground.s + 60) / cell) + 1):
        rng = random.Random(f"{street.seed}/wear/{k}")
        for _ in range(rng.randint(0, 2)):
            s, d = (k + rng.random()) * cell, rng.uniform(-right + 0.8, left - 0.8)
            if rng.random() < 0.35 and street.urban:
                angle = np.linspace(0, 2 * math.pi, 12, endpoint=False)
                xy = street.course.position(s + 0.33 * np.cos(angle), d + 0.33 * np.sin(angle))
                points = ground.camera.to_camera(np.column_stack([xy, np.zeros(12)]))
                if points[:, 2].min() > 0.5:
                    ground.canvas.fill(
                        ground.camera.pixels(points),
                        ground.shade(mix(tone, (48, 44, 40), 0.6)),
                        ground.road,
                    )
            else:
                one = np.ones(1)
                length, width = rng.uniform(1.0, 7.0), rng.uniform(0.4, 1.6)
                change = rng.choice(((36.0, 36.0, 38.0), (150.0, 150.0, 150.0)))
                ground.quads(
                    one * s,
                    one * (s + length),
                    one * d,
                    one * (d + width),
                    mix(tone, change, rng.uniform(0.08, 0.25)),
                    ground.road,
                )


def _paint_color(ground: Ground) -> Rgb:
    """Of the markings, as far as traffic has left it."""
    return mix(
        ground.street.marking_color, ground.street.road_color, 1.0 - ground.street.marking_wear
    )
