import colorsys

import numpy as np
import pytest

from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.visualization.palette import (
    SHADES,
    instance_shade,
    shade_table,
    text_color,
)

CITYSCAPES = Taxonomy.load("cityscapes")
THINGS = [c for c in CITYSCAPES if c.is_thing]


@pytest.mark.parametrize("category", THINGS, ids=lambda c: c.name)
def test_shades_of_a_class_are_all_different_and_stay_in_its_family(category):
    shades = [instance_shade(category.color, i) for i in range(SHADES)]
    assert shades[0] == category.color
    assert len(set(shades)) == SHADES
    hue = colorsys.rgb_to_hsv(*(c / 255 for c in category.color))[0]
    for shade in shades:
        difference = abs(colorsys.rgb_to_hsv(*(c / 255 for c in shade))[0] - hue)
        assert min(difference, 1 - difference) <= 0.07


@pytest.mark.parametrize("category", THINGS, ids=lambda c: c.name)
def test_neighbouring_ids_can_be_told_apart(category):
    shades = np.array([instance_shade(category.color, i) for i in range(1, SHADES)], dtype=float)
    for step in (1, 2, 3):
        assert np.linalg.norm(shades[step:] - shades[:-step], axis=1).min() > 30


def test_shades_repeat_after_63_instances():
    assert instance_shade((0, 0, 142), 1) == instance_shade((0, 0, 142), 64)
    assert instance_shade((0, 0, 142), 63) == instance_shade((0, 0, 142), 126)
    assert instance_shade((0, 0, 142), 63) != instance_shade((0, 0, 142), 64)


def test_a_grey_class_has_shades_too():
    shades = {instance_shade((128, 128, 128), i) for i in range(SHADES)}
    assert len(shades) == SHADES


def test_table_holds_rgba_by_class_and_shade():
    table = shade_table(CITYSCAPES).view(np.uint8).reshape(256, SHADES, 4)
    car = CITYSCAPES.class_id("car")
    assert table[car, 0].tolist() == [0, 0, 142, 255]
    assert table[car, 5].tolist() == [*instance_shade((0, 0, 142), 5), 255]
    assert not table[len(CITYSCAPES) :].any()


def test_text_is_readable():
    assert text_color((0, 0, 142)) == (255, 255, 255)
    assert text_color((250, 170, 30)) == (0, 0, 0)
