"""Prototypes of persons, riders, bicycles and motorcycles."""

from __future__ import annotations

import math
from functools import cache

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.mesh import (
    LABEL_ONLY,
    PAINT,
    PAINT2,
    PAINT3,
    PAINT4,
    TWO_SIDED,
    Color,
    Mesh,
    MeshBuilder,
    Point,
)

WALK_PHASES = 12
"""Number of stored poses of one step cycle."""

CLOTHES: tuple[Color, ...] = (
    (32, 34, 40),
    (44, 48, 66),
    (70, 72, 76),
    (120, 40, 38),
    (188, 184, 176),
    (52, 74, 60),
    (60, 88, 136),
    (140, 110, 78),
    (206, 206, 210),
    (170, 60, 90),
    (200, 150, 50),
)
TROUSERS: tuple[Color, ...] = (
    (34, 38, 56),
    (28, 28, 32),
    (58, 66, 88),
    (96, 88, 74),
    (70, 70, 72),
)
SKINS: tuple[Color, ...] = ((214, 170, 142), (186, 138, 108), (134, 92, 66), (88, 60, 46))
HAIRS: tuple[Color, ...] = ((34, 26, 22), (72, 50, 34), (130, 100, 60), (92, 90, 88), (20, 20, 24))


def _leg(
    build: MeshBuilder, hip: Point, thigh_angle: float, knee: float, y: float, shoe: Color
) -> None:
    """A leg from ``hip``: ``thigh_angle`` forward of straight down, bent back by ``knee`` (radians)."""
    kx = hip[0] + 0.44 * math.sin(thigh_angle)
    kz = hip[2] - 0.44 * math.cos(thigh_angle)
    shin = thigh_angle - knee
    ax = kx + 0.42 * math.sin(shin)
    az = max(kz - 0.42 * math.cos(shin), 0.06)
    build.limb((hip[0], y, hip[2]), (kx, y, kz), 0.092, PAINT2, end_radius=0.065)
    build.limb((kx, y, kz), (ax, y, az), 0.066, PAINT2, end_radius=0.048)
    build.limb((ax - 0.04, y, az - 0.015), (ax + 0.17, y, max(az - 0.02, 0.045)), 0.045, shoe)


def _arm(build: MeshBuilder, shoulder: Point, swing: float, bend: float) -> None:
    ex = shoulder[0] + 0.29 * math.sin(swing)
    ez = shoulder[2] - 0.29 * math.cos(swing)
    fx = ex + 0.25 * math.sin(swing + bend)
    fz = ez - 0.25 * math.cos(swing + bend)
    y = shoulder[1] * 1.12
    build.limb(shoulder, (ex, y, ez), 0.055, PAINT, end_radius=0.047, shade=0.9)
    build.limb((ex, y, ez), (fx, y, fz), 0.045, PAINT, end_radius=0.036, shade=0.9)
    build.limb((fx, y, fz), (fx + 0.03, y, fz - 0.07), 0.036, PAINT3)


def _torso(build: MeshBuilder, hip: Point, neck: Point, coat: bool) -> None:
    bottom = (hip[0] - 0.02, 0.0, hip[2] - (0.34 if coat else 0.04))
    chest = (
        hip[0] + 0.62 * (neck[0] - hip[0]),
        0.0,
        hip[2] + 0.62 * (neck[2] - hip[2]),
    )
    build.limb(bottom, chest, 0.19 if coat else 0.155, PAINT, end_radius=0.17)
    build.limb(chest, (neck[0], 0.0, neck[2] - 0.1), 0.172, PAINT, end_radius=0.12, shade=1.05)
    for side in (1, -1):
        build.limb(
            (chest[0], side * 0.09, chest[2]),
            (neck[0], side * 0.13, neck[2] - 0.11),
            0.1,
            PAINT,
            end_radius=0.075,
            shade=1.05,
        )


def _head(build: MeshBuilder, neck: Point, helmet: Color | None = None) -> None:
    x, _, z = neck
    build.limb((x, 0, z - 0.08), (x + 0.02, 0, z + 0.06), 0.055, PAINT3, shade=0.88)
    build.limb((x + 0.03, 0, z + 0.11), (x + 0.035, 0, z + 0.2), 0.088, PAINT3, end_radius=0.095)
    if helmet is None:
        build.limb(
            (x - 0.01, 0, z + 0.2), (x + 0.02, 0, z + 0.235), 0.098, PAINT4, end_radius=0.085
        )
    else:
        build.limb((x - 0.01, 0, z + 0.19), (x + 0.03, 0, z + 0.22), 0.125, helmet)


