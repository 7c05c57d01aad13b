"""A panoptic result drawn over its image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import ConfigError, ImageError
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.inference.rgb_image import check_rgb
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.visualization.legend import draw_legend, legend_entries
from rt_panoptic_core.visualization.palette import SHADES, instance_shade, shade_table
from rt_panoptic_core.visualization.text import Label, LabelPlacer, text_scale

_LEGEND_OPACITY = 0.75
_LEGEND_SHARE = 0.12
"""Of the picture's height that a legend of all classes may take."""

_SHADE_OF_ID = np.arange(-1, 65_535, dtype=np.int32) % (SHADES - 1) + 1
_SHADE_OF_ID[0] = 0
_SHADE_OF_ID = _SHADE_OF_ID.astype(np.uint16)


def panoptic_colors(result: PanopticResult, taxonomy: Taxonomy) -> npt.NDArray[np.uint8]:
    """The colour of every pixel, uint8 [H, W, 3] RGB: its class's, shaded by its instance.

    Unlabelled pixels and class ids that the taxonomy lacks are black.
    """
    return _rgb(_colors(result, taxonomy))


def draw_overlay(
    image: npt.NDArray[np.uint8],
    result: PanopticResult,
    taxonomy: Taxonomy,
    *,
    opacity: float = 0.5,
    names: bool = True,
    legend: bool = False,
    fps: float | None = None,
    show_ids: bool = False,
) -> npt.NDArray[np.uint8]:
    """``image`` with the classes' colours over it, a new uint8 [H, W, 3] RGB.

    Instances have shades of their class's colour and a white outline; unlabelled pixels stay as
    they are.

    Args:
        image: uint8 [H, W, 3] RGB.
        result: of the same size.
        taxonomy: names and colours.
        opacity: of the colours, 0 (none) to 1 (nothing else).
        names: write class and score at every instance whose place is free, the surest first.
        legend: name the colours that occur at the bottom, over at most a third of the picture.
        fps: a rate to write into the top left corner.
        show_ids: write instance ids after the names (useful where they are stable over frames).

    Raises:
        ImageError: the image is not uint8 [H, W, 3], or the result has another size.
        ConfigError: opacity is not in [0, 1].
    """
    _check(image, result)
    if not 0.0 <= opacity <= 1.0:
        raise ConfigError(f"opacity {opacity}: it must be from 0 to 1")
    height, width = result.semantic.shape
    if height == 0 or width == 0:
        return image.copy()
    image = np.ascontiguousarray(image)
    colors = _colors(result, taxonomy)
    picture = _blend(_rgb(colors), opacity, image)
    # Alpha is 255 where there is a class and 0 elsewhere.
    unlabelled = cv2.bitwise_not(cv2.extractChannel(colors, 3))
    cv2.copyTo(image, unlabelled, picture)
    if opacity > 0.0 and result.segments:
        # Every bit set is white.
        white = cv2.cvtColor(_outlines(result.instance), cv2.COLOR_GRAY2RGB)
        cv2.bitwise_or(picture, white, picture)

    scale = text_scale(height)
    placer = LabelPlacer(width, height)
    if fps is not None:
        label = Label(f"{fps:.1f} fps", (0, 0, 0), scale)
        label.draw(picture, 0, 0)
        placer.reserve((0, 0, label.width, label.height))
    if legend:
        strip = _legend(result, taxonomy, height, width, scale)
        if strip.shape[0]:
            top = height - strip.shape[0]
            picture[top:] = _blend(strip, _LEGEND_OPACITY, picture[top:])
            placer.reserve((0, top, width, height))
    if names:
        _write_names(picture, result, taxonomy, placer, scale, show_ids)
    return picture


def _legend(
    result: PanopticResult, taxonomy: Taxonomy, height: int, width: int, scale: float
) -> npt.NDArray[np.uint8]:
    entries = legend_entries(result, taxonomy)
    strip = draw_legend(entries, taxonomy, width, scale=scale, max_height=height // 3)
    if strip.shape[0] > _LEGEND_SHARE * height:
        # On a small picture classes that do not occur would hide too much of it.
        present = [entry for entry in entries if entry.present]
        strip = draw_legend(present, taxonomy, width, scale=scale, max_height=height // 3)
    return strip


def _check(image: npt.NDArray[np.uint8], result: PanopticResult) -> None:
    height, width = check_rgb(image)
    if result.semantic.shape != (height, width) or result.instance.shape != (height, width):
        raise ImageError(
            f"image of {height}x{width} with a result of "
            f"{result.semantic.shape[0]}x{result.semantic.shape[1]}: they must have the same size"
        )


def _colors(result: PanopticResult, taxonomy: Taxonomy) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 4]: R, G, B and 255 where there is a class, 0 elsewhere."""
    index = result.semantic.astype(np.uint16)
    index *= SHADES
    if result.segments or result.instance.any():
        shade = result.instance
        # Tracked ids grow beyond the shades; looking the remainder up is faster than computing it.
        if int(shade.max(initial=0)) >= SHADES:
            shade = np.take(_SHADE_OF_ID, shade, mode="clip")
        index += shade.astype(np.uint16, copy=False)
    packed = np.take(shade_table(taxonomy), index)
    return packed.view(np.uint8).reshape(*index.shape, 4)


def _rgb(colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(colors, cv2.COLOR_RGBA2RGB), dtype=np.uint8)


def _blend(
    above: npt.NDArray[np.uint8], opacity: float, below: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.addWeighted(above, opacity, below, 1.0 - opacity, 0.0), dtype=np.uint8)


def _outlines(instance: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """uint8 [H, W], non-zero at the pixels of an instance that touch anything else."""
    height = instance.shape[0]
    side = 3 if height < 1000 else 5
    kernel = np.ones((side, side), dtype=np.uint8)
    ids = np.ascontiguousarray(instance.astype(np.uint16, copy=False))
    touches = cv2.compare(cv2.dilate(ids, kernel), cv2.erode(ids, kernel), cv2.CMP_NE)
    inside = (ids > 0).view(np.uint8)
    return np.asarray(cv2.bitwise_and(touches, touches, mask=inside), dtype=np.uint8)


def _write_names(
    picture: npt.NDArray[np.uint8],
    result: PanopticResult,
    taxonomy: Taxonomy,
    placer: LabelPlacer,
    scale: float,
    show_ids: bool,
) -> None:
    for segment in sorted(result.instances, key=lambda s: -s.score):
        if segment.box is None or not 0 <= segment.class_id < len(taxonomy):
            continue
        category = taxonomy[segment.class_id]
        text = f"{category.name} {segment.score:.2f}"
        if show_ids:
            text += f" #{segment.id}"
        label = Label(text, instance_shade(category.color, segment.id), scale)
        place = placer.place(label, segment.box)
        if place is not None:
            label.draw(picture, *place)
