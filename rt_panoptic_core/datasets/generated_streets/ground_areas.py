"""Lays the ground out: land, crossing streets, sidewalks, verges, road, curbs, median."""

from __future__ import annotations

import math

import numpy as np

from rt_panoptic_core.datasets.generated_streets.canvas import Rgb
from rt_panoptic_core.datasets.generated_streets.ground import CURB, Ground, mix
from rt_panoptic_core.datasets.generated_streets.layout import Junction, Side
from rt_panoptic_core.datasets.generated_streets.road_markings import crossing, markings, wear


def paint_ground(ground: Ground) -> None:
    """Paint the ground to the horizon, without its grain."""
    street = ground.street
    open_land = not street.urban or street.kind in ("suburb", "park")
    base = street.terrain_color if open_land else street.sidewalk_color
    base_surface = ground.terrain if open_land else ground.paving
    forward = ground.camera.rotation[2, :2] / max(
        float(np.linalg.norm(ground.camera.rotation[2, :2])), 1e-6
    )
    sideways = np.array([-forward[1], forward[0]])
    here = ground.camera.position[:2]
    corners = [
        here + a * forward + b * sideways
        for a, b in ((0.1, -40.0), (0.1, 40.0), (6000.0, 9000.0), (6000.0, -9000.0))
    ]
    world = np.array([[x, y, 0.0] for x, y in corners])
    ground.canvas.fill_in_space(
        ground.camera, ground.camera.to_camera(world), ground.shade(base), base_surface
    )

    junctions = (
        [street.junction(k) for k in street.junction_range(ground.s - 30, ground.s + 260)]
        if street.has_junctions
        else []
    )
    junctions = [
        j for j in junctions if j.at - j.half < ground.along[-1] and j.at + j.half > ground.along[0]
    ]
    for junction in junctions:
        _arms(ground, junction)
    gaps = _between(ground, junctions)
    for side in street.sides:
        for start, stop in gaps:
            _side(ground, side, start, stop)
    left, right = (max(s.curb for s in street.sides if s.sign == sign) for sign in (1, -1))
    ground.band(-right, left, street.road_color, ground.road)
    wear(ground)
    for junction in junctions:
        crossing(ground, junction)
    for side in street.sides:
        if street.cycle_lane:
            color = (136.0, 66.0, 58.0) if street.lamp_dark else (70.0, 108.0, 74.0)
            inner = side.carriageway - 1.4
            for start, stop in gaps:
                ground.band(
                    side.sign * inner,
                    side.sign * side.carriageway,
                    mix(color, street.road_color, 0.35),
                    ground.road,
                    start=start,
                    stop=stop,
                )
        if side.verge > side.curb or side.sidewalk > side.curb:
            for start, stop in gaps:
                ground.riser(
                    side.sign * side.curb,
                    mix(street.sidewalk_color, (200, 198, 192), 0.4),
                    start + 1.2,
                    stop - 1.2,
                )
    if street.median > 0:
        _median(ground, gaps)
    markings(ground, gaps, junctions)


def _between(ground: Ground, junctions: list[Junction]) -> list[tuple[float, float]]:
    """Stretches of the road without a junction."""
    start = float(ground.along[0])
    gaps = []
    for junction in sorted(junctions, key=lambda j: j.at):
        gaps.append((start, junction.at - junction.half))
        start = junction.at + junction.half
    gaps.append((start, float(ground.along[-1])))
    return [(a, b) for a, b in gaps if b - a > 3.0]


def _side(ground: Ground, side: Side, start: float, stop: float) -> None:
    """Sidewalk, verge and front garden of one side, with rounded corners at their ends."""
    street, sign = ground.street, side.sign
    if not street.urban:
        return
    if side.front > side.sidewalk + 0.3:
        color = street.sidewalk_color if side.front_paved else street.terrain_color
        surface = ground.paving if side.front_paved else ground.terrain
        ground.band(
            sign * side.sidewalk,
            sign * (side.front + 8),
            mix(color, (90, 90, 80), 0.12),
            surface,
            start=start,
            stop=stop,
        )
    round_off = 1.2
    ground.band(
        sign * side.curb,
        sign * side.sidewalk,
        street.sidewalk_color,
        ground.sidewalk,
        CURB,
        start + round_off,
        stop - round_off,
    )
    ground.band(
        sign * (side.curb + round_off),
        sign * side.sidewalk,
        street.sidewalk_color,
        ground.sidewalk,
        CURB,
        start,
        stop,
    )
    ground.band(
        sign * side.curb,
        sign * (side.curb + 0.16),
        mix(street.sidewalk_color, (196, 194, 188), 0.5),
        ground.sidewalk,
        CURB,
        start + round_off,
        stop - round_off,
    )
    if side.verge > side.curb:
        ground.band(
            sign * (side.curb + 0.2),
            sign * side.verge,
            street.terrain_color,
            ground.terrain,
            CURB,
            start + 3,
            stop - 3,
        )


def _arms(ground: Ground, junction: Junction) -> None:
    """The crossing street with its sidewalks."""
    street = ground.street
    course = street.course
    heading = course.heading(junction.at)
    origin = np.array(course.point(junction.at))
    across, ahead = (
        np.array([-math.sin(heading), math.cos(heading)]),
        np.array([math.cos(heading), math.sin(heading)]),
    )

    def strip(
        low: float, high: float, color: Rgb, surface: int, z: float, reach: tuple[float, float]
    ) -> None:
        corners = [
            origin + u * across + v * ahead
            for u, v in ((reach[0], low), (reach[1], low), (reach[1], high), (reach[0], high))
        ]
        world = np.array([[x, y, z] for x, y in corners])
        ground.canvas.fill_in_space(
            ground.camera, ground.camera.to_camera(world), ground.shade(color), surface
        )

    reach = (-90.0, 90.0)
    for sign in (1, -1):
        low, high = sorted((sign * junction.half, sign * (junction.half + 2.2)))
        for side in street.sides:
            extent = sorted((side.sign * side.sidewalk, side.sign * 90.0))
            strip(low, high, street.sidewalk_color, ground.sidewalk, CURB, (extent[0], extent[1]))
    strip(-junction.half, junction.half, street.road_color, ground.road, 0.0, reach)
    for side in street.sides:
        extent = sorted((side.sign * (side.sidewalk + 4), side.sign * 80.0))
        strip(-0.06, 0.06, street.marking_color, ground.road, 0.0, (extent[0], extent[1]))


def _median(ground: Ground, gaps: list[tuple[float, float]]) -> None:
    """Island or grass between the carriageways."""
    street = ground.street
    half = street.median / 2 - 0.15
    for start, stop in gaps:
        if street.median_kind == "island":
            ground.band(
                -half, half, street.sidewalk_color, ground.sidewalk, CURB, start + 4, stop - 4
            )
            for d in (-half, half):
                ground.riser(d, (170, 168, 162), start + 4, stop - 4)
        elif street.median_kind in ("grass", "rail"):
            ground.band(
                -half + 0.5,
                half - 0.5,
                street.terrain_color,
                ground.terrain,
                0.0,
                start + 4 * street.urban,
                stop - 4 * street.urban,
            )
