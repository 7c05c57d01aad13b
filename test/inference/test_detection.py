"""Detections with whole masks, from network outputs made by hand."""

import pytest
import torch
from torch import nn

from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.detection import detect_from_output
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.panoptic_head import NetworkOutput
from rt_panoptic_core.taxonomy import Taxonomy

# Two things after one stuff class.
TAXONOMY = Taxonomy.from_dict(
    {
        "name": "small",
        "classes": [
            {"name": "road", "thing": False},
            {"name": "person", "thing": True},
            {"name": "car", "thing": True},
        ],
    }
)
PUBLISHED = InferenceConfig.preset("published")


class Network(nn.Module):
    """What detection needs to know of a network."""

    config = NetworkConfig.preset("published", strides=(8, 16, 32))
    taxonomy = TAXONOMY


def outputs(height, width, *, offset=4.0):
    """An output without any detection, every box reaching ``offset`` to each side."""
    sizes = [(height // s, width // s) for s in (8, 16, 32)]
    return NetworkOutput(
        box_logits=[torch.full((1, 2, *size), -10.0) for size in sizes],
        box_offsets=[torch.full((1, 4, *size), offset) for size in sizes],
        centerness=[torch.full((1, 1, *size), 20.0) for size in sizes],
        levelness=torch.zeros(1, 4, height // 4, width // 4),
        semantics=torch.zeros(1, 3, height // 8, width // 8),
    )


def detect(output, size, config=PUBLISHED):
    queries, masks = detect_from_output(output, Network(), config, size)
    return queries, list(masks)


def test_nothing_is_detected_in_nothing():
    queries, masks = detect(outputs(64, 64), (64, 64))
    assert len(queries.scores) == 0
    assert masks == []


def test_one_object_with_its_mask():
    """A car at 24 ... 40: dense boxes of its place are its own, those elsewhere lie at their places."""
    output = outputs(64, 64)
    output.box_logits[1][0, 1, 1, 1] = 3.0
    output.box_offsets[1][0, :, 1, 1] = torch.tensor([8.0, 8, 8, 8])
    # The grid's locations within 16 ... 32 take their boxes from the first level, the others from the
    # third; and the first level's boxes are all the car's.
    output.levelness[0, 1, 4:8, 4:8] = 5
    output.levelness[0, 3] += 1
    for y in range(8):
        for x in range(8):
            cx, cy = 8 * x + 4, 8 * y + 4
            output.box_offsets[0][0, :, y, x] = torch.tensor([cx - 16, cy - 16, 32 - cx, 32 - cy])
    output.semantics[0, 2] = 9
    queries, masks = detect(output, (64, 64))
    assert queries.boxes.tolist() == [[16, 16, 32, 32]]
    assert queries.things.tolist() == [1]
    assert queries.scores.item() == pytest.approx(torch.sigmoid(torch.tensor(3.0)).item())
    (mask,) = masks
    assert mask.dtype == torch.bool
    assert mask.shape == (64, 64)
    # Near the edge the probability falls off to that of the boxes next to it.
    assert mask[18:30, 18:30].all()
    assert not mask[:12].any()
    assert not mask[:, 36:].any()


def test_the_mask_threshold_is_inclusive():
    """M is constant: every dense box is the query, P_sem is one half, and so is the threshold."""
    output = outputs(64, 64)
    output.box_logits[2][0, 0, 0, 0] = 3.0
    for level, stride in enumerate((8, 16, 32)):
        maps = output.box_offsets[level]
        for y in range(maps.shape[2]):
            for x in range(maps.shape[3]):
                cx, cy = stride * x + stride // 2, stride * y + stride // 2
                maps[0, :, y, x] = torch.tensor([cx - 8, cy - 8, 24 - cx, 24 - cy]).float()
    # Levelness says level 3: offsets are interpolated linearly there, so boxes stay equal inside.
    output.levelness[0, 3] = 1
    output.semantics[0, 2] = -1000
    config = InferenceConfig.preset("published", mask_threshold=0.5)
    _, (mask,) = detect(output, (64, 64), config)
    # Locations 18 ... 46 lie between the centres 16 and 48 of level 3.
    assert mask[20:44, 20:44].all()
    config = InferenceConfig.preset("published", mask_threshold=0.5001)
    _, (mask,) = detect(output, (64, 64), config)
    assert not mask.any()


def test_masks_end_with_the_image_not_with_the_padding():
    output = outputs(64, 96)
    output.box_logits[0][0, 0, 2, 2] = 3.0
    queries, (mask,) = detect(output, (50, 90))
    assert mask.shape == (50, 90)
    assert queries.boxes.tolist() == [[16, 16, 24, 24]]
    output.box_logits[0][0, 0, 7, 11] = 4.0
    queries, _ = detect(output, (50, 90))
    # 88 ... 96 and 56 ... 64, clipped to the last pixel of the image.
    assert queries.boxes[0].tolist() == [88, 49, 89, 49]


def test_a_weak_object_is_found_among_thousands_of_strong_candidates():
    """1000 candidates a level take part, not 1000 in all: one large object must not hide a small one."""
    output = outputs(256, 512, offset=1000.0)
    output.box_logits[0][0, 1] = 4.0  # 2048 locations of P3
    output.box_logits[1][0, 1] = 3.0  # 512 of P4
    output.box_logits[2][0, 0, 3, 5] = 0.0
    output.box_offsets[2][0, :, 3, 5] = 5.0
    queries, _ = detect(output, (256, 512))
    people = queries.boxes[queries.things == 0].tolist()
    # Column 5, row 3 of stride 32: (176, 112).
    assert people == [[171, 107, 181, 117]]
    assert queries.scores[queries.things == 0].tolist() == pytest.approx([0.5])


def test_at_most_a_hundred_detections():
    output = outputs(256, 512, offset=3.0)
    output.box_logits[0][0, 0] = torch.linspace(0, 3, 32 * 64).reshape(32, 64)
    queries, masks = detect(output, (256, 512))
    assert len(queries.scores) == len(masks) == 100
    assert (queries.scores.diff() <= 0).all()
    assert queries.scores[0].item() == pytest.approx(torch.sigmoid(torch.tensor(3.0)).item())
