import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.inference.config import InferenceConfig, Thresholds
from rt_panoptic_core.inference.end_to_end import SEGMENT_COLUMNS, EndToEnd
from rt_panoptic_core.inference.preprocessing import padded_size, prepare
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy

CITYSCAPES = Taxonomy.load("cityscapes")
SMALL = {
    "backbone": "resnet18",
    "pyramid_channels": 8,
    "semantic_tower_channels": 8,
    "box_tower_channels": 8,
    "tower_depth": 1,
}


def make_network(**changes):
    """Random weights that see a little of everything, cars most."""
    torch.manual_seed(1)
    network = PanopticNetwork(NetworkConfig.preset("paper", **SMALL, **changes), CITYSCAPES).eval()
    head = network.head
    with torch.no_grad():
        head.semantics.weight.normal_(std=0.3)
        head.semantics.bias[13] = 2.0
        head.box_logits.weight.normal_(std=0.5)
        head.box_logits.bias[2] = 0.0
        head.box_offsets.weight.normal_(std=0.08)
        if head.levelness is not None:
            head.levelness.weight.normal_(std=0.3)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def network():
    return make_network()


CONFIG = InferenceConfig.preset(
    "paper", score_threshold=0.1, mask_threshold=0.05, stuff_area_limit=0
)


def image(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, -(-height // 16), -(-width // 16), generator=generator) * 255
    full = coarse.repeat_interleave(16, 2).repeat_interleave(16, 3)[:, :, :height, :width]
    return full.permute(0, 2, 3, 1).to(torch.uint8).contiguous()


def run(network, picture, config=CONFIG, **thresholds):
    height, width = picture.shape[1:3]
    values = Thresholds(
        **{
            **dict(
                zip(
                    ("score", "mask", "overlap", "stuff_area"),
                    config.thresholds.as_tuple(),
                    strict=True,
                )
            ),
            **thresholds,
        }
    )
    module = EndToEnd(network, config, (height, width))
    with torch.inference_mode():
        return module(picture, torch.tensor(values.as_tuple()))


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (1, 1), (31, 200), (128, 128)])
def test_shapes_follow_the_image(network, size):
    output = run(network, image(*size))
    assert output.semantic.shape == output.instance.shape == output.confidence.shape == (1, *size)
    assert {output.semantic.dtype, output.instance.dtype, output.confidence.dtype} == {torch.uint8}
    assert output.segments.shape == (1, 100, len(SEGMENT_COLUMNS))
    assert output.segments.dtype == torch.float32


def test_map_and_table_agree(network):
    output = run(network, image(128, 192), overlap=0.0)
    segments = output.segments[0]
    valid = segments[:, 0] > 0
    assert valid.sum() >= 2
    instance, semantic = output.instance[0].long(), output.semantic[0].long()
    assert set(instance.unique().tolist()) - {0} <= {r + 1 for r in valid.nonzero()[:, 0].tolist()}
    for row in valid.nonzero()[:, 0].tolist():
        _, class_id, score, area, x1, y1, x2, y2 = segments[row].tolist()
        assert int(class_id) in CITYSCAPES.thing_ids
        assert 0.1 <= score <= 1
        assert (semantic[instance == row + 1] == int(class_id)).all()
        # Counted on the grid of 4 x 4 pixels: right to a rim of the mask.
        assert abs((instance == row + 1).sum().item() - area) < 0.5 * area + 64
        assert 0 <= x1 <= x2 <= 191
        assert 0 <= y1 <= y2 <= 127
    assert ((semantic < 19) | (semantic == 255)).all()
    # Rows come by falling score.
    scores = segments[:, 2]
    assert (scores.diff() <= 0).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.sampled_from([(64, 96), (65, 97), (1, 1), (128, 192)]),
    preset=st.sampled_from(["paper", "published"]),
    mask=st.sampled_from([0.0, 0.02, 0.1, 0.3, 1.0]),
    overlap=st.sampled_from([0.0, 0.5]),
    order=st.sampled_from(["probability", "score"]),
)
def test_the_sparse_form_gives_the_same(network, seed, size, preset, mask, overlap, order):
    values = {"score_threshold": 0.1, "stuff_area_limit": 64, "fusion_order": order}
    config = InferenceConfig.preset(preset, **values)
    picture = image(*size, seed=seed)
    thresholds = torch.tensor([0.1, mask, overlap, 64.0])
    with torch.inference_mode():
        whole, sparse = (
            EndToEnd(network, config, size, sparse=sparse)(picture, thresholds)
            for sparse in (False, True)
        )
    for name in ("semantic", "instance", "segments"):
        torch.testing.assert_close(getattr(sparse, name), getattr(whole, name), atol=0, rtol=0)
    difference = sparse.confidence.int() - whole.confidence.int()
    assert difference.abs().max() <= 1


