"""The total loss: what must not teach gets no gradient, and parts add up to the whole."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rt_panoptic_core.datasets.batch import TrainingBatch, collate, encode_sample
from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample
from rt_panoptic_core.errors import ConfigError, TaxonomyError
from rt_panoptic_core.inference.dense_boxes import dense_boxes
from rt_panoptic_core.network.panoptic_head import NetworkOutput
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.criterion import (
    LossConfig,
    mask_term,
    panoptic_losses,
    select_mask_queries,
    weight_of_classes,
)
from rt_panoptic_core.training.targets import Targets, assign_targets

CITYSCAPES = Taxonomy.load("cityscapes")
CAR = 13
STRIDES = (8, 16)
CONFIG = LossConfig(level_bounds=(24.0,))
SIZE = 64


def sample(seed=0, **changes):
    """Road with a car, a crowd of cars at the right, void at the bottom."""
    rng = np.random.default_rng(seed)
    semantic = np.zeros((SIZE, SIZE), np.uint8)
    instance = np.zeros((SIZE, SIZE), np.int32)
    x, y = (int(v) for v in rng.integers(0, 8, 2))
    for number, box in ((1, (x, y, x + 24, y + 20)), (2, (48, 0, 64, 16))):
        semantic[box[1] : box[3], box[0] : box[2]] = CAR
        instance[box[1] : box[3], box[0] : box[2]] = number
    semantic[48:] = 255
    values = {
        "name": f"s{seed}",
        "image": np.zeros((SIZE, SIZE, 3), np.uint8),
        "semantic": semantic,
        "instance": instance,
        "instances": (InstanceAnnotation(1, CAR), InstanceAnnotation(2, CAR, True)),
        **changes,
    }
    return PanopticSample(**values)


def batch_of(*samples):
    return collate([encode_sample(s, CITYSCAPES) for s in samples])


def output_for(count, seed=0):
    """Random predictions that take gradients."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator).requires_grad_()

    sizes = [SIZE // s for s in STRIDES]
    return NetworkOutput(
        [random(count, 8, s, s) for s in sizes],
        [
            (5 + 20 * torch.rand(count, 4, s, s, generator=generator)).requires_grad_()
            for s in sizes
        ],
        [random(count, 1, s, s) for s in sizes],
        random(count, 3, SIZE // 4, SIZE // 4),
        random(count, 19, SIZE // 4, SIZE // 4),
    )


def test_void_and_crowd_get_no_gradient_from_any_instance_loss():
    output = output_for(1)
    panoptic_losses(output, batch_of(sample()), STRIDES, CONFIG).total.backward()
    classes = output.box_logits[0].grad[0].abs().sum(0)
    assert (classes[6:] == 0).all()  # void
    assert (classes[:2, 6:] == 0).all()  # crowd
    assert (classes[2:6] > 0).all()  # road: asked for every class
    centers = output.centerness[0].grad[0, 0]
    assert (centers[:2, 6:] == 0).all()
    assert (centers[6:] == 0).all()
    level = output.levelness.grad[0].abs().sum(0)
    assert (level[12:] == 0).all()
    assert (level[:4, 12:] == 0).all()
    assert (level[4:12] > 0).all()
    # Void rows 48 and more of the semantics: the resize reaches half a cell over the border.
    assert (output.semantics.grad[0].abs().sum(0)[13:] == 0).all()
    # The crowd's semantics are known and do teach.
    assert (output.semantics.grad[0, :, :4, 12:] != 0).any()


def test_data_without_instances_teaches_semantics_only():
    output = output_for(1)
    losses = panoptic_losses(output, batch_of(sample(has_instances=False)), STRIDES, CONFIG)
    losses.total.backward()
    for maps in (*output.box_logits, *output.box_offsets, *output.centerness, output.levelness):
        assert maps.grad is None or (maps.grad == 0).all()
    assert (output.semantics.grad != 0).any()
    assert losses.parts["semantics"] > 0
    assert sum(v.item() for k, v in losses.parts.items() if k != "semantics") == 0


def test_an_image_that_is_all_void_is_zero_and_finite():
    output = output_for(1)
    nothing = sample(semantic=np.full((SIZE, SIZE), 255, np.uint8))
    losses = panoptic_losses(output, batch_of(nothing), STRIDES, CONFIG)
    losses.total.backward()
    assert losses.total.item() == 0


def test_weights_scale_their_losses():
    batch, output = batch_of(sample()), output_for(1)
    full = panoptic_losses(output, batch, STRIDES, CONFIG)
    half = panoptic_losses(output, batch, STRIDES, LossConfig(level_bounds=(24.0,), semantics=0.4))
    assert half.total.item() == pytest.approx(
        full.total.item() - 0.6 * full.parts["semantics"].item(), rel=1e-5
    )
    assert full.total.item() == pytest.approx(sum(v.item() for v in full.parts.values()), rel=1e-5)


def test_class_weights_by_name():
    assert weight_of_classes(LossConfig(), CITYSCAPES) is None
    weights = weight_of_classes(LossConfig(class_weights={"pole": 4, "sky": 0.5}), CITYSCAPES)
    assert weights[CITYSCAPES.class_id("pole")] == 4
    assert weights[CITYSCAPES.class_id("sky")] == 0.5
    assert weights.sum() == 17 + 4.5
    with pytest.raises(TaxonomyError, match="unicorn"):
        weight_of_classes(LossConfig(class_weights={"unicorn": 2}), CITYSCAPES)


def test_a_class_that_weighs_double_costs_double():
    batch, output = batch_of(sample()), output_for(1)
    config = LossConfig(level_bounds=(24.0,), semantic_share=1.0)
    plain = panoptic_losses(output, batch, STRIDES, config)
    double = panoptic_losses(output, batch, STRIDES, config, None, torch.full((19,), 2.0))
    assert double.parts["semantics"].item() == pytest.approx(2 * plain.parts["semantics"].item())


def part(output, n):
    return NetworkOutput(
        *[[x[n : n + 1] for x in maps] for maps in output[:3]],
        output.levelness[n : n + 1],
        output.semantics[n : n + 1],
    )


def concatenate(batches):
    """One batch of all samples of ``batches``, which must be of one image size."""
    most = max(b.labels.shape[1] for b in batches)
    return TrainingBatch(
        torch.cat([b.images for b in batches]),
        torch.cat([b.semantic for b in batches]),
        torch.cat([b.rows for b in batches]),
        torch.cat([F.pad(b.boxes, (0, 0, 0, most - b.boxes.shape[1])) for b in batches]),
        torch.cat([F.pad(b.labels, (0, most - b.labels.shape[1]), value=-1) for b in batches]),
        tuple(name for b in batches for name in b.names),
    )


def test_the_mean_of_two_processes_is_the_loss_of_the_double_batch():
    # Unequal on purpose: one car with many locations, and a picture without instances.
    batches = [batch_of(sample(1)), batch_of(sample(2, has_instances=False))]
    output = output_for(2)
    whole = panoptic_losses(output, concatenate(batches), STRIDES, CONFIG)
    counts = []

    def note(own):
        counts.append(own)
        return torch.ones_like(own)

    for n, own in enumerate(batches):
        panoptic_losses(part(output, n), own, STRIDES, CONFIG, note)
    mean = torch.stack(counts).mean(0)
    parts = [
        panoptic_losses(part(output, n), own, STRIDES, CONFIG, lambda _: mean)
        for n, own in enumerate(batches)
    ]
    assert torch.stack([p.total for p in parts]).mean().item() == pytest.approx(
        whole.total.item(), rel=1e-5
    )


def test_queries_are_the_best_location_of_each_instance():
    owners = torch.tensor([[0, 0, 1, -1, 1, 0]])
    scores = torch.tensor([[0.2, 0.7, 0.5, 0.9, 0.5, 0.1]])
    unused = torch.zeros(0)
    targets = Targets(unused, unused, unused, owners, unused, unused)
    location, found = select_mask_queries(targets, scores, 3)
    # Instance 0: place 1. Instance 1: a tie, so the first, place 2. Instance 2 has no location.
    assert location.tolist() == [[1, 2, 0]]
    assert found.tolist() == [[True, True, False]]


def test_mask_loss_needs_levelness():
    output = output_for(1)._replace(levelness=None)
    with pytest.raises(ConfigError, match="needs levelness"):
        panoptic_losses(output, batch_of(sample()), STRIDES, CONFIG)


def test_masks_cost_the_same_image_by_image_and_at_once():
    batch, output = batch_of(*(sample(n) for n in range(3))), output_for(3)
    targets = assign_targets(batch, [(8, 8), (4, 4)], STRIDES, CONFIG.level_bounds)
    generator = torch.Generator().manual_seed(5)
    places = targets.labels.shape[1]
    corner = 40 * torch.rand(3, places, 2, generator=generator)
    boxes = torch.cat([corner, corner + 8 + 16 * torch.rand(3, places, 2, generator=generator)], 2)
    scores = torch.rand(3, places, generator=generator)
    answers = []
    for at_once in (False, True):
        dense = dense_boxes(output.box_offsets, output.levelness, (16, 16))[:, 0]
        term = mask_term(*(dense, boxes, scores, output.levelness, targets, batch), at_once=at_once)
        gradients = torch.autograd.grad(term.total, output.box_offsets)
        answers.append((term.total.detach(), term.count, *gradients))
    assert answers[0][1] > 0
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other)
