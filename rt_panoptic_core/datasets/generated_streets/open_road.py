"""What lines a road outside town: fences, rails, woods, signs, gantries."""

from __future__ import annotations

import math

from rt_panoptic_core.datasets.generated_streets import furniture
from rt_panoptic_core.datasets.generated_streets.layout import Side, palette
from rt_panoptic_core.datasets.generated_streets.mesh import Color
from rt_panoptic_core.datasets.generated_streets.section_builder import SectionBuilder


def country_side(builder: SectionBuilder, side: Side, start: float, stop: float) -> None:
    """One side of a country road."""
    street, rng = builder.street, builder.rng
    sign = side.sign
    roll = rng.random()
    if roll < 0.3:
        builder.run(
            furniture.wire_fence(),
            start,
            stop,
            sign * (side.curb + rng.uniform(2.5, 4)),
            palette((104, 88, 70)),
            reach=90,
        )
    elif roll < 0.5:
        s = start
        while s < stop:
            builder.bush(s, sign * (side.curb + 2.0), rng.uniform(1.2, 2.2))
            s += rng.uniform(1.4, 2.4)
    elif roll < 0.65:
        builder.run(
            furniture.guard_rail(),
            start,
            stop,
            sign * (side.curb + 0.9),
            palette((160, 164, 168)),
            reach=120,
        )
    if rng.random() < 0.5:
        s = start + rng.uniform(0, 30)
        while s < stop:
            builder.solid(
                furniture.utility_pole(), s, sign * (side.curb + 3.2), palette(), reach=200
            )
            s += rng.uniform(32, 45)
    s = start
    step = 3.0 + 16 * (1 - street.forest)
    while s < stop:
        d = side.curb + 3.5 + rng.random() ** 1.5 * 45
        if rng.random() < 0.75:
            builder.tree(s, sign * d, rng.uniform(6, 14))
        else:
            builder.bush(s, sign * d, rng.uniform(1.0, 3.0))
        s += rng.uniform(0.4, 1.6) * step
    _road_signs(builder, side, start, stop, 50, 130)
    if rng.random() < 0.5:
        builder.house(
            "house",
            rng.uniform(start, stop - 20),
            side.front + rng.uniform(4, 16),
            sign,
            30,
            rng.uniform(0.9, 1.1),
        )


def highway_side(builder: SectionBuilder, side: Side, start: float, stop: float) -> None:
    """One side of a highway."""
    street, rng = builder.street, builder.rng
    sign = side.sign
    if street.rail_kind == "rail":
        builder.run(
            furniture.guard_rail(),
            start,
            stop,
            sign * (side.curb + 0.5),
            palette((160, 164, 168)),
            reach=150,
        )
    elif street.rail_kind == "noise":
        tone = rng.choice(((150, 152, 140), (128, 140, 120), (160, 148, 130)))
        builder.run(
            furniture.noise_barrier(),
            start,
            stop,
            sign * (side.curb + 2.0),
            palette(tone),
            reach=200,
        )
    elif street.rail_kind == "wire":
        builder.run(
            furniture.board_fence() if rng.random() < 0.5 else furniture.wire_fence(),
            start,
            stop,
            sign * (side.curb + 9),
            palette((124, 108, 88)),
            reach=140,
        )
    step = 3.5 + 22 * (1 - street.forest)
    s = start
    while s < stop:
        d = side.curb + rng.uniform(6, 12) + rng.random() ** 1.4 * 55
        if rng.random() < 0.75:
            builder.tree(s, sign * d, rng.uniform(6, 14))
        else:
            builder.bush(s, sign * d, rng.uniform(1.0, 3.2))
        s += rng.uniform(0.4, 1.6) * step
    if rng.random() < 0.6:
        s = start + rng.uniform(0, 30)
        while s < stop:
            builder.solid(
                furniture.lamp_post(11, 2.2, False),
                s,
                sign * (side.curb + 1.3),
                palette(),
                turn=math.pi if sign > 0 else 0.0,
                reach=200,
            )
            s += rng.uniform(38, 50)
    if sign == street.drive_sign and rng.random() < 0.55:
        width = side.curb + 1.0 - street.median / 2 + 1.0
        color: Color = rng.choice(((24, 104, 62), (30, 80, 160)))
        # The gantry's right leg is its origin, whichever side traffic keeps to.
        right = -(side.curb + 1.0) if sign < 0 else street.median / 2 - 1.0
        builder.solid(
            furniture.gantry(round(width), color),
            rng.uniform(start, stop),
            right,
            palette(),
            reach=260,
        )
    _road_signs(builder, side, start, stop, 60, 160)


def _road_signs(
    builder: SectionBuilder, side: Side, start: float, stop: float, low: float, high: float
) -> None:
    """Signs for the side's traffic, ``low`` to ``high`` metres apart."""
    street, rng = builder.street, builder.rng
    facing = 0.0 if side.sign == street.drive_sign else math.pi
    s = start + rng.uniform(0, low)
    while s < stop:
        kind = rng.choices(("speed", "warning", "direction", "stripe"), (3, 3, 3, 1))[0]
        builder.solid(
            furniture.traffic_sign(kind),
            s,
            side.sign * (side.curb + 1.4),
            palette(),
            turn=facing,
            reach=130,
            scale=1.25,
        )
        s += rng.uniform(low, high)
