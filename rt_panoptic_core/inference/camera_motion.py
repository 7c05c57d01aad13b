"""How what stands still moves through the image because the camera moves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_PRIOR = np.array([0.3, 0.3, 0.03, 0.03, 0.03])
"""Weights of the last estimate against the new observations, whose weights are 1 over the box's height: a
single observation moves it a little, ten of them settle it."""

_ROUNDS = 2
_LEAST_SPREAD = 1e-3
_LEAST_HEIGHT = 1e-3


class CameraMotion:
    """Motion of boxes that is common to a frame, estimated from the boxes that were followed into it.

    A point at depth Z moves away from the focus of expansion in proportion to 1 / Z, and turning the
    camera moves all points alike. Objects of traffic are of similar size, so that a box's height h stands
    for 1 / Z. With the centre (x, y) from the image's middle, all over the image's height and by second::

        x' = turn_x + (side_x + k x) h      y' = turn_y + (side_y + k y) h      h' = k h²

    Objects that move by themselves are outliers: the estimate is robust.
    """

    def __init__(self) -> None:
        """A camera at rest."""
        # turn_x, turn_y, side_x, side_y, k
        self._motion: Array = np.zeros(5)

    def velocities(self, boxes: Array, size: tuple[int, int]) -> Array:
        """Pixels a second [N, 4] of the corners of ``boxes`` [N, 4], were they of still objects.

        Args:
            boxes: (x1, y1, x2, y2) in pixels.
            size: (height, width) of the image.
        """
        x, y, h = _normalized(boxes, size)
        turn_x, turn_y, side_x, side_y, k = self._motion
        right = size[0] * (turn_x + (side_x + k * x) * h)
        down = size[0] * (turn_y + (side_y + k * y) * h)
        wider = (boxes[:, 2] - boxes[:, 0]) / 2 * k * h
        higher = (boxes[:, 3] - boxes[:, 1]) / 2 * k * h
        return np.stack([right - wider, down - higher, right + wider, down + higher], axis=1)

    def observe(self, before: Array, after: Array, seconds: Array, size: tuple[int, int]) -> None:
        """Learn from boxes [N, 4] that were followed from ``before`` to ``after`` in ``seconds`` [N] > 0."""
        if not len(before):
            return
        x, y, h = _normalized(before, size)
        x_after, y_after, h_after = _normalized(after, size)
        design = np.zeros((3, len(h), 5))
        design[0, :, 0] = design[1, :, 1] = 1.0
        design[0, :, 2] = design[1, :, 3] = h
        design[:, :, 4] = h * x, h * y, h * h
        target = np.stack([x_after - x, y_after - y, h_after - h]) / seconds
        # What is near is measured less exactly, as it moves more.
        precision = 1.0 / h
        trust = np.ones_like(h)
        for _ in range(_ROUNDS):
            weighted = ((precision * trust)[:, None] * design).reshape(-1, 5).T
            motion = np.linalg.solve(
                weighted @ design.reshape(-1, 5) + np.diag(_PRIOR),
                weighted @ target.reshape(-1) + _PRIOR * self._motion,
            )
            squared = precision * np.square(target - design @ motion).sum(axis=0)
            # Cauchy: half the trust in who is off by 1.5 times as much as half of all are.
            spread = max(2.25 * float(np.median(squared)), _LEAST_SPREAD**2)
            trust = 1.0 / (1.0 + squared / spread)
        self._motion = np.asarray(motion, dtype=np.float64)


def _normalized(boxes: Array, size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Centre from the image's middle, and height, over the image's height."""
    height, width = size
    x = (boxes[:, 0] + boxes[:, 2] - width) / 2 / height
    y = (boxes[:, 1] + boxes[:, 3] - height) / 2 / height
    return x, y, np.maximum((boxes[:, 3] - boxes[:, 1]) / height, _LEAST_HEIGHT)
