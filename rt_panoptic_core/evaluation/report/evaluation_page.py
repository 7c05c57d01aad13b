"""The report of ``rt-panoptic evaluate``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.evaluation.class_order import ListedClasses
from rt_panoptic_core.evaluation.record import EvaluationRecord
from rt_panoptic_core.evaluation.report.charts import (
    BarRow,
    Tile,
    bar_table,
    columns_chart,
    confusion_matrix,
    histogram,
    percent,
    side_by_side,
    table,
    tiles,
)
from rt_panoptic_core.evaluation.report.page import Page, Section
from rt_panoptic_core.evaluation.report.pictures import FramePanels, error_legend, gallery_html
from rt_panoptic_core.wording import counted

_CONFUSIONS = 12


def evaluation_page(
    record: EvaluationRecord,
    worst: Sequence[FramePanels] = (),
    best: Sequence[FramePanels] = (),
) -> Page:
    """Report of an evaluation; sections may be added to it before it is written."""
    subject = record.subject
    page = Page(
        f"{subject.get('model', 'Model')} on {subject.get('dataset', 'data')}",
        f"{len(record.frames)} frames",
        [
            # Of a digest the beginning is enough to tell models apart; the JSON holds all of it.
            (name.replace("_", " "), str(value)[:16] if name.endswith("sha256") else str(value))
            for name, value in subject.items()
            if name not in ("model", "dataset") and value not in (None, "", [])
        ],
    )
    has_instances = "instances" in record.results
    measure = "PQ" if has_instances else "mIoU"
    page.add(summary_section(record))
    page.add(classes_section(record))
    page.add(recall_section(record))
    page.add(
        Section(
            "Worst frames",
            error_legend() + gallery_html(list(worst), measure) if worst else "",
            f"Lowest {measure} of the frame alone. Click a picture to enlarge it.",
        )
    )
    page.add(
        Section(
            "Best frames",
            error_legend() + gallery_html(list(best), measure) if best else "",
            f"Highest {measure} of the frame alone.",
        )
    )
    page.add(confusion_section(record))
    page.add(distribution_section(record))
    return page


def summary_section(record: EvaluationRecord) -> Section:
    """The measures over all classes as tiles."""
    results = record.results
    panoptic = results["panoptic"]
    semantic = results["semantic"]
    miou = Tile("mIoU", percent(semantic["mean_iou"]), "semantic")
    accuracy = Tile("Pixel accuracy", percent(semantic["pixel_accuracy"]), "semantic")
    note = "All values in percent."
    if "instances" in results:
        shown = [_quality_tile("PQ", panoptic["all"], "all classes")]
        shown += [
            _quality_tile("PQ things", panoptic["things"], "things"),
            _quality_tile("PQ stuff", panoptic["stuff"], "stuff"),
            Tile("SQ", percent(panoptic["all"]["sq"]), "how well matches fit"),
            Tile("RQ", percent(panoptic["all"]["rq"]), "how many are matched"),
            miou,
            Tile("AP", percent(results["instances"]["ap"]), "instances, IoU .5 to .95"),
            Tile("AP50", percent(results["instances"]["ap50"]), "instances, IoU .5"),
        ]
    else:
        shown = [miou, accuracy, _quality_tile("PQ stuff", panoptic["stuff"], "stuff")]
        note += " This data has no instances: things are measured as semantics only."
    if "boundary" in results:
        key = "all" if "instances" in results else "stuff"
        ratio = results["boundary"]["ratio"]
        shown.append(
            Tile(
                "Boundary PQ",
                percent(results["boundary"][key]["pq"]),
                f"outlines {100 * ratio:g} % of the diagonal",
            )
        )
    if "instances" in results:
        shown.append(accuracy)
    latency = results.get("latency_ms")
    if latency:
        shown.append(
            Tile(
                "Latency",
                f"{latency['median']:.{0 if latency['median'] >= 100 else 1}f} ms",
                f"median; {1000 / latency['mean']:.1f} frames/s on average",
            )
        )
    return Section("Summary", tiles(shown), note)


def classes_section(record: EvaluationRecord) -> Section:
    """A bar and the numbers of every class that occurs, things and stuff, the worst first."""
    results = record.results
    listed = ListedClasses.of(record)
    by_quality = listed.measure == "PQ"
    boundary = results["boundary"]["per_class"] if "boundary" in results else None
    instances = results.get("instances")

    def row(class_id: int) -> BarRow:
        entry, quality = record.classes[class_id], results["panoptic"]["per_class"][class_id]
        iou = _number(results["semantic"]["per_class"][class_id])
        if not by_quality:
            return BarRow(entry.name, iou, entry.color, [percent(iou)])
        cells = [percent(_number(quality[key])) for key in ("pq", "sq", "rq")]
        if boundary is not None:
            cells.append(percent(_number(boundary[class_id]["pq"])))
        cells += [str(quality[key]) for key in ("tp", "fp", "fn")]
        cells.append(percent(iou))
        if instances is not None:
            cells += [
                percent(_number(instances[key].get(entry.name))) if entry.is_thing else ""
                for key in ("per_class", "per_class_50")
            ]
        return BarRow(entry.name, _number(quality["pq"]), entry.color, cells)

    headings = [listed.measure, ""]
    if by_quality:
        headings += ["SQ", "RQ"] + (["boundary PQ"] if boundary is not None else [])
        headings += ["TP", "FP", "FN", "IoU"] + (["AP", "AP50"] if instances is not None else [])
    shown = [
        (title, [row(class_id) for class_id in class_ids])
        for title, class_ids in (("Things", listed.things), ("Stuff", listed.stuff))
    ]
    if not any(rows for _, rows in shown):
        return Section("Classes", '<p class="note">Nothing is labelled in these frames.</p>')
    note = f"In percent, the worst {listed.measure} first."
    if listed.absent:
        note += (
            " Left out, as they are not in the truth and no prediction counts as one of them: "
            f"{counted(listed.absent, 'class', 'classes')}."
        )
    if by_quality:
        note += (
            " TP, FP, FN are segments. A class without any occurs in pixels only: things without an "
            "instance, crowds, predictions that are ignored."
        )
    return Section("Classes", bar_table(headings, shown, "class"), note)


def recall_section(record: EvaluationRecord) -> Section:
    """Recall of instances by size, and by distance where the data has depth."""
    recall = record.results.get("recall")
    if not recall or not np.any(recall["size"]["truth"]):
        return Section("Small and far", "")
    charts = [
        (title, _recall_chart(recall[key], title))
        for key, title in (
            ("size", "Recall by size: square root of the visible area"),
            ("distance", "Recall by distance: median depth of the visible pixels"),
        )
        if key in recall
    ]
    note = "Share of the true instances that were matched (IoU over 0.5), and how many there are."
    return Section("Small and far", side_by_side(*charts), note)


def confusion_section(record: EvaluationRecord) -> Section:
    """The confusion matrix of pixels and its largest entries."""
    confusion = np.asarray(record.results["semantic"]["confusion"], dtype=np.int64)
    names = [entry.name for entry in record.classes]
    colors = [entry.color for entry in record.classes]
    matrix = confusion_matrix(names, colors, confusion)
    if not matrix:
        return Section("Confusion", "")
    largest = _largest_confusions(names, confusion)
    body = matrix + (
        f'<h3 style="margin-top:1.4rem">Most pixels lost to</h3>{largest}' if largest else ""
    )
    note = "Percent of the pixels of the class in the row that were given the class in the column."
    return Section("Confusion", body, note)


def distribution_section(record: EvaluationRecord) -> Section:
    """Histograms of latency and of the frames' own quality."""
    has_instances = "instances" in record.results
    qualities = [frame.quality() if has_instances else frame.mean_iou() for frame in record.frames]
    known = [100 * value for value in qualities if not math.isnan(value)]
    times = [frame.latency_ms for frame in record.frames if frame.latency_ms is not None]
    latency = record.results.get("latency_ms")
    marks = [("median", latency["median"]), ("99 %", latency["p99"])] if latency else []
    body = side_by_side(
        ("Latency of a frame", histogram(times, unit="ms", marks=marks)),
        (
            f"{'PQ' if has_instances else 'mIoU'} of a frame alone",
            histogram(known, unit="%", bins=25),
        ),
    )
    return Section(
        "Frames", body, "How often; the last bar of latency holds the slowest half percent."
    )


