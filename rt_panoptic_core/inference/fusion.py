"""One panoptic map from instance masks and semantics.

Instances come first; a pixel that no instance takes has the class of the semantic segmentation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rt_panoptic_core.taxonomy import UNLABELLED


class Assignment(NamedTuple):
    """Which query takes which location of the stride-4 grid of P locations.

    Attributes:
        winner: int64 [P], row of the query that claims the location most.
        probability: float32 [P], the mask probability of that query there.
        taken: bool [P], whether it takes the location.
        areas: float32 [Q], locations taken.
    """

    winner: Tensor
    probability: Tensor
    taken: Tensor
    areas: Tensor


def _claims(probability: Tensor, sigma: Tensor, order: str) -> Tensor:
    """float32 [Q, P]: the higher the claim, the stronger; not positive where a mask does not reach."""
    if order == "probability":
        return probability
    # Queries come by falling score, so the first row whose mask holds the location has the best score.
    count = probability.shape[0]
    rank = torch.arange(count, 0, -1, dtype=torch.float32, device=probability.device)
    return (probability > sigma).float() * rank.unsqueeze(1)


def assign_instances(
    probability: Tensor, alive: Tensor, sigma: Tensor, overlap: Tensor, order: str
) -> Assignment:
    """Assignment of locations to instances.

    A query whose share of locations left to it, of those where its mask exceeds σ, is below ``overlap``
    is dropped, and its locations go to the next in line.

    Args:
        probability: float32 [Q, P], M.
        alive: float32 [Q], 1 for queries that may become instances, else 0.
        sigma, overlap: float32 scalars, thresholds.
        order: ``probability`` or ``score``.
    """
    probability = probability * alive.unsqueeze(1)
    masks = probability > sigma
    whole = masks.float().sum(dim=1)
    rows = torch.arange(probability.shape[0], device=probability.device).unsqueeze(1)

    def winners(candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        winner = _claims(candidates, sigma, order).argmax(dim=0)
        best = candidates.gather(0, winner.unsqueeze(0)).squeeze(0)
        taken = best > sigma
        areas = ((winner.unsqueeze(0) == rows) & taken.unsqueeze(0)).float().sum(dim=1)
        return winner, best, areas

    _, _, areas = winners(probability)
    kept = ((areas >= overlap * whole) & (areas > 0)).float()
    winner, best, areas = winners(probability * kept.unsqueeze(1))
    return Assignment(winner, best, best > sigma, areas)


def stuff_to_drop(
    semantic: Tensor, free: Tensor, is_stuff: Tensor, limit: Tensor, pixels: int
) -> tuple[Tensor, Tensor]:
    """(bool [C] stuff classes below the area limit, float32 [C] areas in pixels), from the stride-4 grid.

    Args:
        semantic: int64 [P], class of each location.
        free: bool [P], locations that no instance takes.
        is_stuff: bool [C].
        limit: float32 scalar, pixels.
        pixels: that one location stands for.
    """
    classes = torch.arange(len(is_stuff), device=semantic.device).unsqueeze(1)
    areas = ((semantic.unsqueeze(0) == classes) & free.unsqueeze(0)).float().sum(dim=1) * pixels
    return is_stuff & (areas < limit), areas


def full_size_labels(
    logits: Tensor,
    assignment: Assignment,
    query_classes: Tensor,
    dropped: Tensor,
    sigma: Tensor,
    grid: tuple[int, int],
    padded: tuple[int, int],
    image: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """(semantic, instance) uint8 [H, W] at full size.

    Semantics are the argmax of the logits resized bilinearly. The mask's edge is where its probability,
    resized bilinearly, crosses σ; between two instances that touch, the border follows the grid.

    Args:
        logits: [1, C, h_s, w_s].
        query_classes: int64 [Q], class id of each query.
        dropped: bool [C], classes that become unlabelled.
        grid, padded, image: (h, w) of the stride-4 grid, of the padded input and of the image.
    """
    height, width = image
    resized = F.interpolate(logits.float(), size=padded, mode="bilinear", align_corners=False)
    semantic = resized[0, :, :height, :width].argmax(dim=0)
    best = F.interpolate(
        assignment.probability.reshape(1, 1, *grid),
        size=padded,
        mode="bilinear",
        align_corners=False,
    )[0, 0, :height, :width]
    winner = F.interpolate(assignment.winner.float().reshape(1, 1, *grid), size=padded)
    rows = winner[0, 0, :height, :width].long()
    inside = best > sigma
    names = torch.arange(len(dropped), device=logits.device)
    names = torch.where(dropped, torch.full_like(names, UNLABELLED), names)
    semantic = torch.where(inside, query_classes[rows], names[semantic])
    instance = torch.where(inside, rows + 1, torch.zeros_like(rows))
    return semantic.to(torch.uint8), instance.to(torch.uint8)
