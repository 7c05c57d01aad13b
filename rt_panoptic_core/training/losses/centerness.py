"""Centerness: binary cross-entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rt_panoptic_core.training.losses.term import LossTerm


def centerness_loss(logits: Tensor, target: Tensor, foreground: Tensor) -> LossTerm:
    """Σ L_BCE(ô, o) over the foreground, and N_fg: numerator and denominator of eq. 12.

    L_BCE(ô, o) = −o·ln ô − (1 − o)·ln(1 − ô). As o is no class but a number in (0, 1), the smallest value
    is o's entropy and not zero.

    Args:
        logits: float [...], before the sigmoid.
        target: float [...] in [0, 1], eq. 10.
        foreground: bool [...].
    """
    loss = F.binary_cross_entropy_with_logits(
        logits[foreground], target[foreground], reduction="sum"
    )
    return LossTerm(loss, foreground.sum())
