"""Road, sidewalks, grass, markings, and the shadows on them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.camera import Camera, Float, clip_near, turned_by
from rt_panoptic_core.datasets.generated_streets.canvas import SHIFT, Canvas, Rgb, fixed_point
from rt_panoptic_core.datasets.generated_streets.layout import Junction, Side, Street
from rt_panoptic_core.datasets.generated_streets.light import Light
from rt_panoptic_core.datasets.generated_streets.textures import Texture, ground_noise

CURB = 0.12
"""Height of the sidewalk over the road, metres."""

_TILE = 8.0  # metres that one ground texture spans


@cache
def _ground_textures() -> dict[str, Texture]:
    return {name: Texture.of(image, 7) for name, image in ground_noise().items()}


class Ground:
    """Paints the ground of ``street`` as ``camera`` sees it from ``s`` metres along."""

    def __init__(
        self, canvas: Canvas, camera: Camera, street: Street, light: Light, s: float
    ) -> None:
        self.canvas, self.camera, self.street, self.light, self.s = canvas, camera, street, light, s
        level = camera.level_plane(0.0)
        self.road = canvas.announce_one(labels.ROAD, level)
        self.sidewalk = canvas.announce_one(labels.SIDEWALK, camera.level_plane(CURB))
        self.terrain = canvas.announce_one(labels.TERRAIN, level)
        self.paving = canvas.announce_one(labels.SIDEWALK, level)
        self.lit = light.ambient + light.sunshine * float(light.sun[2])
        steps = np.concatenate(
            [np.arange(-8, 40, 2.0), np.arange(40, 120, 6.0), np.arange(120, 420, 20.0)]
        )
        # Samples fixed to the road, so that a moving camera sees no crawling edges.
        self.along = np.unique(np.floor((s + steps) / 2.0) * 2.0)
        # The centre line and what a step to the left adds, in camera coordinates.
        course = street.course
        zero = np.zeros(len(self.along))
        middle = course.position(self.along)
        self._middle = camera.to_camera(np.column_stack([middle, zero]))
        left = course.position(self.along, 1.0) - middle
        self._left = turned_by(camera.rotation, np.column_stack([left, zero]))

    # -- geometry --------------------------------------------------------------------------------

    def line(self, d: float, z: float, start: float, stop: float) -> Float:
        """Camera-space points of the line ``d`` left of the centre from ``start`` to ``stop``."""
        low = int(np.searchsorted(self.along, start, side="right"))
        high = max(low, int(np.searchsorted(self.along, stop, side="left")))
        points = np.empty((high - low + 2, 3))
        np.multiply(self._left[low:high], d, out=points[1:-1])
        points[1:-1] += self._middle[low:high]
        points[1:-1] += z * self.camera.rotation[:, 2]
        course = self.street.course
        ends = np.array([(*course.point(start, d), z), (*course.point(stop, d), z)])
        points[[0, -1]] = self.camera.to_camera(ends)
        return points

    def shade(self, color: Rgb) -> Rgb:
        r, g, b = np.minimum(np.asarray(color) * self.lit, 255.0).tolist()
        return (r, g, b)

    def band(
        self,
        d0: float,
        d1: float,
        color: Rgb,
        surface: int,
        z: float = 0.0,
        start: float | None = None,
        stop: float | None = None,
    ) -> None:
        """Paint between the lines d0 and d1."""
        first = self.along[0] if start is None else max(start, self.along[0])
        last = self.along[-1] if stop is None else min(stop, self.along[-1])
        if last <= first:
            return
        points = np.concatenate(
            [self.line(d0, z, first, last), self.line(d1, z, first, last)[::-1]]
        )
        self.canvas.fill_in_space(self.camera, points, self.shade(color), surface, convex=False)

    def riser(self, d: float, color: Rgb, start: float, stop: float) -> None:
        """Paint the curb's face along ``d``."""
        first, last = max(start, self.along[0]), min(stop, self.along[-1])
        if last <= first:
            return
        points = np.concatenate(
            [self.line(d, 0.0, first, last), self.line(d, CURB, first, last)[::-1]]
        )
        self.canvas.fill_in_space(
            self.camera, points, self.shade(color), self.sidewalk, convex=False
        )

    def quads(self, s0: Float, s1: Float, d0: Float, d1: Float, color: Rgb, surface: int) -> None:
        """Paint rectangles [s0, s1] x [d0, d1] on the road, those that lie ahead."""
        if len(s0) == 0:
            return
        course = self.street.course
        xy = np.stack(
            [
                course.position(s0, d0),
                course.position(s1, d0),
                course.position(s1, d1),
                course.position(s0, d1),
            ],
            axis=1,
        )
        points = np.concatenate([xy, np.zeros((*xy.shape[:2], 1))], axis=2)
        inside = self.camera.to_camera(points.reshape(-1, 3)).reshape(-1, 4, 3)
        inside = inside[(inside[..., 2] > 0.5).all(axis=1)]
        pixels = self.camera.pixels(inside)
        tall = pixels[..., 1].max(axis=1) - pixels[..., 1].min(axis=1)
        rgb = self.shade(color)
        for corner in fixed_point(pixels[tall > 0.35]):
            cv2.fillConvexPoly(self.canvas.color, corner, rgb, cv2.LINE_8, SHIFT)
            cv2.fillConvexPoly(self.canvas.surface, corner, (surface,), cv2.LINE_8, SHIFT)

    # -- painting --------------------------------------------------------------------------------

    def paint(self) -> None:
        """Paint the ground to the horizon."""
        street = self.street
        open_land = not street.urban or street.kind in ("suburb", "park")
        base = street.terrain_color if open_land else street.sidewalk_color
        base_surface = self.terrain if open_land else self.paving
        forward = self.camera.rotation[2, :2] / max(
            float(np.linalg.norm(self.camera.rotation[2, :2])), 1e-6
        )
        sideways = np.array([-forward[1], forward[0]])
        here = self.camera.position[:2]
        corners = [
            here + a * forward + b * sideways
            for a, b in ((0.1, -40.0), (0.1, 40.0), (6000.0, 9000.0), (6000.0, -9000.0))
        ]
        world = np.array([[x, y, 0.0] for x, y in corners])
        self.canvas.fill_in_space(
            self.camera, self.camera.to_camera(world), self.shade(base), base_surface
        )

        junctions = (
            [street.junction(k) for k in street.junction_range(self.s - 30, self.s + 260)]
            if street.has_junctions
            else []
        )
        junctions = [
            j for j in junctions if j.at - j.half < self.along[-1] and j.at + j.half > self.along[0]
        ]
        for junction in junctions:
            self.arms(junction)
        gaps = self.between(junctions)
        for side in street.sides:
            for start, stop in gaps:
                self.side(side, start, stop)
        left, right = (max(s.curb for s in street.sides if s.sign == sign) for sign in (1, -1))
        self.band(-right, left, street.road_color, self.road)
        self.wear()
        for junction in junctions:
            self.crossing(junction)
        for side in street.sides:
            if street.cycle_lane:
                color = (136.0, 66.0, 58.0) if street.lamp_dark else (70.0, 108.0, 74.0)
                inner = side.carriageway - 1.4
                for start, stop in gaps:
                    self.band(
                        side.sign * inner,
                        side.sign * side.carriageway,
                        _mix(color, street.road_color, 0.35),
                        self.road,
                        start=start,
                        stop=stop,
                    )
            if side.verge > side.curb or side.sidewalk > side.curb:
                for start, stop in gaps:
                    self.riser(
                        side.sign * side.curb,
                        _mix(street.sidewalk_color, (200, 198, 192), 0.4),
                        start + 1.2,
                        stop - 1.2,
                    )
        if street.median > 0:
            self.median_band(gaps)
        self.markings(gaps, junctions)

    def between(self, junctions: list[Junction]) -> list[tuple[float, float]]:
        """Stretches of the road without a junction."""
        start = float(self.along[0])
        gaps = []
        for junction in sorted(junctions, key=lambda j: j.at):
            gaps.append((start, junction.at - junction.half))
            start = junction.at + junction.half
        gaps.append((start, float(self.along[-1])))
        return [(a, b) for a, b in gaps if b - a > 3.0]

    def side(self, side: Side, start: float, stop: float) -> None:
        """Sidewalk, verge and front garden of one side, with rounded corners at their ends."""
        street, sign = self.street, side.sign
        if not street.urban:
            return
        if side.front > side.sidewalk + 0.3:
            color = street.sidewalk_color if side.front_paved else street.terrain_color
            surface = self.paving if side.front_paved else self.terrain
            self.band(
                sign * side.sidewalk,
                sign * (side.front + 8),
                _mix(color, (90, 90, 80), 0.12),
                surface,
                start=start,
                stop=stop,
            )
        round_off = 1.2
        self.band(
            sign * side.curb,
            sign * side.sidewalk,
            street.sidewalk_color,
            self.sidewalk,
            CURB,
            start + round_off,
            stop - round_off,
        )
        self.band(
            sign * (side.curb + round_off),
            sign * side.sidewalk,
            street.sidewalk_color,
            self.sidewalk,
            CURB,
            start,
            stop,
        )
        self.band(
            sign * side.curb,
            sign * (side.curb + 0.16),
            _mix(street.sidewalk_color, (196, 194, 188), 0.5),
            self.sidewalk,
            CURB,
            start + round_off,
            stop - round_off,
        )
        if side.verge > side.curb:
            self.band(
                sign * (side.curb + 0.2),
                sign * side.verge,
                street.terrain_color,
                self.terrain,
                CURB,
                start + 3,
                stop - 3,
            )

    def arms(self, junction: Junction) -> None:
        """The crossing street with its sidewalks."""
        street = self.street
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
            self.canvas.fill_in_space(
                self.camera, self.camera.to_camera(world), self.shade(color), surface
            )

        reach = (-90.0, 90.0)
        for sign in (1, -1):
            low, high = sorted((sign * junction.half, sign * (junction.half + 2.2)))
            for side in street.sides:
                extent = sorted((side.sign * side.sidewalk, side.sign * 90.0))
                strip(low, high, street.sidewalk_color, self.sidewalk, CURB, (extent[0], extent[1]))
        strip(-junction.half, junction.half, street.road_color, self.road, 0.0, reach)
        for side in street.sides:
            extent = sorted((side.sign * (side.sidewalk + 4), side.sign * 80.0))
            strip(-0.06, 0.06, street.marking_color, self.road, 0.0, (extent[0], extent[1]))

    def crossing(self, junction: Junction) -> None:
        """Stop lines and zebra stripes before a junction."""
        street = self.street
        rng = random.Random(f"{street.seed}/crossing-marks/{junction.at:.3f}")
        width = max(side.carriageway for side in street.sides)
        for before in (-1, 1):
            edge = junction.at + before * (junction.half + 1.0)
            if rng.random() < 0.55:
                d = np.arange(-width + 0.3, width - 0.3, 0.95)
                far = edge + before * 3.0
                s0, s1 = min(edge, far), max(edge, far)
                full = np.full(len(d), 1.0)
                self.quads(full * s0, full * s1, d, d + 0.48, self.paint_color(), self.road)
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
                self.quads(
                    one * (line - 0.2),
                    one * (line + 0.2),
                    one * d0,
                    one * d1,
                    self.paint_color(),
                    self.road,
                )

    def paint_color(self) -> Rgb:
        return _mix(
            self.street.marking_color, self.street.road_color, 1.0 - self.street.marking_wear
        )

    def median_band(self, gaps: list[tuple[float, float]]) -> None:
        street = self.street
        half = street.median / 2 - 0.15
        for start, stop in gaps:
            if street.median_kind == "island":
                self.band(
                    -half, half, street.sidewalk_color, self.sidewalk, CURB, start + 4, stop - 4
                )
                for d in (-half, half):
                    self.riser(d, (170, 168, 162), start + 4, stop - 4)
            elif street.median_kind in ("grass", "rail"):
                self.band(
                    -half + 0.5,
                    half - 0.5,
                    street.terrain_color,
                    self.terrain,
                    0.0,
                    start + 4 * street.urban,
                    stop - 4 * street.urban,
                )

    def markings(self, gaps: list[tuple[float, float]], junctions: list[Junction]) -> None:
        """Lane lines, edge lines, rails."""
        street = self.street
        color = self.paint_color()
        center = (214.0, 168.0, 54.0) if street.center_yellow else color
        width = 0.07 if street.urban else 0.08
        own, other = street.own_lanes, street.other_lanes
        half = street.median / 2
        dash, period = (6.0, 14.0) if street.kind == "highway" else (3.0, 7.5)
        low, high = float(self.along[0]), min(float(self.along[-1]), self.s + 160)
        starts = np.arange(math.floor(low / period) * period, high, period)
        for start, stop in gaps:
            inside = starts[(starts > start + 3) & (starts + dash < stop - 3)]
            for count, sign in ((own, street.drive_sign), (other, -street.drive_sign)):
                for lane in range(1, count):
                    d = sign * (half + lane * street.lane)
                    self.quads(
                        inside,
                        inside + dash,
                        np.full(len(inside), d - width),
                        np.full(len(inside), d + width),
                        color,
                        self.road,
                    )
            if street.median == 0 and other:
                if street.center_yellow:
                    for d in (-0.12, 0.12):
                        self.band(
                            d - 0.05, d + 0.05, center, self.road, start=start + 2, stop=stop - 2
                        )
                elif street.kind != "suburb" or street.marking_wear > 0.75:
                    self.quads(
                        inside,
                        inside + dash,
                        np.full(len(inside), -width),
                        np.full(len(inside), width),
                        color,
                        self.road,
                    )
            edges = []
            if street.kind in ("highway", "country"):
                edges = [side.sign * (side.carriageway - 0.1) for side in street.sides]
                if street.median > 0:
                    edges += [half + 0.1, -half - 0.1]
            elif street.marking_wear > 0.85:
                # No-parking lines along the curb, as in Britain.
                edges = [
                    side.sign * (side.curb - 0.35) for side in street.sides if not side.parking
                ]
            for d in edges:
                yellow = street.kind == "highway" and abs(d) < half + 0.2
                tone = (206.0, 164.0, 58.0) if yellow or street.urban else color
                self.band(d - width, d + width, tone, self.road, start=start + 1, stop=stop - 1)
        for side in street.sides:
            if side.parking:
                bays = np.arange(math.floor(low / 6.0) * 6.0, self.s + 60, 6.0)
                for start, stop in gaps:
                    inside = bays[(bays > start + 5) & (bays < stop - 5)]
                    d0, d1 = sorted((side.sign * side.carriageway, side.sign * (side.curb - 0.1)))
                    if street.marking_wear > 0.8:
                        self.quads(
                            inside,
                            inside + 0.1,
                            np.full(len(inside), d0),
                            np.full(len(inside), d1),
                            color,
                            self.road,
                        )
        if street.tram:
            for sign in (1, -1):
                middle = sign * (half + 0.5 * street.lane)
                for rail in (-0.72, 0.72):
                    self.band(middle + rail - 0.06, middle + rail + 0.06, (62, 62, 64), self.road)
                    self.band(
                        middle + rail - 0.03, middle + rail + 0.03, (132, 132, 134), self.road
                    )
        if street.urban and junctions and own:
            rng = random.Random(f"{street.seed}/arrows")
            if rng.random() < 0.5:
                for junction in junctions:
                    for lane in range(own):
                        d = street.drive_sign * (half + (lane + 0.5) * street.lane)
                        self.arrow(junction.at - junction.half - 14.0, d)

    def arrow(self, s: float, d: float) -> None:
        color = self.paint_color()
        one = np.ones(1)
        self.quads(one * s, one * (s + 2.6), one * (d - 0.08), one * (d + 0.08), color, self.road)
        tip = np.array([[s + 2.4, d - 0.4], [s + 2.4, d + 0.4], [s + 4.0, d]])
        xy = self.street.course.position(tip[:, 0], tip[:, 1])
        points = self.camera.to_camera(np.column_stack([xy, np.zeros(3)]))
        self.canvas.fill_in_space(self.camera, points, self.shade(color), self.road)

    def wear(self) -> None:
        """Patches, manholes, wheel tracks and cracks in the road."""
        street = self.street
        left, right = (max(s.curb for s in street.sides if s.sign == sign) for sign in (1, -1))
        tone = street.road_color
        for lane in range(street.own_lanes):
            middle = street.drive_sign * (street.median / 2 + (lane + 0.5) * street.lane)
            for track in (-0.75, 0.75):
                self.band(
                    middle + track - 0.28,
                    middle + track + 0.28,
                    _mix(tone, (40, 40, 42), 0.06),
                    self.road,
                    stop=self.s + 70,
                )
        cell = 12.0
        for k in range(math.floor((self.s - 2) / cell), math.floor((self.s + 60) / cell) + 1):
            rng = random.Random(f"{street.seed}/wear/{k}")
            for _ in range(rng.randint(0, 2)):
                s, d = (k + rng.random()) * cell, rng.uniform(-right + 0.8, left - 0.8)
                if rng.random() < 0.35 and street.urban:
                    angle = np.linspace(0, 2 * math.pi, 12, endpoint=False)
                    xy = street.course.position(s + 0.33 * np.cos(angle), d + 0.33 * np.sin(angle))
                    points = self.camera.to_camera(np.column_stack([xy, np.zeros(12)]))
                    if points[:, 2].min() > 0.5:
                        self.canvas.fill(
                            self.camera.pixels(points),
                            self.shade(_mix(tone, (48, 44, 40), 0.6)),
                            self.road,
                        )
                else:
                    one = np.ones(1)
                    length, width = rng.uniform(1.0, 7.0), rng.uniform(0.4, 1.6)
                    change = rng.choice(((36.0, 36.0, 38.0), (150.0, 150.0, 150.0)))
                    self.quads(
                        one * s,
                        one * (s + length),
                        one * d,
                        one * (d + width),
                        _mix(tone, change, rng.uniform(0.08, 0.25)),
                        self.road,
                    )

    # -- texture, shadow, haze -------------------------------------------------------------------

    def finish(
        self, shadows: Iterator[npt.NDArray[np.int32]], dapples: Iterator[npt.NDArray[np.int32]]
    ) -> None:
        """Give the painted ground its grain, the shadows (polygons in fixed point) and haze."""
        canvas, camera = self.canvas, self.camera
        k = camera.intrinsics
        forward = camera.rotation[2]
        # The row of the horizon in the middle; a margin covers the camera's roll.
        horizon = k.cy + k.fy * (
            math.tan(math.asin(float(np.clip(forward[2], -1, 1)))) if abs(forward[2]) < 1 else 0.0
        )
        roll = abs(float(camera.rotation[0, 2])) * canvas.width / 2
        top = int(max(0, min(canvas.height, horizon - roll)))
        if top >= canvas.height - 2:
            return
        color = canvas.color[top:]
        surface = canvas.surface[top:].astype(np.uint8)
        texture = self.texture(top, horizon, surface)
        cv2.multiply(color, texture, dst=color, scale=1.0 / 128)
        mask = np.zeros(color.shape[:2], dtype=np.uint8)
        shift = np.array([0, -top << SHIFT], dtype=np.int32)
        strong = self.light.has_shadows
        for polygon in shadows:
            cv2.fillConvexPoly(mask, polygon + shift, (255 if strong else 150,), cv2.LINE_8, SHIFT)
        for polygon in dapples:
            cv2.fillPoly(mask, [polygon + shift], (225,), cv2.LINE_8, SHIFT)
        mask = np.asarray(cv2.blur(mask, (5, 3) if strong else (9, 5)), dtype=np.uint8)
        mask[surface < self.road] = 0
        factor = self.light.shadow_factor if self.light.has_shadows else np.full(3, 0.45)
        steps = np.arange(256)[:, None] / 255.0
        table = np.rint(255 * (1 - steps * (1 - factor))).astype(np.uint8)[:, None, :]
        cv2.multiply(
            color, cv2.LUT(cv2.merge([mask, mask, mask]), table), dst=color, scale=1.0 / 255
        )
        self.haze(top, horizon)

    def texture(
        self, top: int, horizon: float, surface: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.uint8]:
        """Grey multiplier about 128 of every pixel from row ``top`` on, as three channels."""
        canvas, camera = self.canvas, self.camera
        k = camera.intrinsics
        height, width = canvas.height - top, canvas.width
        result = np.full((height, width), 128, dtype=np.uint8)
        position = camera.position.copy()
        position[:2] -= np.floor(position[:2] / _TILE) * _TILE
        kind_of = np.zeros(256, dtype=np.uint8)
        kind_of[[self.sidewalk, self.paving]] = 1
        kind_of[self.terrain] = 2
        kinds = cv2.LUT(surface, kind_of)
        camera_height = float(camera.position[2])
        # Bands of rows by distance, each from the level of the texture that fits.
        distances = (1.0, 7.0, 14.0, 30.0)
        rows = [
            int(np.clip(horizon + k.fy * camera_height / z - top, 0, height)) for z in distances
        ]
        for (near, far), (bottom, upper) in zip(pairwise(distances), pairwise(rows), strict=True):
            if bottom <= upper:
                continue
            middle = math.sqrt(near * far) if near > 1.0 else 5.0
            for number, name in enumerate(("asphalt", "paving", "grass")):
                mask = (kinds[upper:bottom] == number).view(np.uint8)
                if not mask.any():
                    continue
                left, _, wide, _ = cv2.boundingRect(mask)
                texture = _ground_textures()[name]
                shrink = texture.levels[0].shape[0] / _TILE * middle / k.fx * 1.6
                image = texture.level(shrink)
                scale = _TILE / image.shape[0]
                matrix = k.matrix @ np.column_stack(
                    [
                        camera.rotation[:, 0] * scale,
                        camera.rotation[:, 1] * scale,
                        -camera.rotation @ position,
                    ]
                )
                offset = np.array([[1.0, 0, left], [0, 1.0, top + upper], [0, 0, 1.0]])
                patch = cv2.warpPerspective(
                    image,
                    np.linalg.inv(matrix) @ offset,
                    (wide, bottom - upper),
                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_WRAP,
                )
                area = slice(left, left + wide)
                cv2.copyTo(patch, mask[:, area], result[upper:bottom, area])
        return np.asarray(cv2.merge([result, result, result]), dtype=np.uint8)

    def haze(self, top: int, horizon: float) -> None:
        """Fade the ground into the horizon's colour with distance."""
        canvas, camera, light = self.canvas, self.camera, self.light
        k = camera.intrinsics
        nearest = 0.03 / max(light.haze, 1e-6)
        bottom = int(
            min(canvas.height, horizon + k.fy * float(camera.position[2]) / max(nearest, 4.0) + 1)
        )
        if bottom <= top:
            return
        rows = np.arange(top, bottom)
        depth = k.fy * float(camera.position[2]) / np.maximum(rows - horizon, 0.6)
        clear = np.exp(-light.haze * depth).astype(np.float32)[:, None, None]
        part = canvas.color[top:bottom]
        ground = canvas.surface[top:bottom] >= self.road
        mixed = part * clear + light.horizon.astype(np.float32) * (1 - clear)
        cv2.copyTo(np.rint(mixed).astype(np.uint8), ground.view(np.uint8), part)


def _mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """``share`` of b in a."""
    return (
        a[0] + share * (b[0] - a[0]),
        a[1] + share * (b[1] - a[1]),
        a[2] + share * (b[2] - a[2]),
    )


def outline(camera: Camera, points: Float) -> npt.NDArray[np.int32] | None:
    """Fixed-point outline of a camera-space polygon, or None where nothing of it lies ahead."""
    clipped = clip_near(points)
    return fixed_point(camera.pixels(clipped)) if len(clipped) >= 3 else None
