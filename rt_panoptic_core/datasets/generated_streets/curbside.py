"""What stands between curb and buildings in town: furniture, trees, parked vehicles, people."""

from __future__ import annotations

import math

from rt_panoptic_core.datasets.generated_streets import furniture, heavy_vehicles, people
from rt_panoptic_core.datasets.generated_streets.layout import Side, palette
from rt_panoptic_core.datasets.generated_streets.road_users import random_car, random_motorcycle
from rt_panoptic_core.datasets.generated_streets.section_builder import SectionBuilder

_SIGN_KINDS = (
    "speed",
    "warning",
    "yield",
    "stop",
    "arrow",
    "parking",
    "priority",
    "stripe",
    "direction",
)


def curbside(builder: SectionBuilder, side: Side, start: float, stop: float) -> None:
    """Lamps, trees, signs, bins, parked vehicles and people between curb and buildings."""
    street, rng = builder.street, builder.rng
    sign = side.sign
    near = side.curb + 0.45
    spread = side.sidewalk - side.curb
    margin = 5.0
    lamp = furniture.lamp_post(
        round(street.lamp_height), 1.6 if spread > 1.5 else 0.9, street.lamp_dark
    )
    s = start + margin + rng.uniform(0, 12)
    while s < stop - margin:
        builder.solid(lamp, s, sign * near, palette(), turn=math.pi if sign > 0 else 0.0, reach=160)
        s += rng.uniform(22, 32)
    if street.tree_lined and (spread > 2.6 or side.verge > side.curb):
        s = start + margin + rng.uniform(0, 6)
        size = rng.uniform(5.0, 9.5)
        while s < stop - margin:
            builder.tree(s, sign * (side.curb + 0.9), size * rng.uniform(0.85, 1.15))
            s += rng.uniform(7, 13)
    # Signs face the traffic of their side.
    facing = 0.0 if sign == street.drive_sign else math.pi
    s = start + margin + rng.uniform(0, 20)
    while s < stop - margin:
        kind = rng.choices(_SIGN_KINDS, (4, 3, 1, 1, 3, 4, 2, 2, 2))[0]
        turn = facing + rng.gauss(0, 0.12)
        builder.solid(
            furniture.traffic_sign(kind),
            s,
            sign * (near + 0.1),
            palette(),
            turn=turn,
            reach=110,
        )
        s += rng.uniform(14, 45)
    for _ in range(int(rng.random() * 3 * street.density)):
        color = rng.choice(((40, 60, 48), (60, 62, 64), (30, 34, 60)))
        builder.solid(
            furniture.litter_bin(),
            rng.uniform(start + margin, stop - margin),
            sign * (near + 0.2),
            palette(color),
            reach=70,
        )
    if rng.random() < 0.25 and spread > 2.5:
        s = rng.uniform(start + 8, max(start + 9, stop - 8))
        turn = math.pi if sign > 0 else 0.0
        builder.solid(
            furniture.bus_shelter(),
            s,
            sign * (side.curb + 1.5),
            palette(rng.choice(((200, 60, 50), (60, 120, 180), (220, 200, 90)))),
            turn=turn,
            reach=120,
        )
        for _ in range(rng.randint(0, 3)):
            builder.pedestrian(s + rng.uniform(-1.6, 1.6), sign * (side.curb + 1.1))
    if rng.random() < 0.3:
        s = rng.uniform(start + margin, stop - margin)
        color = rng.choice(((36, 38, 40), (70, 72, 74), (120, 30, 30)))
        for index in range(rng.randint(3, 9)):
            builder.solid(
                furniture.bollard(color), s + 1.6 * index, sign * near, palette(), reach=70
            )
    if street.railings and not side.parking and rng.random() < 0.6:
        s = rng.uniform(start + margin, max(start + margin + 1, stop - 20))
        builder.run(
            furniture.railing(),
            s,
            min(s + rng.uniform(8, 30), stop - margin),
            sign * (side.curb + 0.3),
            palette(rng.choice(((110, 112, 114), (40, 42, 44), (40, 70, 52)))),
            reach=80,
        )
    if rng.random() < 0.5 * street.density:
        _bicycle_rack(builder, side, rng.uniform(start + margin, stop - margin))
    if side.parking:
        _parked(builder, side, start + 6.0, stop - 6.0)
    # People who stand and talk.
    for _ in range(int(rng.random() * 3.2 * street.pedestrians)):
        s = rng.uniform(start + 2, stop - 2)
        d = rng.uniform(side.verge + 0.5, max(side.verge + 0.6, side.sidewalk - 0.3))
        for _ in range(rng.randint(1, 3)):
            builder.pedestrian(s + rng.gauss(0, 0.7), sign * (d + rng.gauss(0, 0.3)))


def _bicycle_rack(builder: SectionBuilder, side: Side, s: float) -> None:
    """One to six bicycles or motorcycles in a row."""
    rng = builder.rng
    along = rng.random() < 0.5
    for index in range(rng.randint(1, 6)):
        color = rng.choice(people.CLOTHES)
        step = 2.0 if along else 0.65
        turn = rng.gauss(0, 0.1) + (0.0 if along else math.pi / 2)
        motor = rng.random() < 0.22
        mesh = random_motorcycle(rng) if motor else people.bicycle()
        d = side.sign * (side.curb + (0.8 if along else 1.2))
        builder.solid(
            mesh,
            s + index * step,
            d,
            palette(color),
            turn=turn,
            keys=(builder.key(),),
            reach=60,
            z=0.1,
        )


def _parked(builder: SectionBuilder, side: Side, start: float, stop: float) -> None:
    """Vehicles parked along the curb."""
    street, rng = builder.street, builder.rng
    forward = side.sign == street.drive_sign
    s = start + rng.uniform(0, 4)
    while s < stop - 2:
        if rng.random() < 0.55 + 0.4 * street.density:
            mesh, colors = random_car(rng, False)
            if rng.random() < 0.035:
                mesh, colors = (
                    heavy_vehicles.truck("box"),
                    palette(rng.choice(heavy_vehicles.TRUCK_PAINTS), (214, 214, 210)),
                )
            if rng.random() < 0.04:
                mesh, colors = (
                    random_motorcycle(rng),
                    palette(rng.choice(heavy_vehicles.TRUCK_PAINTS)),
                )
            length = mesh.size[0]
            if s + length > stop:
                break
            turn = 0.0 if forward == (rng.random() < 0.85) else math.pi
            d = side.sign * (side.curb - 1.08 + rng.gauss(0, 0.06))
            builder.solid(
                mesh,
                s + length / 2,
                d,
                colors,
                turn=turn + rng.gauss(0, 0.012),
                keys=(builder.key(),),
                reach=140,
            )
            s += length + rng.uniform(0.6, 1.4)
        else:
            s += rng.uniform(4, 9)
