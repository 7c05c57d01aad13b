"""What lines the street, section by section: made on first sight, dropped when it lies behind."""

from __future__ import annotations

from rt_panoptic_core.datasets.generated_streets.corners import arms, corners
from rt_panoptic_core.datasets.generated_streets.curbside import curbside
from rt_panoptic_core.datasets.generated_streets.layout import Section, Street
from rt_panoptic_core.datasets.generated_streets.median import median
from rt_panoptic_core.datasets.generated_streets.open_road import country_side, highway_side
from rt_panoptic_core.datasets.generated_streets.plots import front_row
from rt_panoptic_core.datasets.generated_streets.section_builder import SectionBuilder


class Surroundings:
    """The sections of a street, made on first sight and dropped when they lie behind."""

    def __init__(self, street: Street, lamps: bool) -> None:
        """Surroundings of ``street``; ``lamps``: vehicles have their lights on."""
        self.street = street
        self.lamps = lamps
        self._sections: dict[int, Section] = {}

    def between(self, start: float, stop: float) -> list[Section]:
        """Sections that reach into [start, stop] metres along the road."""
        street = self.street
        numbers = street.junction_range(start, stop)
        wanted = [
            k
            for k in range(numbers.start - 1, numbers.stop)
            if street.junction(k + 1).at + 5 > start and street.junction(k).at - 5 < stop
        ]
        for k in [k for k in self._sections if k < wanted[0]]:
            del self._sections[k]
        for k in wanted:
            if k not in self._sections:
                self._sections[k] = _section(street, k, self.lamps)
        return [self._sections[k] for k in wanted]


def _section(street: Street, k: int, lamps: bool) -> Section:
    """Section ``k``: from junction k to junction k + 1, and the arms of junction k."""
    builder = SectionBuilder(street, k)
    here, following = street.junction(k), street.junction(k + 1)
    start, stop = here.at + here.half, following.at - following.half
    for side in street.sides:
        if street.kind == "highway":
            highway_side(builder, side, start, stop)
        elif street.kind == "country":
            country_side(builder, side, start, stop)
        else:
            front_row(builder, side, start, stop)
            curbside(builder, side, start, stop)
    if street.median > 0:
        median(builder, start, stop)
    if street.has_junctions:
        corners(builder, here)
        arms(builder, here, lamps)
    return builder.section
