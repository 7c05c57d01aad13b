"""Prototypes of cars, vans and pick-ups."""

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
    Color,
    Mesh,
    MeshBuilder,
    Point,
)

BLACK: Color = (24, 25, 27)
RUBBER: Color = (30, 30, 32)
_CHROME: Color = (168, 170, 174)
GLASS_COLOR: Color = (22, 25, 29)
_GLASS_HIGH: Color = (40, 46, 53)
HEADLIGHT: Color = (232, 234, 228)
TAIL: Color = (168, 26, 22)
_PLATE_FRONT: Color = (226, 226, 222)
PLATE_REAR: Color = (214, 178, 52)
_UNDER: Color = (20, 20, 21)

CAR_PAINTS: tuple[tuple[Color, float], ...] = (
    ((212, 214, 214), 3.0),
    ((158, 162, 166), 3.5),
    ((92, 96, 101), 3.0),
    ((34, 36, 40), 3.2),
    ((150, 24, 26), 2.0),
    ((36, 58, 112), 2.2),
    ((92, 128, 170), 0.8),
    ((30, 66, 48), 0.6),
    ((176, 164, 138), 0.7),
    ((120, 62, 36), 0.5),
    ((206, 176, 44), 0.3),
    ((70, 30, 44), 0.5),
)
"""Paint colours and how common they are."""


@dataclass(frozen=True)
class CarShape:
    """Side view of a car: lengths along it and heights, in metres, from its front bumper."""

    length: float
    width: float
    height: float
    hood: float  # where the windscreen starts
    roof: float  # where the roof starts
    roof_end: float
    glass_end: float  # where the rear window meets the body
    belt: float  # height of the lower edge of the windows
    nose: float = 0.72  # height of the hood's front edge
    tail: float = 0.98  # height of the boot's rear edge
    clearance: float = 0.2
    wheel: float = 0.315
    side_glass_to: float = 1.0  # share of the side that has windows, from the front
    tumblehome: float = 0.8  # width of the roof over width at the belt


CAR_SHAPES: dict[str, CarShape] = {
    "hatchback": CarShape(3.95, 1.68, 1.46, 0.95, 1.65, 3.30, 3.78, 0.92, tail=0.95),
    "supermini": CarShape(3.55, 1.62, 1.50, 0.75, 1.42, 3.05, 3.45, 0.93, tail=0.95, wheel=0.29),
    "saloon": CarShape(4.55, 1.76, 1.43, 1.25, 2.05, 3.25, 3.92, 0.93, tail=1.00),
    "estate": CarShape(4.60, 1.76, 1.46, 1.20, 1.98, 4.10, 4.50, 0.94, tail=0.96),
    "suv": CarShape(
        4.50,
        1.86,
        1.70,
        1.15,
        1.80,
        3.95,
        4.38,
        1.06,
        nose=0.92,
        tail=1.08,
        clearance=0.26,
        wheel=0.36,
    ),
    "coupe": CarShape(4.30, 1.78, 1.32, 1.40, 2.20, 2.95, 3.85, 0.90, nose=0.66, tail=0.96),
    "people_carrier": CarShape(
        4.70, 1.86, 1.76, 0.85, 1.75, 4.25, 4.62, 1.02, nose=0.85, tail=1.02, tumblehome=0.86
    ),
    "van": CarShape(
        5.10,
        1.95,
        2.15,
        0.70,
        1.45,
        4.98,
        5.06,
        1.18,
        nose=0.98,
        tail=1.18,
        side_glass_to=0.40,
        tumblehome=0.9,
        wheel=0.34,
    ),
    "pickup": CarShape(
        5.20,
        1.88,
        1.78,
        1.35,
        1.95,
        3.10,
        3.30,
        1.08,
        nose=0.98,
        tail=1.06,
        clearance=0.28,
        wheel=0.38,
    ),
}


