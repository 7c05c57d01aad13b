"""Prototypes of trucks, buses and trams."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

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
from rt_panoptic_core.datasets.generated_streets.vehicle_parts import (
    BLACK,
    GLASS_COLOR,
    HEADLIGHT,
    PLATE_REAR,
    RUBBER,
    TAIL,
    Line,
    across,
    end_rectangle,
    facing,
    strip,
)

TRUCK_PAINTS: tuple[Color, ...] = (
    (222, 222, 218),
    (198, 34, 30),
    (30, 70, 140),
    (220, 140, 24),
    (60, 120, 70),
    (120, 124, 128),
)

# Half the width of each vehicle in metres.
_BUS_HALF = 1.26
_TRUCK_HALF = 1.24
_TRAM_HALF = 1.25


def _wheels(build: MeshBuilder, xs: tuple[float, ...], half: float, radius: float) -> None:
    """The wheels of both sides in their arches, at ``xs``."""
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


def _side_rectangle(
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
    """An upright rectangle that faces to the left (``side`` 1) or right (-1)."""
    points: list[Point] = [
        (x1, side * y, z0),
        (x0, side * y, z0),
        (x0, side * y, z1),
        (x1, side * y, z1),
    ]
    build.face(facing(points, side), color, group=group, flags=flags, shade=shade)


@cache
def bus(double_decker: bool = False) -> Mesh:
    """Prototype of a city bus; ``PAINT`` its body, ``PAINT2`` its skirt."""
    build = MeshBuilder(labels.BUS)
    length = 10.6 if double_decker else 11.6
    height = 4.3 if double_decker else 3.05
    windows = ((1.15, 2.05), (2.75, 3.75)) if double_decker else ((1.15, 2.45),)
    for side in (1, -1):
        _bus_side(build, side, length, height, windows)
    for end in (1, -1):
        _bus_end(build, end, length, height, double_decker)
    _bus_roof_edge(build, length, height)
    _wheels(build, (length / 2 - 2.6, -length / 2 + 3.0), _BUS_HALF, 0.48)
    return build.build()


def _bus_side(
    build: MeshBuilder,
    side: int,
    length: float,
    height: float,
    windows: tuple[tuple[float, float], ...],
) -> None:
    """Body, skirt, doors and rows of windows; ``windows``: lower and upper edge of each row."""
    rectangle = partial(_side_rectangle, build, side, group=build.side_group(side))
    half = _BUS_HALF
    x0, x1 = -length / 2, length / 2
    rectangle(x0, x1, half, 0.32, height - 0.12, PAINT)
    rectangle(x0, x1, half + 0.003, 0.32, 0.8, PAINT2)
    panes = 7
    width = (length - 0.6) / panes
    for z0, z1 in windows:
        rectangle(x0 + 0.25, x1 - 0.2, half + 0.004, z0 - 0.05, z1 + 0.05, BLACK)
        for k in range(panes):
            x = x0 + 0.3 + k * width
            rectangle(x + 0.05, x + width - 0.05, half + 0.006, z0, z1, GLASS_COLOR, flags=GLASS)
    if side == -1:
        for x in (x1 - 1.5, x0 + length * 0.45):
            rectangle(x, x + 1.2, half + 0.008, 0.38, 2.35, GLASS_COLOR, flags=GLASS)
            rectangle(x + 0.57, x + 0.63, half + 0.01, 0.38, 2.35, BLACK)


def _bus_end(
    build: MeshBuilder, end: int, length: float, height: float, double_decker: bool
) -> None:
    """Front or rear: body, windows, destination sign, lamps, plate."""
    group = build.new_group()
    half = _BUS_HALF
    x = end * length / 2
    end_rectangle(build, end, x, -half, half, 0.32, height - 0.12, PAINT, group)
    end_rectangle(build, end, x + end * 0.003, -half, half, 0.32, 0.62, PAINT2, group)
    patch = partial(end_rectangle, build, end, x + end * 0.006, group=group)
    sill = 1.0 if end == 1 else 1.55
    patch(-half * 0.94, half * 0.94, sill, 2.3, GLASS_COLOR, flags=GLASS)
    if double_decker:
        patch(-half * 0.94, half * 0.94, 2.95, 3.85, GLASS_COLOR, flags=GLASS)
    if end == 1 or not double_decker:
        _destination_sign(build, end, x + end * 0.006, group)
    for side in (1, -1):
        y0, y1 = sorted((side * half * 0.62, side * half * 0.92))
        patch(y0, y1, 0.62, 0.84, HEADLIGHT if end == 1 else TAIL)
    patch(-0.26, 0.26, 0.42, 0.54, PLATE_REAR)


def _destination_sign(build: MeshBuilder, end: int, x: float, group: int) -> None:
    """Lit writing on a dark board, narrower at the rear."""
    width = _BUS_HALF * (0.85 if end == 1 else 0.4)
    z = 2.4
    end_rectangle(build, end, x, -width, width, z, z + 0.36, (18, 18, 18), group)
    end_rectangle(
        build,
        end,
        x + end * 0.002,
        -width * 0.8,
        width * 0.55,
        z + 0.1,
        z + 0.26,
        (240, 170, 40),
        group,
        LAMP,
    )


def _bus_roof_edge(build: MeshBuilder, length: float, height: float) -> None:
    """The slanted edge of the roof on all four sides."""
    group = build.new_group()
    x0, x1 = -length / 2, length / 2
    za, ya = height - 0.12, _BUS_HALF
    zb, yb = height, _BUS_HALF - 0.25
    faces: tuple[list[Point], ...] = (
        [(x1, ya, za), (x0, ya, za), (x0, yb, zb), (x1, yb, zb)],
        [(x0, -ya, za), (x1, -ya, za), (x1, -yb, zb), (x0, -yb, zb)],
        [(x1, -ya, za), (x1, ya, za), (x1, yb, zb), (x1, -yb, zb)],
        [(x0, ya, za), (x0, -ya, za), (x0, -yb, zb), (x0, yb, zb)],
    )
    for face in faces:
        build.face(face, PAINT, group=group)


@dataclass(frozen=True)
class _TruckShape:
    """Side view of a truck: lengths and heights in metres."""

    length: float
    cab_top: float
    gap: float  # between cab and load
    load: tuple[float, float]  # heights of its lower and upper edge
    windscreen_to: float  # share of the cab's slope that has glass, from below
    front_axles: tuple[float, ...]  # distances from the front
    rear_axles: tuple[float, ...]  # distances from the rear

    @property
    def front(self) -> float:
        """The x coordinate of the front."""
        return self.length / 2

    @property
    def rear(self) -> float:
        """The x coordinate of the rear."""
        return -self.length / 2

    @property
    def cab_rear(self) -> float:
        """The x coordinate of the cab's rear wall."""
        return self.front - 2.0


