"""Tables of what changed in measures without intervals: AP, boundary PQ, recall; and in latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rt_panoptic_core.cli.quality_tables import hundredths, print_table
from rt_panoptic_core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from rt_panoptic_core.evaluation.latency_change import LatencyChange
    from rt_panoptic_core.evaluation.total_changes import TotalChange, TotalChanges


def print_totals(totals: TotalChanges, console: Console) -> None:
    """Print both values and the difference, in percent, of all classes and of each class."""
    from rich import box
    from rich.table import Table

    rows = (*totals.overall, *totals.recall)
    if rows:
        table = Table(
            title="Of all frames together, so without an interval",
            box=box.SIMPLE_HEAD,
            title_justify="left",
        )
        table.add_column("")
        for heading in ("A", "B", "B - A"):
            table.add_column(heading, justify="right")
        for change in rows:
            table.add_row(change.name, *_cells(change))
        print_table(table, console)
    measures = {name: changes for name, changes in totals.per_class.items() if changes}
    if measures:
        table = Table(title="The same by class", box=box.SIMPLE_HEAD, title_justify="left")
        table.add_column("")
        for name in measures:
            for heading in (f"{name} A", "B", "B - A"):
                table.add_column(heading, justify="right")
        for class_name in dict.fromkeys(c.name for changes in measures.values() for c in changes):
            cells: list[str] = []
            for changes in measures.values():
                found = [change for change in changes if change.name == class_name]
                cells += _cells(found[0]) if found else [""] * 3
            table.add_row(class_name, *cells)
        print_table(table, console)
    for sentence in totals.left_out:
        console.print(sentence, style="yellow", soft_wrap=True)


def print_latency(change: LatencyChange, console: Console) -> None:
    """Print the medians and their ratio."""
    console.print(
        f"latency: median A {change.before:.1f} ms, B {change.after:.1f} ms, "
        f"{hundredths(change.ratio)} times A's, over {counted(change.frames, 'frame')}",
        soft_wrap=True,
    )


def _cells(change: TotalChange) -> list[str]:
    return [
        hundredths(100 * change.before),
        hundredths(100 * change.after),
        hundredths(100 * change.difference, "+"),
    ]
