"""Query boxes B_query: the detections that stand for the instances of the image (eq. 4).

Every shape in here is fixed, padded with invalid rows, so that the same graph runs on every engine.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rt_panoptic_core.inference.boxes import box_iou, clip_to_image, decode
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.network.locations import grid_locations


class Detected(NamedTuple):
    """Boxes by falling score; rows that are padding have score 0.

    Attributes:
        boxes: float32 [K, 4], (x1, y1, x2, y2) clipped to the image.
        things: int64 [K], index into the taxonomy's ``thing_ids``.
        scores: float32 [K] in [0, 1], class probability times centerness.
    """

    boxes: Tensor
    things: Tensor
    scores: Tensor


def level_candidates(
    box_logits: Tensor,
    box_offsets: Tensor,
    centerness: Tensor,
    stride: int,
    config: InferenceConfig,
) -> Detected:
    """The best ``candidates_per_level`` of one pyramid level of one image, in no order, not clipped.

    A location stands once for every class whose probability exceeds ``candidate_threshold``; the
    threshold comes before centerness is multiplied in.

    Args:
        box_logits: [T, h, w].
        box_offsets: [4, h, w] in pixels.
        centerness: [1, h, w] logits.
    """
    height, width = box_logits.shape[1:]
    locations = grid_locations(height, width, stride, box_logits.device).reshape(-1, 2)
    logits, offsets, center = (part.flatten(1) for part in (box_logits, box_offsets, centerness))
    count = config.candidates_per_level
    return _best_locations(logits, offsets, center, locations, config, count, in_order=False)


def _best_locations(
    box_logits: Tensor,
    box_offsets: Tensor,
    centerness: Tensor,
    locations: Tensor,
    config: InferenceConfig,
    count: int,
    *,
    in_order: bool,
) -> Detected:
    """The best ``count`` of P ``locations`` [P, 2], not clipped; by falling score only if ``in_order``.

    ``box_logits`` [T, P], ``box_offsets`` [4, P] and ``centerness`` [1, P] are those of
    :func:`level_candidates`.
    """
    probability = box_logits.float().sigmoid()
    score = probability * centerness.float().sigmoid()
    score = torch.where(probability > config.candidate_threshold, score, torch.zeros_like(score))
    scores, index = score.flatten().topk(min(count, score.numel()), sorted=in_order)
    place = index % len(locations)
    offsets = box_offsets.float().index_select(1, place).t()
    boxes = decode(locations.index_select(0, place), offsets)
    return Detected(boxes, torch.div(index, len(locations), rounding_mode="floor"), scores)


def select_candidates(
    box_logits: list[Tensor],
    box_offsets: list[Tensor],
    centerness: list[Tensor],
    strides: tuple[int, ...],
    image_size: tuple[int, int],
    config: InferenceConfig,
) -> Detected:
    """The best ``candidates`` over all levels of one image, by falling score, clipped to the image.

    Args:
        box_logits, box_offsets, centerness: per level, [T, h, w], [4, h, w] and [1, h, w].
        image_size: (H, W) of the image without padding.
    """
    levels = [
        level_candidates(logits, offsets, center, stride, config)
        for logits, offsets, center, stride in zip(
            box_logits, box_offsets, centerness, strides, strict=True
        )
    ]
    boxes = torch.cat([level.boxes for level in levels])
    things = torch.cat([level.things for level in levels])
    scores, order = torch.cat([level.scores for level in levels]).topk(
        min(config.candidates, len(boxes))
    )
    return Detected(
        clip_to_image(boxes.index_select(0, order), *image_size),
        things.index_select(0, order),
        scores,
    )


def select_candidates_at_once(
    box_logits: list[Tensor],
    box_offsets: list[Tensor],
    centerness: list[Tensor],
    locations: Tensor,
    image_size: tuple[int, int],
    config: InferenceConfig,
) -> Detected:
    """What :func:`select_candidates` selects, of all levels together: fewer steps, each of them larger.

    The same wherever a level may give all of the candidates: ``config.candidates`` is at most
    ``config.candidates_per_level``.

    Args:
        box_logits, box_offsets, centerness, image_size: as there.
        locations: float32 [P, 2], (x, y) of the P locations of all levels.
    """
    logits, offsets, center = (
        torch.cat([level.flatten(1) for level in levels], dim=1)
        for levels in (box_logits, box_offsets, centerness)
    )
    count = config.candidates
    best = _best_locations(logits, offsets, center, locations, config, count, in_order=True)
    return best._replace(boxes=clip_to_image(best.boxes, *image_size))


def fixed_suppression(overlaps: Tensor, alive: Tensor, rounds: int) -> Tensor:
    """bool [K]: which rows survive, in ``rounds`` parallel steps; the fixed-shape form of greedy NMS.

    ``overlaps`` [K, K] says of a row (the weaker, later one) which columns it overlaps too much. Greedy
    NMS is the one set in which a row survives exactly if no surviving earlier row overlaps it. Starting
    from all, each step recomputes every row from the last step's survivors: after step r every row is
    final whose chain of overlaps is at most r long, so ``rounds`` steps equal the greedy result unless
    longer chains occur.
    """
    earlier = torch.tril(overlaps.float(), diagonal=-1)
    living = alive.float()
    keep = living
    for _ in range(rounds):
        suppressed = earlier @ keep
        keep = living * (suppressed < 0.5).float()
    return keep > 0.5


def greedy_suppression(overlaps: Tensor, alive: Tensor) -> Tensor:
    """bool [K]: which rows survive classical greedy NMS; the reference for :func:`fixed_suppression`."""
    keep = alive.clone()
    for row in range(len(keep)):
        if keep[row]:
            keep[row + 1 :] &= ~overlaps[row + 1 :, row]
    return keep


def select_queries(candidates: Detected, config: InferenceConfig) -> Detected:
    """Query boxes [max_instances] from ``candidates`` sorted by falling score.

    Suppression within each class at ``nms_threshold``, then over all classes at
    ``global_nms_threshold``, then the best ``max_instances``.
    """
    boxes, things, scores = candidates
    iou = box_iou(boxes, boxes)
    same = things.unsqueeze(1) == things.unsqueeze(0)
    rounds = config.suppression_rounds
    keep = fixed_suppression((iou > config.nms_threshold) & same, scores > 0, rounds)
    keep = fixed_suppression(iou > config.global_nms_threshold, keep, rounds)
    return best_queries(boxes, things, scores * keep, config)


def best_queries(
    boxes: Tensor, things: Tensor, scores: Tensor, config: InferenceConfig
) -> Detected:
    """The best ``max_instances`` of boxes [K, 4] whose score [K] is 0 if they were suppressed."""
    kept_scores, order = scores.topk(min(config.max_instances, len(scores)))
    boxes, things = boxes.index_select(0, order), things.index_select(0, order)
    missing = config.max_instances - len(kept_scores)
    if missing > 0:
        boxes = torch.cat((boxes, boxes.new_zeros(missing, 4)))
        things = torch.cat((things, things.new_zeros(missing)))
        kept_scores = torch.cat((kept_scores, kept_scores.new_zeros(missing)))
    return Detected(boxes, things, kept_scores)
