"""Prototypes of trucks, buses and trams."""

from __future__ import annotations

import math
from functools import cache

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.mesh import (
    GLASS,
    LAMP,
    PAINT,
    PAINT2,
    Color,
    Mesh,
    MeshBuilder,
    Point,
)
from rt_panoptic_core.datasets.generated_streets.vehicles import (
    BLACK,
    GLASS_COLOR,
    HEADLIGHT,
    PLATE_REAR,
    RUBBER,
    TAIL,
)

TRUCK_PAINTS: tuple[Color, ...] = (
    (222, 222, 218),
    (198, 34, 30),
    (30, 70, 140),
    (220, 140, 24),
    (60, 120, 70),
    (120, 124, 128),
)


def _wheels(build: MeshBuilder, xs: tuple[float, ...], half: float, radius: float) -> None:
    for side, axis in ((1, "+y"), (-1, "-y")):
        group = build.side_group(side)
        for x in xs:
            y = side * (half + 0.012)
            build.disc(
                (x, y - side * 0.006, radius),
                radius * 1.16,
                axis,
                BLACK,
                group=group,
                turn=math.pi,
            )
            build.disc((x, y, radius), radius, axis, RUBBER, group=group)
            build.disc((x, y, radius), radius * 0.55, axis, (140, 142, 146), group=group)
            build.disc((x, y, radius), radius * 0.2, axis, (80, 82, 84), group=group, corners=8)


def _side_rect(
    build: MeshBuilder,
    side: int,
    x0: float,
    x1: float,
    y: float,
    z0: float,
    z1: float,
    color: Color | int,
    group: int,
    flags: int = 0,
    shade: float = 1.0,
) -> None:
    points: list[Point] = [
        (x1, side * y, z0),
        (x0, side * y, z0),
        (x0, side * y, z1),
        (x1, side * y, z1),
    ]
    build.face(points if side == 1 else points[::-1], color, group=group, flags=flags, shade=shade)


def _end_rect(
    build: MeshBuilder,
    end: int,
    x: float,
    y0: float,
    y1: float,
    z0: float,
    z1: float,
    color: Color | int,
    group: int,
    flags: int = 0,
    shade: float = 1.0,
) -> None:
    points: list[Point] = [(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)]
    build.face(points if end == 1 else points[::-1], color, group=group, flags=flags, shade=shade)


