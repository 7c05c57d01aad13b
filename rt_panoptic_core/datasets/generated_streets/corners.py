"""What stands around a junction: lights and signs at its corners, the crossing street's sides."""

from __future__ import annotations

import math

from rt_panoptic_core.datasets.generated_streets import furniture
from rt_panoptic_core.datasets.generated_streets.facades import facades
from rt_panoptic_core.datasets.generated_streets.layout import House, Junction, Solid, palette
from rt_panoptic_core.datasets.generated_streets.road_users import random_car
from rt_panoptic_core.datasets.generated_streets.section_builder import ROOFS, SectionBuilder


def corners(builder: SectionBuilder, junction: Junction) -> None:
    """Traffic lights or signs at the corners."""
    street, rng = builder.street, builder.rng
    lights = rng.random() < 0.6
    state = rng.choice((0, 2, 2, 1))
    for side in street.sides:
        own = side.sign == street.drive_sign
        d = side.sign * (side.curb + 0.5)
        # Each side's light stands before the junction as its traffic comes to it.
        before = junction.at - junction.half - 2.2 if own else junction.at + junction.half + 2.2
        after = junction.at + junction.half + 2.2 if own else junction.at - junction.half - 2.2
        facing = 0.0 if own else math.pi
        if lights:
            reach = rng.choice((0.0, 0.0, 3.5))
            # The arm reaches towards the road.
            inwards = side.sign < 0
            mesh = furniture.traffic_light(state, reach if inwards == (facing == 0.0) else -reach)
            if reach and inwards != (facing == 0.0):
                mesh = furniture.traffic_light(state, 0.0)
            builder.solid(mesh, before, d, palette(), turn=facing, reach=120)
            builder.solid(
                furniture.traffic_light(state, 0.0), after, d, palette(), turn=facing, reach=120
            )
            builder.solid(
                furniture.traffic_light(2 - state if state != 1 else 1, 0.0),
                before + 0.6,
                d + side.sign * 0.4,
                palette(),
                turn=facing + math.pi / 2,
                reach=120,
            )
        else:
            builder.solid(
                furniture.traffic_sign(rng.choice(("yield", "stop", "priority"))),
                before,
                d,
                palette(),
                turn=facing,
                reach=100,
            )
        for _ in range(int(rng.random() * 3.5 * street.pedestrians)):
            builder.pedestrian(
                before + rng.uniform(-1.5, 1.0), side.sign * (side.curb + rng.uniform(0.4, 2.0))
            )


def arms(builder: SectionBuilder, junction: Junction, lamps: bool) -> None:
    """Buildings, trees and vehicles along the crossing street; ``lamps``: with their lights on."""
    street, rng = builder.street, builder.rng
    for side in street.sides:
        axis = street.course.heading(junction.at) + side.sign * math.pi / 2
        ox, oy = street.course.point(junction.at)
        cos, sin = math.cos(axis), math.sin(axis)

        def place(
            along: float, left: float, o: tuple[float, float, float, float] = (ox, oy, cos, sin)
        ) -> tuple[float, float]:
            return o[0] + along * o[2] - left * o[3], o[1] + along * o[3] + left * o[2]

        walk = 2.2
        for left in (1, -1):
            along = side.front + 13 + rng.uniform(1, 4)
            while along < 75:
                if street.kind in ("park", "suburb") and rng.random() < 0.6:
                    x, y = place(along, left * (junction.half + walk + 3 + rng.uniform(0, 4)))
                    builder.tree_at(x, y, rng.uniform(6, 11))
                    along += rng.uniform(4, 8)
                    continue
                facade = rng.choice(facades("block" if street.kind != "suburb" else "house"))
                length = facade.bays * rng.uniform(2.6, 3.2)
                depth = 9.0
                x, y = place(along + length / 2, left * (junction.half + walk + depth / 2))
                builder.section.houses.append(
                    House(
                        x,
                        y,
                        axis if left > 0 else axis + math.pi,
                        length,
                        depth,
                        facade.floors * 3.0,
                        facade,
                        2.2 if rng.random() < 0.5 else 0.0,
                        rng.choice(ROOFS),
                        rng.uniform(0.85, 1.1),
                    )
                )
                along += length + (rng.uniform(1, 5) if rng.random() < 0.3 else 0.0)
        if rng.random() < 0.6:
            facade = rng.choice(facades("block"))
            x, y = place(88, 0)
            builder.section.houses.append(
                House(
                    x,
                    y,
                    axis - math.pi / 2,
                    max(facade.bays * 3.0, 2 * junction.half + 6),
                    8,
                    facade.floors * 3.0,
                    facade,
                    0.0,
                    rng.choice(ROOFS),
                    1.0,
                )
            )
        # Parked cars, and one that waits to enter.
        for left in (1, -1):
            along = side.front + rng.uniform(2, 10)
            while along < 60 and junction.half > 3.6:
                if rng.random() < 0.5:
                    mesh, colors = random_car(rng, False)
                    x, y = place(along, left * (junction.half - 1.0))
                    builder.section.solids.append(
                        Solid(
                            mesh,
                            x,
                            y,
                            axis + (math.pi if rng.random() < 0.5 else 0.0),
                            colors,
                            (builder.key(),),
                            reach=110,
                        )
                    )
                along += rng.uniform(5.5, 9)
        if rng.random() < 0.45:
            mesh, colors = random_car(rng, lamps)
            x, y = place(
                side.sidewalk + 1.0 + mesh.size[0] / 2,
                -street.drive_sign * junction.half * 0.42,
            )
            builder.section.solids.append(
                Solid(mesh, x, y, axis + math.pi, colors, (builder.key(),), reach=120)
            )
