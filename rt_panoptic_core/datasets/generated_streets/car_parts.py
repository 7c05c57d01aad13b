"""The parts of a car, each added to its mesh: sides, top, front, rear and underbody.

Within a group, faces are painted in the order in which they are added: what lies on top comes last.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

from rt_panoptic_core.datasets.generated_streets.car_plan import CarPlan, Edge
from rt_panoptic_core.datasets.generated_streets.mesh import (
    GLASS,
    LAMP,
    PAINT,
    Color,
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

_CHROME: Color = (168, 170, 174)
_GLASS_HIGH: Color = (40, 46, 53)
_PLATE_FRONT: Color = (226, 226, 222)
_UNDER: Color = (20, 20, 21)


def add_side(build: MeshBuilder, plan: CarPlan, side: int) -> None:
    """Add the left (1) or right (-1) side: flank, doors, wheels, greenhouse, mirror."""
    group = build.new_group()
    _flank(build, plan, side, group)
    _doors(build, plan, side, group)
    for axle in plan.axles:
        _wheel(build, plan, side, axle, group)
    _greenhouse_side(build, plan, side, group)
    for start, stop in _panes(plan):
        _side_window(build, plan, side, start, stop, group)
    _mirror(build, plan, side)


def add_top(build: MeshBuilder, plan: CarPlan) -> None:
    """Add what is seen from above: hood, boot, roof, windscreen, rear window."""
    _hood_and_boot(build, plan)
    _roof(build, plan)
    _window(build, plan, *plan.windscreen)
    if plan.kind == "van":
        _rear_doors(build, plan)
    else:
        _window(build, plan, *plan.rear_window)


def add_front(build: MeshBuilder, plan: CarPlan, lights_on: bool) -> None:
    """Add the front: panels, grille, air intake, plate, headlights."""
    group = build.new_group()
    low, waist, top = plan.shape.clearance, plan.waist, plan.shape.nose - 0.2
    w = _end_half_width(plan, 0.0)
    _end_panels(build, plan, 1, top, group)
    patch = partial(end_rectangle, build, 1, plan.at(0.0) + 0.006, group=group)
    patch(-w * 0.9, w * 0.9, low + 0.02, low + 0.12, BLACK)
    patch(-w * 0.42, w * 0.42, waist * 0.78, top + 0.02, (38, 38, 40))
    patch(-w * 0.5, w * 0.5, low + 0.14, waist * 0.66, (42, 42, 44))
    patch(-0.26, 0.26, waist * 0.62, waist * 0.62 + 0.11, _PLATE_FRONT)
    lamp: Color = (255, 252, 238) if lights_on else HEADLIGHT
    shine = LAMP if lights_on else 0
    for side in (1, -1):
        y0, y1 = sorted((side * w * 0.5, side * w * 0.94))
        patch(y0, y1, top - 0.10, top + 0.05, (70, 72, 76))
        y0, y1 = sorted((side * w * 0.56, side * w * 0.90))
        patch(y0, y1, top - 0.08, top + 0.03, lamp, flags=shine)


def add_rear(build: MeshBuilder, plan: CarPlan, lights_on: bool, braking: bool) -> None:
    """Add the rear: panels, lamps, plate, bumper and the boot lid's edge."""
    group = build.new_group()
    low, waist, top = plan.shape.clearance, plan.waist, plan.shape.tail - 0.22
    w = _end_half_width(plan, plan.shape.length)
    _end_panels(build, plan, -1, top, group)
    patch = partial(end_rectangle, build, -1, plan.at(plan.shape.length) - 0.006, group=group)
    patch(-w * 0.9, w * 0.9, low + 0.02, low + 0.12, BLACK)
    lamp: Color = (255, 60, 44) if braking else ((206, 36, 30) if lights_on else TAIL)
    shine = LAMP if (braking or lights_on) else 0
    lamp_top = top + 0.02 if plan.kind != "van" else 1.1
    for side in (1, -1):
        y0, y1 = sorted((side * w * 0.66, side * w * 0.985))
        patch(y0, y1, lamp_top - 0.17, lamp_top, lamp, flags=shine)
        patch(y0, y1, lamp_top - 0.21, lamp_top - 0.17, (214, 150, 120))
    patch(-0.26, 0.26, waist * 0.88, waist * 0.88 + 0.115, PLATE_REAR)
    patch(-w * 0.85, w * 0.85, waist * 0.72, waist * 0.76, BLACK)
    if plan.has_boot:
        patch(-0.5, 0.5, top - 0.02, top + 0.01, BLACK)


