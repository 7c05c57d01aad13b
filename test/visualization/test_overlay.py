from itertools import pairwise

import numpy as np
import pytest

from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.visualization.legend import LegendEntry, draw_legend, legend_entries
from rt_panoptic_core.visualization.overlay import draw_overlay, panoptic_colors
from rt_panoptic_core.visualization.palette import instance_shade
from rt_panoptic_core.visualization.text import Label, LabelPlacer

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, SKY, CAR = 0, 10, 13


def result(semantic, instance=None, segments=()):
    semantic = np.array(semantic, dtype=np.uint8)
    if instance is None:
        instance = np.zeros(semantic.shape)
    return PanopticResult(semantic, np.array(instance, dtype=np.uint16), list(segments))


def car(instance_id, box, score=0.9, area=1):
    return Segment(instance_id, CAR, True, score, area, box)


def one_car(height=120, width=160):
    semantic = np.full((height, width), ROAD)
    instance = np.zeros((height, width))
    semantic[60:90, 40:120] = CAR
    instance[60:90, 40:120] = 1
    return result(semantic, instance, [car(1, (40, 60, 120, 90), area=2400)])


def test_colours_are_the_classes_shaded_by_instance():
    colors = panoptic_colors(result([[ROAD, CAR, CAR, 255]], [[0, 0, 2, 0]]), CITYSCAPES)
    assert colors.tolist() == [
        [[128, 64, 128], [0, 0, 142], list(instance_shade((0, 0, 142), 2)), [0, 0, 0]]
    ]


def test_instance_ids_beyond_the_shades_repeat_them():
    colors = panoptic_colors(result([[CAR, CAR, CAR]], [[1, 64, 63 * 1000 + 1]]), CITYSCAPES)
    assert colors[0, 0].tolist() == colors[0, 1].tolist() == colors[0, 2].tolist()


def test_overlay_blends_half_and_half_and_leaves_unlabelled_pixels():
    image = np.full((1, 2, 3), 100, dtype=np.uint8)
    overlay = draw_overlay(image, result([[ROAD, 255]]), CITYSCAPES)
    # (100 + [128, 64, 128]) / 2
    assert overlay.tolist() == [[[114, 82, 114], [100, 100, 100]]]


def test_opacity_goes_from_nothing_to_everything():
    image = np.full((120, 160, 3), 100, dtype=np.uint8)
    scene = one_car()
    assert np.array_equal(draw_overlay(image, scene, CITYSCAPES, opacity=0, names=False), image)
    full = draw_overlay(image, scene, CITYSCAPES, opacity=1, names=False)
    assert full[0, 0].tolist() == [128, 64, 128]
    assert full[75, 80].tolist() == list(instance_shade((0, 0, 142), 1))


def test_instances_are_outlined_in_white_inside_their_border():
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    overlay = draw_overlay(image, one_car(), CITYSCAPES, names=False)
    white = (overlay == 255).all(axis=2)
    assert white[60, 40:120].all()
    assert white[60:90, 119].all()
    assert not white[59].any()
    assert not white[61:89, 41:119].any()
    assert white.sum() == 2 * 80 + 2 * 28


def test_touching_instances_are_parted():
    semantic = np.full((5, 10), CAR)
    instance = np.repeat([[1] * 5 + [2] * 5], 5, axis=0)
    scene = result(semantic, instance, [car(1, (0, 0, 5, 5)), car(2, (5, 0, 10, 5))])
    overlay = draw_overlay(np.zeros((5, 10, 3), np.uint8), scene, CITYSCAPES, names=False)
    assert (overlay == 255).all(axis=2).tolist() == [[False] * 4 + [True, True] + [False] * 4] * 5


def test_the_name_stands_above_its_box():
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    plain = draw_overlay(image, one_car(), CITYSCAPES, names=False)
    named = draw_overlay(image, one_car(), CITYSCAPES)
    rows, columns = np.nonzero((plain != named).any(axis=2))
    assert rows.max() == 59
    assert rows.min() > 30
    assert abs((columns.min() + columns.max()) / 2 - 79.5) <= 1


def test_ids_and_rate_can_be_written():
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    plain = draw_overlay(image, one_car(), CITYSCAPES)
    assert (plain != draw_overlay(image, one_car(), CITYSCAPES, show_ids=True)).any()
    rate = draw_overlay(image, one_car(), CITYSCAPES, fps=30.0)
    rows, columns = np.nonzero((plain != rate).any(axis=2))
    assert rows.max() < 20
    assert columns.min() == 0


def test_legend_lies_at_the_bottom():
    image = np.full((120, 160, 3), 255, dtype=np.uint8)
    plain = draw_overlay(image, one_car(), CITYSCAPES, names=False)
    with_legend = draw_overlay(image, one_car(), CITYSCAPES, names=False, legend=True)
    rows = np.nonzero((plain != with_legend).any(axis=(1, 2)))[0]
    assert rows.max() == 119
    assert rows.min() >= 80


