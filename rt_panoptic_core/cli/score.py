"""``rt-panoptic score``: panoptic quality of prediction files, in place of panopticapi's script."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from pathlib import Path
from typing import Any

from rt_panoptic_core.cli.arguments import number
from rt_panoptic_core.cli.outputs import output_file, refuse_inputs
from rt_panoptic_core.cli.progress import progress_bar
from rt_panoptic_core.cli.quality_tables import print_classes, semantic_line
from rt_panoptic_core.wording import percent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rt-panoptic score``; panopticapi's own names work as well."""
    parser.add_argument(
        "--ground-truth", "--gt_json_file", required=True, metavar="JSON", help="the ground truth"
    )
    parser.add_argument(
        "--ground-truth-folder",
        "--gt_folder",
        metavar="DIR",
        help="folder of its PNGs (default: the JSON's path without .json)",
    )
    parser.add_argument(
        "--predictions", "--pred_json_file", required=True, metavar="JSON", help="the predictions"
    )
    parser.add_argument(
        "--predictions-folder",
        "--pred_folder",
        metavar="DIR",
        help="folder of their PNGs (default: the JSON's path without .json)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="JSON", help="write results and frames to this file"
    )
    parser.add_argument(
        "--per-class", action="store_true", help="print a table of all classes as well"
    )
    parser.add_argument(
        "--boundary",
        nargs="?",
        type=number(float, 0, 1, open_ended=True),
        const=0.02,
        metavar="RATIO",
        help="boundary PQ as well, boundaries RATIO of the diagonal wide "
        "(default 0.02; Cityscapes uses 0.005)",
    )
    parser.add_argument(
        "--processes",
        type=number(int, 1),
        metavar="N",
        help="worker processes (default: one a core)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Score, write the JSON, print panopticapi's table on standard output."""
    if "numpy" not in sys.modules:
        # Nothing here multiplies matrices; without its threads NumPy starts sooner.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # All that is read and counted stays until the end: no use in looking through it for garbage.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with output_file(args.output):
            refuse_inputs("--output", args.output, args.ground_truth, args.predictions)
            return _score(args)
    finally:
        if collecting:
            gc.enable()


def _score(args: argparse.Namespace) -> int:
    from rt_panoptic_core.evaluation.panoptic_files import open_files, score_files

    start = time.perf_counter()
    files = open_files(
        args.ground_truth, args.predictions, args.ground_truth_folder, args.predictions_folder
    )
    if files.by_name:
        print(
            f"note: {args.predictions} has no image id of {args.ground_truth}; images were paired by the "
            "names of their files",
            file=sys.stderr,
        )
    with progress_bar("scoring", len(files.pairs), "images", quiet=args.quiet) as advance:
        record = score_files(
            files, processes=args.processes, boundary_ratio=args.boundary, progress=advance
        )
    seconds = time.perf_counter() - start
    # Before anything is printed: who looks at the beginning alone (`| head`) ends the command.
    if args.output is not None:
        record.write(args.output)
    print(quality_table(record.results["panoptic"]))
    print(semantic_line(record.results["semantic"]))
    if "boundary" in record.results:
        print(f"\nBoundary PQ, boundaries {args.boundary:g} of the diagonal wide")
        print(quality_table(record.results["boundary"]))
    if args.per_class:
        print_classes(record)
    differing = record.results["area_differences"]
    if differing:
        print(
            f"note: {differing} true segments have another area in {args.ground_truth} than in "
            "their PNG; the JSON's was used, as panopticapi does",
            file=sys.stderr,
        )
    print(f"{len(record.frames)} images in {seconds:0.2f} seconds")
    if args.output is not None:
        print(f"written: {args.output}")
    return 0


def quality_table(panoptic: dict[str, Any]) -> str:
    """PQ, SQ and RQ in percent over all, things and stuff: the table that panopticapi prints."""
    lines = ["{:10s}| {:>5s}  {:>5s}  {:>5s} {:>5s}".format("", "PQ", "SQ", "RQ", "N"), "-" * 38]
    for title, key in (("All", "all"), ("Things", "things"), ("Stuff", "stuff")):
        mean = panoptic[key]
        values = "  ".join(f"{percent(mean[name]):>5}" for name in ("pq", "sq", "rq"))
        lines.append(f"{title:10s}| {values} {mean['n']:5d}")
    return "\n".join(lines)
