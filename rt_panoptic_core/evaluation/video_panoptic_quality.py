"""Video panoptic quality: panoptic quality of tubes, an instance's masks through a window of frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import ConfigError, TaxonomyError
from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.evaluation.matching import match_segments
from rt_panoptic_core.evaluation.overlaps import Overlaps, Segment, add_overlaps, overlaps
from rt_panoptic_core.evaluation.panoptic_quality import PanopticQuality, PanopticQualityResult
from rt_panoptic_core.panoptic_format import VOID
from rt_panoptic_core.taxonomy import Taxonomy

WINDOWS = (1, 5, 10, 15)
"""Lengths of the windows, in frames."""


class _TubeFrame(NamedTuple):
    """One frame whose ids are those of tubes."""

    overlap: Overlaps
    truth: dict[int, Segment]
    predicted: dict[int, Segment]


@dataclass(frozen=True)
class VideoPanopticQualityResult:
    """Video panoptic quality, in [0, 1].

    Attributes:
        vpq: mean of the windows' PQ over all classes; nan where no window was ever full.
        things: the same over things.
        stuff: the same over stuff.
        windows: panoptic quality of tubes by window length.
    """

    vpq: float
    things: float
    stuff: float
    windows: dict[int, PanopticQualityResult]


class VideoPanopticQuality:
    """Video panoptic quality over sequences (Kim et al., CVPR 2020, 'Video Panoptic Segmentation').

    A window of k frames slides over a sequence frame by frame. In each, all pixels of an id make one
    tube; tubes match as segments of one picture would, with IoU over all the window's pixels together.
    A tube that changes its id is missed, so the measure falls where tracking fails; with k = 1 it is
    panoptic quality. An id that changes its class starts another tube. VPQ is the mean over the window
    lengths; a sequence shorter than a window adds nothing to it. ::

        quality = VideoPanopticQuality.for_taxonomy(taxonomy)
        for sequence in sequences:
            quality.start_sequence()
            for sample, result in sequence:
                quality.update_frame(Frame.of(sample, result, taxonomy))
    """

    def __init__(
        self,
        class_names: Sequence[str],
        is_thing: Sequence[bool],
        windows: Iterable[int] = WINDOWS,
    ) -> None:
        """Start with nothing counted.

        Args:
            class_names: names by class id.
            is_thing: whether a class is a thing, by class id.
            windows: lengths in frames, each at least 1.

        Raises:
            ConfigError: no window, or one without a frame.
        """
        self.windows = tuple(sorted(set(windows)))
        if not self.windows or self.windows[0] < 1:
            raise ConfigError(f"windows {list(self.windows)}: they must be 1 frame or longer")
        self._qualities = {k: PanopticQuality(class_names, is_thing) for k in self.windows}
        self.start_sequence()

    @classmethod
    def for_taxonomy(
        cls, taxonomy: Taxonomy, windows: Iterable[int] = WINDOWS
    ) -> VideoPanopticQuality:
        """Quality over the classes of ``taxonomy``."""
        return cls(taxonomy.names, [category.is_thing for category in taxonomy], windows)

    def reset(self) -> None:
        """Forget everything counted."""
        for quality in self._qualities.values():
            quality.reset()
        self.start_sequence()

    def start_sequence(self) -> None:
        """Say that the next frame does not follow the last: ids start anew."""
        self._frames: deque[_TubeFrame] = deque(maxlen=self.windows[-1])
        self._truth_tubes: dict[tuple[int, int, bool], int] = {}
        self._predicted_tubes: dict[tuple[int, int, bool], int] = {}

    def update(
        self,
        truth_ids: npt.NDArray[np.integer[Any]],
        truth: Mapping[int, Segment],
        predicted_ids: npt.NDArray[np.integer[Any]],
        predicted: Mapping[int, Segment],
    ) -> None:
        """Count the next frame of the sequence.

        Args:
            truth_ids: integers [H, W] that stay with an object through the sequence; 0 is void.
            truth: the frame's true segments by id.
            predicted_ids: integers [H, W] that stay with an object as well as tracking can; 0 is void.
            predicted: the frame's predicted segments by id.
        """
        self._push(overlaps(truth_ids, predicted_ids), truth, predicted, lambda truth_id: truth_id)

    def update_frame(self, frame: Frame) -> None:
        """Count the next frame of the sequence; its instance ids must be the tracks' on both sides."""

        def stable(truth_id: int) -> int:
            row = frame.instance_rows.get(truth_id)
            # Stuff and instances live in one space of ids; stuff goes below zero, out of the way.
            return -truth_id if row is None else frame.sample.instances[row].id

        predicted = frame.predicted
        if not frame.sample.has_instances:
            is_thing = frame.taxonomy.is_thing
            predicted = {k: seg for k, seg in predicted.items() if not is_thing[seg.class_id]}
        self._push(frame.overlap, frame.truth, predicted, stable)

    def merge(self, other: VideoPanopticQuality) -> None:
        """Add all that ``other`` counted; the sequences of both stay apart.

        Raises:
            TaxonomyError: ``other`` has other classes or windows.
        """
        if self.windows != other.windows:
            raise TaxonomyError(f"windows {other.windows} cannot be merged into {self.windows}")
        for k, quality in self._qualities.items():
            quality.merge(other._qualities[k])

    def result(self) -> VideoPanopticQualityResult:
        """Quality of all full windows so far."""
        windows = {k: quality.result() for k, quality in self._qualities.items()}
        return VideoPanopticQualityResult(
            vpq=_mean(result.all.pq for result in windows.values()),
            things=_mean(result.things.pq for result in windows.values()),
            stuff=_mean(result.stuff.pq for result in windows.values()),
            windows=windows,
        )

    def _push(
        self,
        overlap: Overlaps,
        truth: Mapping[int, Segment],
        predicted: Mapping[int, Segment],
        stable: Callable[[int], int],
    ) -> None:
        truth_tubes = {
            key: _tube(self._truth_tubes, segment, stable(key)) for key, segment in truth.items()
        }
        predicted_tubes = {
            key: _tube(self._predicted_tubes, segment, key) for key, segment in predicted.items()
        }
        renamed = Overlaps(
            _rename(overlap.truth_ids, truth_tubes),
            _rename(overlap.predicted_ids, predicted_tubes),
            overlap.pixels,
        )
        self._frames.append(
            _TubeFrame(
                renamed,
                {truth_tubes[key]: segment for key, segment in truth.items()},
                {predicted_tubes[key]: segment for key, segment in predicted.items()},
            )
        )
        frames = list(self._frames)
        for k, quality in self._qualities.items():
            if len(frames) >= k:
                window = frames[-k:]
                total = add_overlaps(frame.overlap for frame in window)
                truth_total = _add_segments(frame.truth for frame in window)
                predicted_total = _add_segments(frame.predicted for frame in window)
                matches = match_segments(total, truth_total, predicted_total)
                quality.add(matches, truth_total, predicted_total)


def _tube(tubes: dict[tuple[int, int, bool], int], segment: Segment, key: int) -> int:
    """Number of a tube, from 1 by first sight."""
    return tubes.setdefault((segment.class_id, key, segment.is_crowd), len(tubes) + 1)


def _rename(ids: npt.NDArray[np.int64], tubes: Mapping[int, int]) -> npt.NDArray[np.int64]:
    # An id without a segment is neither void nor a tube; -1 would break the packing of pairs.
    unknown = (1 << 31) - 1
    return np.array(
        [VOID if key == VOID else tubes.get(key, unknown) for key in ids.tolist()], dtype=np.int64
    )


def _add_segments(frames: Iterable[Mapping[int, Segment]]) -> dict[int, Segment]:
    total: dict[int, Segment] = {}
    for segments in frames:
        for key, segment in segments.items():
            before = total.get(key)
            area = segment.area + (before.area if before else 0)
            total[key] = Segment(segment.class_id, area, segment.is_crowd)
    return total


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")
