"""What moves: lanes of vehicles, cyclists, people on the sidewalks and at crossings."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from rt_panoptic_core.datasets.generated_streets import heavy_vehicles, people
from rt_panoptic_core.datasets.generated_streets.layout import Palette, Solid, Street, palette
from rt_panoptic_core.datasets.generated_streets.mesh import Color, Mesh
from rt_panoptic_core.datasets.generated_streets.road_users import (
    random_car,
    random_person_palette,
)

_BUS_PAINTS: tuple[tuple[Color, Color], ...] = (
    ((196, 30, 36), (150, 20, 26)),
    ((226, 226, 220), (40, 80, 150)),
    ((240, 200, 60), (60, 60, 64)),
    ((60, 130, 90), (230, 230, 224)),
    ((84, 140, 190), (236, 236, 232)),
)


@dataclass(frozen=True)
class _Flow:
    """Vehicles that follow each other along one lane at one speed, endlessly in both directions."""

    name: str
    offset: float  # d of the lane's middle
    speed: float  # along s; negative for oncoming traffic
    spacing: float  # mean distance
    share: float  # of the places that are taken
    kind: str  # "vehicle", "cyclist", "tram" or "pedestrian"
    jitter: float = 0.3


@dataclass(frozen=True)
class _Member:
    mesh: Mesh | None
    colors: Palette
    offset: float
    along: float
    sway: float
    parts: int
    scale: float
    coat: bool
    bag: bool
    reach: float


class Traffic:
    """Everything that moves in a street, as a function of time."""

    def __init__(
        self, street: Street, ego_lane: int, ego_speed: float, start: float, lamps: bool
    ) -> None:
        """Draw the flows of ``street`` around a camera that drives in ``ego_lane`` from ``start``."""
        self.street = street
        self.lamps = lamps
        self.ego_speed = ego_speed
        self.start = start
        self._members: dict[tuple[str, int], _Member | None] = {}
        rng = random.Random(f"{street.seed}/traffic")
        self._rng_seed = street.seed
        flows = []
        sign = street.drive_sign
        gap = rng.uniform(14, 30) if street.urban else rng.uniform(26, 60)
        busy = rng.uniform(0.3, 0.95)
        for lane in range(street.own_lanes):
            d = sign * (street.median / 2 + (lane + 0.5) * street.lane)
            # The camera's own lane moves with it, so that nobody is run over.
            speed = ego_speed if lane == ego_lane else ego_speed * rng.uniform(0.75, 1.25)
            flows.append(
                _Flow(f"own{lane}", d, speed, gap * rng.uniform(0.8, 1.4), busy, "vehicle")
            )
        for lane in range(1 if street.tram else 0, street.other_lanes):
            d = -sign * (street.median / 2 + (lane + 0.5) * street.lane)
            flows.append(
                _Flow(
                    f"other{lane}",
                    d,
                    -max(ego_speed, 4.0) * rng.uniform(0.8, 1.2),
                    gap * rng.uniform(0.8, 1.6),
                    busy,
                    "vehicle",
                )
            )
        if street.urban:
            for side in street.sides:
                own = side.sign == sign
                if own or street.other_lanes:
                    d = side.sign * (side.carriageway - 0.55)
                    flows.append(
                        _Flow(
                            f"cycle{side.sign}",
                            d,
                            (1 if own else -1) * rng.uniform(3.5, 5.5),
                            26.0 if not street.cycle_lane else 14.0,
                            0.3 + 0.4 * street.cycle_lane,
                            "cyclist",
                            0.45,
                        )
                    )
                room = side.sidewalk - side.verge
                for index, direction in enumerate((1, -1)):
                    d = side.sign * (side.verge + room * (0.35 + 0.35 * index))
                    flows.append(
                        _Flow(
                            f"walk{side.sign}{direction}",
                            d,
                            direction * rng.uniform(1.1, 1.5),
                            7.0,
                            min(0.75, 0.45 * street.pedestrians),
                            "pedestrian",
                            0.49,
                        )
                    )
        if street.tram:
            flows.append(
                _Flow(
                    "tram",
                    -sign * (street.median / 2 + 0.5 * street.lane),
                    -rng.uniform(5, 8),
                    120.0,
                    0.8,
                    "tram",
                )
            )
        self._flows = flows
        self._ego_name = f"own{ego_lane}"

    def between(self, low: float, high: float, time: float) -> list[Solid]:
        """Everything that moves and is in [low, high] m along the road at ``time`` s."""
        ego = self.start + self.ego_speed * time
        result: list[Solid] = []
        for flow in self._flows:
            moved = self.start + flow.speed * time
            first = math.floor((low - moved) / flow.spacing) - 1
            last = math.ceil((high - moved) / flow.spacing) + 1
            for k in range(first, last + 1):
                member = self._member(flow, k)
                if member is None:
                    continue
                s = moved + (k + member.along) * flow.spacing
                if not low <= s <= high:
                    continue
                if flow.name == self._ego_name:
                    # Keep the camera's own place free, with a gap to the next vehicle.
                    s += 1.5 * math.sin(0.35 * time + member.sway)
                    if -16.0 < s - ego < 9.0:
                        continue
                result.append(self._place(flow, member, k, s, time))
        result.extend(self._crossing(ego, low, high))
        return result

    def _member(self, flow: _Flow, k: int) -> _Member | None:
        name = (flow.name, k)
        if name not in self._members:
            if len(self._members) > 4000:
                self._members.clear()
            self._members[name] = self._draw_member(flow, k)
        return self._members[name]

    def _draw_member(self, flow: _Flow, k: int) -> _Member | None:
        rng = random.Random(f"{self._rng_seed}/{flow.name}/{k}")
        if rng.random() > flow.share:
            return None
        along = rng.uniform(-flow.jitter, flow.jitter)
        sway = rng.uniform(0, 2 * math.pi)
        offset = rng.gauss(0, 0.12)
        if flow.kind == "pedestrian":
            scale = rng.uniform(0.92, 1.06) if rng.random() < 0.9 else rng.uniform(0.6, 0.8)
            return _Member(
                None,
                random_person_palette(rng),
                rng.gauss(0, 0.35),
                along,
                sway,
                1,
                scale,
                rng.random() < 0.35,
                rng.random() < 0.3,
                80.0,
            )
        if flow.kind == "cyclist":
            return _Member(
                None,
                random_person_palette(rng),
                offset,
                along,
                sway,
                2,
                1.0,
                rng.random() < 0.5,
                False,
                80.0,
            )
        if flow.kind == "tram":
            colors = rng.choice(
                (
                    ((222, 220, 212), (190, 30, 40)),
                    ((240, 200, 70), (60, 60, 64)),
                    ((70, 140, 90), (232, 230, 222)),
                )
            )
            return _Member(
                heavy_vehicles.tram(),
                palette(*colors),
                0.0,
                along,
                sway,
                1,
                1.0,
                False,
                False,
                250.0,
            )
        street = self.street
        trucks = 0.16 if street.kind in ("highway", "country") else 0.055
        kind = rng.choices(
            ("car", "truck", "bus", "motorcycle"),
            (0.9, trucks, 0.12 if street.urban else 0.03, 0.08),
        )[0]
        if kind == "truck":
            form = rng.choices(("box", "tipper", "semi"), (5, 2, 6 if not street.urban else 1))[0]
            load: Color = rng.choice(
                ((224, 224, 220), (196, 198, 200), *heavy_vehicles.TRUCK_PAINTS)
            )
            return _Member(
                heavy_vehicles.truck(form),
                palette(rng.choice(heavy_vehicles.TRUCK_PAINTS), load),
                offset,
                along,
                sway,
                1,
                1.0,
                False,
                False,
                220.0,
            )
        if kind == "bus":
            return _Member(
                heavy_vehicles.bus(rng.random() < 0.3),
                palette(*rng.choice(_BUS_PAINTS)),
                offset,
                along,
                sway,
                1,
                1.0,
                False,
                False,
                200.0,
            )
        if kind == "motorcycle":
            return _Member(
                people.motorcyclist(rng.random() < 0.4),
                random_person_palette(rng),
                offset * 3,
                along,
                sway,
                2,
                1.0,
                False,
                False,
                100.0,
            )
        mesh, colors2 = random_car(rng, self.lamps or rng.random() < 0.15, rng.random() < 0.2)
        return _Member(mesh, colors2, offset, along, sway, 1, 1.0, False, False, 170.0)

    def _place(self, flow: _Flow, member: _Member, k: int, s: float, time: float) -> Solid:
        street = self.street
        d = flow.offset + member.offset
        x, y = street.course.point(s, d)
        yaw = street.course.heading(s) + (0.0 if flow.speed >= 0 else math.pi)
        mesh, z = member.mesh, 0.0
        if flow.kind == "pedestrian":
            steps = time * abs(flow.speed) / 1.45 + member.sway
            phase = int(steps * people.WALK_PHASES) % people.WALK_PHASES
            mesh, z = people.person(phase, False, member.coat, member.bag), 0.1
        elif flow.kind == "cyclist":
            phase = int((time * 1.1 + member.sway) * people.WALK_PHASES) % people.WALK_PHASES
            mesh = people.cyclist(phase, member.coat)
        assert mesh is not None
        keys = tuple((flow.name, k, part) for part in range(member.parts))
        return Solid(mesh, x, y, yaw, member.colors, keys, z, member.scale, member.reach)

    def _crossing(self, ego: float, low: float, high: float) -> list[Solid]:
        """People and cars that cross while the camera is still well before their junction."""
        street = self.street
        result: list[Solid] = []
        if not street.has_junctions:
            return result
        for k in street.junction_range(low, high):
            junction = street.junction(k)
            if not low <= junction.at <= high:
                continue
            rng = random.Random(f"{self._rng_seed}/crossing/{k}")
            heading = street.course.heading(junction.at)
            for index in range(rng.choices((0, 1, 2), (5, 3, 1))[0]):
                meet = rng.uniform(26, 80)
                direction = rng.choice((1, -1))
                mesh, colors = random_car(rng, self.lamps)
                progress = (ego - (junction.at - meet)) / max(self.ego_speed, 4.0)
                d = direction * (7.5 * progress - 9.0 * index)
                if abs(d) > 70 or junction.at - ego < 14:
                    continue
                s = junction.at + street.drive_sign * -direction * junction.half * 0.45
                x, y = street.course.point(s, d)
                yaw = heading + direction * math.pi / 2
                result.append(
                    Solid(mesh, x, y, yaw, colors, (("crossing", k, index),), reach=150.0)
                )
            for index in range(int(rng.random() * 5 * street.pedestrians)):
                meet = rng.uniform(12, 60)
                direction = rng.choice((1, -1))
                speed = rng.uniform(1.1, 1.6)
                colors = random_person_palette(rng)
                coat, bag, sway = rng.random() < 0.35, rng.random() < 0.3, rng.random()
                s = junction.at - junction.half - 3.0 + rng.uniform(-1.2, 1.2)
                progress = (ego - (s - meet)) / max(self.ego_speed, 2.0)
                d = direction * speed * progress
                widest = max(side.sidewalk for side in street.sides)
                if abs(d) > widest or s - ego < 6.0:
                    continue
                x, y = street.course.point(s, d)
                phase = (
                    int((progress * speed / 1.45 + sway) * people.WALK_PHASES) % people.WALK_PHASES
                )
                mesh = people.person(phase, False, coat, bag)
                yaw = heading + direction * math.pi / 2
                result.append(Solid(mesh, x, y, yaw, colors, (("walker", k, index),), reach=80.0))
        return result
