"""Small text on pictures: sizes that follow the picture, labels that do not cover one another."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.visualization.palette import text_color

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_REFERENCE_HEIGHT = 720
_REFERENCE_SCALE = 0.45

Rectangle = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels, the last two exclusive."""


def text_scale(height: int) -> float:
    """OpenCV font scale that reads well on a picture ``height`` pixels high."""
    return float(np.clip(_REFERENCE_SCALE * height / _REFERENCE_HEIGHT, 0.33, 1.4))


class Label:
    """A line of text on a filled rectangle, measured before it is placed."""

    def __init__(
        self,
        text: str,
        color: tuple[int, int, int],
        scale: float,
        ink: tuple[int, int, int] | None = None,
    ) -> None:
        """Measure ``text`` at font ``scale``, in ``ink`` (black or white when None) on ``color``."""
        (width, ascent), descent = cv2.getTextSize(text, _FONT, scale, self._thickness(scale))
        # Fonts differ in what they report as descent (some report it for this text, some for all).
        self._descent = max(descent, round(7 * scale))
        self._ascent = max(ascent, round(20 * scale))
        self._padding = max(2, round(5 * scale))
        self.text = text
        self.color = color
        self.scale = scale
        self.ink = text_color(color) if ink is None else ink
        self.width = width + 2 * self._padding
        self.height = self._ascent + self._descent + self._padding

    @staticmethod
    def _thickness(scale: float) -> int:
        return max(1, round(1.2 * scale))

    def draw(self, picture: npt.NDArray[np.uint8], x: int, y: int) -> None:
        """Draw it with its top left corner at (x, y), in place; what falls outside is cut off."""
        cv2.rectangle(
            picture, (x, y), (x + self.width - 1, y + self.height - 1), self.color, cv2.FILLED
        )
        cv2.putText(
            picture,
            self.text,
            (x + self._padding, y + self._ascent + self._padding // 2),
            _FONT,
            self.scale,
            self.ink,
            self._thickness(self.scale),
            cv2.LINE_AA,
        )


class LabelPlacer:
    """Finds free places for labels at their boxes; first come, first served."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._height = height
        self._taken: list[Rectangle] = []

    def reserve(self, rectangle: Rectangle) -> None:
        """Keep labels off ``rectangle``."""
        self._taken.append(rectangle)

    def place(self, label: Label, box: tuple[float, float, float, float]) -> tuple[int, int] | None:
        """Top left corner of ``label``, now reserved; None where no place at ``box`` is free.

        Tried in turn: above the box, inside at its top, in its middle, inside at its bottom,
        below it.
        """
        x1, y1, x2, y2 = box
        if not all(np.isfinite(box)):
            return None
        left = round((x1 + x2 - label.width) / 2)
        left = max(0, min(left, self._width - label.width))
        middle = round((y1 + y2 - label.height) / 2)
        for top in (
            round(y1) - label.height,
            round(y1),
            middle,
            round(y2) - label.height,
            round(y2),
        ):
            if top < 0 or top + label.height > self._height:
                continue
            place = (left, top, left + label.width, top + label.height)
            if not any(_overlap(place, other) for other in self._taken):
                self._taken.append(place)
                return left, top
        return None


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