@cache
def bus(double_decker: bool = False) -> Mesh:
    """Prototype of a city bus; ``PAINT`` its body, ``PAINT2`` its skirt."""
    build = MeshBuilder(labels.BUS)
    length, half = (10.6, 1.26) if double_decker else (11.6, 1.26)
    height = 4.3 if double_decker else 3.05
    x0, x1 = -length / 2, length / 2
    decks = [(1.15, 2.05), (2.75, 3.75)] if double_decker else [(1.15, 2.45)]
    for side in (1, -1):
        group = build.side_group(side)
        _side_rect(build, side, x0, x1, half, 0.32, height - 0.12, PAINT, group)
        _side_rect(build, side, x0, x1, half + 0.003, 0.32, 0.8, PAINT2, group)
        for z0, z1 in decks:
            _side_rect(
                build, side, x0 + 0.25, x1 - 0.2, half + 0.004, z0 - 0.05, z1 + 0.05, BLACK, group
            )
            panes = 7
            width = (length - 0.6) / panes
            for k in range(panes):
                start = x0 + 0.3 + k * width
                _side_rect(
                    build,
                    side,
                    start + 0.05,
                    start + width - 0.05,
                    half + 0.006,
                    z0,
                    z1,
                    GLASS_COLOR,
                    group,
                    GLASS,
                )
        if side == -1:
            for start in (x1 - 1.5, x0 + length * 0.45):
                _side_rect(
                    build,
                    side,
                    start,
                    start + 1.2,
                    half + 0.008,
                    0.38,
                    2.35,
                    GLASS_COLOR,
                    group,
                    GLASS,
                )
                _side_rect(
                    build, side, start + 0.57, start + 0.63, half + 0.01, 0.38, 2.35, BLACK, group
                )
    for end in (1, -1):
        group = build.new_group()
        x = x1 if end == 1 else x0
        _end_rect(build, end, x, -half, half, 0.32, height - 0.12, PAINT, group)
        _end_rect(build, end, x + end * 0.003, -half, half, 0.32, 0.62, PAINT2, group)
        proud = x + end * 0.006
        low = 1.0 if end == 1 else 1.55
        _end_rect(build, end, proud, -half * 0.94, half * 0.94, low, 2.3, GLASS_COLOR, group, GLASS)
        if double_decker:
            _end_rect(
                build, end, proud, -half * 0.94, half * 0.94, 2.95, 3.85, GLASS_COLOR, group, GLASS
            )
        sign_z = 2.4
        if end == 1 or not double_decker:
            width = half * (0.85 if end == 1 else 0.4)
            _end_rect(build, end, proud, -width, width, sign_z, sign_z + 0.36, (18, 18, 18), group)
            _end_rect(
                build,
                end,
                proud + end * 0.002,
                -width * 0.8,
                width * 0.55,
                sign_z + 0.1,
                sign_z + 0.26,
                (240, 170, 40),
                group,
                LAMP,
            )
        for side in (1, -1):
            y0, y1 = sorted((side * half * 0.62, side * half * 0.92))
            color = HEADLIGHT if end == 1 else TAIL
            _end_rect(build, end, proud, y0, y1, 0.62, 0.84, color, group)
        _end_rect(build, end, proud, -0.26, 0.26, 0.42, 0.54, PLATE_REAR, group)
    top = build.new_group()
    for (za, ya), (zb, yb) in (((height - 0.12, half), (height, half - 0.25)),):
        build.face([(x1, ya, za), (x0, ya, za), (x0, yb, zb), (x1, yb, zb)], PAINT, group=top)
        build.face([(x0, -ya, za), (x1, -ya, za), (x1, -yb, zb), (x0, -yb, zb)], PAINT, group=top)
        build.face([(x1, -ya, za), (x1, ya, za), (x1, yb, zb), (x1, -yb, zb)], PAINT, group=top)
        build.face([(x0, ya, za), (x0, -ya, za), (x0, -yb, zb), (x0, yb, zb)], PAINT, group=top)
    _wheels(build, (x1 - 2.6, x0 + 3.0), half, 0.48)
    return build.build()