@cache
def person(phase: int, standing: bool = False, coat: bool = False, bag: bool = False) -> Mesh:
    """Prototype of a person 1.75 m tall in walking pose ``phase`` of :data:`WALK_PHASES`.

    ``PAINT`` the top, ``PAINT2`` the trousers, ``PAINT3`` the skin, ``PAINT4`` the hair.
    """
    build = MeshBuilder(labels.PERSON)
    angle = 2 * math.pi * phase / WALK_PHASES
    stride = 0.0 if standing else 0.44
    shoe: Color = (30, 28, 28)
    hip: Point = (0.0, 0.0, 0.9 - 0.03 * abs(math.sin(angle)) * (not standing))
    neck: Point = (0.05 if not standing else 0.0, 0.0, hip[2] + 0.57)
    legs = []
    for side, shift in ((1, 0.0), (-1, math.pi)):
        thigh = stride * math.sin(angle + shift) + (0.02 * side if standing else 0.05)
        lifted = max(0.0, math.cos(angle + shift))
        legs.append((side, thigh, 0.06 if standing else 0.1 + 0.75 * lifted * stride / 0.44))
    for side, thigh, knee in legs:
        _leg(build, hip, thigh, knee, side * 0.095, shoe)
    for side, shift in ((1, math.pi), (-1, 0.0)):
        swing = 0.05 if standing else 0.5 * math.sin(angle + shift)
        bend = 0.9 if standing and side == 1 and phase % 3 == 0 else 0.35
        _arm(build, (neck[0], side * 0.2, neck[2] - 0.12), swing, bend)
    _torso(build, hip, neck, coat)
    if bag:
        build.limb(
            (neck[0] - 0.17, 0, neck[2] - 0.16),
            (neck[0] - 0.19, 0, neck[2] - 0.42),
            0.12,
            (60, 58, 64),
        )
    _head(build, neck)
    return build.build()