_TRUCK_SHAPES: dict[str, _TruckShape] = {
    "box": _TruckShape(7.6, 2.75, 0.25, (1.0, 3.55), 0.68, (1.2,), (1.7,)),
    "tipper": _TruckShape(7.2, 2.75, 0.25, (1.05, 2.45), 0.68, (1.2,), (1.4, 2.5)),
    "semi": _TruckShape(14.5, 3.3, 0.6, (1.1, 3.95), 0.5, (1.3, 4.3), (1.2, 2.4, 3.6)),
}

_CAB_FOLD = 1.55  # height at which the cab's front starts to slope
_CAB_SLOPE = 0.35  # metres by which the cab's front slopes back


@cache
def truck(kind: str) -> Mesh:
    """Prototype of a truck: ``"box"``, ``"tipper"`` or ``"semi"``; ``PAINT`` its cab, ``PAINT2`` its load."""
    build = MeshBuilder(labels.TRUCK)
    shape = _TRUCK_SHAPES[kind]
    frame = _TRUCK_HALF * 0.7
    build.box((shape.rear + 0.1, -frame, 0.5), (shape.front - 0.3, frame, 1.0), (44, 44, 46))
    _load(build, shape, ribbed=kind == "tipper")
    _truck_rear(build, shape)
    _cab(build, shape)
    axles = (
        *(shape.front - distance for distance in shape.front_axles),
        *(shape.rear + distance for distance in shape.rear_axles),
    )
    _wheels(build, axles, _TRUCK_HALF - 0.02, 0.5)
    return build.build()