@cache
def truck(kind: str) -> Mesh:
    """Prototype of a truck: ``"box"``, ``"tipper"`` or ``"semi"``; ``PAINT`` its cab, ``PAINT2`` its load."""
    build = MeshBuilder(labels.TRUCK)
    length = {"box": 7.6, "tipper": 7.2, "semi": 14.5}[kind]
    half = 1.24
    x0, x1 = -length / 2, length / 2
    cab = 2.0
    cab_top = 2.75 if kind != "semi" else 3.3
    gap = 0.25 if kind != "semi" else 0.6
    load = {"box": (1.0, 3.55), "tipper": (1.05, 2.45), "semi": (1.1, 3.95)}[kind]
    # Chassis.
    build.box((x0 + 0.1, -half * 0.7, 0.5), (x1 - 0.3, half * 0.7, 1.0), (44, 44, 46))
    # Load.
    lx1 = x1 - cab - gap
    load_group = build.new_group()
    build.box((x0, -half, load[0]), (lx1, half, load[1]), PAINT2, group=load_group, shade=1.0)
    for side in (1, -1):
        if kind == "tipper":
            for k in range(6):
                x = x0 + 0.3 + k * (lx1 - x0 - 0.4) / 5.5
                _side_rect(
                    build,
                    side,
                    x,
                    x + 0.1,
                    half + 0.006,
                    load[0],
                    load[1],
                    PAINT2,
                    load_group,
                    shade=0.75,
                )
        else:
            _side_rect(
                build,
                side,
                x0,
                lx1,
                half + 0.004,
                load[0],
                load[0] + 0.12,
                (60, 60, 62),
                load_group,
            )
            _side_rect(
                build,
                side,
                x0 + (lx1 - x0) * 0.2,
                x0 + (lx1 - x0) * 0.75,
                half + 0.006,
                load[0] + 0.9,
                load[0] + 1.6,
                PAINT,
                load_group,
            )
    proud = x0 - 0.006
    _end_rect(build, -1, proud, -0.015, 0.015, load[0], load[1], (50, 50, 52), load_group)
    for y in (-half, half - 0.07):
        _end_rect(build, -1, proud, y, y + 0.07, load[0], load[1], (90, 90, 92), load_group)
    _end_rect(
        build, -1, proud, -half, half, load[0] - 0.02, load[0] + 0.1, (70, 70, 72), load_group
    )
    rear = build.new_group()
    _end_rect(build, -1, x0 - 0.01, -half, half, 0.55, 0.75, (40, 40, 42), rear)
    for side in (1, -1):
        y0, y1 = sorted((side * half * 0.68, side * half * 0.97))
        _end_rect(build, -1, x0 - 0.02, y0, y1, 0.58, 0.74, TAIL, rear)
    _end_rect(build, -1, x0 - 0.02, -0.26, 0.26, 0.6, 0.72, PLATE_REAR, rear)
    # Cab.
    cx0 = x1 - cab
    group = build.new_group()
    _end_rect(build, 1, x1, -half, half, 0.4, 1.55, PAINT, group)
    build.face(
        [
            (x1, -half, 1.55),
            (x1, half, 1.55),
            (x1 - 0.35, half, cab_top),
            (x1 - 0.35, -half, cab_top),
        ],
        PAINT,
        group=group,
    )

    def screen(t: float) -> tuple[float, float]:
        return x1 - 0.35 * t + 0.006, 1.55 + t * (cab_top - 1.55)

    (xa, za), (xb, zb) = screen(0.06), screen(0.68 if kind != "semi" else 0.5)
    y = half * 0.9
    build.face(
        [(xa, -y, za), (xa, y, za), (xb, y, zb), (xb, -y, zb)],
        GLASS_COLOR,
        group=group,
        flags=GLASS,
    )
    _end_rect(build, 1, x1 + 0.006, -half * 0.7, half * 0.7, 0.85, 1.4, (40, 40, 42), group)
    _end_rect(build, 1, x1 + 0.006, -half, half, 0.4, 0.55, (50, 50, 52), group)
    for side in (1, -1):
        y0, y1 = sorted((side * half * 0.66, side * half * 0.95))
        _end_rect(build, 1, x1 + 0.01, y0, y1, 0.6, 0.8, HEADLIGHT, group)
        side_group = build.new_group()
        points: list[Point] = [
            (x1, side * half, 0.4),
            (cx0, side * half, 0.4),
            (cx0, side * half, cab_top),
            (x1 - 0.35, side * half, cab_top),
            (x1, side * half, 1.55),
        ]
        build.face(points if side == 1 else points[::-1], PAINT, group=side_group)
        _side_rect(
            build,
            side,
            cx0 + 0.75,
            x1 - 0.4,
            half + 0.005,
            1.6,
            2.3,
            GLASS_COLOR,
            side_group,
            GLASS,
        )
        _side_rect(
            build, side, cx0 + 0.7, cx0 + 0.73, half + 0.006, 0.6, 2.4, PAINT, side_group, shade=0.6
        )
    build.face(
        [
            (x1 - 0.35, -half, cab_top),
            (x1 - 0.35, half, cab_top),
            (cx0, half, cab_top),
            (cx0, -half, cab_top),
        ],
        PAINT,
    )
    _end_rect(build, -1, cx0, -half, half, 0.9, cab_top, PAINT, build.new_group(), shade=0.8)
    axles = {
        "box": (x1 - 1.2, x0 + 1.7),
        "tipper": (x1 - 1.2, x0 + 1.4, x0 + 2.5),
        "semi": (x1 - 1.3, x1 - 4.3, x0 + 1.2, x0 + 2.4, x0 + 3.6),
    }[kind]
    _wheels(build, axles, half - 0.02, 0.5)
    return build.build()


