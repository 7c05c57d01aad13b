"""Instance masks without parameters: M(x, y, j) = P_loc(x, y, j) · P_sem(x, y, c_j) (eq. 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rt_panoptic_core.inference.boxes import box_correlation
from rt_panoptic_core.inference.upsampling import upsample


def semantic_probability(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """P_sem float32 [N, C, *size]: softmax over all classes of the logits resized to the grid (eq. 2)."""
    logits = logits.float()
    height, width = logits.shape[-2:]
    if size == (2 * height, 2 * width):
        logits = upsample(logits.flatten(0, 1), 2).reshape(*logits.shape[:2], *size)
    elif size != (height, width):
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return logits.softmax(dim=1)


def location_probability(queries: Tensor, dense: Tensor, correlation: str) -> Tensor:
    """P_loc float32 [Q, P] of query boxes [Q, 4] and dense boxes [K, P, 4]; the best of K (eq. A23)."""
    best = box_correlation(queries, dense[0], correlation)
    for level in range(1, dense.shape[0]):
        best = torch.maximum(best, box_correlation(queries, dense[level], correlation))
    return best


def mask_probability(
    queries: Tensor, classes: Tensor, dense: Tensor, probability: Tensor, correlation: str
) -> Tensor:
    """M float32 [Q, P] on the stride-4 grid (eq. 5).

    Args:
        queries: [Q, 4] boxes.
        classes: int64 [Q], row of ``probability`` that belongs to each query.
        dense: [K, P, 4] dense boxes.
        probability: [C, P], P_sem.
        correlation: ``iou`` or ``giou``.
    """
    return location_probability(queries, dense, correlation) * probability.index_select(0, classes)


def locations_in_reach(things: Tensor, sigma: Tensor, grid: tuple[int, int]) -> Tensor:
    """int64 [n]: the locations of the ``grid`` (h, w) at which M matters to a panoptic map.

    P_loc is at most 1, so that no mask reaches a location whose P_sem is not above σ for any thing; and the
    border of a mask, interpolated between locations, depends on its neighbours besides.

    Args:
        things: float32 [T, h·w], P_sem of the thing classes.
        sigma: float32 scalar, the threshold of masks.
        grid: (h, w).
    """
    # A hair below, because P_loc may round to a little more than 1.
    reached = things.max(dim=0).values > sigma * (1 - 1e-4)
    # Compared first: a number that is none would spread to its neighbours.
    near = F.max_pool2d(reached.float().reshape(1, 1, *grid), 3, 1, 1)
    return torch.nonzero(near.flatten()).flatten()
