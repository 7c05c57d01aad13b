"""Box regression: IoU loss and its generalised form."""

from __future__ import annotations

import torch
from torch import Tensor

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.training.losses.term import LossTerm

BOX_LOSSES = ("iou", "linear_iou", "giou")


def box_regression_loss(
    predicted: Tensor, target: Tensor, foreground: Tensor, kind: str = "iou"
) -> LossTerm:
    """Σ L_IoU over the foreground, and N_fg: numerator and denominator of eq. 11.

    Both boxes contain their location, so their overlap follows from the offsets alone:
    I = (min(l, l') + min(r, r')) · (min(t, t') + min(b, b')).

    ``iou`` is UnitBox's −ln IoU, which the paper cites; ``linear_iou`` 1 − IoU; ``giou``
    1 − GIoU, GIoU = IoU − (C − U)/C with C the area of the smallest box around both.

    Args:
        predicted: float [..., 4], (l, t, r, b) > 0 in pixels.
        target: float [..., 4], the same of the ground truth, eq. 8.
        foreground: bool [...]; the others are not looked at.
    """
    if kind not in BOX_LOSSES:
        raise ConfigError(f"box loss {kind!r}: unknown; one of {', '.join(BOX_LOSSES)}")
    count = foreground.sum()
    ours, truth = predicted[foreground], target[foreground]
    inner, outer = torch.minimum(ours, truth), torch.maximum(ours, truth)
    intersection = _area(inner)
    union = _area(ours) + _area(truth) - intersection
    tiny = torch.finfo(union.dtype).eps
    iou = intersection / union.clamp(min=tiny)
    if kind == "iou":
        # Boxes of one location always overlap, but on a mask's edge by a sliver: bound the logarithm.
        loss = -iou.clamp(min=1e-6).log()
    elif kind == "linear_iou":
        loss = 1 - iou
    else:
        enclosing = _area(outer).clamp(min=tiny)
        loss = 1 - iou + (enclosing - union) / enclosing
    return LossTerm(loss.sum(), count)


def _area(offsets: Tensor) -> Tensor:
    left, top, right, bottom = offsets.unbind(-1)
    return (left + right) * (top + bottom)
