"""The quality measures over the frames of a bag that have ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.bags.ground_truth import GroundTruth
from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample
from rt_panoptic_core.evaluation.evaluation import Evaluation
from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.evaluation.overlaps import overlaps
from rt_panoptic_core.evaluation.panoptic_quality import MeanQuality
from rt_panoptic_core.evaluation.record import EvaluationRecord
from rt_panoptic_core.evaluation.report.pictures import FrameGallery
from rt_panoptic_core.evaluation.runner import EvaluatedFrame
from rt_panoptic_core.evaluation.video_panoptic_quality import VideoPanopticQuality
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.taxonomy import Taxonomy


class TruthQuality:
    """PQ, mIoU, AP and video PQ of frames given in order, and pictures of the worst and the best.

    Attributes:
        frames: how many.
        gallery: the pictures.
    """

    def __init__(self, taxonomy: Taxonomy, windows: Sequence[int], *, has_instances: bool) -> None:
        """Start with nothing counted."""
        self._taxonomy = taxonomy
        self._has_instances = has_instances
        # Boundary quality would take longer than all the rest.
        self._evaluation = Evaluation(taxonomy, boundary_ratio=None)
        self._video = VideoPanopticQuality.for_taxonomy(taxonomy, windows)
        self.gallery = FrameGallery()
        self.frames = 0

    def add(
        self,
        name: str,
        truth: GroundTruth,
        image: npt.NDArray[np.uint8],
        result: PanopticResult,
        latency: float | None = None,
    ) -> tuple[float | None, float | None, float | None, float | None]:
        """PQ, SQ, RQ and mIoU of the frame ``name`` alone, after counting it; None where not defined.

        Args:
            name: the frame's own in this evaluation.
            truth: its labels.
            image: uint8 [H, W, 3] RGB.
            result: what was said of it.
            latency: seconds from its publication to the result, in real time.

        Raises:
            ImageError: truth and result are of different sizes.
            DatasetError: the truth has a class that there is not.
        """
        frame = Frame.of(as_sample(name, truth, image), result, self._taxonomy)
        record = self._evaluation.update(
            frame, latency_ms=None if latency is None else 1e3 * latency
        )
        self._video.update_frame(frame)
        self.gallery.add(EvaluatedFrame(frame, record))
        self.frames += 1
        alone = record.panoptic()
        return _finite(alone.pq), _finite(alone.sq), _finite(alone.rq), _finite(record.mean_iou())

    def record(self, subject: dict[str, Any]) -> EvaluationRecord:
        """What `rt-panoptic evaluate` would leave of the frames; ``subject`` says of what."""
        return self._evaluation.record(subject)

    def interrupt(self) -> None:
        """The next frame does not follow the last one: no window reaches over the break."""
        self._video.start_sequence()

    def summary(self) -> dict[str, Any]:
        """Plain data; NaN where nothing was counted."""
        panoptic = self._evaluation.panoptic.result()
        semantic = self._evaluation.semantic.result()
        instance = self._evaluation.instances.result()
        video = self._video.result()
        return {
            "frames": self.frames,
            "panoptic": {
                "all": _mean(panoptic.all),
                "things": _mean(panoptic.things) if self._has_instances else None,
                "stuff": _mean(panoptic.stuff),
            },
            "mean_iou": semantic.mean_iou,
            "pixel_accuracy": semantic.pixel_accuracy,
            "ap": instance.ap if self._has_instances else None,
            "ap50": instance.ap50 if self._has_instances else None,
            "video": {
                "vpq": video.vpq,
                "things": video.things if self._has_instances else None,
                "stuff": video.stuff,
                "windows": {
                    str(length): {
                        "all": quality.all.pq,
                        "things": quality.things.pq if self._has_instances else None,
                        "stuff": quality.stuff.pq,
                    }
                    for length, quality in video.windows.items()
                },
            },
            "classes": {
                quality.name: {
                    "pq": quality.pq,
                    "sq": quality.sq,
                    "rq": quality.rq,
                    "iou": float(semantic.per_class[quality.class_id]),
                    "ap": instance.per_class.get(quality.class_id, math.nan),
                    "tp": quality.tp,
                    "fp": quality.fp,
                    "fn": quality.fn,
                }
                for quality in panoptic.per_class
                if quality.tp + quality.fp + quality.fn
            },
        }


def as_sample(name: str, truth: GroundTruth, image: npt.NDArray[np.uint8]) -> PanopticSample:
    """The truth as a data set would give it: each instance has the class of most of its pixels."""
    if truth.instance is None:
        nothing = np.zeros(truth.semantic.shape, dtype=np.int32)
        return PanopticSample(name, image, truth.semantic, nothing, (), False)
    shared = overlaps(truth.instance, truth.semantic)
    best: dict[int, tuple[int, int]] = {}
    for instance_id, class_id, pixels in zip(
        shared.truth_ids.tolist(),
        shared.predicted_ids.tolist(),
        shared.pixels.tolist(),
        strict=True,
    ):
        if instance_id and pixels > best.get(instance_id, (0, 0))[0]:
            best[instance_id] = (pixels, class_id)
    # An instance that lies on void belongs to no class of the model: it is void itself.
    void = [instance_id for instance_id, (_, class_id) in best.items() if class_id == 255]
    instance = truth.instance
    if void:
        instance = np.where(np.isin(instance, void), 0, instance)
    annotations = tuple(
        InstanceAnnotation(instance_id, class_id)
        for instance_id, (_, class_id) in best.items()
        if class_id != 255
    )
    return PanopticSample(name, image, truth.semantic, instance, annotations)


def _mean(mean: MeanQuality) -> dict[str, float]:
    return {"pq": mean.pq, "sq": mean.sq, "rq": mean.rq, "classes": mean.n}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
