"""``rt-panoptic make-bag``: generated streets, pictures, a video or a data set to a rosbag."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rt_panoptic_core.cli.arguments import UsageError, checked, number, size
from rt_panoptic_core.cli.outputs import refuse_inputs
from rt_panoptic_core.cli.progress import counting, progress_bar
from rt_panoptic_core.datasets.registry import DATASET_KINDS, dataset_kind
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.wording import counted

_FPS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``make-bag``."""
    parser.add_argument(
        "--source", default="generated", help="'generated', a folder or a video (%(default)s)"
    )
    parser.add_argument(
        "--dataset",
        type=checked(dataset_kind),
        metavar="KIND",
        help="the folder is a data set of this kind, with labels: one of "
        f"{', '.join(DATASET_KINDS)}",
    )
    parser.add_argument("--split", default="val", help="of the data set (%(default)s)")
    parser.add_argument("--frames", type=int, help="how many; all where the source has an end")
    parser.add_argument(
        "--size",
        type=size,
        metavar="HxW",
        help="of the images; the source's own, generated 512x1024",
    )
    parser.add_argument(
        "--fps", type=float, help=f"frames a second; the video's own, else {_FPS:g}"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the generated street (%(default)s)")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="BAG", help="the bag's folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a bag that is there")
    parser.add_argument(
        "--encoding", default="rgb8", help="of raw images: rgb8, bgr8, mono8 (%(default)s)"
    )
    parser.add_argument(
        "--compressed",
        nargs="?",
        const="jpeg",
        choices=("jpeg", "png"),
        help="sensor_msgs/CompressedImage instead of raw images",
    )
    parser.add_argument(
        "--quality", type=number(int, 1, 100), default=90, help="of jpeg images (%(default)s)"
    )
    parser.add_argument("--namespace", default="/camera", help="of the camera (%(default)s)")
    parser.add_argument("--no-depth", action="store_true", help="leave depth out")
    parser.add_argument("--no-ground-truth", action="store_true", help="leave labels out")
    parser.add_argument(
        "--storage", choices=("mcap", "sqlite3"), default="mcap", help="(%(default)s)"
    )
    parser.add_argument(
        "--compression",
        choices=("none", "chunk", "message", "file"),
        default="chunk",
        help="chunk: lz4 inside the mcap; message, file: rosbag2's zstd (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the bag."""
    from rich.console import Console
    from rich.markup import escape

    from rt_panoptic_core.bags.make import BagPlan, make_bag
    from rt_panoptic_core.bags.reader import BagReader
    from rt_panoptic_core.bags.sources import open_source
    from rt_panoptic_core.cli.segment import EXIT_SOME_SKIPPED

    try:
        plan = BagPlan(
            frames=args.frames,
            size=args.size,
            fps=_FPS if args.fps is None else args.fps,
            namespace=args.namespace.rstrip("/"),
            encoding=args.encoding,
            compressed=args.compressed,
            quality=args.quality,
            depth=not args.no_depth,
            ground_truth=not args.no_ground_truth,
            storage=args.storage,
            compression=args.compression,
        )
    except BagError as error:
        raise UsageError(str(error)) from error
    if args.source != "generated":
        refuse_inputs("--output", args.output, args.source, replaced=[args.output])
    console = Console(stderr=True)
    skipped: list[str] = []

    def skip(reason: str) -> None:
        skipped.append(reason)
        console.print(f"[red]skipped[/] {escape(reason)}")

    source = open_source(
        args.source,
        size=plan.size or (512, 1024),
        seed=args.seed,
        fps=plan.fps,
        dataset=args.dataset,
        split=args.split,
        skipped=skip,
    )
    if args.fps is None and source.fps is not None:
        plan = replace(plan, fps=source.fps)
    total = min((n for n in (args.frames, source.length) if n is not None), default=None)
    with progress_bar("writing", total, "frames") as advance:
        count = make_bag(
            source, args.output, plan, overwrite=args.overwrite, progress=counting(advance)
        )
    with BagReader(args.output) as bag:
        for topic in sorted(bag.topics.values(), key=lambda t: t.name):
            console.print(f"  {topic.name}  [dim]{topic.message_type}[/]  {topic.count}")
    left_out = f"; {counted(len(skipped), 'picture')} skipped" if skipped else ""
    print(f"{args.output}: {counted(count, 'frame')} at {plan.fps:g} Hz{left_out}")
    return EXIT_SOME_SKIPPED if skipped else 0
