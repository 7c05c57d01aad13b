"""Everything measured on the frames of one image topic, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.bags.consistency import TemporalConsistency
from rt_panoptic_core.bags.frames import Frame
from rt_panoptic_core.bags.ground_truth import GroundTruth, GroundTruthSource
from rt_panoptic_core.bags.quality import TruthQuality
from rt_panoptic_core.bags.records import ANSWERED, FrameRecord, Pace
from rt_panoptic_core.errors import DatasetError, ImageError
from rt_panoptic_core.files import json_values
from rt_panoptic_core.inference.result import PanopticResult, label_areas
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy

_WITHOUT_TRUTH = "frames without ground truth of their stamp"
_MOST_PROBLEMS = 20
"""So many kinds of problems are told apart: in a long bag each frame may have one of its own."""


class TopicAnalysis:
    """Records and measures of one image topic.

    Attributes:
        topic: its name.
        records: one for each frame added, in their order.
        quality: measures against ground truth, or None where there is none.
        problems: how often something was wrong, by what.
    """

    def __init__(
        self,
        topic: str,
        taxonomy: Taxonomy,
        truth: GroundTruthSource | None,
        windows: Sequence[int] = (1, 5, 10, 15),
    ) -> None:
        """Start with no frame.

        Args:
            topic: the image topic.
            taxonomy: the model's.
            truth: ground truth by stamp, or None.
            windows: lengths of the windows of video panoptic quality, frames.
        """
        self.topic = topic
        self.records: list[FrameRecord] = []
        self.problems: dict[str, int] = {}
        self._taxonomy = taxonomy
        self._truth = truth
        self.quality = (
            TruthQuality(taxonomy, windows, has_instances=truth.has_instances)
            if truth is not None
            else None
        )
        self._consistency = TemporalConsistency(len(taxonomy))
        self._pace = Pace()
        self._areas = np.zeros(256, dtype=np.int64)
        self._encoding = ""
        self._nearest_truth: int | None = None

    def add(
        self,
        frame: Frame,
        result: PanopticResult | None,
        *,
        status: str = ANSWERED,
        error: str = "",
        latency: float | None = None,
    ) -> FrameRecord:
        """Record of a frame, with everything that can be measured on it.

        Args:
            frame: the picture.
            result: what was said of it; None where nothing was.
            status: see :class:`FrameRecord`.
            error: why there is no result.
            latency: seconds, in real time.
        """
        record = FrameRecord(
            topic=self.topic,
            number=frame.number,
            stamp=frame.stamp,
            time=frame.message.time,
            status=status,
            note=self._pace.note(frame.stamp),
            error=error,
            encoding=frame.encoding,
            latency=latency,
        )
        self.records.append(record)
        self._watch(record, frame)
        if frame.image is not None:
            record.height, record.width = frame.image.shape[:2]
        if record.note:
            self._consistency.skip()
            if self.quality is not None:
                self.quality.interrupt()
        if frame.image is None or result is None:
            self._consistency.skip()
            if self.quality is not None:
                self.quality.interrupt()
            return record
        self._measure(record, frame.image, result)
        truth = self._find_truth(frame)
        if truth is not None and self.quality is not None:
            record.truth_stamp = truth.stamp
            try:
                scores = self.quality.add(
                    _frame_name(frame.number), truth, frame.image, result, latency
                )
            except (DatasetError, ImageError) as error_:
                self._count(f"ground truth of {self.topic} is not usable: {error_}")
                self.quality.interrupt()
            else:
                record.pq, record.sq, record.rq, record.miou = scores
        return record

    def summary(self) -> dict[str, Any]:
        """Plain data of all that was measured; None where nothing could be."""
        statuses = [record.status for record in self.records]
        answered = [record for record in self.records if record.status == ANSWERED]
        stamps = [record.stamp for record in self.records]
        steps = np.diff(np.array(stamps, dtype=np.int64)) / 1e9
        total = int(self._areas.sum())
        return {
            "topic": self.topic,
            "frames": len(self.records),
            "statuses": {name: statuses.count(name) for name in sorted(set(statuses))},
            "notes": {
                name: sum(record.note == name for record in self.records)
                for name in ("gap", "back", "repeat")
            },
            "duration": (max(stamps) - min(stamps)) / 1e9 if stamps else 0.0,
            "median_step": float(np.median(steps)) if len(steps) else None,
            "longest_step": float(steps.max()) if len(steps) else None,
            "instances_per_frame": (
                sum(record.instances for record in answered) / len(answered) if answered else None
            ),
            "consistency": {
                "flicker": self._consistency.flicker,
                "temporal_mean_iou": self._consistency.mean_iou,
            },
            "shares": {
                **{
                    category.name: int(self._areas[category.class_id]) / total
                    for category in self._taxonomy
                    if total and self._areas[category.class_id]
                },
                **(
                    {"unlabelled": int(self._areas[UNLABELLED]) / total}
                    if total and self._areas[UNLABELLED]
                    else {}
                ),
            },
            "quality": None if self.quality is None else json_values(self.quality.summary()),
            "problems": dict(sorted((self._worded(name), n) for name, n in self.problems.items())),
        }

    def _measure(
        self, record: FrameRecord, image: npt.NDArray[np.uint8], result: PanopticResult
    ) -> None:
        areas = label_areas(result.semantic)
        self._areas += areas
        record.shares = (areas[: len(self._taxonomy)] / result.semantic.size).tolist()
        record.unlabelled = float(areas[UNLABELLED] / result.semantic.size)
        record.instances = len(result.instances)
        record.flicker = self._consistency.update(image, result.semantic)

    def _find_truth(self, frame: Frame) -> GroundTruth | None:
        if self._truth is None:
            return None
        try:
            truth = self._truth.find(frame.stamp)
        except ImageError as error:
            self._count(f"ground truth is not readable: {error}")
            truth = None
        else:
            if truth is None:
                self._count(_WITHOUT_TRUTH)
                distance = self._truth.distance(frame.stamp)
                if distance is not None:
                    self._nearest_truth = min(distance, self._nearest_truth or distance)
        if truth is None and self.quality is not None:
            self.quality.interrupt()
        return truth

    def _worded(self, problem: str) -> str:
        """``problem``, with the way out where no frame at all has met its ground truth."""
        if problem != _WITHOUT_TRUTH or self._nearest_truth is None:
            return problem
        if any(record.truth_stamp is not None for record in self.records):
            return problem
        seconds = self._nearest_truth / 1e9
        return f"{problem}: the nearest is {seconds:.6g} s off; --tolerance takes what is near"

    def _watch(self, record: FrameRecord, frame: Frame) -> None:
        if record.note == "gap":
            self._count("gaps in the stamps")
        elif record.note:
            self._count("stamps that do not rise")
        if frame.error:
            self._count(f"messages that do not decode: {frame.error}")
        if record.encoding and self._encoding and record.encoding != self._encoding:
            self._count(f"encoding changed from {self._encoding} to {record.encoding}")
        self._encoding = record.encoding or self._encoding

    def _count(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) >= _MOST_PROBLEMS:
            problem = "other problems"
        self.problems[problem] = self.problems.get(problem, 0) + 1


def _frame_name(number: int) -> str:
    """What a frame of a topic is called in its evaluation: the same in every evaluation of the bag."""
    return f"frame {number:06d}"
