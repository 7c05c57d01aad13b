import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.panoptic_head import (
    PanopticHead,
    concatenated_convolution,
    global_convolution,
)

SMALL = {"pyramid_channels": 8, "semantic_tower_channels": 16, "box_tower_channels": 8}


def pyramid(channels, height=32, width=32, seed=0):
    """Features of the levels of an image of height x width, sizes rounded up."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(1, channels, -(-height // s), -(-width // s), generator=generator)
        for s in (8, 16, 32, 64, 128)
    ]


@pytest.fixture
def head():
    torch.manual_seed(0)
    return PanopticHead(NetworkConfig.preset("published", **SMALL, tower_depth=1), 3, 7)


def layers(tower, kind):
    return [module for module in tower if isinstance(module, kind)]


def test_published_towers():
    with torch.device("meta"):
        head = PanopticHead(NetworkConfig.preset("published"), 8, 19)
    for tower, inputs, width, groups in (
        (head.semantic_tower, 256, 128, 16),
        (head.box_tower, 256, 256, 32),
    ):
        convolutions = layers(tower, nn.Conv2d)
        assert [c.in_channels for c in convolutions] == [inputs, *[width] * 3]
        assert all(c.out_channels == width and c.kernel_size == (3, 3) for c in convolutions)
        assert all(c.bias is not None for c in convolutions)
        assert [n.num_groups for n in layers(tower, nn.GroupNorm)] == [groups] * 4
        assert len(layers(tower, nn.ReLU)) == 4
    assert head.semantics.weight.shape == (19, 640, 3, 3)
    assert head.levelness.weight.shape == (6, 1280, 3, 3)
    assert head.box_logits.weight.shape == (8, 128, 3, 3)
    assert head.box_offsets.weight.shape == (4, 256, 3, 3)
    assert head.centerness.weight.shape == (1, 256, 3, 3)


@pytest.mark.parametrize(("preset", "stride"), [("paper", 4), ("published", 8)])
def test_grids_of_the_global_maps(preset, stride):
    head = PanopticHead(NetworkConfig.preset(preset, **SMALL, tower_depth=1), 3, 7)
    output = head(pyramid(8, 160, 288))
    assert output.levelness.shape == (1, 6, 40, 72)
    assert output.semantics.shape == (1, 7, 160 // stride, 288 // stride)
    assert [tuple(x.shape[1:]) for x in output.box_offsets] == [
        (4, 20, 36),
        (4, 10, 18),
        (4, 5, 9),
        (4, 3, 5),
        (4, 2, 3),
    ]
    assert {x.shape[1] for x in output.box_logits} == {3}
    assert {x.shape[1] for x in output.centerness} == {1}


def test_global_maps_equal_the_plain_form(head):
    """Resize, concatenate, convolve: what the paper says and the published code does."""
    features = pyramid(8, 160, 288)
    output = head(features)
    boxes = [head.box_tower(f) for f in features]
    semantics = [head.semantic_tower(f) for f in features]
    plain = concatenated_convolution(boxes, head.levelness, (40, 72))
    torch.testing.assert_close(output.levelness, plain, atol=1e-5, rtol=0)
    plain = concatenated_convolution(semantics, head.semantics, (20, 36))
    torch.testing.assert_close(output.semantics, plain, atol=1e-5, rtol=0)


@settings(max_examples=30)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    outputs=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_the_identity_holds_for_every_size(sizes, size, outputs, seed):
    generator = torch.Generator().manual_seed(seed)
    features = [
        torch.randn(1, index + 1, *s, generator=generator, dtype=torch.float64)
        for index, s in enumerate(sizes)
    ]
    channels = sum(f.shape[1] for f in features)
    conv = nn.Conv2d(channels, outputs, 3, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        fast = global_convolution(features, conv, size)
        plain = concatenated_convolution(features, conv, size)
    torch.testing.assert_close(fast, plain, atol=1e-12, rtol=1e-12)


def test_a_worked_example_of_the_global_convolution():
    """One level of 1x1, a kernel of ones: each place of 2x3 counts its neighbours within the map."""
    conv = nn.Conv2d(1, 1, 3, 1, 1)
    with torch.no_grad():
        conv.weight.fill_(1)
        conv.bias.fill_(0.5)
        result = global_convolution([torch.ones(1, 1, 1, 1)], conv, (2, 3))
    assert result[0, 0].tolist() == [[4.5, 6.5, 4.5], [4.5, 6.5, 4.5]]


def test_centerness_and_offsets_come_from_the_box_tower_classes_from_the_semantic_tower(head):
    features = pyramid(8)
    before = head(features)
    with torch.no_grad():
        head.semantic_tower[0].weight.mul_(-1)
    after = head(features)
    assert torch.equal(before.centerness[0], after.centerness[0])
    assert torch.equal(before.box_offsets[0], after.box_offsets[0])
    assert torch.equal(before.levelness, after.levelness)
    assert not torch.equal(before.box_logits[0], after.box_logits[0])
    assert not torch.equal(before.semantics, after.semantics)
    with torch.no_grad():
        head.box_tower[0].weight.mul_(-1)
    last = head(features)
    assert not torch.equal(after.centerness[0], last.centerness[0])
    assert not torch.equal(after.box_offsets[0], last.box_offsets[0])
    assert not torch.equal(after.levelness, last.levelness)
    assert torch.equal(after.box_logits[0], last.box_logits[0])


def test_offsets_are_pixels_exp_of_a_scaled_and_clamped_number(head):
    """exp(scale_l * x), without the stride; at most 10 000."""
    with torch.no_grad():
        head.box_offsets.weight.zero_()
        head.box_offsets.bias.copy_(torch.tensor([0.0, math.log(10), -1.0, 8.0]))
        head.offset_scales.copy_(torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0]))
        offsets = [x[0, :, 0, 0] for x in head(pyramid(8)).box_offsets]
    expected = [
        [1, 10, math.exp(-1), math.exp(8)],
        [1, 100, math.exp(-2), 10_000],
        [1, math.sqrt(10), math.exp(-0.5), math.exp(4)],
        [1, 10, math.exp(-1), math.exp(8)],
        [1, 1000, math.exp(-3), 10_000],
    ]
    torch.testing.assert_close(torch.stack(offsets), torch.tensor(expected), rtol=1e-5, atol=0)


def test_one_tower_serves_both():
    head = PanopticHead(
        NetworkConfig.preset("paper", **SMALL, tower_depth=2, two_towers=False), 3, 7
    )
    assert head.semantic_tower is None
    assert head.box_logits.in_channels == 8
    assert head.semantics.in_channels == 40
    output = head(pyramid(8))
    assert output.semantics.shape == (1, 7, 8, 8)


def test_levelness_can_be_left_out():
    head = PanopticHead(NetworkConfig.preset("paper", **SMALL, levelness=False), 3, 7)
    assert head.levelness is None
    assert head(pyramid(8)).levelness is None


def test_a_fresh_head_gives_boxes_of_each_levels_range_and_few_detections():
    output = PanopticHead(NetworkConfig.preset("paper"), 8, 19)(pyramid(256, 64, 64))
    for stride, offsets, logits in zip(
        (8, 16, 32, 64, 128), output.box_offsets, output.box_logits, strict=True
    ):
        assert offsets.median().item() == pytest.approx(8 * stride, rel=0.5)
        assert logits.sigmoid().mean().item() < 0.05