def test_the_sparse_form_leaves_out_what_it_can(network):
    """Where no thing is near and the classes agree, neither masks nor pixels are computed."""
    config = InferenceConfig.from_dict(
        {**CONFIG.to_dict(), "candidates": 200, "candidates_per_level": 200}
    )
    whole, sparse = (EndToEnd(network, config, (256, 512), sparse=kind) for kind in (False, True))
    thresholds = torch.tensor([0.1, 0.3, 0.5, 0.0])
    with torch.inference_mode():
        output = whole.predict(whole.prepare(image(256, 512)))
        output.semantics.zero_()
        output.semantics[:, 0] = 9.0
        # Cars in a part of a fiftieth.
        output.semantics[:, 13, 16:24, 32:52] = 18.0
        with Largest() as everything:
            expected = whole.assemble(output, thresholds)
        with Largest() as little:
            result = sparse.assemble(output, thresholds)
    assert torch.equal(result.semantic, expected.semantic)
    assert torch.equal(result.instance, expected.instance)
    assert {0, 13} <= set(result.semantic.unique().tolist())
    # What is left as the largest are the probabilities on the grid: the masks of all queries would be five
    # times as large, the pixels of all classes sixteen times.
    grid = 64 * 128
    assert everything.elements >= 100 * grid
    assert little.elements <= 2 * 19 * grid


def test_thresholds_change_without_building_anew(network):
    module = EndToEnd(network, CONFIG, (128, 192))
    picture = image(128, 192)
    with torch.inference_mode():
        many = module(picture, torch.tensor([0.1, 0.05, 0.5, 0.0]))
        none = module(picture, torch.tensor([1.0, 0.05, 0.5, 0.0]))
        tight = module(picture, torch.tensor([0.1, 0.2, 0.0, 0.0]))
        loose = module(picture, torch.tensor([0.1, 0.1, 0.0, 0.0]))
        nothing = module(picture, torch.tensor([1.0, 0.05, 0.5, 1e9]))
    assert many.instance.any()
    assert not none.instance.any()
    assert not none.segments[..., 0].any()
    assert (tight.instance > 0).sum() < (loose.instance > 0).sum()
    things = torch.zeros(256, dtype=torch.bool)
    things[list(CITYSCAPES.thing_ids)] = True
    # All stuff is below the limit; things without an instance keep their class.
    assert set(nothing.semantic.unique().tolist()) <= {*CITYSCAPES.thing_ids, 255}
    assert torch.equal(
        nothing.semantic[things[none.semantic.long()]], none.semantic[things[none.semantic.long()]]
    )


def test_without_instances_the_map_is_the_argmax_of_the_semantics(network):
    picture = image(64, 96)
    output = run(network, picture, score=1.0)
    with torch.inference_mode():
        logits = network(picture.float().permute(0, 3, 1, 2)).semantics
        full = torch.nn.functional.interpolate(logits, size=(64, 96), mode="bilinear")
    # Two classes may be within rounding of each other.
    assert (output.semantic[0] != full[0].argmax(dim=0)).float().mean() < 1e-3


def test_confidence_is_the_probability_of_the_class(network):
    output = run(network, image(64, 96), score=1.0)
    picture = image(64, 96)
    with torch.inference_mode():
        logits = network(picture.float().permute(0, 3, 1, 2)).semantics
    highest = logits.softmax(dim=1).max(dim=1, keepdim=True).values
    full = torch.nn.functional.interpolate(highest, size=(64, 96), mode="bilinear")[0, 0] * 255
    assert (output.confidence[0].float() - full).abs().max() <= 1


def test_the_same_image_gives_the_same_result(network):
    first, second = run(network, image(64, 96)), run(network, image(64, 96))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "changes",
    [{"levelness": False}, {"two_towers": False}, {"semantic_stride": 8}, {"strides": [8, 16, 32]}],
)
def test_ablations_run(changes):
    output = run(make_network(**changes), image(64, 96))
    assert output.semantic.shape == (1, 64, 96)


@pytest.mark.parametrize(
    "changes",
    [{"correlation": "giou"}, {"fusion_order": "score"}, {"max_instances": 7}, {"candidates": 10}],
)
def test_choices_of_the_method_run(network, changes):
    config = InferenceConfig.from_dict({**CONFIG.to_dict(), **changes})
    output = run(network, image(64, 96), config)
    assert output.segments.shape[1] == config.max_instances
    assert output.instance.max() <= config.max_instances


