"""Where the locations of a feature map lie in the image."""

from __future__ import annotations

import torch
from torch import Tensor


def grid_locations(
    height: int, width: int, stride: int, device: torch.device | str | None = None
) -> Tensor:
    """float32 [height, width, 2]: (x, y) in image pixels of each location of a feature map.

    Location i lies at ``stride // 2 + stride * i`` (section 4.1 of the paper). At stride 4, the grid of
    levelness and dense boxes, that is 2, 6, 10, …
    """
    x = torch.arange(width, dtype=torch.float32, device=device) * stride + stride // 2
    y = torch.arange(height, dtype=torch.float32, device=device) * stride + stride // 2
    return torch.stack(
        (x.expand(height, width), y.unsqueeze(1).expand(height, width)), dim=-1
    ).contiguous()
