"""Box classification: sigmoid focal loss over all locations of all levels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.training.losses.term import LossTerm
from rt_panoptic_core.training.targets import IGNORED

FOCAL_NORMALISATIONS = ("locations", "foreground")


def box_classification_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    normalisation: str = "locations",
) -> LossTerm:
    """Σ focal loss over locations and classes, and what divides it.

    For a location of class c every class k is a yes-no question with p_t = p̂_k if k = c, else 1 − p̂_k, and
    FL = −α_t·(1 − p_t)^γ·ln p_t, α_t = α if k = c, else 1 − α. Background answers no to all of them;
    ignored locations are asked nothing and counted nowhere.

    Args:
        logits: float [N, R, T].
        labels: int64 [N, R], thing index, BACKGROUND or IGNORED.
        normalisation: ``locations`` (the paper: mean over all locations) or ``foreground`` (RetinaNet,
            FCOS: over foreground locations, so the loss does not shrink where objects are few).
    """
    if normalisation not in FOCAL_NORMALISATIONS:
        raise ConfigError(
            f"focal normalisation {normalisation!r}: one of {', '.join(FOCAL_NORMALISATIONS)}"
        )
    counted = labels != IGNORED
    things = torch.arange(logits.shape[-1], device=logits.device)
    positive = labels.unsqueeze(-1) == things
    # 1 − p_t and ln p_t from one signed logit: no second sigmoid, and no logarithm of zero.
    signed = torch.where(positive, logits, -logits)
    modulation = torch.sigmoid(-signed) ** gamma
    weight = torch.where(positive, alpha, 1 - alpha) * counted.unsqueeze(-1)
    loss = -(weight * modulation * F.logsigmoid(signed)).sum()
    count = counted if normalisation == "locations" else labels >= 0
    return LossTerm(loss, count.sum())
