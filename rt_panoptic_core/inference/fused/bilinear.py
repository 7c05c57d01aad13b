"""Bilinear resizing, as parts of other kernels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def between(place, scale, size):
    """(first, second, share of the second): the input rows that an output row lies between."""
    source = tl.maximum((place.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    first = tl.minimum(source.to(tl.int32), size - 1)
    return first, tl.minimum(first + 1, size - 1), source - first.to(tl.float32)


@triton.jit
def mixed(a, b, c, d, right, below):
    """Bilinear mixture of the corners ``a b`` over ``c d``."""
    above = a + (b - a) * right
    return above + (c + (d - c) * right - above) * below
