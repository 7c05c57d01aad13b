"""Tables for the terminal, whatever its width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rt_panoptic_core.cli.quality_tables import print_classes, print_summary
from rt_panoptic_core.evaluation.record import ClassRecord, EvaluationRecord
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
        "neither in the truth nor in the predictions: 133 classes",
        "  mIoU – · pixel accuracy – · AP – · AP50 –",
    ]