def _side_of_house(
    shape: CarShape, side: int, belt_y: float, roof_y: float, along: float, up: float
) -> Point:
    """Point of the greenhouse's side: ``along`` 0 front … 1 rear, ``up`` 0 belt … 1 roof."""
    bottom = shape.hood + along * (shape.glass_end - shape.hood)
    top = shape.roof + along * (shape.roof_end - shape.roof)
    z = shape.belt + up * (shape.height - 0.05 - shape.belt)
    y = belt_y + up * (roof_y - belt_y)
    return (shape.length / 2 - bottom - up * (top - bottom), side * (y + 0.004), z)


@cache
def car(kind: str, lights_on: bool = False, braking: bool = False) -> Mesh:
    """Prototype of a car of a kind of :data:`CAR_SHAPES`; slot ``PAINT`` is its body's colour."""
    shape = CAR_SHAPES[kind]
    build = MeshBuilder(labels.CAR)
    half = shape.width / 2
    front = shape.length / 2

    def at(from_front: float) -> float:
        return front - from_front

    low = shape.clearance
    waist = (low + shape.belt) * 0.52 + 0.06

    def half_width(x_from_front: float, z: float) -> float:
        """Plan view: rounded off at the ends; section: widest at the waist."""
        end = min(x_from_front, shape.length - x_from_front)
        taper = 0.14 if x_from_front < shape.length / 2 else 0.05
        plan = 1.0 - taper * max(0.0, 1.0 - end / 0.5) ** 2
        section = 1.0 if abs(z - waist) < 1e-6 else 0.955
        return half * plan * section

    axle_front = 0.78 if shape.length < 4.2 else 0.86
    axle_rear = shape.length - (0.66 if shape.length < 4.2 else 0.86)
    if kind == "van":
        axle_front, axle_rear = 0.85, 4.15
    # Height of the body's upper edge along the car: hood, belt, boot.
    upper = [
        (0.0, shape.nose - 0.2),
        (0.12, shape.nose),
        (shape.hood * 0.55, shape.nose + (shape.belt - shape.nose) * 0.72),
        (shape.hood, shape.belt),
        (shape.roof + 0.3, shape.belt),
        ((shape.roof + shape.roof_end) / 2 + 0.15, shape.belt + 0.01),
        (shape.glass_end, max(shape.belt, shape.tail)),
        (shape.length - 0.08, shape.tail),
        (shape.length, shape.tail - 0.22),
    ]
    if shape.length - shape.glass_end < 0.25:
        upper = [*upper[:-3], (shape.length - 0.06, shape.tail), (shape.length, shape.tail - 0.25)]

    for side in (1, -1):
        group = build.new_group()

        def ordered(points: list[Point], side: int = side) -> list[Point]:
            return points if side == 1 else points[::-1]

        for (f0, z0), (f1, z1) in pairwise(upper):
            x0, x1 = at(f0), at(f1)
            w0, w1 = half_width(f0, waist), half_width(f1, waist)
            l0, l1 = half_width(f0, low), half_width(f1, low)
            t0, t1 = half_width(f0, z0), half_width(f1, z1)
            end0 = 0.10 if f0 == 0.0 else 0.0
            end1 = 0.10 if f1 == shape.length else 0.0
            build.face(
                ordered(
                    [
                        (x0, side * l0, low + end0),
                        (x0, side * w0, waist),
                        (x1, side * w1, waist),
                        (x1, side * l1, low + end1),
                    ]
                )[::-1],
                PAINT,
                group=group,
                shade=0.9,
            )
            if min(z0, z1) > waist + 0.01:
                build.face(
                    ordered(
                        [
                            (x0, side * w0, waist),
                            (x0, side * t0, z0),
                            (x1, side * t1, z1),
                            (x1, side * w1, waist),
                        ]
                    )[::-1],
                    PAINT,
                    group=group,
                )
            elif max(z0, z1) > waist + 0.01:
                tip = (x0, side * t0, z0) if z0 > z1 else (x1, side * t1, z1)
                triangle = [(x0, side * w0, waist), tip, (x1, side * w1, waist)]
                build.face(ordered(triangle)[::-1], PAINT, group=group)
        axis = "+y" if side == 1 else "-y"
        sill = half * 0.965
        # Door gap, handles, sill.
        y = side * (half + 0.004)
        door = at((shape.roof + shape.roof_end) / 2 + 0.1)
        for x in (door, at(shape.hood + 0.35)):
            build.face(
                ordered(
                    [
                        (x - 0.012, y, low + 0.08),
                        (x - 0.012, y, shape.belt - 0.03),
                        (x + 0.012, y, shape.belt - 0.03),
                        (x + 0.012, y, low + 0.08),
                    ]
                ),
                PAINT,
                group=group,
                shade=0.5,
            )
        for x in (door + 0.16, at(min(shape.roof_end, shape.glass_end - 0.2) - 0.1)):
            build.face(
                ordered(
                    [
                        (x - 0.09, y, shape.belt - 0.17),
                        (x - 0.09, y, shape.belt - 0.13),
                        (x + 0.09, y, shape.belt - 0.13),
                        (x + 0.09, y, shape.belt - 0.17),
                    ]
                ),
                PAINT,
                group=group,
                shade=0.6,
            )
        for axle in (axle_front, axle_rear):
            x, z, r = at(axle), shape.wheel, shape.wheel
            plane = side * (half - 0.01)
            build.disc((x, plane, z), r * 1.22, axis, BLACK, group=group, turn=math.pi)
            # The tyre's tread, seen under the bumpers from before and behind.
            y0, y1 = sorted((side * (sill - 0.2), side * sill))
            for end in (1, -1):
                edge = x + end * 0.7 * r
                tread: list[Point] = [
                    (edge, y0, 0.0),
                    (edge, y1, 0.0),
                    (edge, y1, low + 0.1),
                    (edge, y0, low + 0.1),
                ]
                build.face(tread if end == 1 else tread[::-1], RUBBER)
            build.disc((x, side * sill, z), r, axis, RUBBER, group=group)
            build.disc((x, side * sill, z), r * 0.66, axis, _CHROME, group=group)
            build.disc((x, side * sill, z), r * 0.2, axis, (90, 92, 95), group=group, corners=8)
        # Greenhouse side with its windows.
        roof_z = shape.height
        inner = half * shape.tumblehome * 0.96
        belt_y = half_width(shape.hood + 0.6, shape.belt)
        rear_y = half_width(shape.glass_end, shape.tail)
        house = [
            (shape.hood, shape.belt, belt_y),
            (shape.roof, roof_z - 0.05, inner),
            (shape.roof_end, roof_z - 0.06, inner * 0.97),
            (shape.glass_end, max(shape.belt, shape.tail), rear_y),
        ]
        # A little below the belt, so that no gap shows between the two.
        low_belt = shape.belt - 0.05
        foot = [(shape.hood, low_belt, belt_y), (shape.glass_end, low_belt, rear_y)]
        outline = [(at(f), side * w, z) for f, z, w in (foot[0], *house, foot[1])]
        build.face(ordered(outline)[::-1], PAINT, group=group)

        place = partial(_side_of_house, shape, side, belt_y, inner)

        middle = 0.46
        panes = [(0.05, middle - 0.02), (middle + 0.02, 0.76), (0.79, 0.94)]
        if shape.length < 4.0 or kind in ("saloon", "coupe", "pickup"):
            panes = [(0.05, middle), (middle + 0.04, 0.93)]
        panes = [p for p in panes if p[0] < shape.side_glass_to]
        if shape.side_glass_to < 1.0:
            panes = [(0.03, shape.side_glass_to - 0.02)]
        for start, stop in panes:
            for sill_up, top_up, tint in ((0.08, 0.5, GLASS_COLOR), (0.5, 0.88, _GLASS_HIGH)):
                corners = [
                    place(start, sill_up),
                    place(start, top_up),
                    place(stop, top_up),
                    place(stop, sill_up),
                ]
                build.face(ordered(corners)[::-1], tint, group=group, flags=GLASS)
            if stop - start > 0.25:
                # A headrest behind the pane.
                rest = stop - 0.1 if start < 0.3 else stop - 0.16
                head = [
                    place(rest - 0.06, 0.1),
                    place(rest - 0.05, 0.5),
                    place(rest + 0.03, 0.5),
                    place(rest + 0.05, 0.1),
                ]
                build.face(ordered(head)[::-1], (14, 15, 16), group=group)
        # Mirror.
        mirror_x = at(shape.hood + 0.42)
        build.box(
            (mirror_x - 0.06, min(side * half, side * (half + 0.17)), shape.belt + 0.02),
            (mirror_x + 0.06, max(side * half, side * (half + 0.17)), shape.belt + 0.17),
            PAINT,
            shade=0.75,
        )

    # Hood, windscreen, roof, rear window, boot from front to rear.
    def strip(f0: float, z0: float, w0: float, f1: float, z1: float, w1: float) -> list[Point]:
        return [
            (at(f0), -w0, z0),
            (at(f0), w0, z0),
            (at(f1), w1, z1),
            (at(f1), -w1, z1),
        ]

    inner = half * shape.tumblehome * 0.96
    bonnet, boot = build.new_group(), build.new_group()
    for (f0, z0), (f1, z1) in pairwise(upper):
        outside = f1 <= shape.hood + 1e-6 or f0 >= shape.glass_end - 1e-6
        if outside and f0 > 0.0 and f1 < shape.length:
            build.face(
                strip(f0, z0, half_width(f0, z0), f1, z1, half_width(f1, z1)),
                PAINT,
                group=bonnet if f1 <= shape.hood + 1e-6 else boot,
                shade=1.04,
            )
    if kind == "pickup":
        bed = strip(
            3.45, shape.belt + 0.005, half * 0.82, shape.length - 0.15, shape.belt, half * 0.82
        )
        build.face(bed, (46, 46, 48), group=boot)
    roof = build.new_group()
    span = shape.roof_end - shape.roof
    ridge = [
        (shape.roof, shape.height - 0.05, inner),
        (shape.roof + 0.3 * span, shape.height, inner * 0.97),
        (shape.roof + 0.72 * span, shape.height, inner * 0.97),
        (shape.roof_end, shape.height - 0.06, inner * 0.97),
    ]
    for fore, aft in pairwise(ridge):
        build.face(strip(*fore, *aft), PAINT, group=roof)
    belt_y = half_width(shape.hood + 0.6, shape.belt)
    rear_y = half_width(shape.glass_end, shape.tail)

    def window(f0: float, z0: float, w0: float, f1: float, z1: float, w1: float) -> None:
        """A window from (f0, z0) to (f1, z1) in its painted frame."""
        group = build.new_group()
        build.face(strip(f0, z0, w0, f1, z1, w1), PAINT, group=group, shade=0.85)

        def between(t: float, margin: float, lift: float = 0.004) -> tuple[Point, Point]:
            f, z, w = f0 + t * (f1 - f0), z0 + t * (z1 - z0) + lift, w0 + t * (w1 - w0) - margin
            return (at(f), -w, z), (at(f), w, z)

        (a, b), (d, c), (f_, e) = between(0.05, 0.07), between(0.5, 0.07), between(0.93, 0.07)
        front_pane = f1 > f0 and z1 > z0
        lower, upper_tint = (GLASS_COLOR, _GLASS_HIGH) if front_pane else (_GLASS_HIGH, GLASS_COLOR)
        build.face([a, b, c, d], lower, group=group, flags=GLASS)
        build.face([d, c, e, f_], upper_tint, group=group, flags=GLASS)
        # Seats behind the pane.
        for middle_y in (-0.38, 0.38):
            seat = []
            for t, dy in ((0.3, -0.14), (0.3, 0.14), (0.62, 0.11), (0.62, -0.11)):
                (x, _, z), _ = between(t, 0.07, 0.008)
                seat.append((x, (middle_y + dy) * half / 0.85, z))
            build.face(seat, (14, 15, 17), group=group)

    window(shape.hood, shape.belt, belt_y, shape.roof, shape.height - 0.05, inner)
    rear_z = max(shape.belt, shape.tail)
    rear_pane = [
        (shape.roof_end, shape.height - 0.06, inner * 0.97),
        (shape.glass_end, rear_z, rear_y),
    ]
    if kind == "van":
        # Two doors with small windows instead of one wide pane.
        group = build.new_group()
        build.face(strip(*rear_pane[0], *rear_pane[1]), PAINT, group=group)
        for side in (1, -1):
            x = at(5.035)
            y0, y1 = sorted((side * 0.1, side * 0.72))
            build.face(
                [(x, y1, 1.35), (x, y0, 1.35), (x, y0, 1.9), (x, y1, 1.9)],
                GLASS_COLOR,
                group=group,
                flags=GLASS,
            )
    else:
        window(*rear_pane[0], *rear_pane[1])

    # Front and rear ends.
    for end in (1, -1):
        group = build.new_group()
        from_front = 0.0 if end == 1 else shape.length
        second = 0.12 if end == 1 else shape.length - (0.08 if len(upper) == 9 else 0.06)
        x = at(from_front)
        edge = (shape.nose if end == 1 else shape.tail) - (0.2 if end == 1 else 0.22)
        seam = min(waist * 0.8, edge - 0.06)
        edge_top = shape.nose if end == 1 else shape.tail
        w = half_width(from_front, waist) * 0.99
        w_top = half_width(second, edge_top)

        def across(
            z0: float, w0: float, x0: float, z1: float, w1: float, x1: float, end: int = end
        ) -> list[Point]:
            points: list[Point] = [(x0, -w0, z0), (x0, w0, z0), (x1, w1, z1), (x1, -w1, z1)]
            return points if end == 1 else points[::-1]

        build.face(across(low, w * 0.95, x - end * 0.06, seam, w, x), PAINT, group=group, shade=0.8)
        build.face(across(seam, w, x, edge, w, x), PAINT, group=group)
        build.face(across(edge, w, x, edge_top, w_top, at(second)), PAINT, group=group, shade=0.97)
        proud = x + end * 0.006

        def patch(
            y0: float,
            y1: float,
            z0: float,
            z1: float,
            color: Color,
            flags: int = 0,
            end: int = end,
            proud: float = proud,
            group: int = group,
        ) -> None:
            points: list[Point] = [
                (proud, y0, z0),
                (proud, y1, z0),
                (proud, y1, z1),
                (proud, y0, z1),
            ]
            build.face(points if end == 1 else points[::-1], color, group=group, flags=flags)

        patch(-w * 0.9, w * 0.9, low + 0.02, low + 0.12, BLACK)
        if end == 1:
            patch(-w * 0.42, w * 0.42, waist * 0.78, edge + 0.02, (38, 38, 40))
            patch(-w * 0.5, w * 0.5, low + 0.14, waist * 0.66, (42, 42, 44))
            patch(-0.26, 0.26, waist * 0.62, waist * 0.62 + 0.11, _PLATE_FRONT)
            lamp_color: Color = (255, 252, 238) if lights_on else HEADLIGHT
            for side in (1, -1):
                y0, y1 = sorted((side * w * 0.5, side * w * 0.94))
                patch(y0, y1, edge - 0.10, edge + 0.05, (70, 72, 76))
                y0, y1 = sorted((side * w * 0.56, side * w * 0.90))
                patch(y0, y1, edge - 0.08, edge + 0.03, lamp_color, LAMP if lights_on else 0)
        else:
            tail: Color = (255, 60, 44) if braking else ((206, 36, 30) if lights_on else TAIL)
            shine = LAMP if (braking or lights_on) else 0
            high = edge + 0.02 if kind != "van" else 1.1
            for side in (1, -1):
                y0, y1 = sorted((side * w * 0.66, side * w * 0.985))
                patch(y0, y1, high - 0.17, high, tail, shine)
                patch(y0, y1, high - 0.21, high - 0.17, (214, 150, 120))
            patch(-0.26, 0.26, waist * 0.88, waist * 0.88 + 0.115, PLATE_REAR)
            patch(-w * 0.85, w * 0.85, waist * 0.72, waist * 0.76, BLACK)
            if shape.length - shape.glass_end > 0.25:
                patch(-0.5, 0.5, edge - 0.02, edge + 0.01, BLACK)
    build.face(
        [
            (front - 0.1, half * 0.8, low + 0.02),
            (-front + 0.1, half * 0.8, low + 0.02),
            (-front + 0.1, -half * 0.8, low + 0.02),
            (front - 0.1, -half * 0.8, low + 0.02),
        ],
        _UNDER,
    )
    return build.build()
