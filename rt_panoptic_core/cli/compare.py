"""``rt-panoptic compare``: what changed between two evaluations."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rt_panoptic_core.cli.outputs import output_file, refuse_inputs
from rt_panoptic_core.cli.quality_tables import hundredths, print_table
from rt_panoptic_core.cli.subject_differences import difference_lines
from rt_panoptic_core.cli.total_tables import print_latency, print_totals
from rt_panoptic_core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from rt_panoptic_core.bags.changes import TopicChanges
    from rt_panoptic_core.evaluation.comparison import Change, Comparison
    from rt_panoptic_core.evaluation.total_changes import TotalChange

_TOO_FEW = "too few frames"
_STYLES = {"better": "green", "worse": "red", "more": "yellow", "less": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rt-panoptic compare``."""
    parser.add_argument(
        "before",
        type=Path,
        metavar="A",
        help="what evaluate, evaluate-bag or score wrote: the folder or the JSON",
    )
    parser.add_argument("after", type=Path, metavar="B", help="the same of the other run")
    parser.add_argument(
        "--samples", type=int, default=10000, metavar="N", help="resamples (default %(default)s)"
    )
    parser.add_argument(
        "--block",
        type=int,
        metavar="N",
        help="draw frames in blocks of N neighbours: for films, some seconds of them "
        "(default 1; for bags 10, or a sixth of the frames that are compared if that is less)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the drawing (default %(default)s)")
    parser.add_argument(
        "--common-frames",
        action="store_true",
        help="compare the frames in common where the two differ",
    )
    parser.add_argument(
        "--output", type=Path, metavar="JSON", help="write the comparison to this file"
    )


def run(args: argparse.Namespace) -> int:
    """Compare, write the JSON, print the tables."""
    from rich.console import Console

    from rt_panoptic_core.bags.changes import is_bag_evaluation
    from rt_panoptic_core.errors import ConfigError
    from rt_panoptic_core.files import json_values, write_json

    console = Console(highlight=False)
    for path in (args.before, args.after):
        if not path.exists():
            raise ConfigError(f"{path}: there is no such file or folder")
    of_bags = [is_bag_evaluation(path) for path in (args.before, args.after)]
    if any(of_bags) and not all(of_bags):
        bag, other = (args.before, args.after) if of_bags[0] else (args.after, args.before)
        raise ConfigError(
            f"{bag} is of a bag, {other} is not; compare two evaluations of one bag, or name the JSONs "
            f"({bag / 'quality.json'} is there if the bag has ground truth)"
        )
    with output_file(args.output):
        read = [file for path in (args.before, args.after) for file in _read_files(path)]
        refuse_inputs("--output", args.output, *read)
        content, show = _compare_bags(args) if all(of_bags) else _compare_records(args)
        if args.output is not None:
            write_json(args.output, json_values(content))
    # After the file is written: who looks at the beginning alone (`| head`) ends the command.
    show(console)
    if args.output is not None:
        console.print(f"written: {args.output}", markup=False, soft_wrap=True)
    return 0


def _read_files(path: Path) -> list[Path]:
    """``path``, and in a folder what is read of it."""
    names = ("results.json", "report.json", "frames.csv", "quality*.json")
    return [path, *(file for name in names for file in path.glob(name))]


def _compare_records(
    args: argparse.Namespace,
) -> tuple[dict[str, Any], Callable[[Console], None]]:
    """Content of the JSON, and what prints it."""
    from rt_panoptic_core.evaluation.comparison import compare
    from rt_panoptic_core.evaluation.record import EvaluationRecord

    before, after = (
        EvaluationRecord.read(path / "results.json" if path.is_dir() else path)
        for path in (args.before, args.after)
    )
    comparison = compare(
        before,
        after,
        samples=args.samples,
        block=1 if args.block is None else args.block,
        seed=args.seed,
        common_frames=args.common_frames,
    )

    def show(console: Console) -> None:
        _print_subjects(args, before.subject, after.subject, console)
        _print_quality(comparison, console)
        _print_notes(comparison.frames, comparison.samples, comparison.block, console)

    return {"before": before.subject, "after": after.subject, **_to_json(comparison)}, show


