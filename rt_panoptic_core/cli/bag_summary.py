"""The figures at the end of ``evaluate-bag``, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from rt_panoptic_core.wording import counted, percent


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """The figures of a bag's evaluation, one table for each image topic."""
    for topic in report["topics"]:
        counts = ", ".join(f"{count} {name}" for name, count in topic["statuses"].items())
        console.print(
            f"\n[bold]{topic['topic']}[/]  {counted(topic['frames'], 'frame')} in {topic['duration']:.1f} s"
            f" ({counts})"
        )
        quality = topic["quality"]
        if quality is not None and quality["frames"]:
            console.print(_quality_table(quality))
        steadiness = topic["consistency"]
        if steadiness["flicker"] is not None:
            console.print(
                f"flicker {100 * steadiness['flicker']:.2f} %, temporal consistency "
                f"{percent(steadiness['temporal_mean_iou'], '-')} (mean IoU along the optical flow)"
            )
        realtime = topic.get("realtime")
        if realtime is not None and realtime["latency_p50"] is not None:
            console.print(
                f"latency p50 {1e3 * realtime['latency_p50']:.1f} ms, "
                f"p95 {1e3 * realtime['latency_p95']:.1f} ms, "
                f"largest {1e3 * realtime['latency_max']:.1f} ms; "
                f"jitter {1e3 * realtime['jitter']:.1f} ms; "
                f"{realtime['dropped']} of {realtime['published']} dropped"
            )
        for problem, count in topic["problems"].items():
            console.print(f"[yellow]{count} x[/] {problem}", highlight=False, markup=True)


def print_timing(console: Console, timing: Mapping[str, Any]) -> None:
    """Where the time of an offline run went."""
    if not timing["frames_computed"]:
        console.print(f"{counted(timing['frames_resumed'], 'frame')} read back, none computed")
        return
    console.print(
        f"{counted(timing['frames_computed'], 'frame')} computed in {timing['elapsed']:.1f} s "
        f"({timing['frames_per_second']:.1f} a second), inference p50 "
        f"{1e3 * timing['frame_p50']:.1f} ms"
        + (f", {timing['streams']} at a time; " if timing["streams"] > 1 else "; ")
        + (
            f"{counted(timing['frames_resumed'], 'frame')} read back"
            if timing["frames_resumed"]
            else f"everything else adds {100 * timing['on_top_of_inference']:.1f} %"
        )
    )


def _quality_table(quality: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "PQ", "SQ", "RQ"):
        table.add_column(name, justify="left" if not name else "right")
    for name, part in quality["panoptic"].items():
        if part is not None:
            table.add_row(name, *(percent(part[key], "-") for key in ("pq", "sq", "rq")))
    windows = quality["video"]["windows"]
    further = {
        "mIoU": quality["mean_iou"],
        "AP": quality["ap"],
        "video PQ": quality["video"]["vpq"],
    }
    further |= {
        f"  over {counted(int(length), 'frame')}": part["all"] for length, part in windows.items()
    }
    for name, value in further.items():
        table.add_row(name, percent(value, "-"))
    return table
