"""How far two runs of one model agree: panoptic quality with one of them as the truth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample, present_ids
from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.evaluation.panoptic_quality import PanopticQuality, PanopticQualityResult
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy


def as_truth(result: PanopticResult, taxonomy: Taxonomy) -> PanopticSample:
    """``result`` as if it were annotated; things without an instance are void, as in panoptic files."""
    semantic = result.semantic.copy()
    semantic[taxonomy.is_thing[semantic] & (result.instance == 0)] = UNLABELLED
    present = present_ids(result.instance)
    return PanopticSample(
        name="reference",
        image=np.empty((0, 0, 3), dtype=np.uint8),
        semantic=semantic,
        instance=result.instance.astype(np.int32),
        instances=tuple(
            InstanceAnnotation(segment.id, segment.class_id)
            for segment in result.instances
            if segment.id in present
        ),
    )


def agreement(
    pairs: Iterable[tuple[PanopticResult, PanopticResult]], taxonomy: Taxonomy
) -> PanopticQualityResult:
    """Panoptic quality of the second of each of ``pairs`` with the first as the truth: 1 if equal."""
    quality = PanopticQuality.for_taxonomy(taxonomy)
    for reference, result in pairs:
        frame = Frame.of(as_truth(reference, taxonomy), result, taxonomy)
        quality.add(frame.matches, frame.truth, frame.predicted)
    return quality.result()