def _load(build: MeshBuilder, shape: _TruckShape, ribbed: bool) -> None:
    """The load's body: ribs, or a rail and a stripe, on its sides, doors at its rear."""
    group = build.new_group()
    half = _TRUCK_HALF
    x0, x1 = shape.rear, shape.cab_rear - shape.gap
    low, high = shape.load
    build.box((x0, -half, low), (x1, half, high), PAINT2, group=group)
    for side in (1, -1):
        rectangle = partial(_side_rectangle, build, side, group=group)
        if ribbed:
            for k in range(6):
                x = x0 + 0.3 + k * (x1 - x0 - 0.4) / 5.5
                rectangle(x, x + 0.1, half + 0.006, low, high, PAINT2, shade=0.75)
        else:
            rectangle(x0, x1, half + 0.004, low, low + 0.12, (60, 60, 62))
            start, stop = x0 + (x1 - x0) * 0.2, x0 + (x1 - x0) * 0.75
            rectangle(start, stop, half + 0.006, low + 0.9, low + 1.6, PAINT)
    patch = partial(end_rectangle, build, -1, x0 - 0.006, group=group)
    patch(-0.015, 0.015, low, high, (50, 50, 52))
    for y in (-half, half - 0.07):
        patch(y, y + 0.07, low, high, (90, 90, 92))
    patch(-half, half, low - 0.02, low + 0.1, (70, 70, 72))


def _truck_rear(build: MeshBuilder, shape: _TruckShape) -> None:
    """Rear bumper with lamps and plate."""
    group = build.new_group()
    half, x = _TRUCK_HALF, shape.rear
    end_rectangle(build, -1, x - 0.01, -half, half, 0.55, 0.75, (40, 40, 42), group)
    for side in (1, -1):
        y0, y1 = sorted((side * half * 0.68, side * half * 0.97))
        end_rectangle(build, -1, x - 0.02, y0, y1, 0.58, 0.74, TAIL, group)
    end_rectangle(build, -1, x - 0.02, -0.26, 0.26, 0.6, 0.72, PLATE_REAR, group)


def _cab(build: MeshBuilder, shape: _TruckShape) -> None:
    """The cab with its headlights."""
    half, top = _TRUCK_HALF, shape.cab_top
    front = build.new_group()
    _cab_front(build, shape, front)
    for side in (1, -1):
        y0, y1 = sorted((side * half * 0.66, side * half * 0.95))
        end_rectangle(build, 1, shape.front + 0.01, y0, y1, 0.6, 0.8, HEADLIGHT, front)
        _cab_side(build, shape, side)
    roof = strip(across(shape.front - _CAB_SLOPE, half, top), across(shape.cab_rear, half, top))
    build.face(roof, PAINT)
    end_rectangle(
        build, -1, shape.cab_rear, -half, half, 0.9, top, PAINT, build.new_group(), shade=0.8
    )


def _cab_front(build: MeshBuilder, shape: _TruckShape, group: int) -> None:
    """Body, windscreen, grille and bumper."""
    half, x = _TRUCK_HALF, shape.front

    def slope(t: float, width: float, lift: float) -> Line:
        """The line at share ``t`` of the slope, ``lift`` in front of it."""
        return across(x - _CAB_SLOPE * t + lift, width, _CAB_FOLD + t * (shape.cab_top - _CAB_FOLD))

    end_rectangle(build, 1, x, -half, half, 0.4, _CAB_FOLD, PAINT, group)
    build.face(strip(slope(0.0, half, 0.0), slope(1.0, half, 0.0)), PAINT, group=group)
    lower, upper = (slope(t, half * 0.9, 0.006) for t in (0.06, shape.windscreen_to))
    build.face(strip(lower, upper), GLASS_COLOR, group=group, flags=GLASS)
    patch = partial(end_rectangle, build, 1, x + 0.006, group=group)
    patch(-half * 0.7, half * 0.7, 0.85, 1.4, (40, 40, 42))
    patch(-half, half, 0.4, 0.55, (50, 50, 52))


def _cab_side(build: MeshBuilder, shape: _TruckShape, side: int) -> None:
    """Body, side window and door gap."""
    group = build.new_group()
    half = _TRUCK_HALF
    x0, x1 = shape.cab_rear, shape.front
    outline: list[Point] = [
        (x1, side * half, 0.4),
        (x0, side * half, 0.4),
        (x0, side * half, shape.cab_top),
        (x1 - _CAB_SLOPE, side * half, shape.cab_top),
        (x1, side * half, _CAB_FOLD),
    ]
    build.face(facing(outline, side), PAINT, group=group)
    rectangle = partial(_side_rectangle, build, side, group=group)
    rectangle(x0 + 0.75, x1 - 0.4, half + 0.005, 1.6, 2.3, GLASS_COLOR, flags=GLASS)
    rectangle(x0 + 0.7, x0 + 0.73, half + 0.006, 0.6, 2.4, PAINT, shade=0.6)


