"""Tables for the terminal, whatever its width."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from rt_panoptic_core.cli.quality_tables import print_classes, print_summary
from rt_panoptic_core.evaluation.record import ClassRecord, EvaluationRecord
from rt_panoptic_core.evaluation.report.evaluation_page import classes_section
from rt_panoptic_core.evaluation.report.style import STYLE
from rt_panoptic_core.taxonomy import Taxonomy


def record(count: int) -> EvaluationRecord:
    """All of COCO's classes, each with ``count`` true positives."""
    coco = Taxonomy.load("coco")
    value = 1.0 if count else None
    quality = {"pq": value, "sq": value, "rq": value, "tp": count, "fp": 0, "fn": 0}
    mean = {"pq": value, "sq": value, "rq": value, "n": len(coco) if count else 0}
    results = {
        "panoptic": {
            "per_class": [quality] * len(coco),
            **dict.fromkeys(("all", "things", "stuff"), mean),
        },
        "semantic": {"per_class": [value] * len(coco), "mean_iou": value, "pixel_accuracy": value},
        "instances": {"per_class": {}, "per_class_50": {}, "ap": value, "ap50": value},
    }
    classes = tuple(ClassRecord(c.name, c.is_thing, c.color) for c in coco)
    return EvaluationRecord({}, classes, results, ())


def printed(record: EvaluationRecord, width: int) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False)
    print_classes(record, console)
    print_summary(record, console)
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_class_and_its_numbers_are_on_one_line(width):
    lines = printed(record(10000), width)
    for category in Taxonomy.load("coco"):
        (line,) = (line for line in lines if f"■ {category.name} " in line)
        assert line.split()[-7 - 2 * category.is_thing :][:4] == [
            "100.0",
            "100.0",
            "100.0",
            "10000",
        ]


def test_without_a_class_there_is_no_table():
    lines = [line for line in printed(record(0), 80) if line.strip()]
    assert lines == [
        "not in the truth, and no prediction counts as one of them: 133 classes",
        "  mIoU – · pixel accuracy – · AP – · AP50 –",
    ]


def ranked(things: dict[str, tuple], has_instances: bool) -> EvaluationRecord:
    """Things with this PQ and IoU, and two classes of stuff; ``bus`` occurs nowhere."""
    named = {**things, "bus": (None, None), "road": (0.9, 0.2), "sky": (0.8, 0.3)}
    classes = tuple(ClassRecord(name, name in (*things, "bus"), (1, 2, 3)) for name in named)
    counts = {"tp": 0, "fp": 0, "fn": 0}
    per_class = [{"pq": pq, "sq": pq, "rq": pq, **counts} for pq, _ in named.values()]
    results = {
        "panoptic": {"per_class": per_class},
        "semantic": {"per_class": [iou for _, iou in named.values()]},
    }
    if has_instances:
        results["instances"] = {"per_class": {"car": 0.123}, "per_class_50": {"car": 0.456}}
    return EvaluationRecord({}, classes, results, ())


@pytest.mark.parametrize("has_instances", [True, False])
def test_terminal_and_report_list_the_worst_class_first(has_instances):
    quality = (0.4, 0.1) if has_instances else (None, 0.5)
    other = (0.2, 0.6) if has_instances else (None, 0.4)
    evaluated = ranked({"car": quality, "person": other, "rider": (None, 0.0)}, has_instances)
    order = ["person", "car", "rider"] if has_instances else ["rider", "person", "car"]
    order += ["sky", "road"] if has_instances else ["road", "sky"]
    text = io.StringIO()
    print_classes(evaluated, Console(file=text, width=80))
    section = classes_section(evaluated)
    for listing in (text.getvalue(), section.body):
        assert sorted(order, key=listing.index) == order
        assert "bus" not in listing
    said = f"the worst {'PQ' if has_instances else 'IoU'} first"
    assert said in text.getvalue()
    assert said in section.note
    for told in (text.getvalue(), section.note):
        assert "no prediction counts as one of them: 1 class" in told


def test_the_report_has_both_average_precisions_of_a_class():
    body = classes_section(ranked({"car": (0.4, 0.1)}, has_instances=True)).body
    assert "<th>AP</th><th>AP50</th>" in body
    assert "<td>12.3</td><td>45.6</td>" in body


def test_the_report_shades_the_edge_behind_which_a_table_goes_on():
    # The shade stays where it is, its cover scrolls with the table and is over it at the end alone.
    layers = re.search(r"\.scroll \{[^}]*background:([^}]*)\}", STYLE).group(1).split(",\n")
    cover, shade = (layer.rstrip("; ") for layer in layers)
    assert "--card" in cover
    assert cover.endswith("local")
    assert "--shade" in shade
    assert shade.endswith("scroll")
    assert STYLE.count("--shade: ") == 2
    assert '<div class="scroll">' in classes_section(ranked({"car": (0.4, 0.1)}, True)).body


def test_no_line_of_text_is_broken():
    lines = printed(record(0), 20)
    assert "not in the truth, and no prediction counts as one of them: 133 classes" in lines
