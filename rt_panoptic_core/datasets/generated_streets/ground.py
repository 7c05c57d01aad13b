"""The ground as the camera sees it: its surfaces, and drawing on them in road coordinates."""

from __future__ import annotations

import cv2
import numpy as np

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.camera import Camera, Float, turned_by
from rt_panoptic_core.datasets.generated_streets.canvas import SHIFT, Canvas, Rgb, fixed_point
from rt_panoptic_core.datasets.generated_streets.layout import Street
from rt_panoptic_core.datasets.generated_streets.light import Light

CURB = 0.12
"""Height of the sidewalk over the road, metres."""


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """``share`` of b in a."""
    return (
        a[0] + share * (b[0] - a[0]),
        a[1] + share * (b[1] - a[1]),
        a[2] + share * (b[2] - a[2]),
    )


class Ground:
    """The ground of ``street`` as ``camera`` sees it from ``s`` metres along, to be drawn on ``canvas``."""

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
        """``color`` in the light that falls on level ground."""
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
        inside: Float = self.camera.to_camera(points.reshape(-1, 3)).reshape(-1, 4, 3)
        inside = inside[(inside[..., 2] > 0.5).all(axis=1)]
        pixels = self.camera.pixels(inside)
        tall = pixels[..., 1].max(axis=1) - pixels[..., 1].min(axis=1)
        rgb = self.shade(color)
        for corner in fixed_point(pixels[tall > 0.35]):
            cv2.fillConvexPoly(self.canvas.color, corner, rgb, cv2.LINE_8, SHIFT)
            cv2.fillConvexPoly(self.canvas.surface, corner, (surface,), cv2.LINE_8, SHIFT)
