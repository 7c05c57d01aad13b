"""What `compare` prints besides its tests: measures without intervals, latency, what differs."""

import io
import math

from rich.console import Console

from rt_panoptic_core.cli.subject_differences import difference_lines
from rt_panoptic_core.cli.total_tables import print_latency, print_totals
from rt_panoptic_core.evaluation.latency_change import LatencyChange
from rt_panoptic_core.evaluation.total_changes import TotalChange, TotalChanges


def printed(call, value) -> list[str]:
    text = io.StringIO()
    call(value, Console(file=text, width=40))
    return text.getvalue().splitlines()


def test_both_values_and_the_difference_of_all_and_of_each_class():
    totals = TotalChanges(
        (TotalChange("AP", 0.2, 0.25),),
        {
            "AP": (TotalChange("car", 0.2, 0.25),),
            "AP50": (),
            "boundary PQ": (TotalChange("car", 0.5, 0.4), TotalChange("road", 0.9, math.nan)),
        },
        (TotalChange("recall < 8 px", 0.0, 0.01),),
        ("recall is not compared: for a reason.",),
    )
    lines = printed(print_totals, totals)
    rows = [line.split() for line in lines]
    assert ["AP", "20.00", "25.00", "+5.00"] in rows
    assert ["recall", "<", "8", "px", "0.00", "1.00", "+1.00"] in rows
    assert ["car", "20.00", "25.00", "+5.00", "50.00", "40.00", "-10.00"] in rows
    assert ["road", "90.00", "–", "–"] in rows
    assert not any("AP50" in line for line in lines)
    assert lines[-1] == "recall is not compared: for a reason."
    assert printed(print_totals, TotalChanges((), {}, (), ())) == []


def test_latency_is_two_medians_and_their_ratio():
    assert printed(print_latency, LatencyChange(40, 50.0, 20.0)) == [
        "latency: median A 50.0 ms, B 20.0 ms, 0.40 times A's, over 40 frames"
    ]


def test_what_differs_stands_below_each_other():
    before = {"model": "m", "engine_size": "384x768", "checkpoint_sha256": "a" * 64}
    after = {"model": "m", "engine_size": "128x256", "checkpoint_sha256": "b" * 64, "root": "new"}
    assert difference_lines(before, after) == [
        "engine size        A  384x768",
        "                   B  128x256",
        f"checkpoint sha256  A  {'a' * 16}",
        f"                   B  {'b' * 16}",
        "root               A  –",
        "                   B  new",
    ]
    assert difference_lines(before, dict(before)) == []