def _compare_bags(args: argparse.Namespace) -> tuple[dict[str, Any], Callable[[Console], None]]:
    """Content of the JSON, and what prints it."""
    from rt_panoptic_core.bags.changes import BagEvaluation, compare_bag_evaluations

    before, after = (BagEvaluation.read(folder) for folder in (args.before, args.after))
    changes = compare_bag_evaluations(
        before,
        after,
        samples=args.samples,
        block=args.block,
        seed=args.seed,
        common_frames=args.common_frames,
    )
    subjects = [
        {
            "model": report["model"]["name"],
            "engine": report.get("engine"),
            "mode": report.get("mode"),
            "dataset": report["bag"]["name"],
            "checkpoint_sha256": report["model"].get("digest"),
            "ground_truth": ", ".join(report.get("ground_truth", ())),
            "thresholds": ", ".join(
                f"{name} {value:g}" for name, value in report.get("thresholds", {}).items()
            ),
            **{key: report.get(key) for key in ("rate", "tracking", "tolerance", "version")},
        }
        for report in (before.report, after.report)
    ]
    listed = [
        {
            "topic": change.topic,
            "answered": list(change.answered),
            "frames": change.frames,
            "block": change.block,
            "measures": _changes_to_json(change.measures),
            "shares": _changes_to_json(change.shares),
            "quality": None if change.quality is None else _to_json(change.quality),
        }
        for change in changes
    ]

    def show(console: Console) -> None:
        _print_subjects(args, subjects[0], subjects[1], console)
        for change in changes:
            _print_topic(change, args.samples, console)

    return {"before": subjects[0], "after": subjects[1], "topics": listed}, show


def _print_subjects(
    args: argparse.Namespace, before: dict[str, Any], after: dict[str, Any], console: Console
) -> None:
    for side, subject, path in (("A", before, args.before), ("B", after, args.after)):
        console.print(f"{side}  {_subject(subject, path)}", markup=False, soft_wrap=True)
    lines = difference_lines(before, after)
    if lines:
        console.print("\nWhat differs", style="italic")
        for line in lines:
            console.print(f"  {line}", markup=False, soft_wrap=True)


def _print_topic(change: TopicChanges, samples: int, console: Console) -> None:
    from rt_panoptic_core.bags.changes import MEASURES

    console.print(
        f"\n{change.topic}: A answers {counted(change.answered[0], 'frame')}, B {change.answered[1]}",
        markup=False,
        style="bold",
    )
    better = {measure.name: measure.better for measure in MEASURES}
    print_table(_table("", change.measures, scale=1, better=better), console)
    moved = [share for share in _by_size(change.shares) if share.is_real]
    if moved:
        neither = {share.name: 0 for share in moved}
        title = "Share of the pixels, classes that changed"
        print_table(_table(title, moved, better=neither), console)
    drawn = (change.frames, samples, change.block)
    if change.quality is not None:
        of_quality = (change.quality.frames, samples, change.quality.block)
        if of_quality != drawn:
            _print_notes(*drawn, console)
        _print_quality(change.quality, console)
        drawn = of_quality
    _print_notes(*drawn, console)


def _print_quality(comparison: Comparison, console: Console) -> None:
    truth = _truth_note(comparison)
    if truth:
        console.print(f"\n{truth}", style="bold yellow", soft_wrap=True)
    print_table(_table("", comparison.overall), console)
    print_table(_table("PQ by class", _by_size(comparison.pq)), console)
    if comparison.iou:
        print_table(_table("Semantic IoU by class", _by_size(comparison.iou)), console)
    if any(_verdict(change) == _TOO_FEW for change in (*comparison.pq, *comparison.iou)):
        console.print(
            f"{_TOO_FEW}: however large the difference, so few frames with the class cannot bring p below "
            "0.05.",
            style="dim",
            soft_wrap=True,
        )
    print_totals(comparison.totals, console)
    if comparison.mixed:
        console.print(
            "mIoU, pixel accuracy and IoU are not compared: one side is of a model, the other of files, "
            "which count pixels in different ways. For all measures compare two of evaluate, or two of "
            "score.",
            style="yellow",
            soft_wrap=True,
        )
    if comparison.latency is not None:
        print_latency(comparison.latency, console)


