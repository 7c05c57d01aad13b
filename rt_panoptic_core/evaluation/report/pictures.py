"""Frames in a report: prediction, ground truth and error map side by side."""

from __future__ import annotations

import base64
import heapq
import itertools
import math
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.evaluation.report.charts import percent, swatch
from rt_panoptic_core.evaluation.runner import EvaluatedFrame
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.taxonomy import UNLABELLED
from rt_panoptic_core.visualization.overlay import draw_overlay

WRONG_CLASS = (226, 62, 62)
WRONG_INSTANCE = (245, 184, 46)
NOT_LABELLED = (66, 135, 245)

_QUALITY = 82
_WORST_CLASSES = 3


@dataclass(frozen=True)
class FramePanels:
    """A frame as a report shows it.

    Attributes:
        name: of the frame.
        quality: its own PQ, or mIoU in data without instances, in [0, 1].
        caption: more about it, plain text.
        prediction, truth, errors: JPEG files.
    """

    name: str
    quality: float
    caption: str
    prediction: bytes
    truth: bytes
    errors: bytes


class FrameGallery:
    """Keeps the worst and the best frames of an evaluation as they come by, and draws them when asked."""

    def __init__(self, each: int = 4, width: int = 800) -> None:
        """Start empty.

        Args:
            each: how many of the worst, and of the best.
            width: of the pictures, at most.
        """
        self._each = each
        self._width = width
        self._order = itertools.count()
        self._worst: list[tuple[float, int, EvaluatedFrame]] = []
        self._best: list[tuple[float, int, EvaluatedFrame]] = []

    def add(self, evaluated: EvaluatedFrame) -> None:
        """Keep a frame if it is among the worst or best so far."""
        quality = frame_quality(evaluated)
        if math.isnan(quality) or not self._each:
            return
        order = next(self._order)
        for heap, key in ((self._worst, -quality), (self._best, quality)):
            # Of frames as good as each other the first stay.
            if len(heap) < self._each or key > heap[0][0]:
                heapq.heappush(heap, (key, -order, evaluated))
                if len(heap) > self._each:
                    heapq.heappop(heap)

    def worst(self) -> list[FramePanels]:
        """The worst frames, the worst first."""
        return [frame_panels(kept, self._width) for _, _, kept in sorted(self._worst, reverse=True)]

    def best(self) -> list[FramePanels]:
        """The best frames, the best first, none that is among the worst."""
        worst = {order for _, order, _ in self._worst}
        ranked = sorted(self._best, reverse=True)
        return [frame_panels(kept, self._width) for _, order, kept in ranked if order not in worst]


def frame_quality(evaluated: EvaluatedFrame) -> float:
    """PQ of a frame alone, or its mIoU in data without instances; nan where nothing is labelled."""
    if evaluated.frame.sample.has_instances:
        return evaluated.record.quality()
    return evaluated.record.mean_iou()


def frame_panels(evaluated: EvaluatedFrame, width: int = 800) -> FramePanels:
    """The pictures of a frame, at most ``width`` pixels wide."""
    frame, record = evaluated.frame, evaluated.record
    image = frame.sample.image
    prediction = draw_overlay(image, frame.result, frame.taxonomy, names=False)
    truth = draw_overlay(image, truth_as_result(frame), frame.taxonomy, names=False)
    return FramePanels(
        name=record.name,
        quality=frame_quality(evaluated),
        caption=_caption(evaluated),
        prediction=_jpeg(prediction, width),
        truth=_jpeg(truth, width),
        errors=_jpeg(error_map(frame), width),
    )


def truth_as_result(frame: Frame) -> PanopticResult:
    """The truth in the form of a result, so that both are drawn alike. Crowd regions have no instance."""
    instance = np.zeros(frame.truth_ids.shape, dtype=np.uint16)
    segments = []
    for truth_id, segment in frame.truth.items():
        row = frame.instance_rows.get(truth_id)
        if row is not None and not segment.is_crowd:
            instance[frame.truth_ids == truth_id] = row + 1
            segments.append(Segment(row + 1, segment.class_id, True, 1.0, segment.area, None))
        elif not frame.taxonomy.is_thing[segment.class_id]:
            segments.append(Segment(0, segment.class_id, False, 1.0, segment.area, None))
    return PanopticResult(frame.sample.semantic, instance, segments)


