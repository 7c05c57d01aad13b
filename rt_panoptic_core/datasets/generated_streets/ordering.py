"""In which order to paint things that stand on the ground, so that near ones hide far ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets.camera import Float

_TOUCH = 0.06
"""Metres by which footprints may overlap and still count as side by side."""


def painting_order(
    centers: Float, yaws: Float, half_sizes: Float, eye: Float, forward: Float
) -> npt.NDArray[np.int64]:
    """Indices from back to front of oriented rectangles on the ground, seen from ``eye``.

    Two rectangles that overlap in the view are ordered by a side of either that separates them, which is
    exact for convex things; where none does, or where three hide each other in a ring, by distance.

    Args:
        centers: float64 [N, 2]; ``yaws`` [N]; ``half_sizes`` [N, 2] along and across; metres, radians.
        eye: float64 [2] the camera; ``forward`` [2] where it looks.
    """
    number = len(centers)
    if number == 0:
        return np.zeros(0, dtype=np.int64)
    cos, sin = np.cos(yaws), np.sin(yaws)
    along = np.stack([cos, sin], axis=1)
    across = np.stack([-sin, cos], axis=1)
    signs = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)], dtype=np.float64)
    reach = half_sizes[:, None, :] * signs[None]
    corners = centers[:, None] + reach[..., :1] * along[:, None] + reach[..., 1:] * across[:, None]
    relative = corners - eye
    ahead = relative @ forward
    left = relative @ np.array([-forward[1], forward[0]])
    angles = np.arctan2(left, ahead)
    low, high = angles.min(axis=1), angles.max(axis=1)
    around = high - low > np.pi
    low[around], high[around] = -np.pi, np.pi
    # Painting goes from large keys to small ones.
    key = np.hypot(*(centers - eye).T)

    meet = (low[:, None] < high[None]) & (low[None] < high[:, None])
    first, second = np.nonzero(np.triu(meet, 1))
    verdict = np.zeros(len(first), dtype=np.int8)
    for a, b, sign in ((first, second, 1), (second, first, -1)):
        # In a's frame: where are b's corners and the eye?
        delta = corners[b] - centers[a][:, None]
        x = (delta * along[a][:, None]).sum(axis=2)
        y = (delta * across[a][:, None]).sum(axis=2)
        to_eye = eye - centers[a]
        for local, own, half in (
            (x, (to_eye * along[a]).sum(axis=1), half_sizes[a, 0]),
            (y, (to_eye * across[a]).sum(axis=1), half_sizes[a, 1]),
        ):
            beyond = local.min(axis=1) >= half - _TOUCH
            before = local.max(axis=1) <= -half + _TOUCH
            # b lies on one side of a's edge; it is in front when the eye is on that side too.
            for apart, eye_there in ((beyond, own > half), (before, own < -half)):
                undecided = apart & (verdict == 0)
                verdict[undecided & eye_there] = -sign  # b in front of a
                verdict[undecided & ~eye_there] = sign  # a in front of b
    decided = verdict != 0
    front = np.where(verdict > 0, first, second)[decided]
    behind = np.where(verdict > 0, second, first)[decided]
    for _ in range(12):
        wrong = key[front] >= key[behind]
        if not wrong.any():
            break
        np.minimum.at(key, front[wrong], key[behind[wrong]] - 1e-3)
    return np.argsort(-key, kind="stable")
