"""What changed in measures that are of all frames together: no frame has its own part of them on record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rt_panoptic_core.evaluation.record import EvaluationRecord


@dataclass(frozen=True)
class TotalChange:
    """One measure in both evaluations, in [0, 1]; nan where it does not exist."""

    name: str
    before: float
    after: float

    @property
    def difference(self) -> float:
        """``after - before``."""
        return self.after - self.before


@dataclass(frozen=True)
class TotalChanges:
    """Changes of AP, boundary PQ and recall.

    Attributes:
        overall: over all classes; measures that either side has.
        per_class: by measure (``AP``, ``AP50``, ``boundary PQ``), the classes that either side has.
        recall: of instances by size and by distance, a bin each.
        left_out: a sentence for each measure that is not compared although it was taken.
    """

    overall: tuple[TotalChange, ...]
    per_class: dict[str, tuple[TotalChange, ...]]
    recall: tuple[TotalChange, ...]
    left_out: tuple[str, ...]


def total_changes(
    before: EvaluationRecord, after: EvaluationRecord, *, same_frames: bool
) -> TotalChanges:
    """Changes from ``before`` to ``after``, two evaluations of the same classes.

    Args:
        before: the first evaluation.
        after: the second.
        same_frames: whether both are of the same frames; of others these measures cannot be compared.
    """
    results = (before.results, after.results)
    left_out = []
    keys = []
    for key, name in (("instances", "AP"), ("boundary", "boundary PQ"), ("recall", "recall")):
        reason = _obstacle(key, before, after, same_frames)
        if reason:
            left_out.append(f"{name} is not compared: {reason}.")
        elif reason is None:
            keys.append(key)
    names = [entry.name for entry in before.classes]
    overall: list[TotalChange] = []
    per_class: dict[str, tuple[TotalChange, ...]] = {}
    if "instances" in keys:
        for name, mean, classes in (("AP", "ap", "per_class"), ("AP50", "ap50", "per_class_50")):
            overall.append(_change(name, *(side["instances"][mean] for side in results)))
            tables = [side["instances"][classes] for side in results]
            per_class[name] = _known(_change(c, *(table.get(c) for table in tables)) for c in names)
    if "boundary" in keys:
        for name, key in (("", "all"), (" things", "things"), (" stuff", "stuff")):
            pair = [side["boundary"][key]["pq"] for side in results]
            overall.append(_change(f"boundary PQ{name}", *pair))
        rows = zip(names, *(side["boundary"]["per_class"] for side in results), strict=True)
        per_class["boundary PQ"] = _known(
            _change(name, first["pq"], second["pq"]) for name, first, second in rows
        )
    recall = _recall_changes(*(side["recall"] for side in results)) if "recall" in keys else ()
    return TotalChanges(_known(overall), per_class, recall, tuple(left_out))


def _obstacle(
    key: str, before: EvaluationRecord, after: EvaluationRecord, same_frames: bool
) -> str | None:
    """Why ``results[key]`` of both is not compared, empty where neither has it; None if it can be."""
    sides = [record.results.get(key) for record in (before, after)]
    if not any(sides):
        return ""
    if not all(sides):
        return "one side did not measure it"
    if not same_frames:
        return "it is of all frames of an evaluation, and these have not all in common"
    if key == "boundary" and before.results[key]["ratio"] != after.results[key]["ratio"]:
        ratios = [f"{side[key]['ratio']:g}" for side in (before.results, after.results)]
        return (
            f"boundaries are {ratios[0]} of the diagonal wide on one side, {ratios[1]} on the other"
        )
    masks = [record.subject.get("instance_masks") for record in (before, after)]
    if key == "instances" and masks[0] != masks[1]:
        return "one side takes it from whole masks (--detections), the other from visible ones"
    return None


def _recall_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[TotalChange, ...]:
    changes = []
    for key in (key for key in before if key in after):
        sides = [_recall(bins[key]) for bins in (before, after)]
        changes += [
            _change(f"recall {label}", sides[0][label], sides[1].get(label)) for label in sides[0]
        ]
    return _known(changes)


def _recall(bins: Mapping[str, Any]) -> dict[str, float]:
    """Recall over all classes by the bin's label; nan in an empty bin."""
    truth, found = (np.asarray(bins[key]).sum(axis=0).tolist() for key in ("truth", "found"))
    shares = [f / t if t else math.nan for f, t in zip(found, truth, strict=True)]
    return dict(zip(bins["labels"], shares, strict=True))


def _change(name: str, before: float | None, after: float | None) -> TotalChange:
    first, second = (math.nan if value is None else float(value) for value in (before, after))
    return TotalChange(name, first, second)


def _known(changes: Iterable[TotalChange]) -> tuple[TotalChange, ...]:
    """Those that exist on either side."""
    return tuple(c for c in changes if not (math.isnan(c.before) and math.isnan(c.after)))
