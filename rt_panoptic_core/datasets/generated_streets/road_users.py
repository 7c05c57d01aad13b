"""Cars, motorcycles and people as they are drawn at random."""

from __future__ import annotations

import random

from rt_panoptic_core.datasets.generated_streets import people, vehicles
from rt_panoptic_core.datasets.generated_streets.layout import Palette, palette
from rt_panoptic_core.datasets.generated_streets.mesh import Mesh


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


def random_motorcycle(rng: random.Random) -> Mesh:
    """A parked motorcycle or scooter's prototype."""
    return people.motorcycle(rng.random() < 0.4)