def error_map(frame: Frame) -> npt.NDArray[np.uint8]:
    """Where a result is wrong and how: uint8 [H, W, 3] RGB over the image in grey.

    Red: another class than the truth. Yellow: the right thing class, but not the matching instance.
    Blue: labelled in the truth and not in the result. Black: void in the truth. Grey: right.
    """
    truth, guess = frame.sample.semantic, frame.result.semantic
    grey = cv2.cvtColor(frame.sample.image, cv2.COLOR_RGB2GRAY)
    picture = cv2.cvtColor((grey // 2 + 40).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    labelled = truth != UNLABELLED
    same = truth == guess
    partner = np.zeros(int(frame.truth_ids.max(initial=0)) + 1, dtype=np.int32)
    for match in frame.matches.matched:
        partner[match.truth_id] = match.predicted_id
    wrong_instance = np.zeros_like(same)
    if frame.sample.has_instances:
        countable = np.zeros_like(partner, dtype=bool)
        for truth_id, segment in frame.truth.items():
            countable[truth_id] = not segment.is_crowd and frame.taxonomy.is_thing[segment.class_id]
        wrong_instance = (
            same & countable[frame.truth_ids] & (partner[frame.truth_ids] != frame.predicted_ids)
        )
    errors: npt.NDArray[np.uint8] = np.asarray(picture, dtype=np.uint8)
    errors[~labelled] = 0
    errors[labelled & ~same] = WRONG_CLASS
    errors[wrong_instance] = WRONG_INSTANCE
    errors[labelled & (guess == UNLABELLED)] = NOT_LABELLED
    return errors


def gallery_html(frames: list[FramePanels], measure: str) -> str:
    """The frames one below the other; ``measure`` names their quality; nothing for no frames."""
    figures = []
    for frame in frames:
        panels = "".join(
            f'<div><span>{title}</span><img loading=lazy alt="{escape(frame.name)}: {title}" '
            f'src="{data_uri(picture)}"></div>'
            for title, picture in (
                ("prediction", frame.prediction),
                ("ground truth", frame.truth),
                ("errors", frame.errors),
            )
        )
        figures.append(
            f"<figure><figcaption><b>{escape(measure)} {percent(frame.quality)}</b> · "
            f'{escape(frame.name)}<br><span class="faint">{escape(frame.caption)}</span></figcaption>'
            f'<div class="panels">{panels}</div></figure>'
        )
    return f'<div class="frames">{"".join(figures)}</div>' if figures else ""


def error_legend() -> str:
    """What the colours of an error map mean."""
    entries = [
        (WRONG_CLASS, "wrong class"),
        (WRONG_INSTANCE, "right class, wrong instance"),
        (NOT_LABELLED, "left unlabelled"),
        ((0, 0, 0), "void in the ground truth"),
        ((110, 110, 110), "right"),
    ]
    shown = "".join(f"<span>{swatch(color)}{escape(text)}</span>" for color, text in entries)
    return f'<div class="legend">{shown}</div>'


def data_uri(jpeg: bytes) -> str:
    """A JPEG file as the address of a picture."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _caption(evaluated: EvaluatedFrame) -> str:
    record, taxonomy = evaluated.record, evaluated.frame.taxonomy
    if not evaluated.frame.sample.has_instances:
        lost = sorted(
            ((tp / (tp + fp + fn), class_id) for class_id, (tp, fp, fn) in record.pixels.items())
        )[:_WORST_CLASSES]
        return "lowest IoU: " + ", ".join(f"{taxonomy[c].name} {percent(v, 0)}" for v, c in lost)
    totals = [sum(values[i] for values in record.segments.values()) for i in range(3)]
    text = f"{totals[0]} matched, {totals[1]} false, {totals[2]} missed"
    missed = sorted(
        ((fp + fn, class_id) for class_id, (_, fp, fn, _) in record.segments.items() if fp + fn),
        reverse=True,
    )[:_WORST_CLASSES]
    if missed:
        text += "; most errors: " + ", ".join(taxonomy[c].name for _, c in missed)
    return text


def _jpeg(picture: npt.NDArray[np.uint8], width: int) -> bytes:
    scale = min(1.0, width / picture.shape[1])
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return bytes(data.tobytes())
