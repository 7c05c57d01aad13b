"""What changed in measures of all frames together."""

import math
from dataclasses import replace

import pytest

from rt_panoptic_core.evaluation.record import ClassRecord, EvaluationRecord
from rt_panoptic_core.evaluation.total_changes import total_changes

CLASSES = (ClassRecord("car", True, (0, 0, 1)), ClassRecord("road", False, (0, 0, 2)))


def record(quality: float, **subject) -> EvaluationRecord:
    mean, nothing = {"pq": quality}, {"pq": None}
    results = {
        "instances": {
            "ap": quality,
            "ap50": quality + 0.1,
            "per_class": {"car": quality},
            "per_class_50": {"car": quality + 0.1},
        },
        "boundary": {
            "ratio": 0.02,
            "all": mean,
            "things": nothing,
            "stuff": mean,
            "per_class": [nothing, mean],
        },
        "recall": {
            "size": {
                "labels": ["< 8 px", "≥ 8 px"],
                "truth": [[0, 4], [0, 0]],
                "found": [[0, int(10 * quality)], [0, 0]],
            }
        },
    }
    return EvaluationRecord(subject, CLASSES, results, ())


def without(evaluation: EvaluationRecord, *keys: str) -> EvaluationRecord:
    kept = {key: value for key, value in evaluation.results.items() if key not in keys}
    return replace(evaluation, results=kept)


def test_both_values_of_every_measure():
    changes = total_changes(record(0.2), record(0.3), same_frames=True)
    assert {c.name: (c.before, c.after) for c in changes.overall} == {
        "AP": (0.2, 0.3),
        "AP50": pytest.approx((0.3, 0.4)),
        "boundary PQ": (0.2, 0.3),
        "boundary PQ stuff": (0.2, 0.3),
    }
    assert changes.overall[0].difference == pytest.approx(0.1)
    named = {name: [c.name for c in rows] for name, rows in changes.per_class.items()}
    assert named == {"AP": ["car"], "AP50": ["car"], "boundary PQ": ["road"]}
    # A bin without a true instance on either side is none.
    assert [(c.name, c.before, c.after) for c in changes.recall] == [("recall ≥ 8 px", 0.5, 0.75)]
    assert changes.left_out == ()


def test_a_value_that_one_side_has_not_is_nan():
    second = record(0.3)
    second.results["instances"]["per_class"] = {"car": None}
    (car,) = total_changes(record(0.2), second, same_frames=True).per_class["AP"]
    assert car.before == 0.2
    assert math.isnan(car.after)


def test_what_was_not_measured_alike_is_left_out_and_named():
    first, second = record(0.2), record(0.3)
    assert not total_changes(first, second, same_frames=False).overall
    for changed, words in (
        (without(second, "instances"), "AP is not compared: one side did not measure it."),
        (replace(second, subject={"instance_masks": "whole"}), "whole masks (--detections)"),
        (
            replace(
                second,
                results={
                    **second.results,
                    "boundary": {**second.results["boundary"], "ratio": 0.005},
                },
            ),
            "boundaries are 0.02 of the diagonal wide on one side, 0.005 on the other",
        ),
    ):
        (sentence,) = total_changes(first, changed, same_frames=True).left_out
        assert words in sentence
    bare = [without(side, "instances", "boundary", "recall") for side in (first, second)]
    for same_frames in (True, False):
        nothing = total_changes(*bare, same_frames=same_frames)
        assert not nothing.overall
        assert not nothing.left_out
    assert len(total_changes(first, second, same_frames=False).left_out) == 3
