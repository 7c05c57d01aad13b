"""Colours and faces that vehicles of every kind have in common."""

from __future__ import annotations

from rt_panoptic_core.datasets.generated_streets.mesh import Color, MeshBuilder, Point

BLACK: Color = (24, 25, 27)
RUBBER: Color = (30, 30, 32)
GLASS_COLOR: Color = (22, 25, 29)
HEADLIGHT: Color = (232, 234, 228)
TAIL: Color = (168, 26, 22)
PLATE_REAR: Color = (214, 178, 52)

Line = tuple[Point, Point]
"""Right and left end of a line straight across a vehicle."""


def facing(points: list[Point], side: int) -> list[Point]:
    """The corners of a face, given as on the left or at the front (1), for ``side`` 1 or -1."""
    return points if side == 1 else points[::-1]


def across(x: float, half_width: float, z: float) -> Line:
    """The line across a vehicle at ``x`` and ``z``."""
    return (x, -half_width, z), (x, half_width, z)


def strip(first: Line, second: Line) -> list[Point]:
    """The face between two lines: seen from above fore to aft, or from the front low to high."""
    return [*first, *second[::-1]]


def end_rectangle(
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
    """Add an upright rectangle that faces forwards (``end`` 1) or backwards (-1)."""
    points: list[Point] = [(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)]
    build.face(facing(points, end), color, group=group, flags=flags, shade=shade)
