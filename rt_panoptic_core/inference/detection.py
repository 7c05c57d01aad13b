"""Instances with their whole masks, as the published code gives them: for parity, metrics and tools.

The panoptic path never makes these masks; this one does, one query at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from rt_panoptic_core.inference.boxes import box_iou
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.dense_boxes import dense_boxes
from rt_panoptic_core.inference.mask_construction import mask_probability, semantic_probability
from rt_panoptic_core.inference.preprocessing import prepare
from rt_panoptic_core.inference.query_selection import (
    Detected,
    greedy_suppression,
    select_candidates,
)
from rt_panoptic_core.network.panoptic_head import LEVELNESS_STRIDE, NetworkOutput
from rt_panoptic_core.network.panoptic_network import PanopticNetwork


@torch.inference_mode()
def detect(
    network: PanopticNetwork, config: InferenceConfig, image: Tensor
) -> tuple[Detected, Iterator[Tensor]]:
    """Detections of ``image`` uint8 [1, H, W, 3] by falling score, and their masks bool [H, W] in order.

    The masks are made when they are asked for; M is thresholded at ``config.mask_threshold`` after
    bilinear resizing, with >= as published.
    """
    output = network.predict(prepare(image, network))
    height, width = image.shape[1:3]
    return detect_from_output(output, network, config, (height, width))


@torch.inference_mode()
def detect_from_output(
    output: NetworkOutput,
    network: PanopticNetwork,
    config: InferenceConfig,
    image_size: tuple[int, int],
) -> tuple[Detected, Iterator[Tensor]]:
    """As :func:`detect`, from the network's output for one image of ``image_size`` without padding.

    Every candidate of every level takes part, as published: ``config.candidates``, a bound that keeps the
    panoptic path fast, does not count here.
    """
    levels = len(network.config.strides)
    config = replace(config, candidates=config.candidates_per_level * levels)
    candidates = select_candidates(
        [x[0] for x in output.box_logits],
        [x[0] for x in output.box_offsets],
        [x[0] for x in output.centerness],
        network.config.strides,
        image_size,
        config,
    )
    queries = _select_greedily(candidates, config)
    finest = output.box_offsets[0].shape[-2:]
    scale = network.config.strides[0] // LEVELNESS_STRIDE
    grid = (finest[0] * scale, finest[1] * scale)
    dense = dense_boxes(output.box_offsets, output.levelness, grid)[0]
    probability = semantic_probability(output.semantics, grid)[0].flatten(1)
    thing_ids = torch.tensor(network.taxonomy.thing_ids, device=probability.device)
    return queries, _masks(queries, thing_ids, dense, probability, grid, image_size, config)


def _select_greedily(candidates: Detected, config: InferenceConfig) -> Detected:
    """The queries of classical greedy suppression, by falling score, without padding."""
    keep = torch.zeros_like(candidates.scores, dtype=torch.bool)
    alive = candidates.scores > 0
    # One class at a time: candidates may be thousands, and the table of their overlaps grows with the
    # square.
    for thing in range(int(candidates.things.max()) + 1):
        rows = (alive & (candidates.things == thing)).nonzero().squeeze(1)
        boxes = candidates.boxes[rows]
        overlaps = box_iou(boxes, boxes) > config.nms_threshold
        keep[rows] = greedy_suppression(overlaps, torch.ones_like(rows, dtype=torch.bool))
    rows = keep.nonzero().squeeze(1)
    boxes = candidates.boxes[rows]
    overlaps = box_iou(boxes, boxes) > config.global_nms_threshold
    rows = rows[greedy_suppression(overlaps, torch.ones_like(rows, dtype=torch.bool))]
    rows = rows[: config.max_instances]
    return Detected(candidates.boxes[rows], candidates.things[rows], candidates.scores[rows])


def _masks(
    queries: Detected,
    thing_ids: Tensor,
    dense: Tensor,
    probability: Tensor,
    grid: tuple[int, int],
    image_size: tuple[int, int],
    config: InferenceConfig,
) -> Iterator[Tensor]:
    height, width = image_size
    for row in range(len(queries.scores)):
        with torch.inference_mode():
            mask = mask_probability(
                queries.boxes[row : row + 1],
                thing_ids[queries.things[row : row + 1]],
                dense,
                probability,
                config.correlation,
            )
            full = F.interpolate(
                mask.reshape(1, 1, *grid),
                scale_factor=LEVELNESS_STRIDE,
                mode="bilinear",
                align_corners=False,
            )
            yield full[0, 0, :height, :width] >= config.mask_threshold
