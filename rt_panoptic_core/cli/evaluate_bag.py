"""``rt-panoptic evaluate-bag``: what the node would have said about a recording, how good, how fast."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from rt_panoptic_core import __version__
from rt_panoptic_core.cli.progress import counting, progress_bar
from rt_panoptic_core.engines.spec import ENGINES, PRECISIONS, parse_size
from rt_panoptic_core.errors import BagError

if TYPE_CHECKING:
    from rich.console import Console

    from rt_panoptic_core.bags.annotate import RecordedResults
    from rt_panoptic_core.bags.answers import Answers, Timing
    from rt_panoptic_core.bags.output import OutputFolder
    from rt_panoptic_core.bags.realtime import Replay
    from rt_panoptic_core.bags.run import EvaluationPlan, EvaluationRun
    from rt_panoptic_core.bags.survey import TopicSurvey
    from rt_panoptic_core.checkpoint import Checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``evaluate-bag``."""
    parser.add_argument("bag", type=Path, help="a bag's folder, or an .mcap or .db3 file")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for the results")
    parser.add_argument(
        "--overwrite", action="store_true", help="forget what another run left there"
    )
    parser.add_argument(
        "--image-topic",
        action="append",
        default=[],
        metavar="T",
        help="may be given several times; the only camera's topic where there is one",
    )
    truth = parser.add_argument_group("ground truth")
    truth.add_argument(
        "--ground-truth-topic",
        action="append",
        default=[],
        metavar="G",
        help="namespace or topic of labels, one for each image topic; found where there is one",
    )
    truth.add_argument(
        "--ground-truth-folder",
        type=Path,
        metavar="DIR",
        help="STAMP_semantic.png, STAMP_instance.png",
    )
    truth.add_argument("--no-ground-truth", action="store_true", help="do not look for any")
    truth.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="take the nearest ground truth within this; equal stamps only (%(default)s)",
    )
    truth.add_argument(
        "--windows",
        type=int,
        nargs="+",
        default=[1, 5, 10, 15],
        metavar="FRAMES",
        help="of video panoptic quality (1 5 10 15)",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--model", metavar="M", help="a checkpoint or a shipped model's name")
    model.add_argument("--engine", default="auto", choices=("auto", *ENGINES), help="(%(default)s)")
    model.add_argument("--precision", choices=PRECISIONS, help="the engine's best")
    model.add_argument("--device", help="cpu or cuda:N")
    model.add_argument("--size", metavar="HxW", help="resize images to this for the network")
    model.add_argument("--threads", type=int, help="CPU threads of the engine")
    model.add_argument(
        "--no-track", action="store_true", help="number instances anew in each frame"
    )
    pace = parser.add_argument_group("pace")
    pace.add_argument(
        "--real-time",
        action="store_true",
        help="play the bag to the real node over DDS, with drops and latency (needs ROS 2)",
    )
    pace.add_argument("--rate", type=float, help="of real time: 2 is twice as fast (1)")
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument("--no-video", action="store_true", help="no overlay video")
    outputs.add_argument("--no-overlay", action="store_true", help="no overlays in the bag")
    outputs.add_argument(
        "--copy",
        choices=("all", "images", "none"),
        default="all",
        help="recorded topics that go into the annotated bag (%(default)s)",
    )
    outputs.add_argument(
        "--compression",
        choices=("none", "chunk", "message"),
        default="chunk",
        help="of the annotated bag (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate the bag."""
    from rich.console import Console

    if args.rate is not None and not args.real_time:
        raise BagError("--rate is for --real-time; offline, frames come as fast as they are done")
    if args.rate is not None and not 0.01 <= args.rate <= 100:
        raise BagError(f"rate {args.rate:g}; it must be 0.01 to 100")
    if args.tolerance < 0:
        raise BagError(f"tolerance {args.tolerance:g}; it must not be negative")
    if min(args.windows) < 1:
        raise BagError(f"windows {args.windows}; each must be 1 frame or longer")
    return _evaluate(args, Console(stderr=True))


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    from rt_panoptic_core.bags.annotate import RecordedResults, result_topics
    from rt_panoptic_core.bags.answers import ReplayAnswers
    from rt_panoptic_core.bags.conclude import conclude, timing_summary
    from rt_panoptic_core.bags.frames import find_image_topics
    from rt_panoptic_core.bags.output import OutputFolder
    from rt_panoptic_core.bags.reader import BagReader
    from rt_panoptic_core.bags.run import EvaluationRun
    from rt_panoptic_core.bags.survey import survey
    from rt_panoptic_core.bags.truths import open_truths
    from rt_panoptic_core.checkpoint import load_checkpoint
    from rt_panoptic_core.cli.bag_summary import print_report, print_timing

    with BagReader(args.bag) as reader, ExitStack() as stack:
        for note in reader.damage:
            console.print(f"[yellow]damaged:[/] {escape(note)}")
        topics = [topic.name for topic in find_image_topics(reader, args.image_topic)]
        surveys = survey(reader, topics)
        checkpoint = load_checkpoint(args.model)
        truths, truth_names = open_truths(
            reader,
            topics,
            checkpoint.taxonomy,
            label_topics=args.ground_truth_topic,
            folder=args.ground_truth_folder,
            tolerance=args.tolerance,
            search=not args.no_ground_truth,
        )
        for truth in truths.values():
            stack.callback(truth.close)
        offline = None if args.real_time else _Offline(args, checkpoint, surveys, console)
        plan = _plan(args, checkpoint)
        about = {
            "version": __version__,
            "mode": "offline" if offline is not None else "real time",
            "rate": args.rate or 1.0,
            "bag": bag_facts(args.bag),
            "image_topics": topics,
            "ground_truth": truth_names,
            "tolerance": args.tolerance,
            "model": {
                "name": checkpoint.path.stem,
                "digest": checkpoint.digest,
                "taxonomy": checkpoint.taxonomy.name,
            },
            "engine": offline.engine if offline is not None else "the node's engine",
            "tracking": plan.show_ids,
        }
        output = OutputFolder(args.output)
        fingerprint = {**about, "plan": {**asdict(plan), "windows": list(plan.windows)}}
        names = result_topics(topics)
        if output.begin(fingerprint, names, overwrite=args.overwrite):
            print(f"{output.report_html}: this run is complete already")
            return 0
        total = sum(reader.topics[topic].count for topic in topics)
        extra: dict[str, dict[str, Any]] = {}
        answers: Answers
        if offline is not None:
            answers = offline.answers(output.interrupted(names, checkpoint.taxonomy))
        else:
            played = _replayed(args, console, output, topics, total)
            results = RecordedResults(played.replies, names, checkpoint.taxonomy)
            answers = ReplayAnswers(results, played.latencies)
            extra = {topic: {"realtime": played.summary(topic)} for topic in topics}
            about["engine"] = played.engine or about["engine"]
        passing = EvaluationRun(reader, surveys, answers, checkpoint.taxonomy, truths, output, plan)
        try:
            with progress_bar("evaluating", total, "frames") as advance:
                passing.run(counting(advance))
        except (BagError, KeyboardInterrupt):
            console.print(
                "stopped; what was written is readable, and the same command goes on from there"
            )
            raise
        timing = offline.timing(passing) if offline is not None else None
        report = conclude(
            output,
            list(passing.analyses.values()),
            checkpoint.taxonomy,
            about,
            fps={look.topic: look.fps for look in surveys},
            damage=reader.damage,
            extra=extra,
            timing=timing,
        )
        output.finish()
    print_report(console, report)
    if timing is not None:
        print_timing(console, timing_summary(timing))
    print(output.report_html)
    return 0


class _Offline:
    """The engine of an offline evaluation."""

    def __init__(
        self,
        args: argparse.Namespace,
        checkpoint: Checkpoint,
        surveys: Sequence[TopicSurvey],
        console: Console,
    ) -> None:
        import cv2

        from rt_panoptic_core.segmenter import Segmenter

        # Threads of a pool spin while they wait for each other, on cores that the engine needs.
        cv2.setNumThreads(1)
        self._track = not args.no_track
        with console.status("building the engine"):
            self._segmenter = Segmenter(
                checkpoint,
                engine=args.engine,
                size=parse_size(args.size) if args.size else None,
                device=args.device,
                precision=args.precision,
                threads=args.threads,
            )
            # Built before the clock starts, one for each size of image.
            engines = [self._segmenter.prepare(look.size) for look in surveys if look.size]
        self.engine = f"{engines[0].library}, {engines[0].spec.label}"

    def answers(self, done: RecordedResults | None) -> Answers:
        from rt_panoptic_core.bags.answers import EngineAnswers

        self._answers = EngineAnswers(self._segmenter, track=self._track, done=done)
        return self._answers

    def timing(self, passing: EvaluationRun) -> Timing:
        timing = self._answers.timing
        timing.elapsed, timing.processor = passing.elapsed, passing.processor
        return timing


def _replayed(
    args: argparse.Namespace,
    console: Console,
    output: OutputFolder,
    topics: Sequence[str],
    total: int,
) -> Replay:
    """What the node said when the bag was played to it."""
    from rt_panoptic_core.bags.realtime import replay

    parameters: dict[str, str | int] = {"tracking.enabled": not args.no_track}
    parameters |= {
        name: value
        for name, value in (
            (
                "model",
                str(Path(args.model).resolve()) if Path(args.model or "").is_file() else args.model,
            ),
            ("engine", args.engine),
            ("precision", args.precision),
            ("device", args.device),
            ("network_size", args.size),
            ("threads", args.threads),
        )
        if value
    }
    console.print("playing the bag to the node")
    with progress_bar("playing", total, "frames") as advance:
        return replay(
            args.bag,
            topics,
            output,
            rate=args.rate or 1.0,
            parameters=parameters,
            progress=counting(advance),
        )


def _plan(args: argparse.Namespace, checkpoint: Checkpoint) -> EvaluationPlan:
    from rt_panoptic_core.bags.run import EvaluationPlan

    return EvaluationPlan(
        windows=tuple(sorted(set(args.windows))),
        overlay=not args.no_overlay,
        video=not args.no_video,
        copy=args.copy,
        compression=args.compression,
        score_threshold=checkpoint.inference.thresholds.score,
        show_ids=not args.no_track,
    )


def bag_facts(path: Path) -> dict[str, Any]:
    """Name and files of a bag: what tells it from another."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {
        "name": path.resolve().name,
        "files": {file.name: file.stat().st_size for file in files if file.is_file()},
    }