def add_underbody(build: MeshBuilder, plan: CarPlan) -> None:
    """Add the floor of the car."""
    x, y, z = plan.at(0.0) - 0.1, plan.half * 0.8, plan.shape.clearance + 0.02
    build.face([(x, y, z), (-x, y, z), (-x, -y, z), (x, -y, z)], _UNDER)


def _flank(build: MeshBuilder, plan: CarPlan, side: int, group: int) -> None:
    """The body below its upper edge, folded at the waist."""
    low, waist = plan.shape.clearance, plan.waist

    def sill(from_front: float) -> Point:
        x, y, z = plan.body_side(side, from_front, low)
        return (x, y, z + 0.10 if from_front in (0.0, plan.shape.length) else z)

    for (f0, z0), (f1, z1) in pairwise(plan.profile):
        waist0, waist1 = (plan.body_side(side, f, waist) for f in (f0, f1))
        top0, top1 = plan.body_side(side, f0, z0), plan.body_side(side, f1, z1)
        below = [sill(f0), waist0, waist1, sill(f1)]
        build.face(facing(below, -side), PAINT, group=group, shade=0.9)
        if min(z0, z1) > waist + 0.01:
            build.face(facing([waist0, top0, top1, waist1], -side), PAINT, group=group)
        elif max(z0, z1) > waist + 0.01:
            # One end of the upper edge lies at or under the waist: a triangle is left.
            triangle = [waist0, top0 if z0 > z1 else top1, waist1]
            build.face(facing(triangle, -side), PAINT, group=group)


def _doors(build: MeshBuilder, plan: CarPlan, side: int, group: int) -> None:
    """Gaps and handles of the doors."""
    shape = plan.shape
    y = side * (plan.half + 0.004)

    def mark(x: float, reach: float, z0: float, z1: float, shade: float) -> None:
        points: list[Point] = [
            (x - reach, y, z0),
            (x - reach, y, z1),
            (x + reach, y, z1),
            (x + reach, y, z0),
        ]
        build.face(facing(points, side), PAINT, group=group, shade=shade)

    gap = plan.at((shape.roof + shape.roof_end) / 2 + 0.1)
    for x in (gap, plan.at(shape.hood + 0.35)):
        mark(x, 0.012, shape.clearance + 0.08, shape.belt - 0.03, 0.5)
    for x in (gap + 0.16, plan.at(min(shape.roof_end, shape.glass_end - 0.2) - 0.1)):
        mark(x, 0.09, shape.belt - 0.17, shape.belt - 0.13, 0.6)


def _wheel(build: MeshBuilder, plan: CarPlan, side: int, axle: float, group: int) -> None:
    """A wheel in its arch; ``axle`` is the distance from the front."""
    axis = "+y" if side == 1 else "-y"
    x, r = plan.at(axle), plan.shape.wheel
    face = plan.half * 0.965
    build.disc((x, side * (plan.half - 0.01), r), r * 1.22, axis, BLACK, group=group, turn=math.pi)
    # The tyre's tread, seen under the bumpers from before and behind.
    y0, y1 = sorted((side * (face - 0.2), side * face))
    top = plan.shape.clearance + 0.1
    for end in (1, -1):
        edge = x + end * 0.7 * r
        tread: list[Point] = [
            (edge, y0, 0.0),
            (edge, y1, 0.0),
            (edge, y1, top),
            (edge, y0, top),
        ]
        build.face(facing(tread, end), RUBBER)
    center = (x, side * face, r)
    build.disc(center, r, axis, RUBBER, group=group)
    build.disc(center, r * 0.66, axis, _CHROME, group=group)
    build.disc(center, r * 0.2, axis, (90, 92, 95), group=group, corners=8)


