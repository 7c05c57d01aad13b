"""Where the results for a bag's frames come from: an engine, or a recording of what the node said."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
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

    @property
    def streams(self) -> int:
        """Frames that are best computed at a time."""

    def ask(self, frame: Frame) -> Callable[[], Answer]:
        """What computes the answer to ``frame``, on any thread and beside those to other frames."""

    def settle(self, frame: Frame, answer: Answer) -> PanopticResult | None:
        """The result to measure and write; called in the order of the bag, on a thread of its own."""

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
        streams: frames that were computed at a time; then each takes longer than it would alone.
        resumed: frames read back from an interrupted run.
        processor: of processor time, by what was done; see :class:`EvaluationRun`.
    """

    elapsed: float = 0.0
    inference: dict[str, list[float | None]] = field(default_factory=dict)
    streams: int = 1
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
        self,
        segmenter: Segments,
        *,
        track: bool = True,
        done: RecordedResults | None = None,
        streams: int = 1,
    ) -> None:
        """Answer with ``segmenter``.

        Args:
            segmenter: the engine.
            track: give an object the same instance id in every frame.
            done: what an interrupted run left.
            streams: images that the segmenter answers at a time.
        """
        self._segmenter = segmenter
        self._track = track
        self._done = done
        self._trackers: dict[str, InstanceTracker] = {}
        self._first_stamps: dict[str, int] = {}
        self.timing = Timing(streams=streams)

    @property
    def streams(self) -> int:
        """See :class:`Answers`."""
        return self.timing.streams

    def ask(self, frame: Frame) -> Callable[[], Answer]:
        """See :class:`Answers`; what is returned raises EngineError where the engine fails."""
        times = self.timing.inference.setdefault(frame.topic, [])
        times.append(None)
        if frame.image is None:
            return partial(Answer, None, UNREADABLE, frame.error)
        result = self._done.take(frame) if self._done is not None else None
        if result is not None:
            self.timing.resumed += 1
            return partial(Answer, result, read_back=True)
        return partial(self._computed, frame.image, times, len(times) - 1)

    def _computed(
        self, image: npt.NDArray[np.uint8], times: list[float | None], number: int
    ) -> Answer:
        started = time.perf_counter()
        try:
            result = self._segmenter.segment(image)
        except ImageError as error:
            return Answer(None, FAILED, str(error))
        times[number] = time.perf_counter() - started
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
        self.streams = 1

    def ask(self, frame: Frame) -> Callable[[], Answer]:
        """See :class:`Answers`."""
        result = self._results.take(frame)
        if result is not None:
            latency = self._latencies.get((frame.topic, frame.number))
            return partial(Answer, result, read_back=True, latency=latency)
        if frame.image is None:
            return partial(Answer, None, UNREADABLE, frame.error)
        return partial(Answer, None, DROPPED)

    def settle(self, frame: Frame, answer: Answer) -> PanopticResult | None:
        """The node's result as it is."""
        del frame
        return answer.result

    def close(self) -> None:
        """Close the recording."""
        self._results.close()
