"""One pass over a bag: frames in, results from somewhere, measures and an annotated bag out."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

from rt_panoptic_core.bags.analysis import TopicAnalysis
from rt_panoptic_core.bags.annotate import AnnotatedBag, result_topics
from rt_panoptic_core.bags.answers import Answer, Answers
from rt_panoptic_core.bags.chunks import RawChunk
from rt_panoptic_core.bags.frames import Frame, read_frames
from rt_panoptic_core.bags.ground_truth import GroundTruthSource
from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.overlay_video import OverlayVideo
from rt_panoptic_core.bags.reader import BagMessage, BagReader
from rt_panoptic_core.bags.records import DROPPED
from rt_panoptic_core.bags.survey import TopicSurvey
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.pipeline import Behind, Beside
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.visualization.overlay import draw_overlay

_BEHIND = 6


@dataclass(frozen=True)
class EvaluationPlan:
    """What an evaluation writes.

    Attributes:
        windows: lengths of the windows of video PQ, frames.
        overlay: draw overlays into the annotated bag.
        video: write an overlay video for each topic.
        copy: which recorded messages go into the annotated bag: ``all``, ``images`` or ``none``.
        compression: of the annotated bag, see :class:`BagWriter`.
        score_threshold: told in label_info.
        show_ids: write instance ids into the overlays: where they are tracked.
    """

    windows: tuple[int, ...] = (1, 5, 10, 15)
    overlay: bool = True
    video: bool = True
    copy: str = "all"
    compression: str = "chunk"
    score_threshold: float = 0.0
    show_ids: bool = True


class _Step(NamedTuple):
    """A frame on its way from inference to the outputs."""

    frame: Frame
    answer: Answer
    result: PanopticResult | None = None


_Item: TypeAlias = "_Step | BagMessage | RawChunk"


class EvaluationRun:
    """A pass. Reading and decoding run ahead of the answers, measuring and writing behind them.

    The answers come from as many threads as they have streams.

    Attributes:
        analyses: by image topic.
        elapsed: seconds that :meth:`run` took.
        processor: seconds of processor time that it took by what was done: ``inference`` with all that is not
            named, ``reading``, ``decoding``, ``measuring``, ``writing``, ``video encoder``.
    """

    def __init__(
        self,
        reader: BagReader,
        surveys: Sequence[TopicSurvey],
        answers: Answers,
        taxonomy: Taxonomy,
        truths: Mapping[str, GroundTruthSource],
        output: OutputFolder,
        plan: EvaluationPlan,
    ) -> None:
        """Make the annotated bag.

        Args:
            reader: the bag.
            surveys: of the image topics.
            answers: where the results come from.
            taxonomy: of the results.
            truths: ground truth by image topic, where there is any.
            output: the folder, begun.
            plan: what to write.

        Raises:
            BagError: an output cannot be made.
        """
        self._reader = reader
        self._topics = [survey.topic for survey in surveys]
        self._answers = answers
        self._taxonomy = taxonomy
        self._plan = plan
        self.elapsed = 0.0
        self.processor: dict[str, float] = {}
        self.analyses = {
            topic: TopicAnalysis(topic, taxonomy, truths.get(topic), plan.windows)
            for topic in self._topics
        }
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
            result_topics(self._topics),
            taxonomy,
            score_threshold=plan.score_threshold,
            compression=plan.compression,
            whole=plan.copy == "all",
        )

    def run(self, progress: Callable[[int], None] = lambda _: None) -> None:
        """Take every frame through; ``progress`` is told the number of frames done.

        Raises:
            BagError: an output failed (a full disk); the annotated bag is closed and readable.
            EngineError: the engine failed; likewise.
        """
        started = time.perf_counter()
        processor, children = time.process_time(), _children()
        spent = {"reading": 0.0, "decoding": 0.0}
        complete = False
        with ExitStack() as stack:
            for video in self._videos.values():
                stack.enter_context(video)
            # Called at the end, whatever the end is: what was written stays readable.
            stack.callback(lambda: self._close(complete=complete))
            writing = Behind(self._write, _BEHIND, gives_way=True)
            measuring: Behind[_Item] = Behind(
                lambda item: writing.put(self._measured(item)), _BEHIND, gives_way=True
            )
            try:
                self._answer_all(measuring, progress, spent)
            finally:
                try:
                    measuring.close()
                finally:
                    writing.close()
            spent |= {"measuring": measuring.processor, "writing": writing.processor}
            complete = True
        self.elapsed = time.perf_counter() - started
        rest = time.process_time() - processor - sum(spent.values())
        self.processor = {"inference": rest, **spent, "video encoder": _children() - children}

    def _answer_all(
        self, behind: Behind[_Item], progress: Callable[[int], None], spent: dict[str, float]
    ) -> None:
        done = 0

        def hand_on(item: _Item) -> None:
            nonlocal done
            behind.put(item)
            if isinstance(item, _Step):
                done += 1
                progress(done)

        others = None if self._plan.copy == "all" else ()
        chunks = self._bag.takes_chunks
        items = read_frames(self._reader, self._topics, others, chunks=chunks, spent=spent)
        # An error's traceback would keep the generator, and with it the threads that read.
        with closing(items), Beside(hand_on, self._answers.streams) as beside:
            for item in items:
                if isinstance(item, Frame):
                    beside.put_made(partial(_answered, item, self._answers.ask(item)))
                else:
                    beside.put(item)

    def _measured(self, item: _Item) -> _Item:
        if not isinstance(item, _Step):
            return item
        result = self._answers.settle(item.frame, item.answer)
        self.analyses[item.frame.topic].add(
            item.frame,
            result,
            status=item.answer.status,
            error=item.answer.error,
            latency=item.answer.latency,
        )
        return item._replace(result=result)

    def _write(self, item: _Item) -> None:
        if isinstance(item, RawChunk):
            self._bag.pass_on(item)
            return
        if isinstance(item, BagMessage):
            self._bag.copy(item)
            return
        frame, result, plan = item.frame, item.result, self._plan
        if plan.copy != "none":
            self._bag.copy(frame.message)
        overlay = None
        if frame.image is not None and result is not None:
            if plan.overlay or plan.video:
                overlay = draw_overlay(frame.image, result, self._taxonomy, show_ids=plan.show_ids)
            self._bag.write(frame, result, overlay if plan.overlay else None)
        video = self._videos.get(frame.topic)
        if video is not None:
            # A bare picture would look like a node that sees nothing.
            word = DROPPED if item.answer.status == DROPPED else ""
            video.write(overlay if overlay is not None else frame.image, word=word)

    def _close(self, *, complete: bool) -> None:
        self._answers.close()
        try:
            self._bag.close(complete=complete)
        except BagError:
            # While another error is on its way out, that one is the one to tell.
            if complete:
                raise


def _answered(frame: Frame, answer: Callable[[], Answer]) -> _Step:
    return _Step(frame, answer())


def _children() -> float:
    """Seconds of processor time that processes took which this one started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
