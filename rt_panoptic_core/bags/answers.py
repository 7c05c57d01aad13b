"""Where the results for a bag's frames come from: an engine, or a recording of what the node said."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.bags.annotate import RecordedResults, as_recorded, numbered_by_score
from rt_panoptic_core.bags.frames import Frame
from rt_panoptic_core.bags.records import ANSWERED, DROPPED, FAILED, UNREADABLE
from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.inference.tracking import InstanceTracker
from rt_panoptic_core.taxonomy import Taxonomy


class Answer(NamedTuple):
    """What was said of a frame.

    Attributes:
        result: as the source gave it; None where there is none.
        status: see :class:`FrameRecord`.
        error: why there is none.
        read_back: the result was read from a bag, not computed now.
        latency: seconds, in real time.
    """

    result: PanopticResult | None
    status: str = ANSWERED
    error: str = ""
    read_back: bool = False
    latency: float | None = None


class Answers(Protocol):
    """A source of results; frames are given in the order of the bag."""

    def answer(self, frame: Frame) -> Answer:
        """What it says of ``frame``; called on the thread that does the inference."""

    def settle(self, frame: Frame, answer: Answer) -> PanopticResult | None:
        """The result to measure and write; called in the same order, on another thread."""

    def close(self) -> None:
        """Close files."""


class Segments(Protocol):
    """What turns images into results: :class:`rt_panoptic_core.Segmenter`, or a stand-in for it."""

    @property
    def taxonomy(self) -> Taxonomy:
        """Its classes."""

    def segment(self, image: npt.NDArray[np.uint8]) -> PanopticResult:
        """Result for an image."""


@dataclass
class Timing:
    """Where the time went, seconds.

    Attributes:
        elapsed: from the first message to the last output.
        inference: of each computed frame, by topic in the order of its frames; None where one was not
            computed (read back, or not readable).
        resumed: frames read back from an interrupted run.
        processor: of processor time, by what was done; see :class:`EvaluationRun`.
    """

    elapsed: float = 0.0
    inference: dict[str, list[float | None]] = field(default_factory=dict)
    resumed: int = 0
    processor: dict[str, float] = field(default_factory=dict)

    @property
    def computed(self) -> list[float]:
        """The computed frames' seconds."""
        return [s for times in self.inference.values() for s in times if s is not None]


class EngineAnswers:
    """Results of an engine, but for the frames that an interrupted run has done already.

    Attributes:
        timing: how long each frame took.
    """

    def __init__(
        self, segmenter: Segments, *, track: bool = True, done: RecordedResults | None = None
    ) -> None:
        """Answer with ``segmenter``.

        Args:
            segmenter: the engine.
            track: give an object the same instance id in every frame.
            done: what an interrupted run left.
        """
        self._segmenter = segmenter
        self._track = track
        self._done = done
        self._trackers: dict[str, InstanceTracker] = {}
        self._first_stamps: dict[str, int] = {}
        self.timing = Timing()

    def answer(self, frame: Frame) -> Answer:
        """See :class:`Answers`.

        Raises:
            EngineError: the engine failed.
        """
        times = self.timing.inference.setdefault(frame.topic, [])
        if frame.image is None:
            times.append(None)
            return Answer(None, UNREADABLE, frame.error)
        result = self._done.take(frame) if self._done is not None else None
        if result is not None:
            times.append(None)
            self.timing.resumed += 1
            return Answer(result, read_back=True)
        started = time.perf_counter()
        try:
            result = self._segmenter.segment(frame.image)
        except ImageError as error:
            times.append(None)
            return Answer(None, FAILED, str(error))
        times.append(time.perf_counter() - started)
        return Answer(result)

    def settle(self, frame: Frame, answer: Answer) -> PanopticResult | None:
        """The same result, whether it was computed now or read back, with its ids tracked."""
        if answer.result is None:
            return None
        if answer.read_back:
            result = numbered_by_score(answer.result)
        else:
            result = as_recorded(answer.result, self._segmenter.taxonomy)
        if not self._track:
            return result
        tracker = self._trackers.setdefault(frame.topic, InstanceTracker())
        # From the first stamp on: a float holds nanoseconds of hours, not of the years since 1970.
        first = self._first_stamps.setdefault(frame.topic, frame.stamp)
        return tracker.update(result, (frame.stamp - first) / 1e9)

    def close(self) -> None:
        """Close what the interrupted run left."""
        if self._done is not None:
            self._done.close()


class ReplayAnswers:
    """What a node said while the bag was played to it."""

    def __init__(
        self, results: RecordedResults, latencies: Mapping[tuple[str, int], float]
    ) -> None:
        """Answer from a recording.

        Args:
            results: what the node published.
            latencies: seconds from publication to the result, by image topic and number of the frame.
        """
        self._results = results
        self._latencies = latencies

    def answer(self, frame: Frame) -> Answer:
        """See :class:`Answers`."""
        result = self._results.take(frame)
        if result is not None:
            latency = self._latencies.get((frame.topic, frame.number))
            return Answer(result, read_back=True, latency=latency)
        if frame.image is None:
            return Answer(None, UNREADABLE, frame.error)
        return Answer(None, DROPPED)

    def settle(self, frame: Frame, answer: Answer) -> PanopticResult | None:
        """The node's result as it is."""
        del frame
        return answer.result

    def close(self) -> None:
        """Close the recording."""
        self._results.close()