def _greenhouse_side(build: MeshBuilder, plan: CarPlan, side: int, group: int) -> None:
    """The painted frame of the side windows."""
    edges = [*plan.windscreen, *plan.rear_window]
    # A little below the belt, so that no gap shows between the two.
    low = plan.shape.belt - 0.05
    front_foot, rear_foot = ((f, low, w) for f, _, w in (edges[0], edges[-1]))
    outline = [(plan.at(f), side * w, z) for f, z, w in (front_foot, *edges, rear_foot)]
    build.face(facing(outline, -side), PAINT, group=group)


def _panes(plan: CarPlan) -> list[tuple[float, float]]:
    """Where each side window starts and stops: shares of the greenhouse from its front."""
    shape = plan.shape
    if shape.side_glass_to < 1.0:
        return [(0.03, shape.side_glass_to - 0.02)]
    middle = 0.46
    if shape.length < 4.0 or plan.kind in ("saloon", "coupe", "pickup"):
        return [(0.05, middle), (middle + 0.04, 0.93)]
    return [(0.05, middle - 0.02), (middle + 0.02, 0.76), (0.79, 0.94)]


def _side_window(
    build: MeshBuilder, plan: CarPlan, side: int, start: float, stop: float, group: int
) -> None:
    """A side window, and a headrest behind a long one."""
    place = partial(plan.greenhouse_side, side)
    for low, high, tint in ((0.08, 0.5, GLASS_COLOR), (0.5, 0.88, _GLASS_HIGH)):
        pane = [place(start, low), place(start, high), place(stop, high), place(stop, low)]
        build.face(facing(pane, -side), tint, group=group, flags=GLASS)
    if stop - start > 0.25:
        rest = stop - 0.1 if start < 0.3 else stop - 0.16
        headrest = [
            place(rest - 0.06, 0.1),
            place(rest - 0.05, 0.5),
            place(rest + 0.03, 0.5),
            place(rest + 0.05, 0.1),
        ]
        build.face(facing(headrest, -side), (14, 15, 16), group=group)


def _mirror(build: MeshBuilder, plan: CarPlan, side: int) -> None:
    """An outside mirror."""
    x, z = plan.at(plan.shape.hood + 0.42), plan.shape.belt
    y0, y1 = sorted((side * plan.half, side * (plan.half + 0.17)))
    build.box((x - 0.06, y0, z + 0.02), (x + 0.06, y1, z + 0.17), PAINT, shade=0.75)


def _hood_and_boot(build: MeshBuilder, plan: CarPlan) -> None:
    """The hood and the lid of the boot, or a pick-up's bed."""
    shape = plan.shape
    hood, boot = build.new_group(), build.new_group()
    for (f0, z0), (f1, z1) in pairwise(plan.profile):
        on_hood = f1 <= shape.hood + 1e-6
        on_boot = f0 >= shape.glass_end - 1e-6
        if (on_hood or on_boot) and f0 > 0.0 and f1 < shape.length:
            fore, aft = (plan.line((f, z, plan.half_width(f, z))) for f, z in ((f0, z0), (f1, z1)))
            build.face(strip(fore, aft), PAINT, group=hood if on_hood else boot, shade=1.04)
    if plan.kind == "pickup":
        fore = plan.line((3.45, shape.belt + 0.005, plan.half * 0.82))
        aft = plan.line((shape.length - 0.15, shape.belt, plan.half * 0.82))
        build.face(strip(fore, aft), (46, 46, 48), group=boot)


