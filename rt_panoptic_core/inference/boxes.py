"""Geometry of axis-aligned boxes, (x1, y1, x2, y2) in pixels, always in float32.

Boxes are continuous: a box from 2 to 5 is 3 wide. Half precision is never enough here: an area
overflows it at 256 × 256, and bfloat16 counts in whole pixels from 256 on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def decode(locations: Tensor, offsets: Tensor) -> Tensor:
    """Boxes [..., 4] of ``offsets`` [..., 4] = (l, t, r, b) at ``locations`` [..., 2]: eq. 8 inverted."""
    return torch.cat((locations - offsets[..., :2], locations + offsets[..., 2:]), dim=-1)


def clip_to_image(boxes: Tensor, height: int, width: int) -> Tensor:
    """``boxes`` [..., 4] held within [0, width - 1] × [0, height - 1], as the published code clips."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(
        (
            x1.clamp(0, width - 1),
            y1.clamp(0, height - 1),
            x2.clamp(0, width - 1),
            y2.clamp(0, height - 1),
        ),
        dim=-1,
    )


class _Pairs(NamedTuple):
    """Coordinates of boxes ``a`` and ``b``: columns [N, 1] and rows [1, M] for all pairs, or of one shape."""

    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]


def _pairs(a: Tensor, b: Tensor) -> _Pairs:
    # Coordinate by coordinate in memory: engines then compute all that follows in one pass.
    columns = a.t().unsqueeze(2).contiguous().unbind(0)
    rows = b.t().unsqueeze(1).contiguous().unbind(0)
    return _Pairs(tuple(columns), tuple(rows))


def _intersection_union(pairs: _Pairs) -> tuple[Tensor, Tensor]:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = pairs
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    intersection = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    return intersection, union


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union [N, M] of boxes ``a`` [N, 4] and ``b`` [M, 4], in [0, 1]: eq. 6.

    Two boxes without area have 0.
    """
    return _iou(_pairs(a, b))


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU [...] of the boxes of ``a`` and ``b``, both [..., 4], place by place; as :func:`box_iou`."""
    return _iou(_Pairs(a.unbind(-1), b.unbind(-1)))


def _iou(pairs: _Pairs) -> Tensor:
    intersection, union = _intersection_union(pairs)
    return intersection / union.clamp(min=1e-7)


def guarded_giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU [N, M] of ``a`` [N, 4] and ``b`` [M, 4] in (-1, 1], with the published guards.

    ``(I + 1) / (U + 1) - (C - U) / C``: C is the area of the smallest box around both, plus 1e-7. One
    square pixel added to I and U keeps tiny boxes stable.
    """
    pairs = _pairs(a, b)
    intersection, union = _intersection_union(pairs)
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = pairs
    width = torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)
    height = torch.maximum(ay2, by2) - torch.minimum(ay1, by1)
    enclosing = width * height + 1e-7
    # Over one denominator: as two fractions it takes more registers than AVX2 has, and OpenVINO, which
    # computes all of this in one pass, then refuses the graph.
    guarded = union + 1
    return ((intersection + 1) * enclosing + union * guarded) / (guarded * enclosing) - 1


def box_correlation(a: Tensor, b: Tensor, kind: str) -> Tensor:
    """P_loc [N, M] of boxes ``a`` [N, 4] and ``b`` [M, 4]: ``iou`` (eq. 6) or ``giou`` (published)."""
    return box_iou(a, b) if kind == "iou" else guarded_giou(a, b)
