"""Dense boxes B(x, y): at every location of the stride-4 grid, the box of its pyramid level."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rt_panoptic_core.network.locations import grid_locations
from rt_panoptic_core.network.panoptic_head import LEVELNESS_STRIDE


def dense_boxes(
    box_offsets: list[Tensor], levelness: Tensor | None, size: tuple[int, int]
) -> Tensor:
    """float32 [N, K, h·w, 4]: boxes (x1, y1, x2, y2) at the stride-4 grid of ``size`` (h, w), row by row.

    Offsets of every level are resized bilinearly to the grid and decoded at its locations. With
    levelness, K is 1: the box of the level with the highest levelness, the background channel left out,
    so that every location has a box (eq. 14 as published). Without, K is the number of levels (eq. A21).

    Args:
        box_offsets: per level [N, 4, h_l, w_l] in pixels.
        levelness: [N, L + 1, h, w] logits, or None.
    """
    height, width = size
    # bfloat16 would move a coordinate beyond 256 by whole pixels.
    resized = [
        F.interpolate(offsets.float(), size=size, mode="bilinear", align_corners=False)
        for offsets in box_offsets
    ]
    if levelness is None:
        offsets = torch.stack(resized, dim=1)
    else:
        level = levelness[:, 1:].argmax(dim=1, keepdim=True)
        chosen = resized[0]
        for index in range(1, len(resized)):
            chosen = torch.where(level == index, resized[index], chosen)
        offsets = chosen.unsqueeze(1)
    locations = grid_locations(height, width, LEVELNESS_STRIDE, offsets.device)
    x, y = locations.reshape(-1, 2).unbind(-1)
    left, top, right, bottom = offsets.flatten(3).unbind(2)
    return torch.stack((x - left, y - top, x + right, y + bottom), dim=-1)
