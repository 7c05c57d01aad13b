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
from rt_panoptic_core.cli.arguments import UsageError, number
from rt_panoptic_core.cli.model_options import (
    add_model_options,
    model_name,
    open_segmenter,
    thresholds,
)
from rt_panoptic_core.cli.outputs import output_folder, refuse_inputs
from rt_panoptic_core.cli.progress import build_progress, counting, progress_bar
from rt_panoptic_core.errors import BagError

if TYPE_CHECKING:
    from rich.console import Console

    from rt_panoptic_core.bags.annotate import RecordedResults
    from rt_panoptic_core.bags.answers import Answers, Timing
    from rt_panoptic_core.bags.output import OutputFolder
    from rt_panoptic_core.bags.reader import BagReader
    from rt_panoptic_core.bags.realtime import Replay
    from rt_panoptic_core.bags.run import EvaluationPlan, EvaluationRun
    from rt_panoptic_core.bags.survey import TopicSurvey
    from rt_panoptic_core.checkpoint import Checkpoint
    from rt_panoptic_core.inference.config import Thresholds


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
        type=number(float, 0),
        default=0.0,
        metavar="SECONDS",
        help="take the nearest ground truth within this; equal stamps only (%(default)s)",
    )
    truth.add_argument(
        "--windows",
        type=number(int, 1),
        nargs="+",
        default=[1, 5, 10, 15],
        metavar="FRAMES",
        help="of video panoptic quality (1 5 10 15)",
    )
    model = add_model_options(parser)
    model.add_argument(
        "--no-track", action="store_true", help="number instances anew in each frame"
    )
    pace = parser.add_argument_group("pace")
    pace.add_argument(
        "--real-time",
        action="store_true",
        help="play the bag to the real node over DDS, with drops and latency (needs ROS 2)",
    )
    pace.add_argument(
        "--rate", type=number(float, 0.01, 100), help="of real time: 2 is twice as fast (1)"
    )
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
    outputs.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Evaluate the bag."""
    from rich.console import Console

    if args.rate is not None and not args.real_time:
        raise UsageError("--rate is for --real-time; offline, frames come as fast as they are done")
    if args.calibration is not None and args.real_time:
        raise UsageError(
            "--calibration is not for --real-time: the node takes int8 from the engine cache, where "
            "'rt-panoptic export' puts it"
        )
    with output_folder(args.output):
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

    if args.no_ground_truth and (args.ground_truth_topic or args.ground_truth_folder):
        raise UsageError("--no-ground-truth and a ground truth: leave out one of them")
    output = OutputFolder(args.output)
    inputs = (args.bag, args.ground_truth_folder)
    refuse_inputs("--output", args.output, *inputs, replaced=output.replaced)
    with BagReader(args.bag) as reader, ExitStack() as stack:
        told = 0

        def tell_damage() -> None:
            nonlocal told
            for note in reader.damage[told:]:
                console.print(f"[yellow]damaged:[/] {escape(note)}")
            told = len(reader.damage)

        tell_damage()
        for note in reader.notes:
            console.print(f"note: {note}", markup=False, style="yellow")
        # What is damaged inside of a file shows when it is read, and may be why there is nothing to evaluate.
        stack.callback(tell_damage)
        found = find_image_topics(
            reader,
            args.image_topic,
            note=lambda words: console.print(f"note: {words}", markup=False, style="yellow"),
        )
        topics = [topic.name for topic in found]
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
        wanted = thresholds(args, checkpoint)
        plan = _plan(args, wanted)
        about = {
            "version": __version__,
            "mode": "real time" if args.real_time else "offline",
            "rate": args.rate or 1.0,
            "bag": bag_facts(reader),
            "image_topics": topics,
            "ground_truth": truth_names,
            "tolerance": args.tolerance,
            "model": {
                "name": model_name(checkpoint),
                "digest": checkpoint.digest,
                "taxonomy": checkpoint.taxonomy.name,
            },
            "tracking": plan.show_ids,
            "thresholds": asdict(wanted),
        }
        fingerprint = {**about, "plan": {**asdict(plan), "windows": list(plan.windows)}}
        if args.real_time:
            fingerprint["node"] = _node_settings(args)
        # Before minutes may go into an engine.
        output.refuse_other_runs(fingerprint, overwrite=args.overwrite)
        offline = None if args.real_time else _Offline(args, checkpoint, surveys)
        about["engine"] = offline.engine if offline is not None else "the node's engine"
        fingerprint["engine"] = about["engine"]
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
            with progress_bar("evaluating", total, "frames", quiet=args.quiet) as advance:
                passing.run(counting(advance))
        except (BagError, KeyboardInterrupt):
            console.print(
                "stopped; what was written is readable, and the same command goes on from there"
            )
            raise
        tell_damage()
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
    ) -> None:
        import cv2

        # Threads of a pool spin while they wait for each other, on cores that the engine needs.
        cv2.setNumThreads(1)
        self._track = not args.no_track
        with build_progress("building the engine") as progress:
            self._segmenter = open_segmenter(args, checkpoint, progress, mode="throughput")
            # Built before the clock starts, one for each size of image.
            engines = [self._segmenter.prepare(look.size) for look in surveys if look.size]
        self._streams = max(engine.streams for engine in engines)
        self.engine = f"{engines[0].library}, {engines[0].spec.label}"

    def answers(self, done: RecordedResults | None) -> Answers:
        from rt_panoptic_core.bags.answers import EngineAnswers

        self._answers = EngineAnswers(
            self._segmenter, track=self._track, done=done, streams=self._streams
        )
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

    parameters = _node_settings(args)
    if args.model is not None:
        path = Path(args.model)
        parameters["model"] = str(path.resolve()) if path.is_file() else args.model
    console.print("playing the bag to the node")
    with progress_bar("playing", total, "frames", quiet=args.quiet) as advance:
        return replay(
            args.bag,
            topics,
            output,
            rate=args.rate or 1.0,
            parameters=parameters,
            progress=counting(advance),
        )


def _node_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The node's parameters that the options ask for, but for the model."""
    settings = {
        "engine": args.engine,
        "precision": args.precision,
        "device": args.device,
        "network_size": None if args.size is None else "{}x{}".format(*args.size),
        "threads": args.threads,
        "thresholds.score": args.score,
        "thresholds.mask": args.mask,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    return {"tracking.enabled": not args.no_track, **given}


def _plan(args: argparse.Namespace, wanted: Thresholds) -> EvaluationPlan:
    from rt_panoptic_core.bags.run import EvaluationPlan

    return EvaluationPlan(
        windows=tuple(sorted(set(args.windows))),
        overlay=not args.no_overlay,
        video=not args.no_video,
        copy=args.copy,
        compression=args.compression,
        score_threshold=wanted.score,
        show_ids=not args.no_track,
    )


def bag_facts(reader: BagReader) -> dict[str, Any]:
    """Name of a bag and the files that it is read from: what tells it from another."""
    return {
        "name": reader.path.resolve().name,
        "files": {file.name: file.stat().st_size for file in reader.files},
    }
