"""What lines the street: buildings, trees, furniture, parked vehicles, people who stand."""

from __future__ import annotations

import math
import random

from rt_panoptic_core.datasets.generated_streets import furniture, heavy_vehicles, people, vehicles
from rt_panoptic_core.datasets.generated_streets.layout import (
    House,
    Junction,
    Key,
    Palette,
    Plant,
    Section,
    Side,
    Solid,
    Street,
    palette,
)
from rt_panoptic_core.datasets.generated_streets.mesh import Color, Mesh
from rt_panoptic_core.datasets.generated_streets.textures import facades, plants

_ROOFS: tuple[Color, ...] = ((112, 66, 52), (84, 80, 80), (64, 62, 66), (128, 84, 66), (96, 88, 78))
_BARK: tuple[Color, ...] = ((84, 72, 60), (62, 54, 48), (116, 106, 96), (152, 148, 140))
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


def random_car(rng: random.Random, lights: bool, braking: bool = False) -> tuple[Mesh, Palette]:
    """A car's prototype and colours."""
    kind = rng.choices(tuple(vehicles.CAR_SHAPES), (26, 14, 18, 12, 14, 3, 7, 9, 2))[0]
    paints, weights = zip(*vehicles.CAR_PAINTS, strict=True)
    paint = rng.choices(paints, weights)[0]
    if kind == "van" and rng.random() < 0.55:
        paint = (218, 218, 216)
    tone = rng.uniform(0.85, 1.12)
    return vehicles.car(kind, lights, braking), palette(
        (paint[0] * tone, paint[1] * tone, paint[2] * tone)
    )


def random_person_palette(rng: random.Random) -> Palette:
    """Colours of top, trousers, skin and hair."""
    return (
        rng.choice(people.CLOTHES),
        rng.choice(people.TROUSERS),
        rng.choices(people.SKINS, (6, 3, 2, 1))[0],
        rng.choice(people.HAIRS),
    )


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
                self._sections[k] = _SectionMaker(street, k, self.lamps).make()
        return [self._sections[k] for k in wanted]


