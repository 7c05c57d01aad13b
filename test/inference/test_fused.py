"""Triton kernels against the plain forms: on the GPU if there is one, else in Triton's interpreter."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    # Read when Triton and kernels are imported.
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="triton is not installed (CUDA builds of PyTorch bring it)")

from torch import nn  # noqa: E402

from rt_panoptic_core.engines.graph import fold_batch_norm  # noqa: E402
from rt_panoptic_core.inference.boxes import box_iou  # noqa: E402
from rt_panoptic_core.inference.config import InferenceConfig  # noqa: E402
from rt_panoptic_core.inference.end_to_end import EndToEnd  # noqa: E402
from rt_panoptic_core.inference.fused import layers, mobilenet, network  # noqa: E402
from rt_panoptic_core.inference.fused.end_to_end import FusedEndToEnd  # noqa: E402
from rt_panoptic_core.inference.fused.suppression import suppressed_scores  # noqa: E402
from rt_panoptic_core.inference.query_selection import (  # noqa: E402
    Detected,
    fixed_suppression,
    select_candidates,
    select_candidates_at_once,
)
from rt_panoptic_core.network.config import NetworkConfig  # noqa: E402
from rt_panoptic_core.network.locations import grid_locations  # noqa: E402
from rt_panoptic_core.network.panoptic_head import NetworkOutput, global_convolution  # noqa: E402
from rt_panoptic_core.network.panoptic_network import PanopticNetwork  # noqa: E402
from rt_panoptic_core.taxonomy import Taxonomy  # noqa: E402

TAXONOMY = Taxonomy.load("cityscapes")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    with torch.inference_mode():
        yield
    torch.backends.cudnn.allow_tf32 = before


def random_map(channels, height, width):
    values = torch.randn(1, channels, height, width, device=DEVICE)
    return values.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [96, 256, 16])
@pytest.mark.parametrize("size", [(20, 30), (1, 1), (64, 200)])
def test_group_norm(channels, size):
    x = random_map(channels, *size) * 2 + 1
    bias, weight, shift = torch.randn(3, channels, device=DEVICE)
    expected = F.group_norm(x + bias.reshape(1, -1, 1, 1), channels // 8, weight, shift, 1e-5)
    found = layers.group_norm_relu(x, bias, weight, shift, 8, 1e-5)
    torch.testing.assert_close(found, F.relu(expected), atol=2e-5, rtol=2e-5)


def test_pooling():
    x = random_map(96, 17, 24)
    found = layers.max_pool(x)
    torch.testing.assert_close(found, F.max_pool2d(x, 3, 2, 1), atol=0, rtol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_adding_to_a_map():
    x, above, bias = random_map(24, 8, 12), random_map(24, 4, 6), torch.randn(24, device=DEVICE)
    biased = x + bias.reshape(1, -1, 1, 1)
    torch.testing.assert_close(layers.add_to_map(x.clone(), bias), biased)
    expected = biased + F.interpolate(above, size=(8, 12))
    torch.testing.assert_close(layers.add_to_map(x, bias, above), expected)


def assert_rectified(found, expected):
    """``found`` is ReLU6 of ``expected``, of which a share lies beyond either limit."""
    assert (expected < 0).any()
    assert (expected > 6).any()
    torch.testing.assert_close(found, F.relu6(expected), atol=2e-5, rtol=2e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("tile", mobilenet._DEPTHWISE_TILES)
@pytest.mark.parametrize(("stride", "relu6"), [(1, True), (2, False)])
@pytest.mark.parametrize(
    ("channels", "size"), [(144, (9, 35)), (64, (12, 16)), (32, (6, 33)), (24, (1, 1))]
)
def test_depthwise_convolution(monkeypatch, tile, stride, channels, size, relu6):
    monkeypatch.setattr(mobilenet, "_DEPTHWISE_TILES", (tile,))
    # Where there is one pixel alone, it lies within both limits: a bias takes channels beyond them.
    x = random_map(channels, *size) * 3 + 1
    conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, device=DEVICE)
    conv.weight.normal_()
    conv.bias.normal_(std=4)
    taps = conv.weight.flatten(1).t().contiguous()
    found = mobilenet.depthwise(x, taps, conv.bias, stride, relu6)
    assert_rectified(found, conv(F.relu6(x) if relu6 else x))


@pytest.mark.parametrize("tile", mobilenet._POINTWISE_TILES)
@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize(
    ("inputs", "outputs", "size"),
    [(16, 96, (9, 15)), (144, 24, (7, 5)), (24, 144, (3, 43)), (64, 80, (1, 1))],
)
def test_pointwise_convolution(monkeypatch, tile, added, inputs, outputs, size):
    monkeypatch.setattr(mobilenet, "_POINTWISE_TILES", (tile,))
    compare_pointwise(inputs, outputs, size, added)


@pytest.mark.parametrize("added", [True, False])
def test_pointwise_convolution_by_torch(monkeypatch, added):
    monkeypatch.setattr(mobilenet, "multiplies", lambda _: False)
    compare_pointwise(16, 96, (9, 15), added)


def compare_pointwise(inputs, outputs, size, added):
    x, shortcut = random_map(inputs, *size), random_map(outputs, *size) * 3
    conv = nn.Conv2d(inputs, outputs, 1, device=DEVICE)
    conv.weight.normal_()
    conv.bias.normal_(std=4)
    expected = conv(x) + shortcut if added else conv(x)
    arguments = (x, conv.weight, conv.bias, shortcut if added else None)
    torch.testing.assert_close(mobilenet.pointwise(*arguments), expected, atol=2e-5, rtol=2e-5)
    assert_rectified(mobilenet.pointwise(*arguments, relu6=True), expected)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(17, 31), (16, 24), (1, 1)])
def test_the_first_convolution(channels, size):
    x = random_map(channels, *size) * 2
    conv = nn.Conv2d(channels, 32, 3, 2, 1, device=DEVICE)
    conv.weight.normal_()
    conv.bias.normal_(std=4)
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    assert_rectified(mobilenet.stem(x, weight, conv.bias), conv(x))


@pytest.mark.parametrize("bgr", [True, False])
def test_the_image(bgr):
    image = torch.randint(0, 256, (1, 50, 70, 3), dtype=torch.uint8, device=DEVICE)
    mean, std = torch.rand(2, 1, 3, 1, 1, device=DEVICE) * 5 + 1
    found = layers.normalised_image(image, mean, std, (64, 96), 4, bgr, torch.float32)
    pixels = image.float().permute(0, 3, 1, 2)
    expected = F.pad(((pixels.flip(1) if bgr else pixels) - mean) / std, (0, 26, 0, 14, 0, 1))
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("outputs", [6, 19])
@pytest.mark.parametrize("size", [(16, 24), (8, 12)])
def test_global_predictions(outputs, size):
    features = [random_map(16, *level) for level in ((8, 12), (4, 6), (2, 3), (1, 2))]
    conv = nn.Conv2d(64, outputs, 3, 1, 1, device=DEVICE)
    taps = []
    for feature, weight in zip(features, conv.weight.chunk(4, dim=1), strict=True):
        weight = weight.permute(2, 3, 0, 1).reshape(-1, 16, 1, 1)
        found = F.conv2d(feature, F.pad(weight, (0, 0, 0, 0, 0, 0, 0, 5)))
        taps.append(found.contiguous(memory_format=torch.channels_last))
    widths = torch.tensor([f.shape[3] for f in features], dtype=torch.int32, device=DEVICE)
    found = layers.combined_taps(taps, widths, conv.bias, size)
    expected = global_convolution(features, conv, size)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [20, 300, 1024])
def test_suppression(count):
    centre = torch.rand(count, 2, device=DEVICE) * 200
    half = torch.rand(count, 2, device=DEVICE) * 30 + 3
    boxes = torch.cat((centre - half, centre + half), dim=1)
    things = torch.randint(0, 3, (count,), device=DEVICE)
    scores = torch.rand(count, device=DEVICE).sort(descending=True).values
    scores[-5:] = 0
    config = InferenceConfig(nms_threshold=0.4, global_nms_threshold=0.6)
    iou, same = box_iou(boxes, boxes), things.unsqueeze(1) == things
    keep = fixed_suppression((iou > 0.4) & same, scores > 0, config.suppression_rounds)
    keep = fixed_suppression(iou > 0.6, keep, config.suppression_rounds)
    assert 0 < keep.sum() < count - 5 or count == 20
    assert torch.equal(suppressed_scores(Detected(boxes, things, scores), config), scores * keep)


def graphs(backbone, preset, size, dtype=torch.float32, **inference):
    """(the plain graph, the fused one) with the same random weights."""
    network_config = NetworkConfig.preset(
        preset, backbone=backbone, pyramid_channels=16, semantic_tower_channels=16,
        box_tower_channels=24, tower_depth=2, batch_norm_eps=1e-5,
    )  # fmt: skip
    network = PanopticNetwork(network_config, TAXONOMY).eval()
    fold_batch_norm(network)
    config = InferenceConfig.preset(
        preset, max_instances=20, candidates=100, candidates_per_level=100, **inference
    )
    plain, other = (
        EndToEnd(copy.deepcopy(network), config, size, dtype).requires_grad_(False).to(DEVICE)
        for _ in range(2)
    )
    return plain, FusedEndToEnd(other).requires_grad_(False).to(DEVICE)


@pytest.mark.parametrize(
    ("backbone", "preset", "size"),
    [
        ("resnet18", "paper", (70, 150)),
        ("resnet50", "published", (64, 96)),
        ("mobilenet_v2_expanded", "published", (30, 40)),
    ],
)
def test_the_network(backbone, preset, size):
    compare_networks(backbone, preset, size)


def test_a_network_where_triton_has_no_products(monkeypatch):
    for module in (mobilenet, network):
        monkeypatch.setattr(module, "multiplies", lambda _: False)
    compare_networks("mobilenet_v2", "published", (30, 40))


def compare_networks(backbone, preset, size):
    plain, fused = graphs(backbone, preset, size)
    image = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8, device=DEVICE)
    expected = plain.predict(plain.prepare(image))
    found = fused.predict(fused.prepare(image))
    for name in NetworkOutput._fields:
        one, other = getattr(found, name), getattr(expected, name)
        pairs = zip(one, other, strict=True) if isinstance(one, list) else [(one, other)]
        for a, b in pairs:
            assert (a - b).abs().max() <= 2e-4 * b.abs().max(), name


def lively(output):
    """Network output of these shapes with instances of every size, the same on every device."""
    generator = torch.Generator().manual_seed(3)

    def smooth(like, scale, step):
        height, width = like.shape[-2:]
        shape = *like.shape[:2], max(1, height // step), max(1, width // step)
        small = torch.randn(shape, generator=generator)
        values = F.interpolate(small, size=(height, width), mode="bilinear") * scale
        # No two scores are the same: their order would be anybody's.
        return (values + 0.01 * torch.randn(values.shape, generator=generator)).to(DEVICE)

    things = torch.zeros(19, device=DEVICE)
    things[list(TAXONOMY.thing_ids)] = 3
    return NetworkOutput(
        [smooth(x, 3, 2) for x in output.box_logits],
        [smooth(x, 0.5, 2).exp() * 10 * 2**i for i, x in enumerate(output.box_offsets)],
        [smooth(x, 2, 2) for x in output.centerness],
        smooth(output.levelness, 2, 4),
        smooth(output.semantics, 4, 4) + things.reshape(1, -1, 1, 1),
    )


@pytest.mark.parametrize("correlation", ["iou", "giou"])
@pytest.mark.parametrize("order", ["probability", "score"])
@pytest.mark.parametrize(("preset", "size"), [("paper", (70, 150)), ("published", (128, 192))])
def test_labels(correlation, order, preset, size):
    plain, fused = graphs(
        "resnet18", preset, size, correlation=correlation, fusion_order=order,
        score_threshold=0.2, mask_threshold=0.06, stuff_area_limit=200, candidate_threshold=0.3,
    )  # fmt: skip
    image = torch.zeros((1, *size, 3), dtype=torch.uint8, device=DEVICE)
    output = lively(plain.predict(plain.prepare(image)))
    thresholds = torch.tensor(plain.config.thresholds.as_tuple(), device=DEVICE)
    expected, found = plain.assemble(output, thresholds), fused.assemble(output, thresholds)
    assert len(expected.instance.unique()) > 2
    assert (expected.semantic == 255).any() or size == (128, 192)
    for name in ("semantic", "instance"):
        differ = getattr(found, name) != getattr(expected, name)
        assert differ.float().mean() < 0.001, name
    assert (found.confidence.int() - expected.confidence.int()).abs().max() <= 1
    torch.testing.assert_close(found.segments, expected.segments, atol=1e-3, rtol=1e-4)


def test_candidates_of_all_levels_at_once():
    plain, _ = graphs("resnet18", "paper", (64, 96), candidate_threshold=0.3)
    image = torch.zeros((1, 64, 96, 3), dtype=torch.uint8, device=DEVICE)
    output = lively(plain.predict(plain.prepare(image)))
    levels = [[x[0] for x in part] for part in output[:3]]
    strides = plain.network.config.strides
    locations = [
        grid_locations(*x.shape[1:], stride, torch.device(DEVICE)).reshape(-1, 2)
        for x, stride in zip(levels[0], strides, strict=True)
    ]
    expected = select_candidates(*levels, strides, (64, 96), plain.config)
    found = select_candidates_at_once(*levels, torch.cat(locations), (64, 96), plain.config)
    assert expected.scores.gt(0).sum() > 20
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[expected.scores > 0], other[expected.scores > 0])


@pytest.mark.gpu
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "mobilenet_v2_expanded"])
def test_sixteen_bits_on_the_gpu(backbone):
    """cuDNN's fused convolutions: as far from float32 as the plain ones are."""
    size = (128, 256)
    plain, fused = graphs(backbone, "published", size, torch.float16)
    exact, _ = graphs(backbone, "published", size)
    exact.network.load_state_dict(plain.network.float().state_dict())
    plain.network.half()
    image = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8, device=DEVICE)
    truth, one, other = (g.predict(g.prepare(image)) for g in (exact, plain, fused))
    for name in ("levelness", "semantics"):
        errors = [(getattr(found, name) - getattr(truth, name)).norm() for found in (one, other)]
        assert errors[1] < 1.5 * errors[0], name


@pytest.mark.slow
def test_every_kernel_compiles_for_a_jetson(tmp_path):
    """Compute capability 8.7: what the interpreter says nothing of, and no GPU is needed for."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    script = Path(__file__).parent / "compile_kernels.py"
    done = subprocess.run(
        [sys.executable, script, "87"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "_add_columns", "_assign", "_begin", "_claim", "_depthwise", "_label", "_locate", "_multiply",
        "_normalise_image", "_overlap", "_pool", "_raise", "_rectify", "_stretch_rows", "_sum_up",
        "_suppress",
    ]  # fmt: skip
