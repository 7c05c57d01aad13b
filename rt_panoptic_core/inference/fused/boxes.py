"""Boxes, as parts of other kernels: what :mod:`rt_panoptic_core.inference.boxes` computes."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def corners(boxes, row, known):
    """(x1, y1, x2, y2) float32 of the rows of ``boxes`` [N, 4]; zeros of those that are not ``known``."""
    source = boxes + 4 * row
    x1 = tl.load(source, mask=known, other=0.0)
    y1 = tl.load(source + 1, mask=known, other=0.0)
    x2 = tl.load(source + 2, mask=known, other=0.0)
    return x1, y1, x2, tl.load(source + 3, mask=known, other=0.0)


@triton.jit
def intersection_union(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2):
    """(I, U) float32 of boxes a and b, areas in square pixels."""
    across = tl.maximum(tl.minimum(ax2, bx2) - tl.maximum(ax1, bx1), 0.0)
    down = tl.maximum(tl.minimum(ay2, by2) - tl.maximum(ay1, by1), 0.0)
    shared = across * down
    return shared, (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