def _roof(build: MeshBuilder, plan: CarPlan) -> None:
    """The roof, a little arched from front to rear."""
    group = build.new_group()
    shape = plan.shape
    span = shape.roof_end - shape.roof
    edges = [
        plan.windscreen[1],
        (shape.roof + 0.3 * span, shape.height, plan.roof_half * 0.97),
        (shape.roof + 0.72 * span, shape.height, plan.roof_half * 0.97),
        plan.rear_window[0],
    ]
    for fore, aft in pairwise(edges):
        build.face(strip(plan.line(fore), plan.line(aft)), PAINT, group=group)


def _window(build: MeshBuilder, plan: CarPlan, fore: Edge, aft: Edge) -> None:
    """A windscreen or rear window in its painted frame, and the seats behind it."""
    group = build.new_group()
    (f0, z0, w0), (f1, z1, w1) = fore, aft
    build.face(strip(plan.line(fore), plan.line(aft)), PAINT, group=group, shade=0.85)

    def between(t: float, lift: float) -> Line:
        """The line at share ``t`` of the way, inside the frame and ``lift`` above the pane."""
        return plan.line((f0 + t * (f1 - f0), z0 + t * (z1 - z0) + lift, w0 + t * (w1 - w0) - 0.07))

    first, middle, last = (between(t, 0.004) for t in (0.05, 0.5, 0.93))
    rises = z1 > z0
    tints = (GLASS_COLOR, _GLASS_HIGH) if rises else (_GLASS_HIGH, GLASS_COLOR)
    build.face(strip(first, middle), tints[0], group=group, flags=GLASS)
    build.face(strip(middle, last), tints[1], group=group, flags=GLASS)
    for seat_y in (-0.38, 0.38):
        seat: list[Point] = []
        for t, dy in ((0.3, -0.14), (0.3, 0.14), (0.62, 0.11), (0.62, -0.11)):
            (x, _, z), _ = between(t, 0.008)
            seat.append((x, (seat_y + dy) * plan.half / 0.85, z))
        build.face(seat, (14, 15, 17), group=group)


def _rear_doors(build: MeshBuilder, plan: CarPlan) -> None:
    """A van's two rear doors with small windows instead of one wide pane."""
    group = build.new_group()
    upper, lower = plan.rear_window
    build.face(strip(plan.line(upper), plan.line(lower)), PAINT, group=group)
    x = plan.at(5.035)
    for side in (1, -1):
        y0, y1 = sorted((side * 0.1, side * 0.72))
        pane = [(x, y1, 1.35), (x, y0, 1.35), (x, y0, 1.9), (x, y1, 1.9)]
        build.face(pane, GLASS_COLOR, group=group, flags=GLASS)


def _end_half_width(plan: CarPlan, from_front: float) -> float:
    """Half the width of the panels at the front or the rear."""
    return plan.half_width(from_front, plan.waist) * 0.99


def _end_panels(build: MeshBuilder, plan: CarPlan, end: int, top: float, group: int) -> None:
    """Bumper, upright panel up to ``top`` and rounding to the hood (``end`` 1) or boot (-1)."""
    shape = plan.shape
    from_front, rounding, rounding_top = (
        (0.0, 0.12, shape.nose) if end == 1 else (shape.length, plan.tail_edge, shape.tail)
    )
    x = plan.at(from_front)
    w = _end_half_width(plan, from_front)
    seam = min(plan.waist * 0.8, top - 0.06)
    lines = [
        across(x - end * 0.06, w * 0.95, shape.clearance),
        across(x, w, seam),
        across(x, w, top),
        plan.line((rounding, rounding_top, plan.half_width(rounding, rounding_top))),
    ]
    for (lower, upper), shade in zip(pairwise(lines), (0.8, 1.0, 0.97), strict=True):
        build.face(facing(strip(lower, upper), end), PAINT, group=group, shade=shade)
