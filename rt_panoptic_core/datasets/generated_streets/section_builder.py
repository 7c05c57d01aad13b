"""Puts single things on a section of the street: solids, plants, houses, people who stand."""

from __future__ import annotations

import math
import random

from rt_panoptic_core.datasets.generated_streets import furniture, people
from rt_panoptic_core.datasets.generated_streets.facades import facades
from rt_panoptic_core.datasets.generated_streets.foliage import plants
from rt_panoptic_core.datasets.generated_streets.layout import (
    House,
    Key,
    Palette,
    Plant,
    Section,
    Solid,
    Street,
    palette,
)
from rt_panoptic_core.datasets.generated_streets.mesh import Color, Mesh
from rt_panoptic_core.datasets.generated_streets.road_users import random_person_palette

ROOFS: tuple[Color, ...] = ((112, 66, 52), (84, 80, 80), (64, 62, 66), (128, 84, 66), (96, 88, 78))
"""Colours of roofs."""

_BARK: tuple[Color, ...] = ((84, 72, 60), (62, 54, 48), (116, 106, 96), (152, 148, 140))


class SectionBuilder:
    """Fills :attr:`section`, from junction ``k`` to junction ``k + 1``, with the arms of junction ``k``.

    All that is put there is drawn from one generator, :attr:`rng`: who builds first draws first.
    """

    def __init__(self, street: Street, k: int) -> None:
        """An empty section ``k`` of ``street``."""
        self.street = street
        self.k = k
        self.rng = random.Random(f"{street.seed}/section/{k}")
        self.section = Section()
        self._count = 0

    def key(self) -> Key:
        """Key of one more instance."""
        self._count += 1
        return ("fixed", self.k, self._count)

    def solid(
        self,
        mesh: Mesh,
        s: float,
        d: float,
        colors: Palette,
        *,
        turn: float = 0.0,
        keys: tuple[Key, ...] = (),
        scale: float = 1.0,
        reach: float = 250.0,
        z: float = 0.0,
    ) -> None:
        """A ``mesh`` at (s, d), turned by ``turn`` from the road's direction."""
        course = self.street.course
        x, y = course.point(s, d)
        self.section.solids.append(
            Solid(
                mesh,
                x,
                y,
                course.heading(s) + turn,
                colors,
                keys,
                z,
                scale,
                reach,
            )
        )

    def tree(
        self, s: float, d: float, size: float, z: float = 0.0, kind: str | None = None
    ) -> None:
        """A tree of ``size`` metres with its trunk."""
        rng = self.rng
        if kind is None:
            kind = rng.choices(("round", "tall", "cone"), (7, 2, 1.4))[0]
            if self.street.season == "bare" and kind != "cone" and rng.random() < 0.75:
                kind = "bare"
        sprite = rng.choice(plants(kind))
        foliage = {"cone": "conifer", "bare": "bare"}.get(kind, self.street.season)
        if foliage == "bare" and kind != "bare":
            foliage = "conifer" if rng.random() < 0.4 else "dry"
        clear = {"round": 0.24, "tall": 0.12, "cone": 0.06, "bare": 0.22}[kind] * size
        height = size - clear
        width = min(height * sprite.aspect * rng.uniform(0.85, 1.15), size * 1.1)
        x, y = self.street.course.point(s, d)
        bark = rng.choice(_BARK)
        self.section.solids.append(
            Solid(
                furniture.trunk(round(clear + height * 0.2, 0) or 1.0, 0.16, kind == "round"),
                x,
                y,
                0.0,
                palette(bark),
                z=z,
                reach=140.0,
            )
        )
        self.section.plants.append(
            Plant(
                sprite,
                x,
                y,
                z + clear,
                width,
                height,
                (foliage, rng.randrange(4)),
                rng.random() < 0.5,
            )
        )

    def tree_at(self, x: float, y: float, size: float) -> None:
        """A round tree at a world position."""
        rng = self.rng
        sprite = rng.choice(plants("bare" if self.street.season == "bare" else "round"))
        foliage = self.street.season
        self.section.solids.append(
            Solid(
                furniture.trunk(2.0, 0.16, False), x, y, 0.0, palette(rng.choice(_BARK)), reach=120
            )
        )
        self.section.plants.append(
            Plant(
                sprite,
                x,
                y,
                size * 0.22,
                size * 0.78 * sprite.aspect,
                size * 0.78,
                (foliage, rng.randrange(4)),
                rng.random() < 0.5,
            )
        )

    def bush(self, s: float, d: float, height: float, z: float = 0.0) -> None:
        """A bush of ``height`` metres."""
        sprite = self.rng.choice(plants("bush"))
        x, y = self.street.course.point(s, d)
        foliage = self.street.season if self.street.season != "bare" else "conifer"
        self.section.plants.append(
            Plant(
                sprite,
                x,
                y,
                z - 0.05,
                height * self.rng.uniform(1.1, 1.9),
                height,
                (foliage, self.rng.randrange(4)),
                self.rng.random() < 0.5,
            )
        )

    def run(
        self,
        mesh: Mesh,
        start: float,
        stop: float,
        d: float,
        colors: Palette,
        reach: float = 120.0,
        z: float = 0.0,
    ) -> None:
        """Pieces of a fence or wall from ``start`` to ``stop``."""
        count = max(1, int((stop - start) / furniture.SEGMENT))
        for index in range(count):
            self.solid(mesh, start + (index + 0.5) * furniture.SEGMENT, d, colors, reach=reach, z=z)

    def house(
        self, kind: str, s: float, d_front: float, sign: int, room: float, tint: float
    ) -> float | None:
        """Put a building with its front at ``d_front``, from ``s`` on; its length, if it fits."""
        rng = self.rng
        facade = rng.choice(facades(kind))
        bay = rng.uniform(2.5, 3.3) if kind != "office" else rng.uniform(3.0, 4.0)
        length = facade.bays * bay
        if length > room:
            if room < 6.0:
                return None
            length = room
        storey = rng.uniform(2.7, 3.2) if kind != "office" else rng.uniform(3.3, 3.9)
        height = facade.floors * storey + (0.4 if kind != "house" else 0.1)
        depth = rng.uniform(9, 15) if kind != "house" else rng.uniform(7, 10)
        course = self.street.course
        middle = s + length / 2
        # On a bend the corners of a straight front reach nearer to the road than its middle.
        x, y = course.point(middle, sign * (d_front + depth / 2))
        heading = course.heading(middle)
        pitched = kind == "house" or (kind == "block" and rng.random() < 0.45)
        self.section.houses.append(
            House(
                x,
                y,
                heading if sign > 0 else heading + math.pi,
                length,
                depth,
                height,
                facade,
                rng.uniform(1.8, 3.4) if pitched else 0.0,
                rng.choice(ROOFS),
                tint,
            )
        )
        return length

    def pedestrian(self, s: float, d: float) -> None:
        """Somebody who stands."""
        rng = self.rng
        mesh = people.person(
            rng.randrange(people.WALK_PHASES), True, rng.random() < 0.35, rng.random() < 0.25
        )
        scale = rng.choices((rng.uniform(0.93, 1.06), rng.uniform(0.6, 0.8)), (9, 1))[0]
        self.solid(
            mesh,
            s,
            d,
            random_person_palette(rng),
            turn=rng.uniform(-math.pi, math.pi),
            keys=(self.key(),),
            scale=scale,
            reach=80,
            z=0.1,
        )
