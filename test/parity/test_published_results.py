"""The authors' file gives the authors' results: maps, boxes, classes, scores, masks, semantics."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.dense_boxes import dense_boxes
from rt_panoptic_core.inference.detection import detect_from_output
from rt_panoptic_core.inference.mask_construction import mask_probability, semantic_probability
from rt_panoptic_core.inference.preprocessing import prepare
from rt_panoptic_core.network.official_checkpoint import load_official

# Size of the picture and candidate threshold of each case. 160 x 288 is a multiple of 32 but not of 128:
# there the levels' sizes are rounded up. 150 x 270 is padded to that.
CASES = {
    "whole": (256, 512, 0.06),
    "odd_levels": (160, 288, 0.06),
    "padded": (150, 270, 0.06),
    "few": (128, 256, 0.4),
}


class Outcome(NamedTuple):
    network: torch.nn.Module
    config: InferenceConfig
    output: object
    queries: object
    masks: np.ndarray
    size: tuple
    expected: dict


@pytest.fixture(scope="module")
def network(official_file):
    return load_official(official_file)


@pytest.fixture(scope="module", params=CASES)
def outcome(request, network, picture, golden):
    height, width, threshold = CASES[request.param]
    config = InferenceConfig.preset("published", candidate_threshold=threshold)
    image = torch.from_numpy(picture(height, width)).unsqueeze(0)
    with torch.inference_mode():
        output = network.predict(prepare(image, network))
    queries, masks = detect_from_output(output, network, config, (height, width))
    return Outcome(
        network,
        config,
        output,
        queries,
        np.stack([mask.numpy() for mask in masks]),
        (height, width),
        golden(request.param),
    )


def spread(size, count):
    """``count`` indices spread over ``size`` values (all of them where there are fewer)."""
    return np.arange(count) * np.int64(2654435761) % size if size > count else np.arange(size)


def sample(tensor, expected):
    values = tensor.detach().numpy().ravel()
    return values[spread(values.size, len(expected))]


def grid(outcome):
    height, width = outcome.output.levelness.shape[-2:]
    return height, width


def test_network_outputs(outcome):
    got, expected = outcome.output, outcome.expected
    np.testing.assert_allclose(
        sample(got.semantics, expected["semantics"]), expected["semantics"], atol=2e-3
    )
    np.testing.assert_allclose(
        sample(got.levelness, expected["levelness"]), expected["levelness"], atol=5e-4
    )
    for level in range(5):
        for name in ("box_logits", "centerness"):
            wanted = expected[f"{name}{level}"]
            values = sample(getattr(got, name)[level], wanted)
            np.testing.assert_allclose(values, wanted, atol=1e-3)
        wanted = expected[f"box_offsets{level}"]
        np.testing.assert_allclose(sample(got.box_offsets[level], wanted), wanted, rtol=5e-4)


def test_level_sizes_are_rounded_up(outcome):
    height, width = (-(-side // 32) * 32 for side in outcome.size)
    for level, logits in enumerate(outcome.output.box_logits):
        stride = 8 * 2**level
        assert logits.shape[-2:] == (math.ceil(height / stride), math.ceil(width / stride))
    assert outcome.output.levelness.shape[-2:] == (height // 4, width // 4)
    assert outcome.output.semantics.shape[-2:] == (height // 8, width // 8)


def test_detections(outcome):
    expected = outcome.expected
    assert len(outcome.queries.scores) == len(expected["scores"])
    np.testing.assert_allclose(outcome.queries.scores.numpy(), expected["scores"], atol=1e-4)
    assert outcome.queries.things.tolist() == expected["things"].tolist()
    np.testing.assert_allclose(outcome.queries.boxes.numpy(), expected["boxes"], atol=0.05)


def test_dense_boxes(outcome):
    boxes = dense_boxes(outcome.output.box_offsets, outcome.output.levelness, grid(outcome))[0, 0]
    wanted = outcome.expected["dense"]
    np.testing.assert_allclose(boxes.numpy()[spread(len(boxes), len(wanted))], wanted, atol=0.05)


def test_semantic_probability_of_things(outcome):
    probability = semantic_probability(outcome.output.semantics, grid(outcome))[0].flatten(1)
    wanted = outcome.expected["psem"]
    things = probability[11:19].t().numpy()
    np.testing.assert_allclose(things[spread(len(things), len(wanted))], wanted, atol=5e-4)


def test_mask_probability(outcome):
    dense = dense_boxes(outcome.output.box_offsets, outcome.output.levelness, grid(outcome))[0]
    probability = semantic_probability(outcome.output.semantics, grid(outcome))[0].flatten(1)
    masks = mask_probability(
        outcome.queries.boxes, outcome.queries.things + 11, dense, probability, "giou"
    ).numpy()
    wanted = outcome.expected["mask_probability"]
    places = spread(masks.shape[1], wanted.shape[1])
    np.testing.assert_allclose(masks[:, places], wanted, atol=5e-4)


def test_masks(outcome):
    expected = outcome.expected
    areas = outcome.masks.reshape(len(outcome.masks), -1).sum(axis=1)
    # A pixel whose probability is within rounding of the threshold may fall on either side.
    assert np.abs(areas - expected["mask_areas"]).max() <= 2
    assert (areas > 50).sum() >= 3
    count = math.prod(outcome.size)
    for row, packed in zip(expected["mask_rows"], expected["masks"], strict=True):
        wanted = np.unpackbits(packed, count=count).reshape(outcome.size).astype(bool)
        assert (outcome.masks[row] != wanted).sum() <= 2


def test_semantics_at_full_size(outcome):
    height, width = outcome.size
    padded = [4 * side for side in grid(outcome)]
    logits = F.interpolate(outcome.output.semantics, size=padded, mode="bilinear")
    classes = logits[0, :, :height, :width].argmax(dim=0).numpy()
    counts = np.bincount(classes.ravel(), minlength=19)
    # Two classes may be within rounding of each other.
    assert np.abs(counts - outcome.expected["class_counts"]).sum() <= 20
    wanted = outcome.expected["class_rows"]
    assert (classes[::37] != wanted).mean() < 1e-3