def _truth_note(comparison: Comparison) -> str:
    """A sentence on frames of which the two evaluations have not the same truth; empty without any."""
    differing = comparison.frames_of_other_truth
    if not differing:
        return ""
    return (
        f"The ground truth is not the same in {differing} of {counted(comparison.frames, 'frame')}: what "
        "changed below may be the truth and not the results."
    )


def _table(
    title: str,
    changes: Sequence[Change],
    *,
    scale: float = 100,
    better: Mapping[str, int] | None = None,
) -> Any:
    """A table; ``better`` says by name whether more is better (1), less is (-1) or neither (0)."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    for heading in ("A", "B", "B - A", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for change in changes:
        verdict = _verdict(change, (better or {}).get(change.name, 1))
        style = _STYLES.get(verdict, "dim")
        table.add_row(
            change.name,
            hundredths(scale * change.before),
            hundredths(scale * change.after),
            Text(hundredths(scale * change.difference, "+"), style=style),
            _interval(scale * change.low, scale * change.high),
            _probability(change.p),
            Text(verdict, style=style),
        )
    return table


def _verdict(change: Change, better: int = 1) -> str:
    """One or two words on a change; ``better`` as for :func:`_table`."""
    if change.is_real:
        gain = change.difference * better
        if gain:
            return "better" if gain > 0 else "worse"
        return "more" if change.difference > 0 else "less"
    if change.before == change.after:
        return "the same"
    if change.has_too_few_frames:
        return _TOO_FEW
    return "unclear" if change.p == change.p else ""


def _interval(low: float, high: float) -> str:
    return "–" if low != low else f"{hundredths(low, '+')} … {hundredths(high, '+')}"


def _probability(p: float) -> str:
    if p != p:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _by_size(changes: Sequence[Change]) -> list[Change]:
    """Largest improvement first, largest loss last; what exists on one side only at the end."""
    return sorted(changes, key=lambda c: (c.difference != c.difference, -c.difference, c.name))


def _subject(subject: dict[str, Any], path: Path) -> str:
    parts = [
        str(subject[key])
        for key in ("model", "engine", "mode", "dataset", "predictions")
        if subject.get(key)
    ]
    return " · ".join([*parts, str(path)])


def _print_notes(frames: int, samples: int, block: int, console: Console) -> None:
    """How intervals and probabilities came about, and whether there are enough frames for them."""
    from rt_panoptic_core.evaluation.comparison import (
        FEWEST_UNITS,
        independent_units,
        smallest_probability,
    )

    drawn = f"blocks of {block} frames" if block > 1 else "frames"
    console.print(
        f"{counted(frames, 'frame')}, paired bootstrap of {counted(samples, 'resample')} over {drawn}. "
        "better / worse: p < 0.05, for classes corrected for their number (Holm).",
        style="dim",
        soft_wrap=True,
    )
    units = independent_units(frames, block)
    if units >= FEWEST_UNITS:
        return
    there = counted(units, f"block of {block} frames", f"blocks of {block} frames")
    if block == 1:
        there = counted(units, "frame")
    reached = f"no p is below {smallest_probability(units):.2g}" if units > 1 else "there is no p"
    console.print(
        f"Too few frames to tell a difference from chance: with {there} {reached}. "
        f"{FEWEST_UNITS} are the least: evaluate more frames"
        + (", or take smaller blocks (--block)." if block > 1 else "."),
        style="yellow",
        soft_wrap=True,
    )


def _to_json(comparison: Comparison) -> dict[str, Any]:
    content = asdict(comparison)
    for key in ("overall", "pq", "iou"):
        content[key] = _changes_to_json(getattr(comparison, key))
    totals = comparison.totals
    content["totals"] = {
        "overall": _totals_to_json(totals.overall),
        "per_class": {name: _totals_to_json(rows) for name, rows in totals.per_class.items()},
        "recall": _totals_to_json(totals.recall),
    }
    if comparison.latency is not None:
        content["latency"]["ratio"] = comparison.latency.ratio
    truth = _truth_note(comparison)
    content["notes"] = [*([truth] if truth else []), *totals.left_out]
    return content


def _totals_to_json(changes: Sequence[TotalChange]) -> list[dict[str, Any]]:
    return [{**asdict(change), "difference": change.difference} for change in changes]


def _changes_to_json(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [
        {**asdict(change), "difference": change.difference, "is_real": change.is_real}
        for change in changes
    ]
