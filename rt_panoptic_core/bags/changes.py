"""What changed between two evaluations of one bag, by topic: with another model, engine or setting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.records import ANSWERED, SHARE, read_csv
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.evaluation.comparison import (
    Change,
    Comparison,
    compare,
    compare_means,
    corrected,
)
from rt_panoptic_core.evaluation.record import EvaluationRecord

_BLOCK = 10


class Measure(NamedTuple):
    """A measure of a frame that needs no ground truth.

    Attributes:
        name: with its unit.
        column: of ``frames.csv``.
        scale: from the column's unit to the name's.
        better: 1 where more is better, -1 where less is, 0 where neither is.
    """

    name: str
    column: str
    scale: float
    better: int


MEASURES = (
    Measure("flicker, %", "flicker", 100.0, -1),
    Measure("unlabelled, %", "unlabelled", 100.0, 0),
    Measure("instances", "instances", 1.0, 0),
    Measure("latency, ms", "latency", 1000.0, -1),
)
"""What is compared of a frame; latency is there after evaluations in real time."""


@dataclass(frozen=True)
class TopicChanges:
    """What changed for one image topic.

    Attributes:
        topic: its name.
        answered: frames that have a result, in the first and in the second evaluation.
        frames: frames that have one in both: those that are compared.
        block: consecutive frames that were drawn together.
        measures: of :data:`MEASURES`, in their units, means over the frames.
        shares: of the pixels by class, fractions; probabilities corrected for their number (Holm).
        quality: what changed against the ground truth; None where one of them was not measured.
    """

    topic: str
    answered: tuple[int, int]
    frames: int
    block: int
    measures: tuple[Change, ...]
    shares: tuple[Change, ...]
    quality: Comparison | None


def is_bag_evaluation(folder: Path) -> bool:
    """Whether ``folder`` holds what an evaluation of a bag left."""
    return OutputFolder(folder).frames_csv.is_file()


def read_report(folder: Path) -> dict[str, Any]:
    """The figures of a complete evaluation of a bag.

    Raises:
        BagError: there are none.
    """
    path = OutputFolder(folder).report_json
    try:
        report: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BagError(
            f"{folder}: no complete evaluation of a bag; the command that began it goes on with it"
        ) from None
    except (OSError, ValueError) as error:
        raise BagError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(report, dict) or "topics" not in report or "bag" not in report:
        raise BagError(f"{path}: it is no report of an evaluated bag")
    return report


def compare_bag_evaluations(
    before: Path,
    after: Path,
    *,
    samples: int = 10000,
    block: int | None = None,
    seed: int = 0,
    common_frames: bool = False,
) -> list[TopicChanges]:
    """Changes from ``before`` to ``after``, folders of two evaluations of one bag, for topics in both.

    As :func:`rt_panoptic_core.evaluation.comparison.compare`, a paired bootstrap over the frames that both
    answered, in blocks of neighbours.

    Args:
        before, after: the folders.
        samples: resamples to draw.
        block: consecutive frames to draw together; None for 10, or a quarter of the frames if that is less.
        seed: of the drawing.
        common_frames: compare quality on the frames that both have instead of refusing if they differ.

    Raises:
        BagError: a folder is of no complete evaluation, or they are of different bags or topics.
        DatasetError, ConfigError: as :func:`compare` raises them.
    """
    reports = [read_report(folder) for folder in (before, after)]
    bags = [report["bag"] for report in reports]
    if bags[0].get("files") != bags[1].get("files"):
        raise BagError(
            f"{before} is of the bag {bags[0].get('name')!r}, {after} of {bags[1].get('name')!r}, "
            "and their files differ; evaluate one bag twice"
        )
    names = [[topic["topic"] for topic in report["topics"]] for report in reports]
    common = [name for name in names[0] if name in names[1]]
    if not common:
        raise BagError(
            f"{before} is of {', '.join(names[0])} and {after} of {', '.join(names[1])}: "
            "no topic in common"
        )
    drawing = _Drawing(samples, block, seed)
    tables = [read_csv(OutputFolder(folder).frames_csv) for folder in (before, after)]
    changes = []
    for topic in common:
        rows = [
            {row["number"]: row for row in table if row["topic"] == topic and _is_answered(row)}
            for table in tables
        ]
        files = [
            OutputFolder(folder).quality_json(topic, listed)
            for folder, listed in zip((before, after), names, strict=True)
        ]
        changes.append(_topic_changes(topic, rows[0], rows[1], files, drawing, common_frames))
    return changes


class _Drawing(NamedTuple):
    samples: int
    block: int | None
    seed: int


def _topic_changes(
    topic: str,
    before: Mapping[str, dict[str, str]],
    after: Mapping[str, dict[str, str]],
    files: list[Path],
    drawing: _Drawing,
    common_frames: bool,
) -> TopicChanges:
    """Changes from the rows ``before`` to ``after``, by frame number; ``files`` may hold the quality."""
    numbers = [number for number in before if number in after]
    if not numbers:
        raise BagError(f"{topic}: no frame has a result in both evaluations")
    samples, block, seed = drawing
    if block is None:
        block = min(_BLOCK, max(1, len(numbers) // 4))
    pairs = [[side[number] for number in numbers] for side in (before, after)]

    def means(names: list[str], scales: Mapping[str, float]) -> tuple[Change, ...]:
        first, second = (_columns(side, scales) for side in pairs)
        return compare_means(names, first, second, samples=samples, block=block, seed=seed)

    classes = [column for column in pairs[0][0] if column.startswith(SHARE)]
    shares = means([name.removeprefix(SHARE) for name in classes], dict.fromkeys(classes, 1.0))
    quality = None
    if all(file.is_file() for file in files):
        quality = compare(
            *(EvaluationRecord.read(file) for file in files),
            samples=samples,
            block=block,
            seed=seed,
            common_frames=common_frames,
        )
    return TopicChanges(
        topic,
        (len(before), len(after)),
        len(numbers),
        block,
        means([m.name for m in MEASURES], {m.column: m.scale for m in MEASURES}),
        corrected(tuple(c for c in shares if c.before or c.after)),
        quality,
    )


def _is_answered(row: Mapping[str, str]) -> bool:
    return row["status"] == ANSWERED


def _columns(
    rows: list[dict[str, str]], scales: Mapping[str, float]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """float64 [rows, columns], nan for an empty cell."""
    table = [
        [float(row[name]) * scale if row.get(name) else np.nan for name, scale in scales.items()]
        for row in rows
    ]
    return np.array(table, dtype=np.float64)