_TRAM_HEIGHT = 3.35
_TRAM_SHOULDER = _TRAM_HEIGHT - 0.1  # height of the roof's edge
_TRAM_CARS = ((-13.5, -4.7), (-4.3, 4.3), (4.7, 13.5))


@cache
def tram() -> Mesh:
    """Prototype of a tram of three cars, 27 m long; ``PAINT`` its body, ``PAINT2`` its stripe."""
    build = MeshBuilder(labels.TRAIN)
    for start, stop in _TRAM_CARS:
        _tram_car(build, start, stop)
    for (_, start), (stop, _) in pairwise(_TRAM_CARS):
        _tram_joint(build, start, stop)
    for end in (1, -1):
        _tram_end(build, end)
    return build.build()


def _tram_car(build: MeshBuilder, start: float, stop: float) -> None:
    """A car of a tram with the box on its roof."""
    half, height = _TRAM_HALF, _TRAM_HEIGHT
    for side in (1, -1):
        _tram_side(build, side, start, stop)
    roof: list[Point] = [
        (start, -half, height),
        (stop, -half, height),
        (stop, half, height),
        (start, half, height),
    ]
    build.face(roof, (120, 122, 126))
    build.box((start + 2.0, -0.8, height), (stop - 2.0, 0.8, height + 0.3), (136, 138, 142))


def _tram_side(build: MeshBuilder, side: int, start: float, stop: float) -> None:
    """Body, skirt, stripe, windows and doors."""
    rectangle = partial(_side_rectangle, build, side, group=build.new_group())
    half = _TRAM_HALF
    rectangle(start, stop, half, 0.28, _TRAM_SHOULDER, PAINT)
    rectangle(start, stop, half + 0.003, 0.28, 0.62, (62, 62, 66))
    rectangle(start, stop, half + 0.003, 0.95, 1.12, PAINT2)
    rectangle(start + 0.15, stop - 0.15, half + 0.004, 1.25, 2.5, BLACK)
    panes, doors = 6, (1, 4)
    width = (stop - start - 0.4) / panes
    for k in range(panes):
        x = start + 0.2 + k * width
        low = 0.4 if k in doors else 1.3
        rectangle(x + 0.06, x + width - 0.06, half + 0.006, low, 2.45, GLASS_COLOR, flags=GLASS)


def _tram_joint(build: MeshBuilder, start: float, stop: float) -> None:
    """The bellows between two cars."""
    y = _TRAM_HALF * 0.9
    build.box((start, -y, 0.4), (stop, y, _TRAM_HEIGHT - 0.15), (36, 36, 38))


def _tram_end(build: MeshBuilder, end: int) -> None:
    """A tapered end: body, windscreen, destination sign, lamps."""
    group = build.new_group()
    half = _TRAM_HALF
    x = 13.5 * end
    tip = x + end * 0.45
    nose = across(tip, half * 0.9, 1.2)
    build.face(facing(strip(across(tip, half * 0.9, 0.3), nose), end), PAINT2, group=group)
    shoulder = across(x, half, _TRAM_SHOULDER)
    build.face(facing(strip(nose, shoulder), end), PAINT, group=group)

    def slope(t: float, margin: float) -> Line:
        """The line at share ``t`` from nose to shoulder, a little in front of the body."""
        width = (half * 0.9 + t * half * 0.1) - margin
        return across(x + end * (0.45 * (1 - t) + 0.006), width, 1.2 + t * (_TRAM_HEIGHT - 1.3))

    windscreen = strip(slope(0.05, 0.08), slope(0.66, 0.08))
    build.face(facing(windscreen, end), GLASS_COLOR, group=group, flags=GLASS)
    sign = strip(slope(0.74, 0.3), slope(0.9, 0.3))
    build.face(facing(sign, end), (240, 168, 40), group=group, flags=LAMP)
    for side in (1, -1):
        y0, y1 = sorted((side * 0.7, side * 1.0))
        lamp = HEADLIGHT if end == 1 else TAIL
        end_rectangle(build, end, tip + end * 0.006, y0, y1, 0.7, 0.9, lamp, group)
        wing: list[Point] = [
            (tip, side * half * 0.9, 0.3),
            (x, side * half, 0.3),
            (x, side * half, _TRAM_SHOULDER),
            (tip, side * half * 0.9, 1.2),
        ]
        build.face(facing(wing, side * end), PAINT)
