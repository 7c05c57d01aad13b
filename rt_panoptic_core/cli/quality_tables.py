"""Tables of an evaluation's results for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rt_panoptic_core.wording import counted, percent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rt_panoptic_core.evaluation.record import EvaluationRecord

_WIDEST = 10**4
_PADDINGS = ((0, 1, 0, 1), (0, 1, 0, 0), (0, 0, 0, 0))
"""Of tables, the one that is tried first at the front: top, right, bottom, left."""


def print_table(table: Table, console: Console) -> None:
    """Print a table, no line of it broken or cut: where it is too wide its columns stand closer together."""
    from rich.measure import Measurement
    from rich.segment import Segments

    for column in table.columns:
        column.no_wrap = True
    unbounded = console.options.update(max_width=_WIDEST)
    for padding in _PADDINGS:
        table.padding = padding
        width = Measurement.get(console, unbounded, table).maximum
        if width <= console.width:
            break
    options = console.options.update(width=width, max_width=width)
    console.print(Segments(console.render(table, options)), crop=False, soft_wrap=True, end="")


def print_classes(record: EvaluationRecord, console: Console | None = None) -> None:
    """Print a row for every class that occurs, things before stuff, the worst first within each."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from rt_panoptic_core.evaluation.class_order import ListedClasses

    results = record.results
    listed = ListedClasses.of(record)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("class")
    has_ap = "instances" in results
    headings = ["PQ", "SQ", "RQ", "TP", "FP", "FN", "IoU"] + (["AP", "AP50"] if has_ap else [])
    for heading in headings:
        table.add_column(heading, justify="right")
    for class_ids in (listed.things, listed.stuff):
        for class_id in class_ids:
            entry, quality = record.classes[class_id], results["panoptic"]["per_class"][class_id]
            name = Text("■ ", style="#{:02x}{:02x}{:02x}".format(*entry.color)) + Text(entry.name)
            cells = [percent(quality[key]) for key in ("pq", "sq", "rq")]
            cells += [str(quality[key]) for key in ("tp", "fp", "fn")]
            cells.append(percent(results["semantic"]["per_class"][class_id]))
            if has_ap:
                per_class = results["instances"]
                cells += [
                    percent(per_class[key].get(entry.name)) if entry.is_thing else ""
                    for key in ("per_class", "per_class_50")
                ]
            table.add_row(name, *cells)
        table.add_section()
    console = console or Console(highlight=False)
    if table.row_count:
        print_table(table, console)
        console.print(
            f"things, then stuff; the worst {listed.measure} first", style="dim", soft_wrap=True
        )
    if listed.absent:
        # Not "not predicted": data that tells fewer classes apart counts a truck as a car.
        console.print(
            "not in the truth, and no prediction counts as one of them: "
            f"{counted(listed.absent, 'class', 'classes')}",
            style="dim",
            soft_wrap=True,
        )


def print_summary(record: EvaluationRecord, console: Console) -> None:
    """Print the measures over all classes, and the latency where it was taken."""
    from rich import box
    from rich.table import Table

    results = record.results
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for heading in ("PQ", "SQ", "RQ", "classes"):
        table.add_column(heading, justify="right")
    for title, source, key in (
        ("all", "panoptic", "all"),
        ("things", "panoptic", "things"),
        ("stuff", "panoptic", "stuff"),
        ("boundary", "boundary", "all"),
    ):
        if source in results and results[source][key]["n"]:
            mean = results[source][key]
            cells = [percent(mean[name]) for name in ("pq", "sq", "rq")]
            table.add_row(title, *cells, str(mean["n"]))
    if table.row_count:
        print_table(table, console)
    parts = [semantic_line(results["semantic"])]
    if "instances" in results:
        parts.append(f"AP {percent(results['instances']['ap'])}")
        parts.append(f"AP50 {percent(results['instances']['ap50'])}")
    console.print("  " + " · ".join(parts), soft_wrap=True)
    latency = results.get("latency_ms")
    if latency:
        console.print(
            f"  latency median {latency['median']:.1f} ms, 99 % within {latency['p99']:.1f} ms "
            f"({1000 / latency['mean']:.1f} frames/s) over {counted(latency['frames'], 'frame')}",
            soft_wrap=True,
        )


def semantic_line(semantic: Mapping[str, Any]) -> str:
    """``mIoU 72.7 · pixel accuracy 93.7``, in percent, from ``results["semantic"]``."""
    return (
        f"mIoU {percent(semantic['mean_iou'])} · "
        f"pixel accuracy {percent(semantic['pixel_accuracy'])}"
    )


def hundredths(value: float, sign: str = "") -> str:
    """``value`` with two decimals, a dash for nan; with the ``sign`` "+" it always has one."""
    return "–" if value != value else format(value, f"{sign}.2f")