def test_an_image_without_anything_in_it(network):
    for value in (0, 255):
        output = run(network, torch.full((1, 64, 64, 3), value, dtype=torch.uint8))
        assert torch.isfinite(output.segments).all()


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-1, 5), (20_000, 20_000)])
def test_a_wrong_size_is_refused(network, size):
    with pytest.raises(ConfigError, match=f"{size[0]}x{size[1]}"):
        EndToEnd(network, CONFIG, size)


def test_padding_is_the_mean_colour_at_the_right_and_the_bottom(network):
    picture = image(33, 40)
    prepared = prepare(picture, network)
    assert prepared.shape == (1, 3, 64, 64)
    assert prepared.dtype == torch.float32
    assert not prepared[:, :, 33:].any()
    assert not prepared[:, :, :, 40:].any()
    expected = network.normalize(picture.float().permute(0, 3, 1, 2))
    assert torch.equal(prepared[:, :, :33, :40], expected)


def test_sizes_are_rounded_up():
    assert padded_size((1, 32), 32) == (32, 32)
    assert padded_size((1024, 2048), 32) == (1024, 2048)
    assert padded_size((33, 1000), 32) == (64, 1024)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask_threshold": 1.5}, "mask_threshold 1.5"),
        ({"score_threshold": float("nan")}, "score_threshold nan"),
        ({"max_instances": 0}, "max_instances 0"),
        ({"max_instances": 255}, "max_instances 255"),
        ({"candidates": 0}, "candidates 0"),
        ({"stuff_area_limit": -1}, "stuff_area_limit -1"),
        ({"correlation": "diou"}, "correlation 'diou'"),
        ({"fusion_order": "area"}, "fusion_order 'area'"),
        ({"sigma": 0.3}, "unknown key 'sigma'"),
    ],
)
def test_wrong_settings_are_explained(changes, words):
    with pytest.raises(ConfigError, match=words):
        InferenceConfig.preset("paper", **changes)


def test_presets():
    paper, published = InferenceConfig.preset("paper"), InferenceConfig.preset("published")
    assert (paper.correlation, paper.mask_threshold, paper.candidate_threshold) == (
        "iou",
        0.3,
        0.05,
    )
    assert (published.correlation, published.mask_threshold) == ("giou", 0.4)
    assert published.candidate_threshold == 0.06
    for config in (paper, published):
        assert (config.nms_threshold, config.global_nms_threshold) == (0.6, 0.97)
        assert (config.candidates_per_level, config.max_instances) == (1000, 100)
        assert InferenceConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="one of paper, published"):
        InferenceConfig.preset("best")


@pytest.mark.parametrize(
    "values",
    [(1.1, 0, 0, 0), (0, -0.1, 0, 0), (0, 0, math.nan, 0), (0, 0, 0, -1), (0, 0, 0, math.nan)],
)
def test_thresholds_are_checked(values):
    with pytest.raises(ConfigError):
        Thresholds(*values)


def test_numbers_that_are_none_spoil_only_their_own_place(network):
    """A layer that overflowed in 16 bits: no exception, and what is far from it stays."""
    module = EndToEnd(network, CONFIG, (128, 192))
    thresholds = torch.tensor([0.1, 0.05, 0.0, 0.0])
    with torch.inference_mode():
        output = module.predict(module.prepare(image(128, 192)))
        whole = module.assemble(output, thresholds)
        for maps in (output.box_logits, output.box_offsets, output.centerness):
            maps[0][..., 0, 0] = float("nan")
        output.semantics[..., 0, 0] = float("nan")
        spoilt = module.assemble(output, thresholds)
    assert ((spoilt.semantic < 19) | (spoilt.semantic == 255)).all()
    same = spoilt.semantic[0, 64:, 96:] == whole.semantic[0, 64:, 96:]
    assert same.float().mean() > 0.9
    valid = spoilt.segments[0][spoilt.segments[0, :, 0] > 0]
    assert torch.isfinite(valid).all()


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(tensor, torch.Tensor):
                # A view that repeats its elements takes no memory.
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // 4)
        return result


@pytest.mark.parametrize("order", ["probability", "score"])
def test_no_map_of_all_queries_exists_at_full_size(network, order):
    config = InferenceConfig.from_dict(
        {**CONFIG.to_dict(), "fusion_order": order, "candidates": 200, "candidates_per_level": 200}
    )
    module = EndToEnd(network, config, (256, 512))
    with torch.inference_mode():
        output = module.predict(module.prepare(image(256, 512)))
        with Largest() as largest:
            module.assemble(output, torch.tensor(config.thresholds.as_tuple()))
    queries, grid = 100, 64 * 128
    assert largest.elements >= queries * grid
    # Semantics are the largest thing at full size: 19 maps, not 100.
    # The squares between locations are one row and one column more than the locations.
    assert largest.elements <= 19 * 65 * 129 * 16
