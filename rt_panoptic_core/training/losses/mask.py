"""The explicit mask loss: section 4.3 of the paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rt_panoptic_core.inference.boxes import paired_iou
from rt_panoptic_core.training.losses.term import LossTerm
from rt_panoptic_core.training.targets import IGNORED

CHUNK_PAIRS = 1 << 18
"""Query-pixel pairs looked at together: what bounds the memory (and fits a CPU's cache)."""

CUDA_CHUNK_PAIRS = 1 << 23
"""The same on a GPU, which a small number of pairs leaves idle: some 300 MB."""


def mask_loss(
    dense_boxes: Tensor, owners: Tensor, queries: Tensor, truth: Tensor, rows: Tensor
) -> LossTerm:
    """Σ_j β_j / N_j · (E_FP_j + E_FN_j) of one image or several, and |B_query|: eq. 16–18.

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

    The shapes below are those of one image. Several have one dimension more in front, everywhere: a query
    is compared with the boxes of its own image.

    Args:
        dense_boxes: float [P, 4], xyxy, of the stride-4 grid's locations.
        owners: int64 [P], row of the instance that the location belongs to, negative for none; IGNORED
            where there is no box, or nothing is known: such a location takes no part.
        queries: float [Q, 4], xyxy.
        truth: float [Q, 4], the ground-truth box associated with each query.
        rows: int64 [Q], row of the associated instance, negative for no query; one without a location in
            ``owners`` has no N_j and adds nothing.
    """
    count = (rows >= 0).sum()
    if rows.numel() == 0 or owners.numel() == 0:
        return LossTerm(dense_boxes.sum() * 0, count)
    if dense_boxes.dim() == 2:
        dense_boxes, owners, queries, truth, rows = (
            part.unsqueeze(0) for part in (dense_boxes, owners, queries, truth, rows)
        )
    queries, truth = queries.detach(), truth.detach()
    # Pixels of each row; those of none, and of rows that nobody asks for, are counted in front.
    most = int(rows.max()) + 1
    slots = torch.where(owners < most, owners, -1).clamp(min=-1) + 1
    areas = queries.new_zeros((len(rows), most + 1))
    areas.scatter_add_(1, slots, areas.new_ones(()).expand(slots.shape))
    area = areas.gather(1, rows.clamp(min=-1) + 1)
    counted = (rows >= 0) & (area > 0)
    weight = torch.where(counted, paired_iou(queries, truth) / area.clamp(min=1), 0.0)
    total: Tensor = _MaskCost.apply(dense_boxes, owners, queries, rows, weight)  # type: ignore[no-untyped-call]
    return LossTerm(total, count)


class _MaskCost(torch.autograd.Function):
    """Σ_j w_j·(Σ_{p∉M_j} IoU(p, j) + Σ_{p∈M_j} (1 − IoU(p, j))), differentiated by the dense boxes."""

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, owners: Tensor, queries: Tensor, rows: Tensor, weight: Tensor
    ) -> Tensor:
        # All [N, 1, P], queries below [N, Q, 1].
        x1, y1, x2, y2 = (c.unsqueeze(1).contiguous() for c in boxes.detach().unbind(2))
        width, height = x2 - x1, y2 - y1
        area = width * height
        owner = owners.unsqueeze(1)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(boxes)
        cost = torch.zeros_like(owners, dtype=boxes.dtype)
        query_area = (queries[..., 2:] - queries[..., :2]).prod(-1)
        pairs = CUDA_CHUNK_PAIRS if boxes.is_cuda else CHUNK_PAIRS
        step = max(1, pairs // owners.numel())
        for start in range(0, queries.shape[1], step):
            chunk = slice(start, start + step)
            qx1, qy1, qx2, qy2 = (c.unsqueeze(2) for c in queries[:, chunk].unbind(2))
            overlap_w = (torch.minimum(x2, qx2) - torch.maximum(x1, qx1)).clamp_(min=0)
            overlap_h = (torch.minimum(y2, qy2) - torch.maximum(y1, qy1)).clamp_(min=0)
            intersection = overlap_w * overlap_h
            union = (area + query_area[:, chunk].unsqueeze(2) - intersection).clamp_(min=1e-7)
            iou = intersection / union
            inside = owner == rows[:, chunk].unsqueeze(2)
            scale = weight[:, chunk].unsqueeze(2)
            cost += (torch.where(inside, 1 - iou, iou) * scale).sum(1)
            if not wanted:
                continue
            sign = torch.where(inside, -scale, scale)
            # d IoU = dI·(U + I)/U² − dA·I/U², with dI only where the boxes overlap.
            by_intersection = sign * (1 + iou) / union * (intersection > 0)
            by_area = (sign * iou / union).sum(1)
            by_x = by_intersection * overlap_h
            by_y = by_intersection * overlap_w
            gradient[..., 0] -= (by_x * (x1 > qx1)).sum(1) - by_area * height[:, 0]
            gradient[..., 1] -= (by_y * (y1 > qy1)).sum(1) - by_area * width[:, 0]
            gradient[..., 2] += (by_x * (x2 < qx2)).sum(1) - by_area * height[:, 0]
            gradient[..., 3] += (by_y * (y2 < qy2)).sum(1) - by_area * width[:, 0]
        ignored = owners == IGNORED
        ctx.save_for_backward(gradient.masked_fill_(ignored.unsqueeze(2), 0))
        return cost.masked_fill_(ignored, 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None
