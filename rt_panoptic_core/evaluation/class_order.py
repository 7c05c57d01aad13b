"""Which classes of an evaluation are listed, and in which order: in the terminal as in the report."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rt_panoptic_core.evaluation.record import EvaluationRecord


@dataclass(frozen=True)
class ListedClasses:
    """The classes that have anything to show, the worst first: that is where there is work to do.

    Attributes:
        measure: what orders them, ``PQ``, or ``IoU`` where the data has no instances.
        things: ids of the thing classes; those without the measure at the end.
        stuff: ids of the stuff classes, likewise.
        absent: how many classes are left out: not in the truth, and no prediction counts as one of them.
    """

    measure: str
    things: tuple[int, ...]
    stuff: tuple[int, ...]
    absent: int

    @classmethod
    def of(cls, record: EvaluationRecord) -> ListedClasses:
        """The classes of ``record``."""
        quality = record.results["panoptic"]["per_class"]
        iou = [_number(value) for value in record.results["semantic"]["per_class"]]
        by_quality = record.is_of_files or "instances" in record.results
        values = [_number(entry["pq"]) for entry in quality] if by_quality else iou
        listed = [
            class_id
            for class_id, entry in enumerate(quality)
            if entry["tp"] + entry["fp"] + entry["fn"] or not math.isnan(iou[class_id])
        ]
        listed.sort(key=lambda class_id: (math.isnan(values[class_id]), values[class_id]))
        things, stuff = (
            tuple(c for c in listed if record.classes[c].is_thing is wanted)
            for wanted in (True, False)
        )
        return cls("PQ" if by_quality else "IoU", things, stuff, len(quality) - len(listed))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
