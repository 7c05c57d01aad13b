"""Offline evaluation: every frame of a bag, in order, as fast as the machine can, the same every time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.bags.ahead import Behind
from rt_panoptic_core.bags.analysis import TopicAnalysis
from rt_panoptic_core.bags.annotate import (
    AnnotatedBag,
    RecordedResults,
    ResultTopics,
    as_recorded,
    numbered_by_score,
    result_topics,
)
from rt_panoptic_core.bags.frames import Frame, read_frames
from rt_panoptic_core.bags.ground_truth import GroundTruthSource
from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.reader import BagMessage, BagReader
from rt_panoptic_core.bags.records import ANSWERED, FAILED, UNREADABLE
from rt_panoptic_core.bags.survey import TopicSurvey
from rt_panoptic_core.errors import BagError, ImageError
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.inference.tracking import InstanceTracker
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.visualization.overlay import draw_overlay
from rt_panoptic_core.visualization.video import VideoWriter

COPIES = ("all", "images", "none")
"""Which recorded messages go into the annotated bag."""

_BEHIND = 6


class Segments(Protocol):
    """What turns images into results: :class:`rt_panoptic_core.Segmenter`, or a stand-in for it."""

    @property
    def taxonomy(self) -> Taxonomy:
        """Its classes."""

    def segment(self, image: npt.NDArray[np.uint8]) -> PanopticResult:
        """Result for an image."""


@dataclass(frozen=True)
class OfflinePlan:
    """What an offline evaluation writes.

    Attributes:
        windows: lengths of the windows of video PQ, frames.
        overlay: draw overlays into the annotated bag.
        video: write an overlay video for each topic.
        copy: one of :data:`COPIES`.
        compression: of the annotated bag, see :class:`BagWriter`.
        score_threshold: told in label_info.
        track: give an object the same instance id in every frame.
    """

    windows: tuple[int, ...] = (1, 5, 10, 15)
    overlay: bool = True
    video: bool = True
    copy: str = "all"
    compression: str = "chunk"
    score_threshold: float = 0.0
    track: bool = True


@dataclass
class Timing:
    """Where the time went, seconds.

    Attributes:
        elapsed: from the first message to the last output.
        inference: the frames that were computed, by topic in the order of its frames; None where one was
            not (read back, or not readable).
        resumed: frames read back from an interrupted run.
    """

    elapsed: float = 0.0
    inference: dict[str, list[float | None]] = field(default_factory=dict)
    resumed: int = 0

    @property
    def computed(self) -> list[float]:
        """The computed frames' seconds."""
        return [s for times in self.inference.values() for s in times if s is not None]


@dataclass
class _Step:
    """A frame on its way from inference to the outputs."""

    frame: Frame
    result: PanopticResult | None
    status: str
    error: str = ""
    recorded: bool = False


