"""``rt-panoptic make-bag``: generated streets, pictures, a video or a data set to a rosbag."""

from __future__ import annotations

import argparse
from pathlib import Path

from rt_panoptic_core.cli.progress import counting, progress_bar
from rt_panoptic_core.engines.spec import parse_size
from rt_panoptic_core.errors import BagError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``make-bag``."""
    parser.add_argument(
        "--source", default="generated", help="'generated', a folder or a video (%(default)s)"
    )
    parser.add_argument(
        "--dataset", metavar="KIND", help="the folder is a data set of this kind, with labels"
    )
    parser.add_argument("--split", default="val", help="of the data set (%(default)s)")
    parser.add_argument("--frames", type=int, help="how many; all where the source has an end")
    parser.add_argument(
        "--size", metavar="HxW", help="of the images; the source's own, generated 512x1024"
    )
    parser.add_argument("--fps", type=float, help="frames a second; the video's own, else 10")
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
    parser.add_argument("--quality", type=int, default=90, help="of jpeg images (%(default)s)")
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

    from rt_panoptic_core.bags.make import BagPlan, make_bag
    from rt_panoptic_core.bags.reader import BagReader
    from rt_panoptic_core.bags.sources import open_source

    size = parse_size(args.size) if args.size else None
    if not 1 <= args.quality <= 100:
        raise BagError(f"quality {args.quality}; it must be 1 to 100")
    source = open_source(
        args.source,
        size=size or (512, 1024),
        seed=args.seed,
        fps=args.fps or 10.0,
        dataset=args.dataset,
        split=args.split,
    )
    plan = BagPlan(
        frames=args.frames,
        size=size,
        fps=args.fps or source.fps or 10.0,
        namespace=args.namespace.rstrip("/"),
        encoding=args.encoding,
        compressed=args.compressed,
        quality=args.quality,
        depth=not args.no_depth,
        ground_truth=not args.no_ground_truth,
        storage=args.storage,
        compression=args.compression,
    )
    console = Console(stderr=True)
    total = min((n for n in (args.frames, source.length) if n is not None), default=None)
    with progress_bar("writing", total, "frames") as advance:
        count = make_bag(
            source, args.output, plan, overwrite=args.overwrite, progress=counting(advance)
        )
    with BagReader(args.output) as bag:
        for topic in sorted(bag.topics.values(), key=lambda t: t.name):
            console.print(f"  {topic.name}  [dim]{topic.message_type}[/]  {topic.count}")
    print(f"{args.output}: {count} frames at {plan.fps:g} Hz")
    return 0
