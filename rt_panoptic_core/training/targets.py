"""What the network should have said: section 4.1 of the paper, for whole batches at once.

A location is foreground when it lies in an instance's mask (weakly supervised: in its box, see
``datasets.batch.box_instance_map``); masks do not overlap, so it belongs to one instance and its target
is one look-up in that sample's box table. Nothing here loops over instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from rt_panoptic_core.datasets.batch import TrainingBatch
from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.network.locations import grid_locations
from rt_panoptic_core.network.panoptic_head import LEVELNESS_STRIDE

BACKGROUND = -1
"""Label of a location where no instance is."""

IGNORED = -2
"""Label of a location that must not teach: void, crowd, things without an id, semantics-only data."""

DEFAULT_BOUNDS = (64.0, 128.0, 256.0, 512.0)
"""m_1 … m_4 of eq. 9 in pixels, FCOS's for strides 8 … 128: m_0 is 0 and m_5 has no limit."""


class Targets(NamedTuple):
    """Targets of N images; R counts the locations of all levels, finest level first, row by row.

    Attributes:
        labels: int64 [N, R], place in ``taxonomy.thing_ids``, :data:`BACKGROUND` or :data:`IGNORED`.
        offsets: float32 [N, R, 4], (l, t, r, b) in pixels, eq. 8; zeros unless foreground.
        centerness: float32 [N, R] in [0, 1], eq. 10; zeros unless foreground.
        owners: int64 [N, R], row in the sample's box table, :data:`BACKGROUND` unless foreground.
        levelness: int64 [N, H/4, W/4], 0 background, level index + 1, :data:`IGNORED`.
        rows: int64 [N, H/4, W/4], row in the sample's box table, :data:`BACKGROUND` or :data:`IGNORED`.
    """

    labels: Tensor
    offsets: Tensor
    centerness: Tensor
    owners: Tensor
    levelness: Tensor
    rows: Tensor


def assign_targets(
    batch: TrainingBatch,
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    bounds: Sequence[float] = DEFAULT_BOUNDS,
) -> Targets:
    """Targets of every location of every level, and of the levelness grid.

    A location of level i at (x, y) looks at pixel (s_i·x + ⌊s_i/2⌋, s_i·y + ⌊s_i/2⌋). It keeps the
    instance there only if m_{i-1} < max(l, t, r, b) ≤ m_i (eq. 9; the paper's interval is closed at both
    ends, here a tie goes to the finer level so that a location has exactly one), otherwise it is
    background on this level. The levelness target is that one level. Locations beyond the image (the
    coarsest levels round up) are background.

    Args:
        batch: the batch, on any device.
        shapes: (height, width) of each level's maps, finest first.
        strides: pixels between neighbouring locations of each level.
        bounds: m_1 … m_{L-1} in pixels, rising.

    Raises:
        ConfigError: ``bounds`` does not rise or has the wrong length.
    """
    if len(bounds) != len(strides) - 1 or any(a >= b for a, b in pairwise(bounds)):
        raise ConfigError(
            f"level bounds {list(bounds)}: {len(strides)} levels need {len(strides) - 1} rising values"
        )
    device = batch.rows.device
    edges = torch.tensor([-1.0, *bounds, float("inf")], device=device)
    points, rows, levels = [], [], []
    for index, ((height, width), stride) in enumerate(zip(shapes, strides, strict=True)):
        points.append(grid_locations(height, width, stride, device).reshape(-1, 2))
        rows.append(_sample(batch.rows, height, width, stride).flatten(1))
        levels.append(torch.full((height * width,), index, device=device))
    all_rows = torch.cat(rows, 1)
    level = torch.cat(levels)
    offsets = _offsets(torch.cat(points), all_rows, batch.boxes)
    furthest = offsets.amax(-1)
    own = (furthest > edges[level]) & (furthest <= edges[level + 1])
    foreground = (all_rows > 0) & own
    safe = (all_rows - 1).clamp(min=0)
    labels = batch.labels.gather(1, safe)
    labels = torch.where(foreground, labels, torch.full_like(labels, BACKGROUND))
    labels = labels.masked_fill(all_rows < 0, IGNORED)
    offsets = offsets * foreground.unsqueeze(-1)
    owners = torch.where(foreground, all_rows - 1, torch.full_like(all_rows, BACKGROUND))

    height, width = (size // LEVELNESS_STRIDE for size in batch.rows.shape[1:])
    grid_rows = _sample(batch.rows, height, width, LEVELNESS_STRIDE)
    grid = grid_locations(height, width, LEVELNESS_STRIDE, device).reshape(-1, 2)
    furthest = _offsets(grid, grid_rows.flatten(1), batch.boxes).amax(-1).view_as(grid_rows)
    # bucketize counts the bounds that are exceeded: the level of eq. 9, ties to the finer one.
    levelness = torch.bucketize(furthest, edges[1:-1]) + 1
    levelness = levelness.masked_fill(grid_rows == 0, 0).masked_fill(grid_rows < 0, IGNORED)
    grid_owners = (grid_rows - 1).masked_fill(grid_rows < 0, IGNORED)
    return Targets(labels, offsets, centerness_of(offsets), owners, levelness, grid_owners)


def centerness_of(offsets: Tensor) -> Tensor:
    """Centerness of eq. 10 in [0, 1]: √(min(l, r)/max(l, r) · min(t, b)/max(t, b)).

    Args:
        offsets: float [..., 4], (l, t, r, b), not negative. Where a pair is all zero it is 0.
    """
    left, top, right, bottom = offsets.unbind(-1)
    tiny = torch.finfo(offsets.dtype).tiny
    horizontal = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=tiny)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=tiny)
    return (horizontal * vertical).sqrt()


def _sample(rows: Tensor, height: int, width: int, stride: int) -> Tensor:
    """int64 [N, height, width]: the row map at a grid's locations, 0 beyond the image."""
    picked = rows[:, stride // 2 :: stride, stride // 2 :: stride][:, :height, :width]
    if picked.shape[1:] != (height, width):
        full = picked.new_zeros((rows.shape[0], height, width))
        full[:, : picked.shape[1], : picked.shape[2]] = picked
        picked = full
    return picked.long()


def _offsets(points: Tensor, rows: Tensor, boxes: Tensor) -> Tensor:
    """float32 [N, R, 4]: (l, t, r, b) of each location to the box of its row (eq. 8), any where none."""
    index = (rows - 1).clamp(min=0).unsqueeze(-1).expand(-1, -1, 4)
    own = boxes.gather(1, index)
    return torch.cat([points - own[..., :2], own[..., 2:] - points], -1)
