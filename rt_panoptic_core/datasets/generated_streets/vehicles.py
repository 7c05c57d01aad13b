"""Prototypes of cars, vans and pick-ups."""

from __future__ import annotations

from functools import cache

from rt_panoptic_core.datasets.generated_streets import car_parts, labels
from rt_panoptic_core.datasets.generated_streets.car_plan import CarPlan, CarShape
from rt_panoptic_core.datasets.generated_streets.mesh import Color, Mesh, MeshBuilder

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


@cache
def car(kind: str, lights_on: bool = False, braking: bool = False) -> Mesh:
    """Prototype of a car of a kind of :data:`CAR_SHAPES`; slot ``PAINT`` is its body's colour."""
    plan = CarPlan(kind, CAR_SHAPES[kind])
    build = MeshBuilder(labels.CAR)
    for side in (1, -1):
        car_parts.add_side(build, plan, side)
    car_parts.add_top(build, plan)
    car_parts.add_front(build, plan, lights_on)
    car_parts.add_rear(build, plan, lights_on, braking)
    car_parts.add_underbody(build, plan)
    return build.build()
