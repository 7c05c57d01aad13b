"""What an evaluation leaves beside the annotated bag: the table of frames, the figures, the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rt_panoptic_core.bags.analysis import TopicAnalysis
from rt_panoptic_core.bags.answers import Timing
from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.records import write_csv
from rt_panoptic_core.bags.report import TopicPage, report_html
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.evaluation.report.evaluation_page import evaluation_page
from rt_panoptic_core.files import json_values, write_json, write_text
from rt_panoptic_core.taxonomy import Taxonomy


def conclude(
    output: OutputFolder,
    analyses: Sequence[TopicAnalysis],
    taxonomy: Taxonomy,
    about: Mapping[str, Any],
    *,
    fps: Mapping[str, float],
    damage: Sequence[str] = (),
    extra: Mapping[str, Mapping[str, Any]] | None = None,
    timing: Timing | None = None,
) -> dict[str, Any]:
    """Write all of it and return the report's data.

    These are frames.csv, report.json, report.html and the timing, and where there is ground truth what
    `rt-panoptic evaluate` writes, as quality.json and quality.html.

    Everything but ``timing.*`` depends on the bag and the model alone (and, in real time, on what the node
    did), so that two offline runs give the same bytes.

    Args:
        output: the folder.
        analyses: of the image topics.
        taxonomy: the model's.
        about: what was evaluated: bag, model, engine, mode.
        fps: frames per second of each topic's video.
        damage: what is wrong with the bag.
        extra: further figures of a topic, by its name (latency in real time).
        timing: of an offline run.

    Raises:
        BagError: a file cannot be written.
    """
    report = {
        "format": "rt_panoptic/bag-report/1",
        **about,
        "damage": list(damage),
        "topics": [
            {**analysis.summary(), **(extra or {}).get(analysis.topic, {})} for analysis in analyses
        ],
    }
    report = json_values(report)
    topics = [analysis.topic for analysis in analyses]
    pages = [
        TopicPage(
            summary=summary,
            records=analysis.records,
            video=video.name if (video := output.video(analysis.topic, topics)).exists() else None,
            quality=(
                output.quality_html(analysis.topic, topics).name if _is_measured(analysis) else None
            ),
            fps=fps[analysis.topic],
        )
        for summary, analysis in zip(report["topics"], analyses, strict=True)
    ]
    records = [record for analysis in analyses for record in analysis.records]
    try:
        write_csv(output.frames_csv, records, taxonomy)
        _write_timing(output, timing, analyses)
        for analysis in analyses:
            if _is_measured(analysis):
                _write_quality(output, analysis, topics, about)
        write_text(output.report_html, report_html(report, pages, taxonomy))
        # The last file: with it the run counts as complete.
        write_json(output.report_json, report)
    except OSError as error:
        raise BagError(f"{output.path}: the report cannot be written: {error}") from error
    return report


def timing_summary(timing: Timing) -> dict[str, Any]:
    """Plain data: seconds elapsed, of a frame, of processor time, and what comes on top of inference."""
    computed = timing.computed
    # What the frames would have taken, had every stream always had one.
    inference = sum(computed) / timing.streams
    return {
        "elapsed": timing.elapsed,
        "inference": inference,
        "streams": timing.streams,
        "frames_computed": len(computed),
        "frames_resumed": timing.resumed,
        "frame_p50": float(np.percentile(computed, 50)) if computed else None,
        "frame_p95": float(np.percentile(computed, 95)) if computed else None,
        "frames_per_second": len(computed) / timing.elapsed if timing.elapsed else None,
        "on_top_of_inference": timing.elapsed / inference - 1.0 if inference else None,
        "processor": timing.processor,
    }


def _is_measured(analysis: TopicAnalysis) -> bool:
    return analysis.quality is not None and analysis.quality.frames > 0


def _write_quality(
    output: OutputFolder, analysis: TopicAnalysis, topics: Sequence[str], about: Mapping[str, Any]
) -> None:
    assert analysis.quality is not None
    subject = {
        "model": about["model"]["name"],
        "dataset": f"{about['bag']['name']} {analysis.topic}",
        "checkpoint_sha256": about["model"].get("digest"),
        "engine": about.get("engine"),
        "mode": about.get("mode"),
        "ground_truth": ", ".join(about.get("ground_truth", ())),
    }
    record = analysis.quality.record(subject)
    record.write(output.quality_json(analysis.topic, topics))
    gallery = analysis.quality.gallery
    page = evaluation_page(record, gallery.worst(), gallery.best())
    page.write(output.quality_html(analysis.topic, topics))


def _write_timing(
    output: OutputFolder, timing: Timing | None, analyses: Sequence[TopicAnalysis]
) -> None:
    if timing is None:
        return
    times = {analysis.topic: timing.inference.get(analysis.topic, []) for analysis in analyses}
    write_json(output.timing_json, {**timing_summary(timing), "inference_by_frame": times})
    # A page opened from the disk may load a script beside it, but not a JSON.
    write_text(output.timing_js, f"window.timing = {json.dumps(times)};\n")
