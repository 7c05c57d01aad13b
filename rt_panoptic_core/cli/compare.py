"""``rt-panoptic compare``: what changed between two evaluations."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rt_panoptic_core.evaluation.comparison import Change, Comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rt-panoptic compare``."""
    parser.add_argument("before", metavar="A.json", help="from rt-panoptic evaluate or score")
    parser.add_argument("after", metavar="B.json", help="the same of the other run")
    parser.add_argument(
        "--samples", type=int, default=10000, metavar="N", help="resamples (default %(default)s)"
    )
    parser.add_argument(
        "--block",
        type=int,
        default=1,
        metavar="N",
        help="draw frames in blocks of N neighbours: for films, some seconds of them",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the drawing (default %(default)s)")
    parser.add_argument(
        "--common-frames",
        action="store_true",
        help="compare the frames in common where the two differ",
    )
    parser.add_argument("--output", metavar="JSON", help="write the comparison to this file")


def run(args: argparse.Namespace) -> int:
    """Compare, print the tables, write the JSON."""
    from rich.console import Console

    from rt_panoptic_core.evaluation.comparison import compare
    from rt_panoptic_core.evaluation.record import EvaluationRecord, without_nan
    from rt_panoptic_core.files import write_json

    before, after = EvaluationRecord.read(args.before), EvaluationRecord.read(args.after)
    comparison = compare(
        before,
        after,
        samples=args.samples,
        block=args.block,
        seed=args.seed,
        common_frames=args.common_frames,
    )
    console = Console(highlight=False)
    console.print(f"A  {_subject(before.subject, args.before)}", markup=False)
    console.print(f"B  {_subject(after.subject, args.after)}", markup=False)
    console.print(_table("", comparison.overall))
    console.print(_table("PQ by class", _by_size(comparison.pq)))
    if comparison.iou:
        console.print(_table("Semantic IoU by class", _by_size(comparison.iou)))
    console.print(_note(comparison), style="dim")
    if args.output:
        content = {"before": before.subject, "after": after.subject, **_to_json(comparison)}
        write_json(args.output, without_nan(content))
        console.print(f"written: {args.output}", markup=False)
    return 0


def _table(title: str, changes: Sequence[Change]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    for heading in ("A", "B", "B - A", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for change in changes:
        style, verdict = "dim", "unclear"
        if change.is_real:
            style, verdict = ("green", "better") if change.difference > 0 else ("red", "worse")
        elif change.before == change.after:
            verdict = "the same"
        table.add_row(
            change.name,
            f"{100 * change.before:.2f}",
            f"{100 * change.after:.2f}",
            Text(f"{100 * change.difference:+.2f}", style=style),
            f"{100 * change.low:+.2f} … {100 * change.high:+.2f}",
            f"{change.p:.3f}",
            Text(verdict, style=style),
        )
    return table


def _by_size(changes: Sequence[Change]) -> list[Change]:
    """Largest improvement first, largest loss last; what exists on one side only at the end."""
    return sorted(changes, key=lambda c: (c.difference != c.difference, -c.difference, c.name))


def _subject(subject: dict[str, Any], path: str) -> str:
    parts = [
        str(subject[key]) for key in ("model", "engine", "dataset", "predictions") if key in subject
    ]
    return " · ".join([*parts, path])


def _note(comparison: Comparison) -> str:
    drawn = f"blocks of {comparison.block} frames" if comparison.block > 1 else "frames"
    return (
        f"{comparison.frames} frames, paired bootstrap of {comparison.samples} resamples over {drawn}. "
        "better / worse: p < 0.05, for classes corrected for their number (Holm)."
    )


def _to_json(comparison: Comparison) -> dict[str, Any]:
    content = asdict(comparison)
    for key in ("overall", "pq", "iou"):
        content[key] = [
            {**asdict(change), "difference": change.difference, "is_real": change.is_real}
            for change in getattr(comparison, key)
        ]
    return content
