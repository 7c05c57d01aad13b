"""The explicit mask loss: section 4.3 of the paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rt_panoptic_core.inference.boxes import box_iou
from rt_panoptic_core.training.losses.term import LossTerm

CHUNK_PAIRS = 1 << 18
"""Query-pixel pairs looked at together: what bounds the memory (and fits a CPU's cache)."""


def mask_loss(
    dense_boxes: Tensor, owners: Tensor, queries: Tensor, truth: Tensor, rows: Tensor
) -> LossTerm:
    """Σ_j β_j / N_j · (E_FP_j + E_FN_j) of one image, and |B_query|: eq. 16–18.

    E_FP_j = Σ_{(x,y) ∉ M_j} IoU(B(x, y), b_j), E_FN_j = Σ_{(x,y) ∈ M_j} (1 − IoU(B(x, y), b_j)), β_j the
    IoU of the query box b_j with its ground truth, N_j the pixels of M_j.

    **Where gradients go.** Through the dense boxes B(x, y) only. The query boxes and β are constants: a
    query could otherwise lower E_FP by fleeing from everything, and β by becoming worse, neither of
    which makes a better mask; and the query's own box already has the regression loss. What is left is
    what the section asks for: boxes far from an object's centre are pulled to the box of their object
    and pushed off the others'.

    **Memory.** For an IoU of constant queries the gradient with respect to B(x, y) has a closed form, which
    is summed over the queries on the way forward: what is kept is one box's worth of numbers a pixel,
    however many queries there are.

    Args:
        dense_boxes: float [P, 4], xyxy, of the locations that are not ignored and have a box.
        owners: int64 [P], row of the instance that the location belongs to, negative for none.
        queries: float [Q, 4], xyxy.
        truth: float [Q, 4], the ground-truth box associated with each query.
        rows: int64 [Q], row of the associated instance; one without a location in ``owners`` has no N_j
            and adds nothing.
    """
    count = torch.tensor(len(queries), device=dense_boxes.device)
    if len(queries) == 0 or len(dense_boxes) == 0:
        return LossTerm(dense_boxes.sum() * 0, count)
    queries, truth = queries.detach(), truth.detach()
    beta = box_iou(queries, truth).diagonal()
    area = torch.bincount(owners.clamp(min=-1) + 1, minlength=int(rows.max()) + 2)[rows + 1]
    weight = torch.where(area > 0, beta / area.clamp(min=1), torch.zeros_like(beta))
    total: Tensor = _MaskCost.apply(dense_boxes, owners, queries, rows, weight)  # type: ignore[no-untyped-call]
    return LossTerm(total, count)


class _MaskCost(torch.autograd.Function):
    """Σ_j w_j·(Σ_{p∉M_j} IoU(p, j) + Σ_{p∈M_j} (1 − IoU(p, j))), differentiated by the dense boxes."""

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, owners: Tensor, queries: Tensor, rows: Tensor, weight: Tensor
    ) -> Tensor:
        x1, y1, x2, y2 = (c.contiguous() for c in boxes.detach().unbind(1))
        width, height = x2 - x1, y2 - y1
        area = width * height
        wanted = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(boxes)
        total = boxes.new_zeros(())
        query_area = (queries[:, 2] - queries[:, 0]) * (queries[:, 3] - queries[:, 1])
        step = max(1, CHUNK_PAIRS // max(1, len(boxes)))
        for start in range(0, len(queries), step):
            chunk = slice(start, start + step)
            qx1, qy1, qx2, qy2 = (c.unsqueeze(1) for c in queries[chunk].unbind(1))
            overlap_w = (torch.minimum(x2, qx2) - torch.maximum(x1, qx1)).clamp_(min=0)
            overlap_h = (torch.minimum(y2, qy2) - torch.maximum(y1, qy1)).clamp_(min=0)
            intersection = overlap_w * overlap_h
            union = (area + query_area[chunk].unsqueeze(1) - intersection).clamp_(min=1e-7)
            iou = intersection / union
            inside = owners == rows[chunk].unsqueeze(1)
            scale = weight[chunk].unsqueeze(1)
            total += (torch.where(inside, 1 - iou, iou) * scale).sum()
            if not wanted:
                continue
            sign = torch.where(inside, -scale, scale)
            # d IoU = dI·(U + I)/U² − dA·I/U², with dI only where the boxes overlap.
            by_intersection = sign * (1 + iou) / union * (intersection > 0)
            by_area = (sign * iou / union).sum(0)
            by_x = by_intersection * overlap_h
            by_y = by_intersection * overlap_w
            gradient[:, 0] -= (by_x * (x1 > qx1)).sum(0) - by_area * height
            gradient[:, 1] -= (by_y * (y1 > qy1)).sum(0) - by_area * width
            gradient[:, 2] += (by_x * (x2 < qx2)).sum(0) - by_area * height
            gradient[:, 3] += (by_y * (y2 < qy2)).sum(0) - by_area * width
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None