def test_the_legend_has_a_fixed_place_for_each_class_of_a_small_taxonomy():
    scene = result(
        [[SKY, SKY, SKY, CAR, CAR, ROAD, 255, 200]],
        [[0, 0, 0, 1, 2, 0, 0, 0]],
        [car(1, (3, 0, 4, 1)), car(2, (4, 0, 5, 1))],
    )
    entries = legend_entries(scene, CITYSCAPES)
    assert [entry.class_id for entry in entries] == list(range(19))
    assert [entry.text for entry in entries if entry.present] == ["road", "sky", "2 car"]
    assert entries[1] == (1, "sidewalk", False)


def test_the_legend_of_a_large_taxonomy_has_what_occurs():
    coco = Taxonomy.load("coco")
    entries = legend_entries(result([[5, 90, 90, 3]]), coco)
    assert entries == [(3, coco[3].name, True), (5, coco[5].name, True), (90, coco[90].name, True)]


def test_entries_do_not_move_when_other_classes_come_and_go():
    first = draw_legend([LegendEntry(c.class_id, c.name) for c in CITYSCAPES], CITYSCAPES, 1280)
    absent = [LegendEntry(c.class_id, c.name, c.class_id == CAR) for c in CITYSCAPES]
    second = draw_legend(absent, CITYSCAPES, 1280)
    assert first.shape == second.shape
    same = (first == second).all(axis=2)
    assert not same.all()
    rows, columns = np.nonzero((second == (0, 0, 142)).all(axis=2))
    assert len(rows) > 50
    assert same[rows, columns].all()


def test_legend_says_what_it_leaves_out():
    entries = [LegendEntry(c.class_id, c.name) for c in CITYSCAPES]
    whole = draw_legend(entries, CITYSCAPES, 300)
    short = draw_legend(entries, CITYSCAPES, 300, max_height=40)
    assert short.shape[0] <= 40 < whole.shape[0]
    assert short.shape[1:] == whole.shape[1:] == (300, 3)
    assert draw_legend([], CITYSCAPES, 300).shape == (0, 300, 3)
    assert draw_legend(entries, CITYSCAPES, 300, max_height=1).shape == (0, 300, 3)


def test_labels_do_not_cover_one_another():
    placer = LabelPlacer(200, 100)
    label = Label("car", (0, 0, 142), 0.45)
    box = (50.0, 40.0, 150.0, 60.0)
    places = [placer.place(label, box) for _ in range(8)]
    found = [place for place in places if place is not None]
    assert found[0] == (round(100 - label.width / 2), 40 - label.height)
    assert places[-1] is None
    tops = sorted(top for _, top in found)
    assert all(b - a >= label.height for a, b in pairwise(tops))


def test_labels_stay_in_the_picture():
    placer = LabelPlacer(200, 100)
    label = Label("motorcycle 0.87", (0, 0, 142), 0.45)
    # No room above the box nor at its top edge, which lies outside: the middle is next.
    assert placer.place(label, (-50.0, -3.0, 5.0, 30.0)) == (0, round((27 - label.height) / 2))
    assert placer.place(label, (float("nan"), 0.0, 1.0, 1.0)) is None


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 400), (2, 2000)])
def test_tiny_and_odd_sizes_work(size):
    height, width = size
    scene = result(
        np.full(size, CAR), np.ones(size), [car(1, (0.0, 0.0, float(width), float(height)))]
    )
    image = np.zeros((*size, 3), np.uint8)
    assert draw_overlay(image, scene, CITYSCAPES, legend=True, fps=1.0).shape == image.shape


def test_views_work_and_the_input_is_left_alone():
    bgr = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    view = bgr[:, :, ::-1]
    before = view.copy()
    overlay = draw_overlay(view, one_car(), CITYSCAPES, legend=True)
    assert np.array_equal(view, before)
    assert np.array_equal(overlay, draw_overlay(before, one_car(), CITYSCAPES, legend=True))
    bgr.flags.writeable = False
    draw_overlay(view, one_car(), CITYSCAPES)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((120, 160), np.uint8),
        np.zeros((120, 160, 4), np.uint8),
        np.zeros((120, 160, 3), np.float32),
        np.zeros((160, 120, 3), np.uint8),
        np.zeros((120, 160, 3), np.uint8).tolist(),
        None,
    ],
)
def test_a_wrong_image_is_refused(image):
    with pytest.raises(ImageError, match=r"^image.*must"):
        draw_overlay(image, one_car(), CITYSCAPES)


def test_a_wrong_opacity_is_refused():
    with pytest.raises(ValueError, match=r"opacity 1\.5"):
        draw_overlay(np.zeros((120, 160, 3), np.uint8), one_car(), CITYSCAPES, opacity=1.5)
