"""A loss before its division."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LossTerm:
    """``total`` is a float scalar with gradient; ``count`` a scalar that divides it, from this process."""

    total: Tensor
    count: Tensor
