"""The shape of a car, and the measures of its parts that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from rt_panoptic_core.datasets.generated_streets.mesh import Point
from rt_panoptic_core.datasets.generated_streets.vehicle_parts import Line, across

Edge = tuple[float, float, float]
"""An edge straight across a car: its distance from the front, its height, half its width."""


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


@dataclass(frozen=True)
class CarPlan:
    """Where the parts of a car lie; ``from_front`` is always a distance from its front bumper."""

    kind: str
    shape: CarShape

    @property
    def half(self) -> float:
        """Half the width of the car."""
        return self.shape.width / 2

    @property
    def waist(self) -> float:
        """Height at which the body is widest."""
        return (self.shape.clearance + self.shape.belt) * 0.52 + 0.06

    @property
    def has_boot(self) -> bool:
        """Whether the body reaches well behind the rear window."""
        return self.shape.length - self.shape.glass_end > 0.25

    @property
    def tail_edge(self) -> float:
        """Distance of the boot's rear edge from the front."""
        return self.shape.length - (0.08 if self.has_boot else 0.06)

    @property
    def axles(self) -> tuple[float, float]:
        """Distances of the axles from the front."""
        if self.kind == "van":
            return 0.85, 4.15
        if self.shape.length < 4.2:
            return 0.78, self.shape.length - 0.66
        return 0.86, self.shape.length - 0.86

    @property
    def profile(self) -> list[tuple[float, float]]:
        """The body's upper edge seen from the side (hood, belt, boot): distances from the front, heights."""
        shape = self.shape
        hood_and_belt = [
            (0.0, shape.nose - 0.2),
            (0.12, shape.nose),
            (shape.hood * 0.55, shape.nose + (shape.belt - shape.nose) * 0.72),
            (shape.hood, shape.belt),
            (shape.roof + 0.3, shape.belt),
            ((shape.roof + shape.roof_end) / 2 + 0.15, shape.belt + 0.01),
        ]
        tail = (self.tail_edge, shape.tail)
        if self.has_boot:
            window_foot = (shape.glass_end, max(shape.belt, shape.tail))
            return [*hood_and_belt, window_foot, tail, (shape.length, shape.tail - 0.22)]
        return [*hood_and_belt, tail, (shape.length, shape.tail - 0.25)]

    @property
    def roof_half(self) -> float:
        """Half the width of the roof."""
        return self.half * self.shape.tumblehome * 0.96

    @property
    def belt_half(self) -> float:
        """Half the width of the body at the foot of the windscreen."""
        return self.half_width(self.shape.hood + 0.6, self.shape.belt)

    @property
    def windscreen(self) -> tuple[Edge, Edge]:
        """Lower and upper edge of the windscreen."""
        shape = self.shape
        return (
            (shape.hood, shape.belt, self.belt_half),
            (shape.roof, shape.height - 0.05, self.roof_half),
        )

    @property
    def rear_window(self) -> tuple[Edge, Edge]:
        """Upper and lower edge of the rear window."""
        shape = self.shape
        foot = self.half_width(shape.glass_end, shape.tail)
        return (
            (shape.roof_end, shape.height - 0.06, self.roof_half * 0.97),
            (shape.glass_end, max(shape.belt, shape.tail), foot),
        )

    def at(self, from_front: float) -> float:
        """The x coordinate."""
        return self.shape.length / 2 - from_front

    def half_width(self, from_front: float, z: float) -> float:
        """Half the body's width: rounded off at the ends seen from above, widest at the waist."""
        end = min(from_front, self.shape.length - from_front)
        taper = 0.14 if from_front < self.shape.length / 2 else 0.05
        plan = 1.0 - taper * max(0.0, 1.0 - end / 0.5) ** 2
        section = 1.0 if abs(z - self.waist) < 1e-6 else 0.955
        return self.half * plan * section

    def line(self, edge: Edge) -> Line:
        """End points of ``edge``."""
        from_front, z, half_width = edge
        return across(self.at(from_front), half_width, z)

    def body_side(self, side: int, from_front: float, z: float) -> Point:
        """Point on the left (1) or right (-1) side of the body."""
        return (self.at(from_front), side * self.half_width(from_front, z), z)

    def greenhouse_side(self, side: int, along: float, up: float) -> Point:
        """Point on the greenhouse's side: ``along`` 0 front … 1 rear, ``up`` 0 belt … 1 roof."""
        shape = self.shape
        bottom = shape.hood + along * (shape.glass_end - shape.hood)
        top = shape.roof + along * (shape.roof_end - shape.roof)
        z = shape.belt + up * (shape.height - 0.05 - shape.belt)
        y = self.belt_half + up * (self.roof_half - self.belt_half)
        return (shape.length / 2 - bottom - up * (top - bottom), side * (y + 0.004), z)