def _quality_tile(name: str, mean: Mapping[str, Any], what: str) -> Tile:
    count = (
        f"{mean['n']} class{'es' if mean['n'] > 1 else ''}" if mean["n"] else "no segment counts"
    )
    return Tile(name, percent(_number(mean["pq"])), f"{what}, {count}")


def _recall_chart(bins: Mapping[str, Any], title: str) -> str:
    truth = np.asarray(bins["truth"], dtype=np.int64).sum(axis=0)
    found = np.asarray(bins["found"], dtype=np.int64).sum(axis=0)
    shares = [f / t if t else math.nan for f, t in zip(found.tolist(), truth.tolist(), strict=True)]
    return columns_chart(bins["labels"], shares, [f"of {t}" for t in truth.tolist()], title)


def _largest_confusions(names: Sequence[str], confusion: npt.NDArray[np.int64]) -> str:
    wrong = confusion.copy()
    np.fill_diagonal(wrong[:, :-1], 0)
    total, of_class = confusion.sum(), confusion.sum(axis=1)
    rows = []
    for place in np.argsort(-wrong, axis=None)[:_CONFUSIONS].tolist():
        row, column = divmod(place, wrong.shape[1])
        pixels = int(wrong[row, column])
        if not pixels:
            break
        target = "unlabelled" if column == len(names) else names[column]
        rows.append(
            [
                f"{names[row]} → {target}",
                f"{100 * pixels / of_class[row]:.1f} % of {names[row]}",
                f"{100 * pixels / total:.2f} % of all pixels",
            ]
        )
    return table(["truth → prediction", "", ""], rows)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