class _SectionMaker:
    """Fills section ``k``: from junction k to junction k + 1, and the arms of junction k."""

    def __init__(self, street: Street, k: int, lamps: bool) -> None:
        self.street = street
        self.k = k
        self.lamps = lamps
        self.rng = random.Random(f"{street.seed}/section/{k}")
        self.section = Section()
        self.count = 0

    def make(self) -> Section:
        street = self.street
        here, following = street.junction(self.k), street.junction(self.k + 1)
        start, stop = here.at + here.half, following.at - following.half
        for side in street.sides:
            if street.kind == "highway":
                self.highway_side(side, start, stop)
            elif street.kind == "country":
                self.country_side(side, start, stop)
            else:
                self.front_row(side, start, stop)
                self.curbside(side, start, stop)
        if street.median > 0:
            self.median(start, stop)
        if street.has_junctions:
            self.corners(here)
            self.arms(here)
        return self.section

    # -- placing -----------------------------------------------------------------------------

    def key(self) -> Key:
        self.count += 1
        return ("fixed", self.k, self.count)

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

    def bush(self, s: float, d: float, height: float, z: float = 0.0) -> None:
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

    def boundary(self, start: float, stop: float, d: float) -> None:
        """A fence, wall or hedge along the front of a plot."""
        rng = self.rng
        kind = rng.choices(("brick", "board", "railing", "hedge", "none"), (3, 2.5, 2.5, 3, 1.5))[0]
        if kind == "brick":
            brick = rng.choice(((148, 88, 68), (164, 150, 128), (126, 120, 112), (200, 190, 172)))
            height = rng.choice((0.9, 1.3, 2.0))
            self.run(furniture.brick_wall(height), start, stop, d, palette(brick, (170, 164, 154)))
        elif kind == "board":
            wood = rng.choice(((136, 104, 70), (110, 92, 72), (168, 160, 148), (86, 70, 54)))
            self.run(furniture.board_fence(), start, stop, d, palette(wood))
        elif kind == "railing":
            self.run(furniture.railing(), start, stop, d, palette((38, 40, 42)), reach=70.0)
        elif kind == "hedge":
            s = start + 0.8
            while s < stop - 0.5:
                self.bush(s, d, rng.uniform(1.0, 1.5))
                s += rng.uniform(1.0, 1.5)

    # -- city -------------------------------------------------------------------------------

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
                rng.choice(_ROOFS),
                tint,
            )
        )
        return length

    def front_row(self, side: Side, start: float, stop: float) -> None:
        """Buildings, gardens and parks behind the sidewalk."""
        street, rng = self.street, self.rng
        clear = 3.0 if street.has_junctions else 0.0
        s = start + side.sidewalk - side.curb + rng.uniform(0, 1.5) + clear * 0.5
        end = stop - (side.sidewalk - side.curb) - clear * 0.5
        if street.kind == "park" and side.front - side.sidewalk > 20:
            self.park(side, start, stop)
            return
        while s < end - 5:
            if street.kind == "suburb":
                kind = "house" if rng.random() < 0.9 else "block"
            elif street.kind == "canyon":
                kind = rng.choices(("block", "office"), (7, 3))[0]
            else:
                kind = rng.choices(("house", "block", "office"), (3, 6, 1))[0]
            built = self.house(kind, s, side.front, side.sign, end - s, rng.uniform(0.82, 1.12))
            if built is None:
                break
            if side.front - side.sidewalk > 2.5:
                if rng.random() < 0.8:
                    self.boundary(s, s + built, side.sign * (side.sidewalk + 0.25))
                for _ in range(rng.randint(0, 2)):
                    d = side.sign * rng.uniform(side.sidewalk + 1.2, side.front - 1.0)
                    if rng.random() < 0.4:
                        self.tree(s + rng.uniform(0, built), d, rng.uniform(3.5, 6.5))
                    else:
                        self.bush(s + rng.uniform(0, built), d, rng.uniform(0.8, 1.8))
            s += built
            gap = 0.0
            if street.kind == "suburb":
                gap = rng.uniform(3, 9)
            elif rng.random() < (0.12 if street.kind == "canyon" else 0.25):
                gap = rng.uniform(3, 12)
            if gap > 2.5 and s + gap < end:
                d = side.sign * (side.front + 0.3)
                if rng.random() < 0.6:
                    self.run(
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
                    self.run(furniture.board_fence(), s + 0.1, s + gap, d, palette((118, 98, 76)))
                for _ in range(rng.randint(1, 3)):
                    self.tree(
                        s + rng.uniform(0.1, 0.9) * gap,
                        side.sign * (side.front + rng.uniform(2.5, 9)),
                        rng.uniform(5, 10),
                    )
            s += gap

    def park(self, side: Side, start: float, stop: float) -> None:
        rng = self.rng
        edge = side.sidewalk + 0.3
        roll = rng.random()
        if roll < 0.4:
            self.run(
                furniture.railing(),
                start + 3,
                stop - 3,
                side.sign * edge,
                palette((36, 40, 38)),
                reach=80,
            )
        elif roll < 0.6:
            self.run(
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
                self.tree(s, side.sign * d, rng.uniform(6, 13))
            else:
                self.bush(s, side.sign * d, rng.uniform(1.0, 2.6))
            s += rng.uniform(1.5, 5.5)
        s = start
        while s < stop:  # the far edge of the park is a wall of trees
            self.tree(s, side.sign * (side.sidewalk + 36 + rng.uniform(0, 8)), rng.uniform(9, 15))
            s += rng.uniform(4, 8)

    def curbside(self, side: Side, start: float, stop: float) -> None:
        """Lamps, trees, signs, bins, parked vehicles and people between curb and buildings."""
        street, rng = self.street, self.rng
        sign = side.sign
        near = side.curb + 0.45
        spread = side.sidewalk - side.curb
        margin = 5.0
        lamp = furniture.lamp_post(
            round(street.lamp_height), 1.6 if spread > 1.5 else 0.9, street.lamp_dark
        )
        s = start + margin + rng.uniform(0, 12)
        while s < stop - margin:
            self.solid(
                lamp, s, sign * near, palette(), turn=math.pi if sign > 0 else 0.0, reach=160
            )
            s += rng.uniform(22, 32)
        if street.tree_lined and (spread > 2.6 or side.verge > side.curb):
            s = start + margin + rng.uniform(0, 6)
            size = rng.uniform(5.0, 9.5)
            while s < stop - margin:
                self.tree(s, sign * (side.curb + 0.9), size * rng.uniform(0.85, 1.15))
                s += rng.uniform(7, 13)
        # Signs face the traffic of their side.
        facing = 0.0 if sign == street.drive_sign else math.pi
        s = start + margin + rng.uniform(0, 20)
        while s < stop - margin:
            kind = rng.choices(_SIGN_KINDS, (4, 3, 1, 1, 3, 4, 2, 2, 2))[0]
            turn = facing + rng.gauss(0, 0.12)
            self.solid(
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
            self.solid(
                furniture.litter_bin(),
                rng.uniform(start + margin, stop - margin),
                sign * (near + 0.2),
                palette(color),
                reach=70,
            )
        if rng.random() < 0.25 and spread > 2.5:
            s = rng.uniform(start + 8, max(start + 9, stop - 8))
            turn = math.pi if sign > 0 else 0.0
            self.solid(
                furniture.bus_shelter(),
                s,
                sign * (side.curb + 1.5),
                palette(rng.choice(((200, 60, 50), (60, 120, 180), (220, 200, 90)))),
                turn=turn,
                reach=120,
            )
            for _ in range(rng.randint(0, 3)):
                self.pedestrian(s + rng.uniform(-1.6, 1.6), sign * (side.curb + 1.1))
        if rng.random() < 0.3:
            s = rng.uniform(start + margin, stop - margin)
            color = rng.choice(((36, 38, 40), (70, 72, 74), (120, 30, 30)))
            for index in range(rng.randint(3, 9)):
                self.solid(
                    furniture.bollard(color), s + 1.6 * index, sign * near, palette(), reach=70
                )
        if street.railings and not side.parking and rng.random() < 0.6:
            s = rng.uniform(start + margin, max(start + margin + 1, stop - 20))
            self.run(
                furniture.railing(),
                s,
                min(s + rng.uniform(8, 30), stop - margin),
                sign * (side.curb + 0.3),
                palette(rng.choice(((110, 112, 114), (40, 42, 44), (40, 70, 52)))),
                reach=80,
            )
        if rng.random() < 0.5 * street.density:
            self.bicycle_rack(side, rng.uniform(start + margin, stop - margin))
        if side.parking:
            self.parked(side, start + 6.0, stop - 6.0)
        # People who stand and talk.
        for _ in range(int(rng.random() * 3.2 * street.pedestrians)):
            s = rng.uniform(start + 2, stop - 2)
            d = rng.uniform(side.verge + 0.5, max(side.verge + 0.6, side.sidewalk - 0.3))
            for _ in range(rng.randint(1, 3)):
                self.pedestrian(s + rng.gauss(0, 0.7), sign * (d + rng.gauss(0, 0.3)))

    def pedestrian(self, s: float, d: float) -> None:
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

    def bicycle_rack(self, side: Side, s: float) -> None:
        rng = self.rng
        along = rng.random() < 0.5
        for index in range(rng.randint(1, 6)):
            color = rng.choice(people.CLOTHES)
            step = 2.0 if along else 0.65
            turn = rng.gauss(0, 0.1) + (0.0 if along else math.pi / 2)
            motor = rng.random() < 0.22
            mesh = furniture_motorcycle(rng) if motor else people.bicycle()
            d = side.sign * (side.curb + (0.8 if along else 1.2))
            self.solid(
                mesh,
                s + index * step,
                d,
                palette(color),
                turn=turn,
                keys=(self.key(),),
                reach=60,
                z=0.1,
            )

    def parked(self, side: Side, start: float, stop: float) -> None:
        street, rng = self.street, self.rng
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
                        furniture_motorcycle(rng),
                        palette(rng.choice(heavy_vehicles.TRUCK_PAINTS)),
                    )
                length = mesh.size[0]
                if s + length > stop:
                    break
                turn = 0.0 if forward == (rng.random() < 0.85) else math.pi
                d = side.sign * (side.curb - 1.08 + rng.gauss(0, 0.06))
                self.solid(
                    mesh,
                    s + length / 2,
                    d,
                    colors,
                    turn=turn + rng.gauss(0, 0.012),
                    keys=(self.key(),),
                    reach=140,
                )
                s += length + rng.uniform(0.6, 1.4)
            else:
                s += rng.uniform(4, 9)

    def median(self, start: float, stop: float) -> None:
        street, rng = self.street, self.rng
        reserve = 4.0 if street.has_junctions else 0.0
        start, stop = start + reserve, stop - reserve
        if street.median_kind == "barrier":
            tone = rng.uniform(0.8, 1.1)
            self.run(
                furniture.concrete_barrier(),
                start,
                stop,
                0.0,
                palette((166 * tone, 162 * tone, 154 * tone)),
                reach=180,
            )
        elif street.median_kind == "rail":
            for d in (-street.median / 2 + 0.5, street.median / 2 - 0.5):
                self.run(
                    furniture.guard_rail(), start, stop, d, palette((168, 172, 176)), reach=160
                )
        elif street.median_kind == "grass":
            s = start
            while s < stop:
                if rng.random() < 0.6:
                    if street.kind == "highway" or rng.random() < 0.5:
                        self.bush(s, rng.gauss(0, street.median * 0.12), rng.uniform(0.8, 2.0))
                    else:
                        self.tree(s, 0.0, rng.uniform(4, 7.5))
                s += rng.uniform(2.5, 8)
        else:
            s = start
            while s < stop:
                if rng.random() < 0.3:
                    self.solid(furniture.bollard((60, 62, 64)), s, 0.0, palette(), reach=70, z=0.1)
                s += rng.uniform(6, 14)

    # -- junctions ----------------------------------------------------------------------------

    def corners(self, junction: Junction) -> None:
        """Traffic lights or signs at the corners."""
        street, rng = self.street, self.rng
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
                mesh = furniture.traffic_light(
                    state, reach if inwards == (facing == 0.0) else -reach
                )
                if reach and inwards != (facing == 0.0):
                    mesh = furniture.traffic_light(state, 0.0)
                self.solid(mesh, before, d, palette(), turn=facing, reach=120)
                self.solid(
                    furniture.traffic_light(state, 0.0), after, d, palette(), turn=facing, reach=120
                )
                self.solid(
                    furniture.traffic_light(2 - state if state != 1 else 1, 0.0),
                    before + 0.6,
                    d + side.sign * 0.4,
                    palette(),
                    turn=facing + math.pi / 2,
                    reach=120,
                )
            else:
                self.solid(
                    furniture.traffic_sign(rng.choice(("yield", "stop", "priority"))),
                    before,
                    d,
                    palette(),
                    turn=facing,
                    reach=100,
                )
            for _ in range(int(rng.random() * 3.5 * street.pedestrians)):
                self.pedestrian(
                    before + rng.uniform(-1.5, 1.0), side.sign * (side.curb + rng.uniform(0.4, 2.0))
                )

    def arms(self, junction: Junction) -> None:
        """Buildings, trees and vehicles along the crossing street."""
        street, rng = self.street, self.rng
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
                        self.tree_at(x, y, rng.uniform(6, 11))
                        along += rng.uniform(4, 8)
                        continue
                    facade = rng.choice(facades("block" if street.kind != "suburb" else "house"))
                    length = facade.bays * rng.uniform(2.6, 3.2)
                    depth = 9.0
                    x, y = place(along + length / 2, left * (junction.half + walk + depth / 2))
                    self.section.houses.append(
                        House(
                            x,
                            y,
                            axis if left > 0 else axis + math.pi,
                            length,
                            depth,
                            facade.floors * 3.0,
                            facade,
                            2.2 if rng.random() < 0.5 else 0.0,
                            rng.choice(_ROOFS),
                            rng.uniform(0.85, 1.1),
                        )
                    )
                    along += length + (rng.uniform(1, 5) if rng.random() < 0.3 else 0.0)
            if rng.random() < 0.6:
                facade = rng.choice(facades("block"))
                x, y = place(88, 0)
                self.section.houses.append(
                    House(
                        x,
                        y,
                        axis - math.pi / 2,
                        max(facade.bays * 3.0, 2 * junction.half + 6),
                        8,
                        facade.floors * 3.0,
                        facade,
                        0.0,
                        rng.choice(_ROOFS),
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
                        self.section.solids.append(
                            Solid(
                                mesh,
                                x,
                                y,
                                axis + (math.pi if rng.random() < 0.5 else 0.0),
                                colors,
                                (self.key(),),
                                reach=110,
                            )
                        )
                    along += rng.uniform(5.5, 9)
            if rng.random() < 0.45:
                mesh, colors = random_car(rng, self.lamps)
                x, y = place(
                    side.sidewalk + 1.0 + mesh.size[0] / 2,
                    -street.drive_sign * junction.half * 0.42,
                )
                self.section.solids.append(
                    Solid(mesh, x, y, axis + math.pi, colors, (self.key(),), reach=120)
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

    # -- outside town -------------------------------------------------------------------------

    def country_side(self, side: Side, start: float, stop: float) -> None:
        street, rng = self.street, self.rng
        sign = side.sign
        roll = rng.random()
        if roll < 0.3:
            self.run(
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
                self.bush(s, sign * (side.curb + 2.0), rng.uniform(1.2, 2.2))
                s += rng.uniform(1.4, 2.4)
        elif roll < 0.65:
            self.run(
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
                self.solid(
                    furniture.utility_pole(), s, sign * (side.curb + 3.2), palette(), reach=200
                )
                s += rng.uniform(32, 45)
        s = start
        step = 3.0 + 16 * (1 - street.forest)
        while s < stop:
            d = side.curb + 3.5 + rng.random() ** 1.5 * 45
            if rng.random() < 0.75:
                self.tree(s, sign * d, rng.uniform(6, 14))
            else:
                self.bush(s, sign * d, rng.uniform(1.0, 3.0))
            s += rng.uniform(0.4, 1.6) * step
        self.road_signs(side, start, stop, 50, 130)
        if rng.random() < 0.5:
            self.house(
                "house",
                rng.uniform(start, stop - 20),
                side.front + rng.uniform(4, 16),
                sign,
                30,
                rng.uniform(0.9, 1.1),
            )

    def highway_side(self, side: Side, start: float, stop: float) -> None:
        street, rng = self.street, self.rng
        sign = side.sign
        if street.rail_kind == "rail":
            self.run(
                furniture.guard_rail(),
                start,
                stop,
                sign * (side.curb + 0.5),
                palette((160, 164, 168)),
                reach=150,
            )
        elif street.rail_kind == "noise":
            tone = rng.choice(((150, 152, 140), (128, 140, 120), (160, 148, 130)))
            self.run(
                furniture.noise_barrier(),
                start,
                stop,
                sign * (side.curb + 2.0),
                palette(tone),
                reach=200,
            )
        elif street.rail_kind == "wire":
            self.run(
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
                self.tree(s, sign * d, rng.uniform(6, 14))
            else:
                self.bush(s, sign * d, rng.uniform(1.0, 3.2))
            s += rng.uniform(0.4, 1.6) * step
        if rng.random() < 0.6:
            s = start + rng.uniform(0, 30)
            while s < stop:
                self.solid(
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
            self.solid(
                furniture.gantry(round(width), color),
                rng.uniform(start, stop),
                right,
                palette(),
                reach=260,
            )
        self.road_signs(side, start, stop, 60, 160)

    def road_signs(self, side: Side, start: float, stop: float, low: float, high: float) -> None:
        street, rng = self.street, self.rng
        facing = 0.0 if side.sign == street.drive_sign else math.pi
        s = start + rng.uniform(0, low)
        while s < stop:
            kind = rng.choices(("speed", "warning", "direction", "stripe"), (3, 3, 3, 1))[0]
            self.solid(
                furniture.traffic_sign(kind),
                s,
                side.sign * (side.curb + 1.4),
                palette(),
                turn=facing,
                reach=130,
                scale=1.25,
            )
            s += rng.uniform(low, high)


def furniture_motorcycle(rng: random.Random) -> Mesh:
    """A parked motorcycle or scooter."""
    return people.motorcycle(rng.random() < 0.4)
