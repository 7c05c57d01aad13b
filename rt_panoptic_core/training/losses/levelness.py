"""Levelness: which pyramid level a location's box comes from."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rt_panoptic_core.training.losses.term import LossTerm
from rt_panoptic_core.training.targets import IGNORED


def levelness_loss(logits: Tensor, target: Tensor) -> LossTerm:
    """Σ L_CE(I, I^t) over the locations that are not ignored, and their number: eq. 13.

    Args:
        logits: float [N, L + 1, H/4, W/4].
        target: int64 [N, H/4, W/4], 0 background, level index + 1, IGNORED.
    """
    loss = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")
    return LossTerm(loss, (target != IGNORED).sum())
