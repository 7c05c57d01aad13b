"""What an evaluation leaves behind: a JSON with the results and a line for every frame."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.evaluation.panoptic_quality import (
    ClassQuality,
    MeanQuality,
    PanopticQualityResult,
    mean_quality,
)
from rt_panoptic_core.files import json_values, read_json, write_text

FORMAT = "rt-panoptic evaluation 1"
"""Value of ``format`` in the JSON; the number rises when old readers would misread a new file."""


@dataclass(frozen=True)
class FrameRecord:
    """What one frame added to the results.

    Attributes:
        name: the frame, unique in its evaluation.
        segments: ``(tp, fp, fn, sum of the matches' IoU)`` by class id.
        pixels: ``(tp, fp, fn)`` in pixels by class id; empty where semantics were not measured.
        latency_ms: time from image to result, where it was taken.
    """

    name: str
    segments: dict[int, tuple[int, int, int, float]]
    pixels: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    latency_ms: float | None = None

    def quality(self) -> float:
        """PQ of this frame alone: mean over the classes that occur in it; nan where none does."""
        return self.panoptic().pq

    def panoptic(self) -> MeanQuality:
        """PQ, SQ and RQ of this frame alone, over the classes that occur in it; nan where none does."""
        return mean_quality(self.segments.values())

    def mean_iou(self) -> float:
        """Mean semantic IoU of this frame alone, over the classes in it; nan where none is."""
        values = [tp / (tp + fp + fn) for tp, fp, fn in self.pixels.values()]
        return math.fsum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class ClassRecord:
    """A class of the evaluation; its place in the list is its class id."""

    name: str
    is_thing: bool
    color: tuple[int, int, int]


@dataclass(frozen=True)
class EvaluationRecord:
    """Results of an evaluation, all that its JSON holds.

    Attributes:
        subject: what was evaluated on what, texts and numbers by name (``model``, ``dataset``, …).
        classes: the classes by class id.
        results: ``panoptic`` and, where measured, ``boundary``, ``semantic``, ``instances``, ``recall``,
            ``latency_ms``; fractions in [0, 1], None where a value does not exist.
        frames: every frame.
    """

    subject: dict[str, Any]
    classes: tuple[ClassRecord, ...]
    results: dict[str, Any]
    frames: tuple[FrameRecord, ...]

    @property
    def is_of_files(self) -> bool:
        """Whether prediction files were scored, not a model's results: pixels are then the segments' own.

        A thing pixel without an instance is void in files; in a model's results it has its class.
        """
        return "ground_truth" in self.subject and "predictions" in self.subject

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON atomically, a line for every part of the results and for every frame.

        Raises:
            OSError: the file cannot be written.
        """
        head = {
            "format": FORMAT,
            "subject": self.subject,
            "classes": [
                {"name": c.name, "thing": c.is_thing, "color": list(c.color)} for c in self.classes
            ],
            **self.results,
        }
        # A line for a part and for a frame: easy on the eye, and many times faster than indenting.
        parts = [
            f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"
            for key, value in json_values(head).items()
        ]
        frames = [json.dumps(_frame_to_json(frame), allow_nan=False) for frame in self.frames]
        parts.append('"frames": [\n  ' + ",\n  ".join(frames) + "\n ]")
        write_text(path, "{\n " + ",\n ".join(parts) + "\n}\n")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> EvaluationRecord:
        """Record from its JSON.

        Raises:
            DatasetError: missing, or not such a JSON; it is named.
        """
        name = os.fspath(path)
        content = read_json(path, DatasetError)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else None
            raise DatasetError(
                f"{name}: its format is {found!r}, not {FORMAT!r}; give a JSON that "
                "'rt-panoptic evaluate' or 'rt-panoptic score' wrote"
            )
        try:
            classes = tuple(
                ClassRecord(item["name"], bool(item["thing"]), _color(item["color"]))
                for item in content.pop("classes")
            )
            frames = tuple(_frame_from_json(item) for item in content.pop("frames"))
            subject = content.pop("subject")
            if not isinstance(subject, dict):
                raise TypeError("'subject' must be an object")
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{name}: damaged record: {error!r}") from error
        content.pop("format")
        return cls(subject, classes, content, frames)


def panoptic_to_json(result: PanopticQualityResult) -> dict[str, Any]:
    """Panoptic quality as plain data: ``all``, ``things``, ``stuff``, ``per_class`` by class id."""
    return {
        "all": _mean_to_json(result.all),
        "things": _mean_to_json(result.things),
        "stuff": _mean_to_json(result.stuff),
        "per_class": [_class_to_json(quality) for quality in result.per_class],
    }


def _mean_to_json(mean: MeanQuality) -> dict[str, Any]:
    return {
        "pq": mean.pq,
        "sq": mean.sq,
        "rq": mean.rq,
        "n": mean.n,
        "tp": mean.tp,
        "fp": mean.fp,
        "fn": mean.fn,
    }


def _class_to_json(quality: ClassQuality) -> dict[str, Any]:
    return {
        "name": quality.name,
        "pq": quality.pq,
        "sq": quality.sq,
        "rq": quality.rq,
        "tp": quality.tp,
        "fp": quality.fp,
        "fn": quality.fn,
    }


def _frame_to_json(frame: FrameRecord) -> dict[str, Any]:
    item: dict[str, Any] = {"name": frame.name, "segments": frame.segments}
    if frame.pixels:
        item["pixels"] = frame.pixels
    if frame.latency_ms is not None:
        item["latency_ms"] = round(frame.latency_ms, 3)
    return item


def _frame_from_json(item: Mapping[str, Any]) -> FrameRecord:
    segments = {}
    for class_id, (tp, fp, fn, iou) in item["segments"].items():
        segments[int(class_id)] = (int(tp), int(fp), int(fn), float(iou))
    pixels = {}
    for class_id, (tp, fp, fn) in item.get("pixels", {}).items():
        pixels[int(class_id)] = (int(tp), int(fp), int(fn))
    latency = item.get("latency_ms")
    return FrameRecord(
        str(item["name"]), segments, pixels, None if latency is None else float(latency)
    )


def _color(value: Any) -> tuple[int, int, int]:
    red, green, blue = (int(part) for part in value)
    return red, green, blue
