"""What stands between the two carriageways."""

from __future__ import annotations

from rt_panoptic_core.datasets.generated_streets import furniture
from rt_panoptic_core.datasets.generated_streets.layout import palette
from rt_panoptic_core.datasets.generated_streets.section_builder import SectionBuilder


def median(builder: SectionBuilder, start: float, stop: float) -> None:
    """Barriers, rails, plants or bollards on the median."""
    street, rng = builder.street, builder.rng
    reserve = 4.0 if street.has_junctions else 0.0
    start, stop = start + reserve, stop - reserve
    if street.median_kind == "barrier":
        tone = rng.uniform(0.8, 1.1)
        builder.run(
            furniture.concrete_barrier(),
            start,
            stop,
            0.0,
            palette((166 * tone, 162 * tone, 154 * tone)),
            reach=180,
        )
    elif street.median_kind == "rail":
        for d in (-street.median / 2 + 0.5, street.median / 2 - 0.5):
            builder.run(furniture.guard_rail(), start, stop, d, palette((168, 172, 176)), reach=160)
    elif street.median_kind == "grass":
        s = start
        while s < stop:
            if rng.random() < 0.6:
                if street.kind == "highway" or rng.random() < 0.5:
                    builder.bush(s, rng.gauss(0, street.median * 0.12), rng.uniform(0.8, 2.0))
                else:
                    builder.tree(s, 0.0, rng.uniform(4, 7.5))
            s += rng.uniform(2.5, 8)
    else:
        s = start
        while s < stop:
            if rng.random() < 0.3:
                builder.solid(furniture.bollard((60, 62, 64)), s, 0.0, palette(), reach=70, z=0.1)
            s += rng.uniform(6, 14)
