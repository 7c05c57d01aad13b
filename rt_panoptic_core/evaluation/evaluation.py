"""All measures together over a stream of frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from rt_panoptic_core.errors import TaxonomyError
from rt_panoptic_core.evaluation.boundary_quality import BoundaryQuality
from rt_panoptic_core.evaluation.boundary_regions import BOUNDARY_RATIO
from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.evaluation.instance_ap import (
    InstanceAP,
    instances_of_detections,
    instances_of_frame,
)
from rt_panoptic_core.evaluation.instance_recall import InstanceRecall, RecallBins
from rt_panoptic_core.evaluation.panoptic_quality import PanopticQuality
from rt_panoptic_core.evaluation.record import (
    ClassRecord,
    EvaluationRecord,
    FrameRecord,
    panoptic_to_json,
)
from rt_panoptic_core.evaluation.semantic_iou import SemanticIoU, class_pixels
from rt_panoptic_core.inference.result import Detections
from rt_panoptic_core.taxonomy import Taxonomy


class Evaluation:
    """Panoptic quality, boundary PQ, semantic IoU, instance AP, recall by size, and latency.

    Exact: the results do not depend on the order of frames, nor on how frames were shared out among
    evaluations that were then merged; only the frames' own order in the record does.
    """

    def __init__(
        self, taxonomy: Taxonomy, *, boundary_ratio: float | None = BOUNDARY_RATIO
    ) -> None:
        """Start with nothing counted.

        Args:
            taxonomy: the label set of truth and results.
            boundary_ratio: width of boundaries as a share of the diagonal; None for no boundary PQ.
        """
        self.taxonomy = taxonomy
        self.panoptic = PanopticQuality.for_taxonomy(taxonomy)
        self.boundary = (
            None if boundary_ratio is None else BoundaryQuality(taxonomy, boundary_ratio)
        )
        self.semantic = SemanticIoU.for_taxonomy(taxonomy)
        self.instances = InstanceAP.for_taxonomy(taxonomy)
        self.recall = InstanceRecall(taxonomy)
        self.frames: list[FrameRecord] = []
        self._has_instances = False

    def update(
        self,
        frame: Frame,
        *,
        detections: Detections | None = None,
        latency_ms: float | None = None,
    ) -> FrameRecord:
        """Count one frame and return what it added.

        Args:
            frame: truth and prediction.
            detections: instances with whole masks for AP; the result's own, visible ones for None.
            latency_ms: time from image to result.
        """
        segments = self.panoptic.add(frame.matches, frame.truth, frame.predicted)
        if self.boundary is not None:
            self.boundary.update(frame)
        confusion = self.semantic.update(frame.sample.semantic, frame.result.semantic)
        if frame.sample.has_instances:
            self._has_instances = True
            guesses = (
                instances_of_frame(frame)
                if detections is None
                else instances_of_detections(frame, detections)
            )
            self.instances.update(frame.truth, guesses)
            self.recall.update(frame)
        record = FrameRecord(frame.sample.name, segments, class_pixels(confusion), latency_ms)
        self.frames.append(record)
        return record

    def merge(self, other: Evaluation) -> None:
        """Add all that ``other`` counted; its frames come after those here.

        Raises:
            TaxonomyError: ``other`` has other classes or measures.
        """
        if (self.boundary is None) != (other.boundary is None):
            raise TaxonomyError("an evaluation with boundary PQ and one without cannot be merged")
        self.panoptic.merge(other.panoptic)
        if self.boundary is not None and other.boundary is not None:
            self.boundary.merge(other.boundary)
        self.semantic.merge(other.semantic)
        self.instances.merge(other.instances)
        self.recall.merge(other.recall)
        self.frames += other.frames
        self._has_instances |= other._has_instances

    def record(self, subject: dict[str, Any]) -> EvaluationRecord:
        """Results and frames so far; ``subject`` says of what.

        ``results["instances"]`` and ``results["recall"]`` are there only if any frame had instances.
        """
        results: dict[str, Any] = {"panoptic": panoptic_to_json(self.panoptic.result())}
        if self.boundary is not None:
            boundary = panoptic_to_json(self.boundary.result())
            results["boundary"] = {"ratio": self.boundary.ratio, **boundary}
        semantic = self.semantic.result()
        results["semantic"] = {
            "mean_iou": semantic.mean_iou,
            "pixel_accuracy": semantic.pixel_accuracy,
            "per_class": [float(iou) for iou in semantic.per_class],
            "confusion": semantic.confusion.tolist(),
        }
        if self._has_instances:
            precision = self.instances.result()
            results["instances"] = {
                "ap": precision.ap,
                "ap50": precision.ap50,
                "per_class": {self.taxonomy[c].name: v for c, v in precision.per_class.items()},
                "per_class_50": {
                    self.taxonomy[c].name: v for c, v in precision.per_class_50.items()
                },
            }
            results["recall"] = {"size": _recall_to_json(self.recall.by_size(), "px")}
            by_distance = self.recall.by_distance()
            if by_distance is not None:
                results["recall"]["distance"] = _recall_to_json(by_distance, "m")
        latency = latency_summary(
            frame.latency_ms for frame in self.frames if frame.latency_ms is not None
        )
        if latency is not None:
            results["latency_ms"] = latency
        classes = tuple(ClassRecord(c.name, c.is_thing, c.color) for c in self.taxonomy)
        return EvaluationRecord(subject, classes, results, tuple(self.frames))


def latency_summary(values: Iterable[float]) -> dict[str, float] | None:
    """Mean, median, 90th and 99th percentile, largest, of times in ms; None without any."""
    times = np.fromiter(values, dtype=np.float64)
    if not times.size:
        return None
    median, p90, p99 = np.percentile(times, [50, 90, 99])
    return {
        "mean": round(float(times.mean()), 3),
        "median": round(float(median), 3),
        "p90": round(float(p90), 3),
        "p99": round(float(p99), 3),
        "largest": round(float(times.max()), 3),
        "frames": int(times.size),
    }


def _recall_to_json(bins: RecallBins, unit: str) -> dict[str, Any]:
    return {
        "labels": bins.labels(unit),
        "edges": list(bins.edges),
        "truth": bins.truth.tolist(),
        "found": bins.found.tolist(),
    }
