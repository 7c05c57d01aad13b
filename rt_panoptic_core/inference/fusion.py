"""One panoptic map from instance masks and semantics.

Instances come first; a pixel that no instance takes has the class of the semantic segmentation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.mask_construction import locations_in_reach, mask_probability
from rt_panoptic_core.inference.upsampling import upsampled_above, upsampled_argmax
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

    def spread(self, places: Tensor, locations: int) -> Assignment:
        """The same on a grid of ``locations``, of which these are the ``places`` int64 [P].

        No query takes any of the others.
        """
        winner = torch.zeros(locations, dtype=self.winner.dtype, device=places.device)
        probability = torch.zeros(locations, device=places.device)
        taken = torch.zeros(locations, device=places.device)
        return Assignment(
            winner.scatter(0, places, self.winner),
            probability.scatter(0, places, self.probability),
            taken.scatter(0, places, self.taken.float()) > 0,
            self.areas,
        )


def _claims(probability: Tensor, sigma: Tensor) -> Tensor:
    """float32 [Q, P]: the higher, the better the score of the query; 0 where its mask does not reach."""
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
        if order == "probability":
            best, winner = candidates.max(dim=0)
        else:
            winner = _claims(candidates, sigma).argmax(dim=0)
            best = candidates.gather(0, winner.unsqueeze(0)).squeeze(0)
        holder = torch.where(best > sigma, winner, torch.full_like(winner, -1))
        return winner, best, (holder.unsqueeze(0) == rows).float().sum(dim=1)

    _, _, areas = winners(probability)
    kept = ((areas >= overlap * whole) & (areas > 0)).float()
    winner, best, areas = winners(probability * kept.unsqueeze(1))
    return Assignment(winner, best, best > sigma, areas)


def construct_instances(
    boxes: Tensor,
    things: Tensor,
    alive: Tensor,
    dense: Tensor,
    probability: Tensor,
    sigma: Tensor,
    overlap: Tensor,
    config: InferenceConfig,
    grid: tuple[int, int],
    sparse: bool = False,
) -> Assignment:
    """Masks of all queries and the assignment of the grid's locations to them.

    Args:
        boxes: [Q, 4], the queries', by falling score.
        things: int64 [Q], row of ``probability`` that belongs to each.
        alive, sigma, overlap: as of :func:`assign_instances`.
        dense: [K, P, 4] dense boxes of the P locations of ``grid``.
        probability: [T, P], P_sem of the thing classes.
        config: says the correlation and the order.
        grid: (h, w).
        sparse: only where masks can reach; the same assignment as far as labels depend on it.
    """
    places = None
    if sparse:
        places = locations_in_reach(probability, sigma, grid)
        dense, probability = dense.index_select(1, places), probability.index_select(1, places)
    masks = mask_probability(boxes, things, dense, probability, config.correlation)
    assignment = assign_instances(masks, alive, sigma, overlap, config.fusion_order)
    return assignment if places is None else assignment.spread(places, grid[0] * grid[1])


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


def holders(assignment: Assignment, queries: int, grid: tuple[int, int]) -> Tensor:
    """int64 [2h, 2w]: whose mask reaches into each quarter of a location, if any does.

    The winner where the location is taken. Elsewhere masks of neighbours reach in by interpolation, while
    the query whose probability is highest, but too low, has nothing to do with it. What is interpolated
    in a quarter comes from four locations, its own and the three that it touches: of those that are taken
    the one with the best score counts. If none is, no pixel of the quarter exceeds the threshold.
    """
    height, width = grid
    free = torch.zeros_like(assignment.winner)
    rank = torch.where(assignment.taken, queries - assignment.winner, free).float()
    rank = rank.reshape(1, 1, height, width)
    # Corners of the grid, each with the four locations around it; then the corner of each quarter.
    corners = F.max_pool2d(F.pad(rank, (1, 1, 1, 1)), 2, 1)
    quarters = F.interpolate(corners, scale_factor=2.0)[..., 1:-1, 1:-1]
    own = F.interpolate(rank, scale_factor=2.0)
    best = torch.where(own > 0, own, quarters)
    return (queries - best).clamp(max=queries - 1).long().reshape(2 * height, 2 * width)


def full_size_labels(
    logits: Tensor,
    assignment: Assignment,
    query_classes: Tensor,
    dropped: Tensor,
    sigma: Tensor,
    grid: tuple[int, int],
    padded: tuple[int, int],
    image: tuple[int, int],
    sparse: bool = False,
) -> tuple[Tensor, Tensor]:
    """(semantic, instance) at full size: whole numbers as float32 [H, W], for the caller to cast last.

    Semantics are the argmax of the logits resized bilinearly. The mask's edge is where its probability,
    resized bilinearly, crosses σ; between two instances that touch, the border follows the grid.

    Args:
        logits: [1, C, h_s, w_s].
        query_classes: int64 [Q], class id of each query.
        dropped: bool [C], classes that become unlabelled.
        grid, padded, image: (h, w) of the stride-4 grid, of the padded input and of the image.
        sparse: see :mod:`~rt_panoptic_core.inference.upsampling`; the same labels.
    """
    height, width = image
    classes = upsampled_argmax(logits[0], padded[0] // logits.shape[-2], sparse)[:height, :width]
    best = assignment.probability.reshape(grid)
    inside = upsampled_above(best, sigma, padded[0] // grid[0], sparse)[:height, :width]
    # Row and class of the winner are looked up on the grid, where there are few of them.
    winner = holders(assignment, len(query_classes), grid)
    things = query_classes.index_select(0, winner.flatten()).reshape(winner.shape)
    winners = torch.stack((winner + 1, things))
    nearest = F.interpolate(winners.float().unsqueeze(1), size=padded)
    rows, things = nearest[:, 0, :height, :width].unbind(0)
    names = torch.arange(len(dropped), dtype=torch.float32, device=logits.device)
    names = torch.where(dropped, torch.full_like(names, UNLABELLED), names)
    stuff = names.index_select(0, classes.flatten()).reshape(height, width)
    semantic = torch.where(inside, things, stuff)
    instance = torch.where(inside, rows, torch.zeros_like(rows))
    return semantic, instance