@cache
def tram() -> Mesh:
    """Prototype of a tram of three cars, 27 m long; ``PAINT`` its body, ``PAINT2`` its stripe."""
    build = MeshBuilder(labels.TRAIN)
    half, height = 1.25, 3.35
    cars = ((-13.5, -4.7), (-4.3, 4.3), (4.7, 13.5))
    for start, stop in cars:
        group_by_side = {side: build.new_group() for side in (1, -1)}
        for side, group in group_by_side.items():
            _side_rect(build, side, start, stop, half, 0.28, height - 0.1, PAINT, group)
            _side_rect(build, side, start, stop, half + 0.003, 0.28, 0.62, (62, 62, 66), group)
            _side_rect(build, side, start, stop, half + 0.003, 0.95, 1.12, PAINT2, group)
            _side_rect(
                build, side, start + 0.15, stop - 0.15, half + 0.004, 1.25, 2.5, BLACK, group
            )
            panes = 6
            width = (stop - start - 0.4) / panes
            for k in range(panes):
                x = start + 0.2 + k * width
                low = 0.4 if k in (1, 4) else 1.3
                _side_rect(
                    build,
                    side,
                    x + 0.06,
                    x + width - 0.06,
                    half + 0.006,
                    low,
                    2.45,
                    GLASS_COLOR,
                    group,
                    GLASS,
                )
        build.face(
            [
                (start, -half, height),
                (stop, -half, height),
                (stop, half, height),
                (start, half, height),
            ],
            (120, 122, 126),
        )
        build.box((start + 2.0, -0.8, height), (stop - 2.0, 0.8, height + 0.3), (136, 138, 142))
    for start, stop in ((-4.7, -4.3), (4.3, 4.7)):
        build.box((start, -half * 0.9, 0.4), (stop, half * 0.9, height - 0.15), (36, 36, 38))
    for end in (1, -1):
        x = 13.5 * end
        group = build.new_group()
        tip = x + end * 0.45
        points: list[Point] = [
            (tip, -half * 0.9, 0.3),
            (tip, half * 0.9, 0.3),
            (tip, half * 0.9, 1.2),
            (tip, -half * 0.9, 1.2),
        ]
        build.face(points if end == 1 else points[::-1], PAINT2, group=group)
        points = [
            (tip, -half * 0.9, 1.2),
            (tip, half * 0.9, 1.2),
            (x, half, height - 0.1),
            (x, -half, height - 0.1),
        ]
        build.face(points if end == 1 else points[::-1], PAINT, group=group)

        def slope(t: float, margin: float, end: int = end, x: float = x) -> tuple[Point, Point]:
            z = 1.2 + t * (height - 1.3)
            y = (half * 0.9 + t * half * 0.1) - margin
            at = x + end * (0.45 * (1 - t) + 0.006)
            return (at, -y, z), (at, y, z)

        (a, b), (d, c) = slope(0.05, 0.08), slope(0.66, 0.08)
        build.face(
            [a, b, c, d] if end == 1 else [d, c, b, a], GLASS_COLOR, group=group, flags=GLASS
        )
        (a, b), (d, c) = slope(0.74, 0.3), slope(0.9, 0.3)
        build.face(
            [a, b, c, d] if end == 1 else [d, c, b, a], (240, 168, 40), group=group, flags=LAMP
        )
        for side in (1, -1):
            y0, y1 = sorted((side * 0.7, side * 1.0))
            color = HEADLIGHT if end == 1 else TAIL
            _end_rect(build, end, tip + end * 0.006, y0, y1, 0.7, 0.9, color, group)
            wing: list[Point] = [
                (tip, side * half * 0.9, 0.3),
                (x, side * half, 0.3),
                (x, side * half, height - 0.1),
                (tip, side * half * 0.9, 1.2),
            ]
            build.face(wing if side * end == 1 else wing[::-1], PAINT)
    return build.build()
