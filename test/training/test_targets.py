"""Target assignment against values worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rt_panoptic_core.datasets.batch import (
    IGNORED_ROW,
    box_instance_map,
    collate,
    encode_sample,
)
from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample
from rt_panoptic_core.errors import ConfigError, DatasetError
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.targets import BACKGROUND, IGNORED, assign_targets, centerness_of

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, CAR, PERSON = 0, 13, 11
CAR_THING, PERSON_THING = 2, 0  # places in thing_ids: person, rider, car, …


def make_sample(height=64, width=64, instances=(), **changes):
    """Road everywhere; ``instances``: (id, class, (x1, y1, x2, y2), crowd), painted in order."""
    semantic = np.full((height, width), ROAD, np.uint8)
    instance = np.zeros((height, width), np.int32)
    annotations = []
    for number, class_id, (x1, y1, x2, y2), *crowd in instances:
        semantic[y1:y2, x1:x2] = class_id
        instance[y1:y2, x1:x2] = number
        annotations.append(InstanceAnnotation(number, class_id, bool(crowd and crowd[0])))
    values = {
        "name": "sample",
        "image": np.zeros((height, width, 3), np.uint8),
        "semantic": semantic,
        "instance": instance,
        "instances": tuple(annotations),
        **changes,
    }
    return PanopticSample(**values)


def targets_of(sample, strides=(8, 16), bounds=(24.0,), **options):
    batch = collate([encode_sample(sample, CITYSCAPES, **options)])
    height, width = batch.rows.shape[1:]
    shapes = [(-(-height // s), -(-width // s)) for s in strides]
    return assign_targets(batch, shapes, strides, bounds), shapes


def test_offsets_centerness_and_level_of_one_box():
    # A car over x 8 … 31, y 8 … 23: its box is (8, 8, 32, 24).
    targets, shapes = targets_of(make_sample(instances=[(7, CAR, (8, 8, 32, 24))]))
    labels = targets.labels[0, :64].view(*shapes[0])
    # Stride 8: locations at 4, 12, 20, 28, …; inside x: 12, 20, 28, inside y: 12, 20.
    expected = torch.full((8, 8), BACKGROUND)
    expected[1:3, 1:4] = CAR_THING
    assert torch.equal(labels, expected)
    offsets = targets.offsets[0, :64].view(*shapes[0], 4)
    assert offsets[1, 1].tolist() == [4, 4, 20, 12]  # (12 - 8, 12 - 8, 32 - 12, 24 - 12)
    assert offsets[2, 3].tolist() == [20, 12, 4, 4]
    # sqrt(4/20 * 4/12)
    centerness = targets.centerness[0, :64].view(*shapes[0])
    assert centerness[1, 1].item() == pytest.approx(math.sqrt(4 / 20 * 4 / 12))
    assert centerness[1, 2].item() == pytest.approx(math.sqrt(12 / 12 * 4 / 12))
    # No location has an offset above 24, so stride 16 (locations 8, 24, …) has none of it.
    assert (targets.labels[0, 64:] == BACKGROUND).all()
    assert targets.owners[0, :64].view(8, 8)[1, 1] == 0


def test_bounds_split_an_object_over_two_levels_and_a_tie_goes_to_the_finer_one():
    # Box (0, 0, 48, 16). At stride 8 and x = 4, 12, 20, 28, …: max(l, r) is 44, 36, 28, 28, …
    targets, shapes = targets_of(make_sample(instances=[(1, CAR, (0, 0, 48, 16))]), bounds=(28.0,))
    fine = targets.labels[0, :64].view(*shapes[0])[0, :6]
    assert fine.tolist() == [-1, -1, CAR_THING, CAR_THING, -1, -1]  # max 44 36 28 28 36 44
    # Stride 16 has x = 8, 24, 40: max 40, 24, 40.
    coarse = targets.labels[0, 64:].view(*shapes[1])[0, :3]
    assert coarse.tolist() == [CAR_THING, -1, CAR_THING]
    # Levelness at x = 2, 6, …: max(x, 48 - x) <= 28 from x = 20 to 28, so at 22 and 26.
    levelness = targets.levelness[0, 0, :13]
    assert levelness.tolist() == [2, 2, 2, 2, 2, 1, 1, 2, 2, 2, 2, 2, 0]


def test_void_crowd_and_things_without_an_id_are_ignored():
    sample = make_sample(
        instances=[(1, CAR, (0, 0, 16, 16)), (26, CAR, (32, 0, 48, 16), True)],
    )
    sample.semantic[48:, :16] = 255
    sample.semantic[48:, 32:48] = PERSON  # nobody's person
    targets, shapes = targets_of(sample)
    labels = targets.labels[0, :64].view(*shapes[0])
    assert (labels[:2, :2] == CAR_THING).all()
    assert (labels[:2, 4:6] == IGNORED).all()
    assert (labels[6:, :2] == IGNORED).all()
    assert (labels[6:, 4:6] == IGNORED).all()
    assert (labels[:, 2:4] == BACKGROUND).all()
    assert (targets.levelness[0, :4, 8:12] == IGNORED).all()
    assert (targets.rows[0, :4, 8:12] == IGNORED).all()
    assert (targets.rows[0, :4, :4] == 0).all()


def test_semantics_only_data_teaches_nothing_about_instances():
    sample = make_sample(has_instances=False)
    sample.semantic[:32] = CAR
    targets, _ = targets_of(sample)
    assert (targets.labels == IGNORED).all()
    assert (targets.levelness == IGNORED).all()


def test_weak_supervision_takes_the_smallest_box():
    # The mask of the large car is only its left half; its box reaches over the person.
    sample = make_sample(instances=[(1, CAR, (0, 0, 64, 32)), (2, PERSON, (32, 8, 40, 24))])
    sample.semantic[:4, 40:56] = ROAD
    sample.instance[:4, 40:56] = 0
    strong, shapes = targets_of(sample)
    weak, _ = targets_of(sample, boxes_only=True)
    at = lambda t: t.labels[0, :64].view(*shapes[0])  # noqa: E731
    # (44, 4): row 0 is y = 4, just below the hole, so both call it car: use the levelness grid's y = 2.
    assert strong.rows[0, 0, 11] == BACKGROUND
    assert weak.rows[0, 0, 11] == 0
    # (36, 12) lies in both boxes.
    assert at(weak)[1, 4] == PERSON_THING
    assert weak.offsets[0, :64].view(8, 8, 4)[1, 4].tolist() == [4, 4, 4, 12]


def test_box_map_paints_small_over_large_whatever_the_order():
    boxes = np.array([[1, 1, 3, 3], [0, 0, 4, 4]], np.float32)
    expected = [[2, 2, 2, 2], [2, 1, 1, 2], [2, 1, 1, 2], [2, 2, 2, 2]]
    assert box_instance_map(boxes, 4, 4).tolist() == expected
    assert box_instance_map(boxes[::-1], 4, 4)[1, 1] == 2


def test_centerness_is_one_in_the_middle_and_zero_on_the_edge():
    offsets = torch.tensor([[5.0, 3, 5, 3], [0, 3, 10, 3], [0, 0, 0, 0]])
    assert centerness_of(offsets).tolist() == [1, 0, 0]


def test_locations_beyond_the_image_are_background():
    # 96 rows: stride 64 has ceil(96 / 64) = 2 rows of locations, at y = 32 and 96; the second is outside.
    sample = make_sample(96, 64, instances=[(1, CAR, (0, 0, 64, 96))])
    targets, _ = targets_of(sample, strides=(8, 64), bounds=(10.0,))
    assert targets.labels[0, 96:].tolist() == [CAR_THING, BACKGROUND]


def test_empty_and_all_void_images():
    empty, _ = targets_of(make_sample())
    assert (empty.labels == BACKGROUND).all()
    assert (empty.levelness == 0).all()
    void = make_sample()
    void.semantic[:] = 255
    nothing, _ = targets_of(void)
    assert (nothing.labels == IGNORED).all()


def test_batch_pads_with_void_semantics_and_no_instances():
    samples = [
        make_sample(32, 64, [(3, CAR, (0, 0, 8, 8))], name="a"),
        make_sample(40, 32, name="b"),
    ]
    batch = collate([encode_sample(s, CITYSCAPES) for s in samples])
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.names == ("a", "b")
    assert (batch.semantic[0, 32:] == 255).all()
    assert (batch.rows[0, 32:] == 0).all()
    assert batch.boxes[0].tolist() == [[0, 0, 8, 8]]
    assert batch.labels.tolist() == [[CAR_THING], [-1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((8, 9, 3), np.uint8)}, "image is 9x8"),
        ({"semantic": np.full((64, 64), 19, np.uint8)}, "class id 19"),
        ({"instance": np.full((64, 64), 5, np.int32)}, "instance id 5"),
        ({"instances": (InstanceAnnotation(1, ROAD),)}, "not a thing"),
    ],
)
def test_bad_samples_are_refused_by_name(change, message):
    with pytest.raises(DatasetError, match="sample.*" + message):
        encode_sample(replace(make_sample(), **change), CITYSCAPES)


def test_wrong_bounds_are_refused():
    with pytest.raises(ConfigError, match="1 rising"):
        targets_of(make_sample(), bounds=(64.0, 128.0))


def test_ignored_pixels_survive_encoding():
    sample = make_sample(instances=[(9, CAR, (0, 0, 8, 8), True)])
    encoded = encode_sample(sample, CITYSCAPES)
    assert (encoded.rows[:8, :8] == IGNORED_ROW).all()
    assert len(encoded.boxes) == 0
