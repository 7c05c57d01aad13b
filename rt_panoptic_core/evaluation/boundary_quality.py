"""Boundary quality: how well the outlines of segments fit, whatever their size.

Boundary PQ (Cheng et al., CVPR 2021) is panoptic quality with the smaller of mask IoU and boundary IoU
for the IoU, where boundary IoU is that of the segments' boundary regions: large segments no longer hide
a ragged outline behind their area.
"""

from __future__ import annotations

from rt_panoptic_core.errors import ConfigError, TaxonomyError
from rt_panoptic_core.evaluation.boundary_regions import BOUNDARY_RATIO, boundary_overlaps
from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.evaluation.matching import SegmentMatches, match_segments
from rt_panoptic_core.evaluation.panoptic_quality import PanopticQuality, PanopticQualityResult
from rt_panoptic_core.taxonomy import Taxonomy


class BoundaryQuality:
    """Boundary PQ over a stream of images; exact and mergeable as :class:`PanopticQuality` is."""

    def __init__(self, taxonomy: Taxonomy, ratio: float = BOUNDARY_RATIO) -> None:
        """Start with nothing counted.

        Args:
            taxonomy: the classes.
            ratio: boundary width as a share of the image's diagonal, in (0, 1).

        Raises:
            ConfigError: ``ratio`` is out of range.
        """
        if not 0 < ratio < 1:
            raise ConfigError(f"boundary ratio {ratio}: it must be between 0 and 1")
        self.ratio = ratio
        self.quality = PanopticQuality.for_taxonomy(taxonomy)

    def update(self, frame: Frame) -> SegmentMatches:
        """Count one image and return its matches."""
        shared = boundary_overlaps(frame.truth_ids, frame.predicted_ids, self.ratio)
        matches = match_segments(frame.overlap, frame.truth, frame.predicted, shared)
        if not frame.sample.has_instances:
            matches = frame.without_things(matches)
        self.quality.add(matches, frame.truth, frame.predicted)
        return matches

    def merge(self, other: BoundaryQuality) -> None:
        """Add all that ``other`` counted.

        Raises:
            TaxonomyError: ``other`` has other classes or another ratio.
        """
        if self.ratio != other.ratio:
            raise TaxonomyError(
                f"boundary PQ at ratio {other.ratio} cannot be merged into {self.ratio}"
            )
        self.quality.merge(other.quality)

    def result(self) -> PanopticQualityResult:
        """Boundary PQ of all that was counted."""
        return self.quality.result()

    def reset(self) -> None:
        """Forget everything counted."""
        self.quality.reset()
