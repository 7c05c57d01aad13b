"""Semantics: cross-entropy of the worst pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rt_panoptic_core.taxonomy import UNLABELLED
from rt_panoptic_core.training.losses.term import LossTerm


def bootstrapped_cross_entropy(
    logits: Tensor, semantic: Tensor, share: float = 0.3, class_weights: Tensor | None = None
) -> LossTerm:
    """Σ L_CE(S, S^t) over the worst ``share`` of every image's labelled pixels, and their number: eq. 15.

    The worst are chosen image by image (at least one of each image with a label), so that the gradient
    does not depend on which images share a batch or a process.

    Args:
        logits: float [N, C, h, w]; resized bilinearly to the labels' size.
        semantic: uint8 [N, H, W], 255 void.
        share: in (0, 1]; 1 is the plain cross-entropy.
        class_weights: float [C], factor of each class's pixels, or None.
    """
    if logits.shape[-2:] != semantic.shape[-2:]:
        logits = F.interpolate(
            logits, size=semantic.shape[-2:], mode="bilinear", align_corners=False
        )
    target = semantic.long()
    loss = F.cross_entropy(
        logits, target, weight=class_weights, ignore_index=UNLABELLED, reduction="none"
    ).flatten(1)
    labelled = (target != UNLABELLED).flatten(1)
    counts = labelled.sum(1)
    keep = torch.where(counts > 0, (counts * share).round().long().clamp(min=1), counts)
    if share >= 1.0:
        return LossTerm((loss * labelled).sum(), counts.sum())
    # One threshold an image instead of a sort: everything above the k-th largest, and of those that
    # equal it as many as are missing.
    ranked = loss.detach().masked_fill(~labelled, -1.0)
    most = max(1, round(ranked.shape[1] * share))
    values = ranked.topk(most, dim=1, sorted=True).values
    threshold = values.gather(1, (keep - 1).clamp(min=0).unsqueeze(1))
    above = (ranked > threshold) & labelled
    equal = (ranked == threshold) & labelled
    missing = (keep - above.sum(1)).to(loss.dtype)
    part = missing / equal.sum(1).clamp(min=1)
    weight = above.to(loss.dtype) + equal.to(loss.dtype) * part.unsqueeze(1)
    return LossTerm((loss * weight).sum(), keep.sum())
