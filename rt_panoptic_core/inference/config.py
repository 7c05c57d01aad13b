"""How network outputs become a panoptic map: the thresholds and choices of the method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.network.config import PresetConfig

CORRELATIONS = ("iou", "giou")
FUSION_ORDERS = ("probability", "score")

_MOST = {"candidates_per_level": 1_000_000, "candidates": 10_000, "suppression_rounds": 1000}
"""A header from a foreign file must not make work without end: suppression compares all candidates."""


@dataclass(frozen=True)
class InferenceConfig(PresetConfig):
    """Settings of query selection, mask construction and fusion.

    Attributes:
        candidate_threshold: a location's class probability must exceed it to be a candidate.
        candidates_per_level: at most so many candidates of a pyramid level, by score.
        candidates: at most so many enter suppression.
        suppression_rounds: of the fixed-shape suppression; a chain of overlapping boxes longer than this
            may be resolved differently from greedy suppression.
        nms_threshold: IoU above which the weaker box of a class is suppressed.
        global_nms_threshold: the same over all classes, afterwards.
        max_instances: query boxes, padded to exactly this many; at most 254.
        correlation: P_loc of a dense box and a query box, ``iou`` (eq. 6) or ``giou`` (published).
        mask_threshold: σ of eq. 7.
        score_threshold: a query box below it makes no instance.
        overlap_threshold: an instance that keeps less than this share of its mask is dropped.
        stuff_area_limit: stuff with fewer pixels is unlabelled, at the network's input size.
        fusion_order: who gets a pixel that several masks claim: the highest mask ``probability``, or the
            highest detection ``score`` as in Kirillov et al.
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {
        "candidate_threshold": 0.06,
        "correlation": "giou",
        "mask_threshold": 0.4,
    }

    candidate_threshold: float = 0.05
    candidates_per_level: int = 1000
    candidates: int = 1000
    suppression_rounds: int = 12
    nms_threshold: float = 0.6
    global_nms_threshold: float = 0.97
    max_instances: int = 100
    correlation: str = "iou"
    mask_threshold: float = 0.3
    score_threshold: float = 0.3
    overlap_threshold: float = 0.5
    stuff_area_limit: int = 2048
    fusion_order: str = "probability"

    def __post_init__(self) -> None:
        for name in (
            "candidate_threshold",
            "nms_threshold",
            "global_nms_threshold",
            "mask_threshold",
            "score_threshold",
            "overlap_threshold",
        ):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name} {value}: it must lie between 0 and 1")
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} {getattr(self, name)}: it must be 1 to {most}")
        if not 1 <= self.max_instances <= 254:
            raise ConfigError(f"max_instances {self.max_instances}: it must be 1 to 254")
        if self.stuff_area_limit < 0:
            raise ConfigError(f"stuff_area_limit {self.stuff_area_limit}: it must not be negative")
        if self.correlation not in CORRELATIONS:
            raise ConfigError(f"correlation {self.correlation!r}: one of {', '.join(CORRELATIONS)}")
        if self.fusion_order not in FUSION_ORDERS:
            raise ConfigError(
                f"fusion_order {self.fusion_order!r}: one of {', '.join(FUSION_ORDERS)}"
            )

    @property
    def thresholds(self) -> Thresholds:
        """The settings that may change from frame to frame."""
        return Thresholds(
            self.score_threshold,
            self.mask_threshold,
            self.overlap_threshold,
            float(self.stuff_area_limit),
        )


@dataclass(frozen=True)
class Thresholds:
    """What may change between two frames without building anything again.

    An engine takes them as a second input, float32 [4], in this order.
    """

    score: float
    mask: float
    overlap: float
    stuff_area: float

    def __post_init__(self) -> None:
        for name in ("score", "mask", "overlap"):
            value: Any = getattr(self, name)
            if not (isinstance(value, Real) and 0.0 <= value <= 1.0):  # type: ignore[operator]
                raise ConfigError(f"{name} threshold {value!r}: it must be a number from 0 to 1")
        area: Any = self.stuff_area
        if not (isinstance(area, Real) and area >= 0):  # type: ignore[operator]
            raise ConfigError(f"stuff area limit {area!r}: it must be 0 or more")

    def as_tuple(self) -> tuple[float, float, float, float]:
        """The values in the order of the engine's input."""
        return self.score, self.mask, self.overlap, self.stuff_area
