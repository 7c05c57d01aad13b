"""The HTML report of a bag's evaluation: one file beside its overlay videos, no network needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

from rt_panoptic_core.bags.records import FrameRecord
from rt_panoptic_core.taxonomy import Taxonomy


@dataclass(frozen=True)
class TopicPage:
    """What the report shows of an image topic.

    Attributes:
        summary: plain data of :meth:`TopicAnalysis.summary`.
        records: of its frames.
        video: file name of the overlay video beside the report, or None.
        fps: frames per second of the video; its n-th picture is the n-th record's.
        quality: file name of the report on its quality beside this one, or None.
    """

    summary: Mapping[str, Any]
    records: Sequence[FrameRecord]
    video: str | None
    fps: float
    quality: str | None = None


def report_html(report: Mapping[str, Any], pages: Sequence[TopicPage], taxonomy: Taxonomy) -> str:
    """The page as text. The same arguments give the same text."""
    template = (resources.files("rt_panoptic_core.bags") / "report_page.html").read_text("utf-8")
    data = {
        "report": report,
        "classes": [
            {"name": c.name, "color": "#" + bytes(c.color).hex(), "thing": c.is_thing}
            for c in taxonomy
        ],
        "topics": [_page_data(page) for page in pages],
    }
    # "</script>" in a topic's name must not end the script.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    title = escape(f"{report['bag']['name']} · {report['model']['name']}")
    return template.replace("@TITLE@", title).replace("@DATA@", text)


def _page_data(page: TopicPage) -> dict[str, Any]:
    records = page.records
    start = records[0].stamp if records else 0
    return {
        "name": page.summary["topic"],
        "summary": page.summary,
        "video": page.video,
        "fps": page.fps,
        "quality": page.quality,
        "time": [round((record.stamp - start) / 1e9, 6) for record in records],
        # As texts: JavaScript's numbers do not hold nanoseconds since 1970.
        "stamp": [str(record.stamp) for record in records],
        "status": [record.status for record in records],
        "note": [record.note for record in records],
        "error": [record.error for record in records],
        "instances": [
            record.instances if record.status == "answered" else None for record in records
        ],
        "latency": _rounded([record.latency for record in records]),
        "flicker": _rounded([record.flicker for record in records]),
        "unlabelled": _rounded([record.unlabelled for record in records]),
        "pq": _rounded([record.pq for record in records]),
        "sq": _rounded([record.sq for record in records]),
        "rq": _rounded([record.rq for record in records]),
        "miou": _rounded([record.miou for record in records]),
        "shares": [_rounded(record.shares) for record in records],
    }


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 5) for value in values]
