"""What changed between two evaluations of one bag, by topic: with another model, engine or setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.records import ANSWERED, SHARE, read_csv
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.evaluation.comparison import (
    FEWEST_UNITS,
    Change,
    Comparison,
    Float,
    compare,
    compare_means,
    corrected,
)
from rt_panoptic_core.evaluation.record import EvaluationRecord
from rt_panoptic_core.files import read_json

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
        block: consecutive frames that were drawn together; quality has its own.
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


@dataclass(frozen=True)
class BagEvaluation:
    """What a complete evaluation of a bag left.

    Attributes:
        folder: that it is in.
        report: its figures.
    """

    folder: Path
    report: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> BagEvaluation:
        """The evaluation in ``folder``.

        Raises:
            BagError: there is none, or it is not complete.
        """
        path = OutputFolder(folder).report_json
        if not path.exists():
            raise BagError(
                f"{folder}: no complete evaluation of a bag; the command that began it goes on with it"
            )
        report = read_json(path, BagError)
        if not isinstance(report, dict) or "topics" not in report or "bag" not in report:
            raise BagError(f"{path}: it is no report of an evaluated bag")
        return cls(folder, report)

    @property
    def topics(self) -> list[str]:
        """The image topics."""
        return [topic["topic"] for topic in self.report["topics"]]

    def answered(self) -> dict[str, dict[str, dict[str, str]]]:
        """The rows of the frames that have a result, by topic and number.

        Raises:
            BagError: the table of frames cannot be read.
        """
        rows: dict[str, dict[str, dict[str, str]]] = {topic: {} for topic in self.topics}
        for row in read_csv(OutputFolder(self.folder).frames_csv):
            if row["topic"] in rows and _is_answered(row):
                rows[row["topic"]][row["number"]] = row
        return rows

    def quality(self, topic: str) -> Path:
        """Where the record of a topic's quality is, if there is ground truth."""
        return OutputFolder(self.folder).quality_json(topic, self.topics)


def compare_bag_evaluations(
    before: BagEvaluation,
    after: BagEvaluation,
    *,
    samples: int = 10000,
    block: int | None = None,
    seed: int = 0,
    common_frames: bool = False,
) -> list[TopicChanges]:
    """Changes from ``before`` to ``after``, two evaluations of one bag, for the topics in both.

    As :func:`rt_panoptic_core.evaluation.comparison.compare`, a paired bootstrap over the frames that both
    answered, in blocks of neighbours.

    Args:
        before, after: the evaluations.
        samples: resamples to draw.
        block: consecutive frames to draw together; None for 10, or a sixth of the frames if that is less:
            with fewer blocks nothing can be real. For quality, of the frames that have ground truth.
        seed: of the drawing.
        common_frames: compare quality on the frames that both have instead of refusing if they differ.

    Raises:
        BagError: they are of different bags or topics, or have no frame in common.
        DatasetError, ConfigError: as :func:`compare` raises them.
    """
    bags = [side.report["bag"] for side in (before, after)]
    if bags[0].get("files") != bags[1].get("files"):
        raise BagError(
            f"{before.folder} is of the bag {bags[0].get('name')!r}, {after.folder} of "
            f"{bags[1].get('name')!r}, and their files differ; evaluate one bag twice"
        )
    common = [topic for topic in before.topics if topic in after.topics]
    if not common:
        raise BagError(
            f"{before.folder} is of {', '.join(before.topics)} and {after.folder} of "
            f"{', '.join(after.topics)}: no topic in common"
        )
    drawing = _Drawing(samples, block, seed)
    first, second = before.answered(), after.answered()
    return [
        _topic_changes(
            topic,
            first[topic],
            second[topic],
            [before.quality(topic), after.quality(topic)],
            drawing,
            common_frames,
        )
        for topic in common
    ]


class _Drawing(NamedTuple):
    samples: int
    block: int | None
    seed: int

    def block_for(self, frames: int) -> int:
        """The block that was asked for, or the usual one of so many frames."""
        if self.block is not None:
            return self.block
        return min(_BLOCK, max(1, frames // FEWEST_UNITS))


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
    block = drawing.block_for(len(numbers))
    pairs = [[side[number] for number in numbers] for side in (before, after)]
    # All in one drawing, which is most of the work.
    scales = {measure.column: measure.scale for measure in MEASURES}
    scales |= dict.fromkeys((column for column in pairs[0][0] if column.startswith(SHARE)), 1.0)
    changes = compare_means(
        list(scales),
        *(_values(side, scales) for side in pairs),
        samples=drawing.samples,
        block=block,
        seed=drawing.seed,
    )
    names = {measure.column: measure.name for measure in MEASURES}
    shares = tuple(
        replace(change, name=change.name.removeprefix(SHARE))
        for change in changes
        if change.name not in names and (change.before or change.after)
    )
    return TopicChanges(
        topic,
        (len(before), len(after)),
        len(numbers),
        block,
        tuple(replace(c, name=names[c.name]) for c in changes if c.name in names),
        corrected(shares),
        _quality_changes(files, drawing, common_frames),
    )


def _quality_changes(
    files: list[Path], drawing: _Drawing, common_frames: bool
) -> Comparison | None:
    """Changes of the quality in ``files``; None where one of them is not there."""
    if not all(file.is_file() for file in files):
        return None
    before, after = (EvaluationRecord.read(file) for file in files)
    # Often less than were answered: not every frame has ground truth.
    frames = {frame.name for frame in before.frames} & {frame.name for frame in after.frames}
    return compare(
        before,
        after,
        samples=drawing.samples,
        block=drawing.block_for(len(frames)),
        seed=drawing.seed,
        common_frames=common_frames,
    )


def _is_answered(row: Mapping[str, str]) -> bool:
    return row["status"] == ANSWERED


def _values(rows: list[dict[str, str]], scales: Mapping[str, float]) -> Float:
    """float64 [rows, columns] of the columns in ``scales``, times their scale; nan for an empty cell."""
    table = [
        [float(row[name]) * scale if row.get(name) else np.nan for name, scale in scales.items()]
        for row in rows
    ]
    return np.array(table, dtype=np.float64)
