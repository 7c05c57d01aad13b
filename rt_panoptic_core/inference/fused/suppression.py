"""Suppression of query boxes: overlaps as bits, and every round of it in one program."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.fused.boxes import corners, intersection_union
from rt_panoptic_core.inference.query_selection import Detected

MAX_CANDIDATES = 1024
"""More do not fit into the registers of one program."""

_BITS = 32


@triton.jit
def _overlap(
    boxes, things, of_class, of_any, nms, global_nms,
    COUNT: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Which earlier boxes overlap a box too much, 32 in a word: those of its class, and all."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    is_row, is_column = row < COUNT, column < COUNT
    ax1, ay1, ax2, ay2 = corners(boxes, row[:, None], is_row[:, None])
    bx1, by1, bx2, by2 = corners(boxes, column[None, :], is_column[None, :])
    shared, union = intersection_union(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2)
    iou = shared / tl.maximum(union, 1e-7)
    thing = tl.load(things + row, mask=is_row, other=-1)[:, None]
    same = thing == tl.load(things + column, mask=is_column, other=-2)[None, :]
    earlier = column[None, :] < row[:, None]
    bit = tl.full([BLOCK], 1, tl.int32) << (column % 32)
    words: tl.constexpr = BLOCK // 32
    target = (row * words)[:, None] + tl.arange(0, words)[None, :]
    near = tl.where(earlier & same & (iou > nms), bit[None, :], 0)
    tl.store(of_class + target, tl.sum(tl.reshape(near, [ROWS, words, 32]), axis=2))
    near = tl.where(earlier & (iou > global_nms), bit[None, :], 0)
    tl.store(of_any + target, tl.sum(tl.reshape(near, [ROWS, words, 32]), axis=2))


@triton.jit
def _surviving(overlaps, alive, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    """int32 [BLOCK]: 1 of rows that no surviving earlier row overlaps, after ROUNDS steps."""
    words: tl.constexpr = BLOCK // 32
    row = tl.arange(0, BLOCK)
    mask = tl.load(overlaps + (row * words)[:, None] + tl.arange(0, words)[None, :])
    bit = tl.full([BLOCK], 1, tl.int32) << (row % 32)
    keep = alive
    for _ in range(ROUNDS):
        kept = tl.sum(tl.reshape(keep * bit, [words, 32]), axis=1)
        hit = tl.max(((mask & kept[None, :]) != 0).to(tl.int32), axis=1)
        keep = alive * (1 - hit)
    return keep


@triton.jit
def _suppress(
    of_class, of_any, scores, kept_scores,
    ROUNDS: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Scores, 0 of the suppressed: within each class first, then over all."""
    row = tl.arange(0, BLOCK)
    score = tl.load(scores + row, mask=row < COUNT, other=0.0)
    keep = _surviving(of_class, (score > 0.0).to(tl.int32), ROUNDS, BLOCK)
    keep = _surviving(of_any, keep, ROUNDS, BLOCK)
    tl.store(kept_scores + row, tl.where(keep > 0, score, 0.0), mask=row < COUNT)


def suppressed_scores(candidates: Detected, config: InferenceConfig) -> Tensor:
    """float32 [K], the scores of at most :data:`MAX_CANDIDATES` candidates, 0 of those suppressed.

    As :func:`~rt_panoptic_core.inference.query_selection.fixed_suppression`, by class, then over all.
    """
    boxes, things, scores = (part.contiguous() for part in candidates)
    count = len(scores)
    block = max(_BITS, triton.next_power_of_2(count))
    of_class, of_any = torch.empty(
        (2, block, block // _BITS), dtype=torch.int32, device=scores.device
    ).unbind(0)
    rows = 4
    _overlap[(block // rows,)](
        boxes, things, of_class, of_any, config.nms_threshold, config.global_nms_threshold,
        COUNT=count, BLOCK=block, ROWS=rows,
    )  # fmt: skip
    kept = torch.empty_like(scores)
    _suppress[(1,)](
        of_class, of_any, scores, kept,
        ROUNDS=config.suppression_rounds, COUNT=count, BLOCK=block, num_warps=16,
    )  # fmt: skip
    return kept
