"""Bilinear resizing, as parts of other kernels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def between(place, scale, size):
    """(first, second int32, share of the second float32): the input rows that an output row lies between.

    ``place``: int32, output rows; ``scale``: input rows for each output row; ``size``: input rows. As
    ``F.interpolate`` with ``align_corners=False``: what lies beyond the border repeats it.
    """
    source = tl.maximum((place.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    first = tl.minimum(source.to(tl.int32), size - 1)
    return first, tl.minimum(first + 1, size - 1), source - first.to(tl.float32)


@triton.jit
def mixed(a, b, c, d, right, below):
    """Bilinear mixture float32 of ``a b`` over ``c d``; ``right`` and ``below``: shares of the second."""
    above = a + (b - a) * right
    return above + (c + (d - c) * right - above) * below
