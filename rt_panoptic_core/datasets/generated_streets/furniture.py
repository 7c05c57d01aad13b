"""Prototypes of what stands beside the road: poles, lights, signs, fences, walls, rails, gantries."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.mesh import (
    LABEL_ONLY,
    LAMP,
    PAINT,
    PAINT2,
    TWO_SIDED,
    Color,
    Mesh,
    MeshBuilder,
    Point,
)

_STEEL: Color = (122, 124, 126)
_DARK: Color = (46, 48, 50)

SEGMENT = 4.0
"""Metres of one piece of fence, wall, hedge or rail."""


@cache
def lamp_post(height: float, arm: float, dark: bool) -> Mesh:
    """A street lamp whose ``arm`` [m] reaches to +y (over the road when placed on its right)."""
    build = MeshBuilder(labels.POLE)
    color = _DARK if dark else _STEEL
    build.limb((0, 0, 0), (0, 0, 1.1), 0.1, color)
    build.limb((0, 0, 1.0), (0, 0, height), 0.07, color, end_radius=0.05)
    build.limb((0, 0, height), (0, arm, height + 0.35), 0.045, color)
    build.limb((0, arm, height + 0.35), (0, arm + 0.55, height + 0.38), 0.09, color)
    return build.build()


@cache
def bollard(color: Color) -> Mesh:
    """A bollard."""
    build = MeshBuilder(labels.POLE)
    build.limb((0, 0, 0), (0, 0, 0.95), 0.075, color)
    build.limb((0, 0, 0.74), (0, 0, 0.82), 0.078, (220, 220, 216))
    return build.build()


@cache
def utility_pole() -> Mesh:
    """A wooden pole with cross-arm for overhead wires."""
    build = MeshBuilder(labels.POLE)
    wood: Color = (92, 76, 60)
    build.limb((0, 0, 0), (0, 0, 8.6), 0.15, wood, end_radius=0.1)
    build.limb((0, -1.0, 8.0), (0, 1.0, 8.0), 0.06, wood)
    for y in (-0.9, -0.4, 0.4, 0.9):
        build.limb((0, y, 8.05), (0, y, 8.2), 0.04, (180, 184, 186))
    return build.build()


def _light_head(build: MeshBuilder, y: float, z: float, state: int) -> None:
    """A three-lamp head facing -x with its lower edge at ``z``; ``state`` 0 red, 1 amber, 2 green."""
    build.label = labels.TRAFFIC_LIGHT
    group = build.new_group()
    build.face(
        [
            (-0.16, y + 0.26, z - 0.1),
            (-0.16, y - 0.26, z - 0.1),
            (-0.16, y - 0.26, z + 1.05),
            (-0.16, y + 0.26, z + 1.05),
        ],
        (26, 27, 28),
        group=group,
        flags=TWO_SIDED,
    )
    build.box((-0.17, y - 0.17, z), (0.06, y + 0.17, z + 0.95), (34, 35, 36), group=group)
    on: tuple[Color, ...] = ((255, 54, 40), (255, 190, 50), (60, 255, 150))
    off: tuple[Color, ...] = ((74, 26, 24), (78, 60, 24), (22, 60, 44))
    for k in range(3):
        lit = k == state
        build.disc(
            (-0.18, y, z + 0.79 - 0.31 * k),
            0.115,
            "-x",
            on[k] if lit else off[k],
            group=group,
            flags=LAMP if lit else 0,
        )
    build.label = labels.POLE


@cache
def traffic_light(state: int, reach: float) -> Mesh:
    """A traffic light facing -x; with ``reach`` > 0 also a head on an arm that far to +y."""
    build = MeshBuilder(labels.POLE)
    top = 6.0 if reach > 0 else 3.5
    build.limb((0.02, 0, 0), (0.02, 0, top), 0.075, _DARK)
    if reach > 0:
        build.limb((0.02, 0, top - 0.05), (0.02, reach, top + 0.1), 0.06, _DARK)
        _light_head(build, reach, top - 0.75, state)
    _light_head(build, 0.0, 2.35, state)
    return build.build()


_RED: Color = (190, 28, 34)
_WHITE: Color = (232, 232, 230)
_BLUE: Color = (28, 84, 170)


@cache
def traffic_sign(kind: str) -> Mesh:
    """A sign on a pole facing -x.

    Kinds: speed, warning, yield, stop, arrow, parking, priority, stripe, direction. Its back is void:
    nobody can read it there.
    """
    build = MeshBuilder(labels.POLE)
    height = 2.3 if kind != "stripe" else 0.5
    build.limb((0.03, 0, 0), (0.03, 0, height + 0.75), 0.04, _STEEL)
    z = height + 0.4
    group = build.new_group()
    build.label = labels.TRAFFIC_SIGN

    def polygon(points: list[tuple[float, float]], color: Color, depth: float) -> None:
        # Seen from -x with y to the left, so corners run clockwise in (y, z).
        face: list[Point] = [(-depth, -y, z + dz) for y, dz in points]
        build.face(face, color, group=group)

    def rectangle(w: float, low: float, high: float, color: Color, depth: float) -> None:
        polygon([(-w, low), (w, low), (w, high), (-w, high)], color, depth)

    if kind in ("speed", "arrow"):
        build.disc((-0.02, 0, z), 0.37, "-x", _RED if kind == "speed" else _BLUE, group=group)
        if kind == "speed":
            build.disc((-0.024, 0, z), 0.28, "-x", _WHITE, group=group)
            for y in (-0.1, 0.1):
                polygon(
                    [(y - 0.06, -0.13), (y + 0.06, -0.13), (y + 0.06, 0.13), (y - 0.06, 0.13)],
                    (20, 20, 22),
                    0.028,
                )
                polygon(
                    [(y - 0.025, -0.08), (y + 0.025, -0.08), (y + 0.025, 0.08), (y - 0.025, 0.08)],
                    _WHITE,
                    0.03,
                )
        else:
            polygon([(-0.05, -0.22), (0.05, -0.22), (0.05, 0.05), (-0.05, 0.05)], _WHITE, 0.028)
            polygon([(-0.16, 0.03), (0.16, 0.03), (0.0, 0.24)], _WHITE, 0.028)
        outline = [
            (0.37 * math.cos(a), 0.37 * math.sin(a)) for a in (k * math.pi / 6 for k in range(12))
        ]
    elif kind == "warning":
        outline = [(-0.45, -0.34), (0.45, -0.34), (0.0, 0.44)]
        polygon(outline, _RED, 0.02)
        polygon([(-0.29, -0.25), (0.29, -0.25), (0.0, 0.26)], _WHITE, 0.024)
        polygon([(-0.04, -0.2), (0.04, -0.2), (0.04, 0.1), (-0.04, 0.1)], (20, 20, 22), 0.028)
    elif kind == "yield":
        outline = [(-0.45, 0.36), (0.0, -0.42), (0.45, 0.36)]
        polygon(outline, _RED, 0.02)
        polygon([(-0.28, 0.26), (0.0, -0.24), (0.28, 0.26)], _WHITE, 0.024)
    elif kind == "stop":
        outline = [
            (0.4 * math.cos(a), 0.4 * math.sin(a))
            for a in (math.pi / 8 + k * math.pi / 4 for k in range(8))
        ]
        polygon(outline, _RED, 0.02)
        rectangle(0.26, -0.08, 0.08, _WHITE, 0.024)
    elif kind == "parking":
        outline = [(-0.33, -0.33), (0.33, -0.33), (0.33, 0.33), (-0.33, 0.33)]
        polygon(outline, _BLUE, 0.02)
        polygon([(-0.12, -0.2), (-0.04, -0.2), (-0.04, 0.22), (-0.12, 0.22)], _WHITE, 0.024)
        polygon([(-0.04, 0.0), (0.14, 0.0), (0.14, 0.22), (-0.04, 0.22)], _WHITE, 0.024)
    elif kind == "priority":
        outline = [(0.0, -0.42), (0.42, 0.0), (0.0, 0.42), (-0.42, 0.0)]
        polygon(outline, _WHITE, 0.02)
        polygon([(0.0, -0.3), (0.3, 0.0), (0.0, 0.3), (-0.3, 0.0)], (240, 190, 30), 0.024)
    elif kind == "stripe":
        outline = [(-0.18, -0.5), (0.18, -0.5), (0.18, 0.5), (-0.18, 0.5)]
        polygon(outline, _WHITE, 0.02)
        for low in (-0.4, -0.05, 0.3):
            polygon(
                [(-0.18, low - 0.1), (0.18, low + 0.1), (0.18, low + 0.24), (-0.18, low + 0.04)],
                _RED,
                0.024,
            )
    else:
        outline = [(-0.85, -0.32), (0.85, -0.32), (0.85, 0.32), (-0.85, 0.32)]
        polygon(outline, _WHITE, 0.02)
        polygon([(-0.81, -0.28), (0.81, -0.28), (0.81, 0.28), (-0.81, 0.28)], (24, 110, 70), 0.024)
        for low, width in ((0.07, 0.5), (-0.16, 0.62)):
            polygon(
                [
                    (-0.7, low),
                    (-0.7 + width * 1.8, low),
                    (-0.7 + width * 1.8, low + 0.1),
                    (-0.7, low + 0.1),
                ],
                _WHITE,
                0.028,
            )
    build.label = labels.VOID
    build.face(
        [(-0.01, -y, z + dz) for y, dz in reversed(outline)],
        (110, 112, 114),
        group=build.new_group(),
    )
    return build.build()


@cache
def gantry(width: float, color: Color) -> Mesh:
    """A sign gantry over a carriageway ``width`` m wide, its right leg at the origin, panels facing -x."""
    build = MeshBuilder(labels.POLE)
    for y in (0.0, width):
        build.limb((0.1, y, 0), (0.1, y, 7.0), 0.2, _STEEL)
    build.box((0.0, 0.0, 6.3), (0.3, width, 6.9), (140, 142, 144), bottom=True)
    build.label = labels.TRAFFIC_SIGN
    for share in (0.25, 0.7):
        y = width * share
        group = build.new_group()
        for inset, paint, depth in ((0.0, _WHITE, 0.1), (0.07, color, 0.11)):
            build.face(
                [
                    (-depth, y + 1.9 - inset, 5.4 + inset),
                    (-depth, y - 1.9 + inset, 5.4 + inset),
                    (-depth, y - 1.9 + inset, 7.6 - inset),
                    (-depth, y + 1.9 - inset, 7.6 - inset),
                ],
                paint,
                group=group,
            )
        for z, half in ((7.0, 1.3), (6.45, 1.5), (5.9, 0.9)):
            build.face(
                [
                    (-0.12, y + 1.6, z),
                    (-0.12, y + 1.6 - 2 * half, z),
                    (-0.12, y + 1.6 - 2 * half, z + 0.22),
                    (-0.12, y + 1.6, z + 0.22),
                ],
                _WHITE,
                group=group,
            )
        build.label = labels.VOID
        build.face(
            [
                (-0.09, y - 1.9, 5.4),
                (-0.09, y + 1.9, 5.4),
                (-0.09, y + 1.9, 7.6),
                (-0.09, y - 1.9, 7.6),
            ],
            (110, 112, 114),
        )
        build.label = labels.TRAFFIC_SIGN
    return build.build()


@cache
def railing(length: float = SEGMENT) -> Mesh:
    """A piece of iron railing along x; labelled fence between its bars too."""
    build = MeshBuilder(labels.FENCE)
    half = length / 2
    group = build.new_group()
    build.face(
        [(half, 0, 0.05), (-half, 0, 0.05), (-half, 0, 1.12), (half, 0, 1.12)],
        (0, 0, 0),
        group=group,
        flags=LABEL_ONLY | TWO_SIDED,
    )
    for z in (0.15, 1.08):
        build.limb((-half, 0, z), (half, 0, z), 0.025, PAINT)
    count = int(length / 0.16)
    for k in range(count):
        x = -half + (k + 0.5) * length / count
        build.limb((x, 0, 0.05), (x, 0, 1.1), 0.012, PAINT)
    build.limb((-half, 0, 0), (-half, 0, 1.18), 0.035, PAINT)
    return build.build()


@cache
def board_fence(length: float = SEGMENT) -> Mesh:
    """A piece of wooden fence along x."""
    build = MeshBuilder(labels.FENCE)
    half = length / 2
    group = build.new_group()
    build.box((-half, -0.03, 0.05), (half, 0.03, 1.65), PAINT, group=group)
    for side in (1, -1):
        count = int(length / 0.3)
        for k in range(count):
            x = -half + k * length / count
            points: list[Point] = [
                (x + 0.03, side * 0.034, 0.05),
                (x, side * 0.034, 0.05),
                (x, side * 0.034, 1.65),
                (x + 0.03, side * 0.034, 1.65),
            ]
            build.face(points if side == 1 else points[::-1], PAINT, group=group, shade=0.62)
    build.box((-half - 0.06, -0.06, 0), (-half + 0.06, 0.06, 1.75), PAINT, shade=0.8)
    return build.build()


@cache
def wire_fence(length: float = SEGMENT) -> Mesh:
    """A piece of farm fence along x: posts and wires; labelled fence between the wires too."""
    build = MeshBuilder(labels.FENCE)
    half = length / 2
    build.face(
        [(half, 0, 0.2), (-half, 0, 0.2), (-half, 0, 1.1), (half, 0, 1.1)],
        (0, 0, 0),
        flags=LABEL_ONLY | TWO_SIDED,
    )
    for z in (0.3, 0.65, 1.0):
        build.limb((-half, 0, z), (half, 0, z), 0.02, PAINT)
    for x in (-half, 0.0):
        build.limb((x, 0, 0), (x, 0, 1.2), 0.06, PAINT)
    return build.build()


@cache
def guard_rail(length: float = SEGMENT) -> Mesh:
    """A piece of steel guard rail along x, labelled fence (Cityscapes leaves guard rails out)."""
    build = MeshBuilder(labels.FENCE)
    half = length / 2
    for x in (-half, 0.0):
        build.box((x - 0.05, -0.04, 0), (x + 0.05, 0.04, 0.68), (116, 118, 120))
    for side in (1, -1):
        group = build.new_group()
        for z0, z1, y0, y1, shade in (
            (0.42, 0.5, 0.05, 0.12, 0.85),
            (0.5, 0.58, 0.12, 0.06, 1.1),
            (0.58, 0.66, 0.06, 0.12, 0.85),
            (0.66, 0.74, 0.12, 0.05, 1.15),
        ):
            points: list[Point] = [
                (half, side * y0, z0),
                (-half, side * y0, z0),
                (-half, side * y1, z1),
                (half, side * y1, z1),
            ]
            build.face(points if side == 1 else points[::-1], PAINT, group=group, shade=shade)
    return build.build()


@cache
def concrete_barrier(length: float = SEGMENT) -> Mesh:
    """A piece of concrete median barrier along x."""
    build = MeshBuilder(labels.WALL)
    half = length / 2
    profile = ((0.0, 0.3), (0.1, 0.3), (0.35, 0.15), (0.95, 0.09))
    for side in (1, -1):
        group = build.new_group()
        for (z0, y0), (z1, y1) in pairwise(profile):
            points: list[Point] = [
                (half, side * y0, z0),
                (-half, side * y0, z0),
                (-half, side * y1, z1),
                (half, side * y1, z1),
            ]
            build.face(points if side == 1 else points[::-1], PAINT, group=group)
        gap: list[Point] = [
            (-half + 0.04, side * 0.12, 0.36),
            (-half, side * 0.12, 0.36),
            (-half, side * 0.1, 0.94),
            (-half + 0.04, side * 0.1, 0.94),
        ]
        build.face(gap if side == 1 else gap[::-1], PAINT, group=group, shade=0.6)
    build.face(
        [(-half, -0.09, 0.95), (half, -0.09, 0.95), (half, 0.09, 0.95), (-half, 0.09, 0.95)], PAINT
    )
    for end in (1, -1):
        x = end * half
        section: list[Point] = [
            (x, -0.3, 0.0),
            (x, 0.3, 0.0),
            (x, 0.15, 0.35),
            (x, 0.09, 0.95),
            (x, -0.09, 0.95),
            (x, -0.15, 0.35),
        ]
        build.face(section if end == 1 else section[::-1], PAINT)
    return build.build()


@cache
def brick_wall(height: float, length: float = SEGMENT) -> Mesh:
    """A piece of brick or stone wall along x with its coping; ``PAINT`` bricks, ``PAINT2`` coping."""
    build = MeshBuilder(labels.WALL)
    half = length / 2
    group = build.new_group()
    build.box((-half, -0.12, 0), (half, 0.12, height), PAINT, group=group)
    for side in (1, -1):
        rows = int(height / 0.28)
        for k in range(rows):
            z = (k + 1) * height / (rows + 1)
            points: list[Point] = [
                (half, side * 0.124, z),
                (-half, side * 0.124, z),
                (-half, side * 0.124, z + 0.03),
                (half, side * 0.124, z + 0.03),
            ]
            build.face(points if side == 1 else points[::-1], PAINT, group=group, shade=0.84)
    build.box((-half, -0.16, height), (half, 0.16, height + 0.1), PAINT2)
    return build.build()


@cache
def noise_barrier(length: float = SEGMENT) -> Mesh:
    """A piece of tall noise barrier along x."""
    build = MeshBuilder(labels.WALL)
    half = length / 2
    group = build.new_group()
    build.box((-half, -0.08, 0), (half, 0.08, 3.4), PAINT, group=group)
    for side in (1, -1):
        for z in (0.9, 1.8, 2.7):
            points: list[Point] = [
                (half, side * 0.084, z),
                (-half, side * 0.084, z),
                (-half, side * 0.084, z + 0.07),
                (half, side * 0.084, z + 0.07),
            ]
            build.face(points if side == 1 else points[::-1], PAINT, group=group, shade=0.75)
    build.box((-half - 0.12, -0.14, 0), (-half + 0.12, 0.14, 3.6), (120, 120, 118))
    return build.build()


@cache
def litter_bin() -> Mesh:
    """A litter bin: none of the 19 classes, so void."""
    build = MeshBuilder(labels.VOID)
    build.box((-0.25, -0.25, 0.05), (0.25, 0.25, 0.95), PAINT)
    build.box((-0.28, -0.28, 0.95), (0.28, 0.28, 1.05), (40, 42, 42))
    return build.build()


@cache
def bus_shelter() -> Mesh:
    """A bus shelter open to +y: building by its roof and panes."""
    build = MeshBuilder(labels.BUILDING)
    for x in (-1.9, 1.9):
        for y in (-0.6, 0.6):
            build.limb((x, y, 0), (x, y, 2.35), 0.05, _DARK)
    build.box((-2.1, -0.8, 2.35), (2.1, 0.9, 2.5), (70, 74, 78), bottom=True)
    build.face(
        [(1.9, -0.6, 0.2), (-1.9, -0.6, 0.2), (-1.9, -0.6, 2.2), (1.9, -0.6, 2.2)],
        (136, 154, 160),
        flags=TWO_SIDED,
    )
    build.box((-1.4, -0.5, 0.42), (1.4, -0.15, 0.5), (120, 90, 60), bottom=True)
    build.face(
        [(-1.95, -0.6, 0.3), (-1.95, 0.6, 0.3), (-1.95, 0.6, 2.1), (-1.95, -0.6, 2.1)],
        PAINT,
        flags=TWO_SIDED,
    )
    return build.build()


@cache
def trunk(height: float, radius: float, branches: bool) -> Mesh:
    """A tree's trunk; its crown is a sprite. ``PAINT`` its bark."""
    build = MeshBuilder(labels.VEGETATION)
    build.limb((0, 0, -0.05), (0, 0, height * 0.5), radius * 1.25, PAINT, end_radius=radius)
    build.limb((0, 0, height * 0.5), (0, 0, height), radius, PAINT, end_radius=radius * 0.7)
    if branches:
        for y, dz in ((0.9, 1.2), (-0.8, 1.4), (0.3, 1.7)):
            build.limb(
                (0, 0, height * 0.9),
                (0.1, y, height * 0.9 + dz),
                radius * 0.5,
                PAINT,
                end_radius=radius * 0.25,
            )
    return build.build()
