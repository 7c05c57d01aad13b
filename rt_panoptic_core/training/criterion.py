"""The total loss of a batch: eq. 19."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from rt_panoptic_core.datasets.batch import TrainingBatch
from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.inference.boxes import decode
from rt_panoptic_core.inference.dense_boxes import dense_boxes
from rt_panoptic_core.network.locations import grid_locations
from rt_panoptic_core.network.panoptic_head import NetworkOutput
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.losses import (
    LossTerm,
    bootstrapped_cross_entropy,
    box_classification_loss,
    box_regression_loss,
    centerness_loss,
    levelness_loss,
    mask_loss,
)
from rt_panoptic_core.training.losses.box_regression import BOX_LOSSES
from rt_panoptic_core.training.losses.classification import FOCAL_NORMALISATIONS
from rt_panoptic_core.training.targets import (
    BACKGROUND,
    DEFAULT_BOUNDS,
    IGNORED,
    Targets,
    assign_targets,
)

SUPERVISIONS = ("masks", "boxes")


@dataclass(frozen=True)
class LossConfig:
    """Weights and choices of eq. 19.

    Attributes:
        box_regression, centerness, levelness, classification, semantics, mask: factor of each loss;
            ``semantics`` is the paper's λ. ``mask`` 0 leaves the mask loss out.
        box_loss: ``iou``, ``linear_iou`` or ``giou``.
        focal_alpha, focal_gamma: of the focal loss.
        focal_normalisation: ``locations`` (the paper) or ``foreground``.
        semantic_share: share of each image's pixels, the worst, that teach semantics.
        class_weights: factor of a class' pixels in the semantic loss by its name, 1 where it has none: rare
            and thin classes are otherwise lost among the worst pixels of the large ones. Empty in the
            paper's presets.
        level_bounds: m_1 … m_{L-1} of eq. 9 in pixels.
        supervision: ``masks``, or ``boxes`` for section 5.6 (then without the mask loss).
    """

    box_regression: float = 1.0
    centerness: float = 1.0
    levelness: float = 1.0
    classification: float = 1.0
    semantics: float = 1.0
    mask: float = 1.0
    box_loss: str = "iou"
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    focal_normalisation: str = "locations"
    semantic_share: float = 0.3
    class_weights: dict[str, float] = field(default_factory=dict)
    level_bounds: tuple[float, ...] = DEFAULT_BOUNDS
    supervision: str = "masks"

    def __post_init__(self) -> None:
        for name in (
            "box_regression",
            "centerness",
            "levelness",
            "classification",
            "semantics",
            "mask",
            "focal_gamma",
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(
                    f"losses.{name} {getattr(self, name)}: it must not be negative, and finite"
                )
        if not 0 <= self.focal_alpha <= 1:
            raise ConfigError(f"losses.focal_alpha {self.focal_alpha}: it must be from 0 to 1")
        for name, known in (
            ("box_loss", BOX_LOSSES),
            ("focal_normalisation", FOCAL_NORMALISATIONS),
            ("supervision", SUPERVISIONS),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"losses.{name} {getattr(self, name)!r}: unknown; one of {', '.join(known)}"
                )
        if not 0 < self.semantic_share <= 1:
            raise ConfigError(
                f"losses.semantic_share {self.semantic_share}: it must be above 0 and at most 1"
            )
        if self.supervision == "boxes" and self.mask > 0:
            raise ConfigError(
                "losses.supervision 'boxes' knows no masks to compare with; set losses.mask to 0"
            )


def weight_of_classes(config: LossConfig, taxonomy: Taxonomy) -> Tensor | None:
    """float32 [C]: ``config.class_weights`` by class id; None where there are none.

    Raises:
        ConfigError: a weight is negative.
        TaxonomyError: a name is no class of ``taxonomy``.
    """
    if not config.class_weights:
        return None
    weights = torch.ones(len(taxonomy))
    for name, weight in config.class_weights.items():
        if not weight >= 0:
            raise ConfigError(f"losses.class_weights.{name} {weight}: it must not be negative")
        weights[taxonomy.class_id(name)] = float(weight)
    return weights


class Losses(NamedTuple):
    """The total of eq. 19 with gradient, and its parts (unweighted, detached) by name."""

    total: Tensor
    parts: dict[str, Tensor]


def panoptic_losses(
    output: NetworkOutput,
    batch: TrainingBatch,
    strides: Sequence[int],
    config: LossConfig,
    share_count: Callable[[Tensor], Tensor] | None = None,
    class_weights: Tensor | None = None,
) -> Losses:
    """L = L_box_reg + L_center + L_levelness + L_box_cls + λ·L_semantics + L_mask of a batch (eq. 19).

    Args:
        output: the network's predictions for ``batch.images``.
        strides: of the pyramid levels.
        share_count: maps this process's counts, float [6], to their mean over all processes. With
            gradients averaged over the processes, dividing by it makes them those of one process with
            all samples. None for one process.
        class_weights: float [C] of :func:`weight_of_classes`, or None for all 1.
    """
    shapes = [(logits.shape[-2], logits.shape[-1]) for logits in output.box_logits]
    targets = assign_targets(batch, shapes, strides, config.level_bounds)
    foreground = targets.labels >= 0
    offsets = torch.cat([x.flatten(2) for x in output.box_offsets], 2).transpose(1, 2).float()
    logits = torch.cat([x.flatten(2) for x in output.box_logits], 2).transpose(1, 2).float()
    center_logits = torch.cat([x.flatten(1) for x in output.centerness], 1).float()

    terms: dict[str, LossTerm] = {
        "box_regression": box_regression_loss(
            offsets, targets.offsets, foreground, config.box_loss
        ),
        "centerness": centerness_loss(center_logits, targets.centerness, foreground),
        "classification": box_classification_loss(
            logits,
            targets.labels,
            alpha=config.focal_alpha,
            gamma=config.focal_gamma,
            normalisation=config.focal_normalisation,
        ),
        "semantics": bootstrapped_cross_entropy(
            output.semantics.float(), batch.semantic, config.semantic_share, class_weights
        ),
    }
    if output.levelness is not None:
        levelness = output.levelness.float()
        terms["levelness"] = levelness_loss(levelness, targets.levelness)
        if config.mask > 0:
            scores = logits.detach().sigmoid().amax(-1) * center_logits.detach().sigmoid()
            points = torch.cat(
                [
                    grid_locations(h, w, stride, offsets.device).reshape(-1, 2)
                    for (h, w), stride in zip(shapes, strides, strict=True)
                ]
            )
            boxes = decode(points.expand(offsets.shape[0], -1, -1), offsets.detach())
            grid = (levelness.shape[-2], levelness.shape[-1])
            dense = dense_boxes(output.box_offsets, levelness, grid)[:, 0]
            terms["mask"] = mask_term(
                dense, boxes, scores, levelness, targets, batch, at_once=dense.is_cuda
            )
    elif config.mask > 0:
        raise ConfigError(
            "losses.mask needs levelness: B(x, y) of eq. 17 is the box of one level; set it to 0"
        )
    counts = torch.stack([term.count for term in terms.values()]).to(offsets.dtype)
    if share_count is not None:
        counts = share_count(counts)
    parts = {
        name: term.total / torch.where(count > 0, count, torch.ones_like(count))
        for (name, term), count in zip(terms.items(), counts, strict=True)
    }
    total = torch.stack([part * getattr(config, name) for name, part in parts.items()]).sum()
    return Losses(total, {name: part.detach() for name, part in parts.items()})


def select_mask_queries(targets: Targets, scores: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """(location, found), int64 and bool [N, K]: for each instance the location that speaks best for it.

    Suppression leaves one box an object, the one with the highest score; here it is known which locations
    belong to which object, so that box is found by a maximum and needs neither thresholds nor rounds,
    and a query always has the associated target that eq. 16 asks for.

    Args:
        scores: float [N, R], class probability times centerness.
        rows: K, rows of the box table.
    """
    foreground = targets.owners >= 0
    slot = targets.owners.clamp(min=0)
    ranked = torch.where(foreground, scores, scores.new_tensor(-1.0))
    best = scores.new_full((scores.shape[0], rows), -1.0)
    best.scatter_reduce_(1, slot, ranked, "amax")
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(slot)
    winner = foreground & (ranked == best.gather(1, slot))
    none = scores.shape[1]
    first = slot.new_full((scores.shape[0], rows), none)
    first.scatter_reduce_(1, slot, torch.where(winner, places, none), "amin")
    found = first < none
    return first.masked_fill(~found, 0), found


def mask_term(
    dense: Tensor,
    boxes: Tensor,
    scores: Tensor,
    levelness: Tensor,
    targets: Targets,
    batch: TrainingBatch,
    *,
    at_once: bool,
) -> LossTerm:
    """The mask loss summed over the images.

    Where levelness says background there is no box in eq. 14, so such a location is no false positive;
    a location of an instance always takes part, or a wrong levelness would hide it from E_FN.

    Args:
        dense: float [N, P, 4], B(x, y) of the stride-4 grid.
        boxes: float [N, R, 4], the box of every location of every level.
        scores: float [N, R], class probability times centerness.
        levelness: float [N, L + 1, h, w], logits.
        targets, batch: what is there.
        at_once: all images together and every location with every query, which is what a GPU does
            fastest: it would have to be waited for to learn which are worth looking at. False looks at
            those alone, image by image. The answer is the same up to rounding.
    """
    location, found = select_mask_queries(targets, scores, batch.labels.shape[1])
    owners = targets.rows.flatten(1)
    taken = (owners != IGNORED) & ((owners >= 0) | (levelness.argmax(1).flatten(1) > 0))
    queries = boxes.gather(1, location.unsqueeze(2).expand(-1, -1, 4))
    rows = torch.arange(found.shape[1], device=found.device).expand_as(found)
    rows = rows.masked_fill(~found, BACKGROUND)
    if at_once:
        return mask_loss(dense, owners.masked_fill(~taken, IGNORED), queries, batch.boxes, rows)
    total = dense.sum() * 0
    count = torch.zeros((), device=dense.device, dtype=torch.int64)
    for n in range(len(dense)):
        here, asked = taken[n], found[n]
        if not bool(asked.any()):
            continue
        term = mask_loss(
            dense[n][here],
            owners[n][here],
            queries[n][asked],
            batch.boxes[n][asked],
            rows[n][asked],
        )
        total = total + term.total
        count = count + term.count
    return LossTerm(total, count)