class OfflineRun:
    """One pass over a bag. Reading and decoding run ahead of inference, measuring and writing behind it."""

    def __init__(
        self,
        reader: BagReader,
        surveys: Sequence[TopicSurvey],
        segmenters: Mapping[str, Segments],
        truths: Mapping[str, GroundTruthSource],
        output: OutputFolder,
        plan: OfflinePlan,
    ) -> None:
        """Make the annotated bag, and open what an interrupted run left.

        Args:
            reader: the bag.
            surveys: of the image topics.
            segmenters: by image topic; all of one taxonomy.
            truths: ground truth by image topic, where there is any.
            output: the folder, begun.
            plan: what to write.

        Raises:
            BagError: an output cannot be made.
        """
        self._reader = reader
        self._topics = [survey.topic for survey in surveys]
        self._segmenters = segmenters
        self._plan = plan
        self.taxonomy = segmenters[self._topics[0]].taxonomy
        names: dict[str, ResultTopics] = result_topics(self._topics)
        self.analyses = {
            topic: TopicAnalysis(topic, self.taxonomy, truths.get(topic), plan.windows)
            for topic in self._topics
        }
        self._trackers = {topic: InstanceTracker() for topic in self._topics if plan.track}
        self._first_stamps: dict[str, int] = {}
        self.timing = Timing(inference={topic: [] for topic in self._topics})
        self._recorded = (
            RecordedResults(output.previous, names, self.taxonomy)
            if output.previous.exists()
            else None
        )
        self._videos = {
            survey.topic: OverlayVideo(
                output.video(survey.topic, self._topics), survey.fps, survey.size or (16, 16)
            )
            for survey in surveys
            if plan.video
        }
        self._bag = AnnotatedBag(
            output.annotated,
            reader,
            names,
            self.taxonomy,
            score_threshold=plan.score_threshold,
            compression=plan.compression,
        )

    def run(self, progress: Callable[[int], None] = lambda _: None) -> None:
        """Take every frame through; ``progress`` is told the number of frames done.

        Raises:
            BagError: an output failed (a full disk); the annotated bag is closed and readable.
            EngineError: the engine failed; likewise.
        """
        started = time.perf_counter()
        with ExitStack() as stack:
            for video in self._videos.values():
                stack.enter_context(video)
            complete = False
            # Called at the end, whatever the end is: what was written stays readable.
            stack.callback(lambda: self._close(complete=complete))
            writing = Behind(self._write, _BEHIND)
            measuring: Behind[_Step | BagMessage] = Behind(
                lambda item: writing.put(self._measured(item)), _BEHIND
            )
            try:
                self._infer(measuring, progress)
            finally:
                try:
                    measuring.close()
                finally:
                    writing.close()
            complete = True
        self.timing.elapsed = time.perf_counter() - started

    def _infer(self, behind: Behind[_Step | BagMessage], progress: Callable[[int], None]) -> None:
        done = 0
        others = None if self._plan.copy == "all" else ()
        for item in read_frames(self._reader, self._topics, others):
            if isinstance(item, BagMessage):
                behind.put(item)
                continue
            behind.put(self._answer(item))
            done += 1
            progress(done)

    def _answer(self, frame: Frame) -> _Step:
        times = self.timing.inference[frame.topic]
        if frame.image is None:
            times.append(None)
            return _Step(frame, None, UNREADABLE, frame.error)
        if self._recorded is not None:
            result = self._recorded.take(frame)
            if result is not None:
                times.append(None)
                self.timing.resumed += 1
                return _Step(frame, result, ANSWERED, recorded=True)
        started = time.perf_counter()
        try:
            result = self._segmenters[frame.topic].segment(frame.image)
        except ImageError as error:
            times.append(None)
            return _Step(frame, None, FAILED, str(error))
        times.append(time.perf_counter() - started)
        return _Step(frame, result, ANSWERED)

    def _measured(self, item: _Step | BagMessage) -> _Step | BagMessage:
        if isinstance(item, _Step):
            if item.result is not None:
                item.result = self._settled(item.frame, item.result, recorded=item.recorded)
            analysis = self.analyses[item.frame.topic]
            analysis.add(item.frame, item.result, status=item.status, error=item.error)
        return item

    def _settled(self, frame: Frame, result: PanopticResult, *, recorded: bool) -> PanopticResult:
        """The result to measure and write: the same, whether it was computed now or read back."""
        result = numbered_by_score(result) if recorded else as_recorded(result, self.taxonomy)
        tracker = self._trackers.get(frame.topic)
        if tracker is None:
            return result
        # From the first stamp on: a float holds nanoseconds of hours, not of the years since 1970.
        first = self._first_stamps.setdefault(frame.topic, frame.stamp)
        return tracker.update(result, (frame.stamp - first) / 1e9)

    def _write(self, item: _Step | BagMessage) -> None:
        if isinstance(item, BagMessage):
            self._bag.copy(item)
            return
        frame = item.frame
        if self._plan.copy != "none":
            self._bag.copy(frame.message)
        overlay = None
        if frame.image is not None and item.result is not None:
            if self._plan.overlay or self._plan.video:
                overlay = draw_overlay(
                    frame.image, item.result, self.taxonomy, show_ids=self._plan.track
                )
            self._bag.write(frame, item.result, overlay if self._plan.overlay else None)
        video = self._videos.get(frame.topic)
        if video is not None:
            video.write(overlay if overlay is not None else frame.image)

    def _close(self, *, complete: bool) -> None:
        if self._recorded is not None:
            self._recorded.close()
        try:
            self._bag.close(complete=complete)
        except BagError:
            # While another error is on its way out, that one is the one to tell.
            if complete:
                raise


class OverlayVideo:
    """The overlay video of a topic: one picture for each of its frames, all in one size."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        """A video of ``size`` at ``path``; it appears there when the context ends without error."""
        self._video = VideoWriter(path, fps)
        self._last = np.zeros((*size, 3), dtype=np.uint8)

    def write(self, picture: npt.NDArray[np.uint8] | None) -> None:
        """Append a picture; for None, where a frame has none, the last one again.

        Raises:
            BagError: the video cannot be written.
        """
        if picture is None:
            picture = self._last
        if picture.shape != self._last.shape:
            size = (self._last.shape[1], self._last.shape[0])
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        self._last = picture
        try:
            self._video.write(picture)
        except (OSError, ImageError) as error:
            raise BagError(f"{self._video.path}: the video cannot be written: {error}") from error

    def __enter__(self) -> OverlayVideo:
        self._video.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._video.__exit__(*error)
