"""What stands behind the sidewalk in town: buildings, gardens, parks."""

from __future__ import annotations

from rt_panoptic_core.datasets.generated_streets import furniture
from rt_panoptic_core.datasets.generated_streets.layout import Side, palette
from rt_panoptic_core.datasets.generated_streets.section_builder import SectionBuilder


def front_row(builder: SectionBuilder, side: Side, start: float, stop: float) -> None:
    """Buildings, gardens and parks behind the sidewalk."""
    street, rng = builder.street, builder.rng
    clear = 3.0 if street.has_junctions else 0.0
    s = start + side.sidewalk - side.curb + rng.uniform(0, 1.5) + clear * 0.5
    end = stop - (side.sidewalk - side.curb) - clear * 0.5
    if street.kind == "park" and side.front - side.sidewalk > 20:
        _park(builder, side, start, stop)
        return
    while s < end - 5:
        if street.kind == "suburb":
            kind = "house" if rng.random() < 0.9 else "block"
        elif street.kind == "canyon":
            kind = rng.choices(("block", "office"), (7, 3))[0]
        else:
            kind = rng.choices(("house", "block", "office"), (3, 6, 1))[0]
        built = builder.house(kind, s, side.front, side.sign, end - s, rng.uniform(0.82, 1.12))
        if built is None:
            break
        if side.front - side.sidewalk > 2.5:
            if rng.random() < 0.8:
                _boundary(builder, s, s + built, side.sign * (side.sidewalk + 0.25))
            for _ in range(rng.randint(0, 2)):
                d = side.sign * rng.uniform(side.sidewalk + 1.2, side.front - 1.0)
                if rng.random() < 0.4:
                    builder.tree(s + rng.uniform(0, built), d, rng.uniform(3.5, 6.5))
                else:
                    builder.bush(s + rng.uniform(0, built), d, rng.uniform(0.8, 1.8))
        s += built
        gap = 0.0
        if street.kind == "suburb":
            gap = rng.uniform(3, 9)
        elif rng.random() < (0.12 if street.kind == "canyon" else 0.25):
            gap = rng.uniform(3, 12)
        if gap > 2.5 and s + gap < end:
            d = side.sign * (side.front + 0.3)
            if rng.random() < 0.6:
                builder.run(
                    furniture.brick_wall(rng.choice((1.3, 2.0, 2.0))),
                    s + 0.1,
                    s + gap,
                    d,
                    palette(
                        rng.choice(((148, 96, 76), (160, 152, 140), (120, 112, 104))),
                        (150, 146, 140),
                    ),
                )
            else:
                builder.run(furniture.board_fence(), s + 0.1, s + gap, d, palette((118, 98, 76)))
            for _ in range(rng.randint(1, 3)):
                builder.tree(
                    s + rng.uniform(0.1, 0.9) * gap,
                    side.sign * (side.front + rng.uniform(2.5, 9)),
                    rng.uniform(5, 10),
                )
        s += gap


def _park(builder: SectionBuilder, side: Side, start: float, stop: float) -> None:
    """Lawns with trees, a railing or wall in front, a wall of trees behind."""
    rng = builder.rng
    edge = side.sidewalk + 0.3
    roll = rng.random()
    if roll < 0.4:
        builder.run(
            furniture.railing(),
            start + 3,
            stop - 3,
            side.sign * edge,
            palette((36, 40, 38)),
            reach=80,
        )
    elif roll < 0.6:
        builder.run(
            furniture.brick_wall(0.9),
            start + 3,
            stop - 3,
            side.sign * edge,
            palette((150, 140, 124), (164, 156, 144)),
        )
    s = start + 2
    while s < stop - 2:
        d = side.sidewalk + 2 + rng.random() ** 1.3 * 30
        if rng.random() < 0.75:
            builder.tree(s, side.sign * d, rng.uniform(6, 13))
        else:
            builder.bush(s, side.sign * d, rng.uniform(1.0, 2.6))
        s += rng.uniform(1.5, 5.5)
    s = start
    while s < stop:  # the far edge of the park is a wall of trees
        builder.tree(s, side.sign * (side.sidewalk + 36 + rng.uniform(0, 8)), rng.uniform(9, 15))
        s += rng.uniform(4, 8)


def _boundary(builder: SectionBuilder, start: float, stop: float, d: float) -> None:
    """A fence, wall or hedge along the front of a plot."""
    rng = builder.rng
    kind = rng.choices(("brick", "board", "railing", "hedge", "none"), (3, 2.5, 2.5, 3, 1.5))[0]
    if kind == "brick":
        brick = rng.choice(((148, 88, 68), (164, 150, 128), (126, 120, 112), (200, 190, 172)))
        height = rng.choice((0.9, 1.3, 2.0))
        builder.run(furniture.brick_wall(height), start, stop, d, palette(brick, (170, 164, 154)))
    elif kind == "board":
        wood = rng.choice(((136, 104, 70), (110, 92, 72), (168, 160, 148), (86, 70, 54)))
        builder.run(furniture.board_fence(), start, stop, d, palette(wood))
    elif kind == "railing":
        builder.run(furniture.railing(), start, stop, d, palette((38, 40, 42)), reach=70.0)
    elif kind == "hedge":
        s = start + 0.8
        while s < stop - 0.5:
            builder.bush(s, d, rng.uniform(1.0, 1.5))
            s += rng.uniform(1.0, 1.5)