def _wheel(build: MeshBuilder, x: float, radius: float, tyre: float, filled: Color | None) -> None:
    group = build.new_group()
    if filled is None:
        build.disc(
            (x, 0, radius), radius, "+y", (0, 0, 0), group=group, flags=LABEL_ONLY | TWO_SIDED
        )
        corners = 14
        rim = [
            (
                x + (radius - tyre) * math.cos(2 * math.pi * k / corners),
                0.0,
                radius + (radius - tyre) * math.sin(2 * math.pi * k / corners),
            )
            for k in range(corners)
        ]
        for a, b in zip(rim, rim[1:] + rim[:1], strict=True):
            build.limb(a, b, tyre, (32, 32, 34))
        for k in range(0, corners // 2, 2):
            build.limb(rim[k], rim[k + corners // 2], 0.006, (120, 122, 126))
    else:
        build.disc((x, 0, radius), radius, "+y", (30, 30, 32), group=group, flags=TWO_SIDED)
        build.disc((x, 0, radius), radius * 0.62, "+y", filled, group=group, flags=TWO_SIDED)
        build.disc((x, 0, radius), radius * 0.25, "+y", (50, 50, 52), group=group, flags=TWO_SIDED)


def _bicycle_into(build: MeshBuilder) -> None:
    for x in (0.53, -0.53):
        _wheel(build, x, 0.345, 0.022, None)
    rear, crank, seat, head = (
        (-0.53, 0.0, 0.345),
        (-0.06, 0.0, 0.3),
        (-0.2, 0.0, 0.82),
        (0.36, 0.0, 0.8),
    )
    front = (0.53, 0.0, 0.345)
    for a, b in (
        (rear, crank),
        (crank, seat),
        (rear, (-0.18, 0.0, 0.74)),
        (crank, head),
        ((-0.18, 0.0, 0.76), head),
    ):
        build.limb(a, b, 0.02, PAINT)
    build.limb(head, front, 0.018, PAINT)
    build.limb(head, (0.32, 0.0, 0.98), 0.016, (70, 72, 74))
    build.limb((0.32, -0.27, 1.0), (0.32, 0.27, 1.0), 0.018, (34, 34, 36))
    build.limb((-0.3, 0.0, 0.87), (-0.06, 0.0, 0.87), 0.045, (28, 28, 30))
    build.limb((-0.06, 0.1, 0.3), (0.06, 0.1, 0.2), 0.016, (60, 60, 62))
    build.limb((-0.06, -0.1, 0.3), (-0.18, -0.1, 0.4), 0.016, (60, 60, 62))


@cache
def bicycle() -> Mesh:
    """Prototype of a bicycle without rider; ``PAINT`` its frame. Wheels are labelled through and through."""
    build = MeshBuilder(labels.BICYCLE)
    _bicycle_into(build)
    return build.build()


def _motorcycle_into(build: MeshBuilder, scooter: bool) -> None:
    radius = 0.24 if scooter else 0.31
    base = 0.62 if scooter else 0.7
    for x in (base, -base):
        _wheel(build, x, radius, 0.06, (96, 98, 102))
    if scooter:
        build.limb((-0.62, 0, 0.5), (-0.15, 0, 0.52), 0.18, PAINT, end_radius=0.14)
        build.limb((-0.15, 0, 0.3), (0.35, 0, 0.28), 0.09, PAINT)
        build.limb((0.36, 0, 0.32), (0.5, 0, 0.92), 0.13, PAINT, end_radius=0.09)
    else:
        build.limb((-0.25, 0, 0.4), (0.25, 0, 0.42), 0.17, (60, 60, 63))
        build.limb((0.02, 0, 0.78), (0.34, 0, 0.82), 0.15, PAINT, end_radius=0.12)
        build.limb((-0.8, 0, 0.78), (-0.3, 0, 0.72), 0.08, PAINT)
        build.limb((0.45, 0, 0.86), (0.58, 0, 0.88), 0.1, PAINT)
        build.limb((-0.2, -0.14, 0.33), (-0.85, -0.16, 0.38), 0.05, (150, 150, 154))
    build.limb((0.48, 0, 0.9), (base, 0, radius), 0.04, (90, 92, 95))
    build.limb((0.42, -0.34, 1.0), (0.42, 0.34, 1.0), 0.025, (30, 30, 32))
    build.limb((-0.62, 0, 0.82), (0.0, 0, 0.8), 0.07, (26, 26, 28))
    build.limb((0.62, 0, 0.86), (0.66, 0, 0.86), 0.075, (230, 232, 226))
    build.limb((-0.84, 0, 0.7), (-0.86, 0, 0.7), 0.05, (170, 28, 24))


@cache
def motorcycle(scooter: bool = False) -> Mesh:
    """Prototype of a motorcycle or scooter without rider; ``PAINT`` its body."""
    build = MeshBuilder(labels.MOTORCYCLE)
    _motorcycle_into(build, scooter)
    return build.build()


def _rider_into(
    build: MeshBuilder,
    hip: Point,
    lean: float,
    feet: tuple[Point, Point],
    hands: float,
    helmet: Color | None,
) -> None:
    neck: Point = (hip[0] + 0.56 * math.sin(lean), 0.0, hip[2] + 0.56 * math.cos(lean))
    shoe: Color = (30, 28, 28)
    for foot in feet:
        y = foot[1]
        middle = ((hip[0] + foot[0]) / 2, y, (hip[2] + foot[2]) / 2)
        span = math.dist((hip[0], hip[2]), (foot[0], foot[2]))
        bend = math.sqrt(max(0.0, 0.43**2 - (span / 2) ** 2))
        along = ((foot[0] - hip[0]) / span, (foot[2] - hip[2]) / span)
        knee: Point = (middle[0] - along[1] * bend, y, middle[2] + along[0] * bend)
        build.limb((hip[0], y, hip[2]), knee, 0.09, PAINT2, end_radius=0.066)
        build.limb(knee, foot, 0.064, PAINT2, end_radius=0.048)
        build.limb(foot, (foot[0] + 0.16, y, foot[2] - 0.02), 0.045, shoe)
    _torso(build, hip, neck, False)
    for side in (1, -1):
        shoulder: Point = (neck[0], side * 0.19, neck[2] - 0.12)
        elbow: Point = (
            (neck[0] + hands) / 2 - 0.02,
            side * 0.25,
            (neck[2] - 0.12 + 1.02) / 2 - 0.05,
        )
        build.limb(shoulder, elbow, 0.054, PAINT, end_radius=0.045, shade=0.92)
        build.limb(elbow, (hands, side * 0.24, 1.03), 0.043, PAINT, end_radius=0.036, shade=0.92)
        build.limb((hands, side * 0.24, 1.03), (hands + 0.04, side * 0.24, 1.02), 0.04, PAINT3)
    _head(build, neck, helmet)


@cache
def cyclist(phase: int, helmet: bool) -> Mesh:
    """Prototype of a rider (part 0) on a bicycle (part 1), pedalling at ``phase`` of :data:`WALK_PHASES`.

    Slots as for :func:`person`; the bicycle's frame takes the trousers' colour.
    """
    build = MeshBuilder(labels.BICYCLE, part=1)
    _bicycle_into(build)
    build.label, build.part = labels.RIDER, 0
    angle = 2 * math.pi * phase / WALK_PHASES
    feet = []
    for side, shift in ((1, 0.0), (-1, math.pi)):
        feet.append(
            (
                -0.06 + 0.17 * math.cos(angle + shift),
                side * 0.1,
                0.32 + 0.17 * math.sin(angle + shift),
            )
        )
    _rider_into(
        build, (-0.2, 0.0, 0.93), 0.45, (feet[0], feet[1]), 0.3, (210, 210, 206) if helmet else None
    )
    return build.build()


@cache
def motorcyclist(scooter: bool) -> Mesh:
    """Prototype of a rider (part 0) on a motorcycle (part 1); slots as for :func:`cyclist`."""
    build = MeshBuilder(labels.MOTORCYCLE, part=1)
    _motorcycle_into(build, scooter)
    build.label, build.part = labels.RIDER, 0
    feet: tuple[Point, Point] = ((0.12, 0.17, 0.32), (0.12, -0.17, 0.32))
    _rider_into(build, (-0.22, 0.0, 0.9), 0.3, feet, 0.42, (36, 36, 40))
    return build.build()
