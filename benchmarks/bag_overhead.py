"""What `rt-panoptic evaluate-bag` takes beside the engine's own time, and where its processor time goes.

    rt-panoptic make-bag --frames 40 --output street
    python benchmarks/bag_overhead.py street --engine openvino

In one process take turns: a bare loop of inference over the decoded pictures, one after the other, as the
engine answers a robot; another with as many pictures at a time as the engine has streams; and the whole
evaluation of the bag, which uses the streams. Printed are the medians over the rounds of the milliseconds a
frame, and of each round's ratio of the whole to the loops with its range; below them the processor time of a
frame by what was done. On a machine that is busy with something else, give the process a priority of its own
(`chrt -f 10 python …`); then nothing gives way to the inference, which is the harder case.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.bags.answers import EngineAnswers
from rt_panoptic_core.bags.frames import find_image_topics, read_frames
from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.bags.run import EvaluationPlan, EvaluationRun
from rt_panoptic_core.bags.survey import survey
from rt_panoptic_core.errors import PanopticError
from rt_panoptic_core.segmenter import Segmenter

PLANS = {
    "everything": EvaluationPlan(),
    "without video": EvaluationPlan(video=False),
    "without video and overlay": EvaluationPlan(video=False, overlay=False),
    "without video, overlay, copy": EvaluationPlan(video=False, overlay=False, copy="none"),
}


@dataclass
class Rounds:
    """What the rounds of one plan took, milliseconds a frame."""

    single: list[float] = field(default_factory=list)
    streams: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    processor: list[dict[str, float]] = field(default_factory=list)

    def row(self, name: str) -> str:
        """A line of the table of times."""
        times = [
            f"{statistics.median(each):.1f} ms" for each in (self.single, self.streams, self.whole)
        ]
        tops = []
        for bare in (self.single, self.streams):
            ratios = sorted(100 * (w / b - 1) for w, b in zip(self.whole, bare, strict=True))
            tops.append(
                f"{statistics.median(ratios):+.0f} % ({ratios[0]:+.0f} to {ratios[-1]:+.0f})"
            )
        return f"| {' | '.join((name, *times, *tops))} |"

    def median(self, part: str) -> float:
        """Milliseconds of processor time a frame."""
        return statistics.median(each.get(part, 0.0) for each in self.processor)


def evaluate(bag: Path, segmenter: Segmenter, streams: int, plan: EvaluationPlan) -> EvaluationRun:
    """The pass that was made over the bag."""
    with BagReader(bag) as reader, tempfile.TemporaryDirectory() as folder:
        surveys = survey(reader, [topic.name for topic in find_image_topics(reader)])
        output = OutputFolder(Path(folder) / "out")
        output.path.mkdir()
        answers = EngineAnswers(segmenter, streams=streams)
        made = EvaluationRun(reader, surveys, answers, segmenter.taxonomy, {}, output, plan)
        made.run()
        return made


def pictures(bag: Path) -> list[npt.NDArray[np.uint8]]:
    """All pictures of the bag's camera."""
    with BagReader(bag) as reader:
        topics = [topic.name for topic in find_image_topics(reader)]
        frames: Any = list(read_frames(reader, topics))
    return [frame.image for frame in frames]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bag", type=Path, help="with one camera whose pictures all decode")
    parser.add_argument("--model", help="a checkpoint or a shipped model's name")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads of the engine")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS), metavar="PLAN")
    args = parser.parse_args()
    # As the command does.
    cv2.setNumThreads(1)
    found = {name: Rounds() for name in args.plans}
    try:
        images = pictures(args.bag)
        single, segmenter = (
            Segmenter.from_checkpoint(args.model, args.engine, threads=args.threads, mode=mode)
            for mode in ("latency", "throughput")
        )
        for opened in (single, segmenter):
            for _ in opened.map(images[:6]):
                pass
        engine = segmenter.engine
        assert engine is not None
        for _ in range(args.rounds):
            for name, rounds in found.items():
                for opened, times in ((single, rounds.single), (segmenter, rounds.streams)):
                    start = time.perf_counter()
                    for _ in opened.map(images):
                        pass
                    times.append(1e3 * (time.perf_counter() - start) / len(images))
                made = evaluate(args.bag, segmenter, engine.streams, PLANS[name])
                rounds.whole.append(1e3 * made.elapsed / len(images))
                rounds.processor.append(
                    {part: 1e3 * s / len(images) for part, s in made.processor.items()}
                )
    except PanopticError as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"{len(images)} frames of {images[0].shape[1]}x{images[0].shape[0]}, {engine.spec.label}, "
        f"{engine.streams} at a time\n"
    )
    head = "evaluation", "one by one", "streams", "whole", "on top of one by one", "of streams"
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name, rounds in found.items():
        print(rounds.row(name))
    parts = list(next(iter(found.values())).processor[0])
    print(f"\n| processor time a frame | {' | '.join(parts)} |\n|---|{'---|' * len(parts)}")
    for name, rounds in found.items():
        print(f"| {name} | " + " | ".join(f"{rounds.median(part):.1f} ms" for part in parts) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
