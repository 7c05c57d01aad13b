"""How well and how fast instances are tracked, on generated drives whose true ids are known.

Two sources of instances: the truth itself (perfect segmentation), and a model. Each drive is also given
with frames missing, as a busy node sees it. Prints Markdown tables of id switches and of broken tracks per
100 frames, and of the milliseconds that tracking adds to a frame.

    python benchmarks/tracking.py --drives 8 --frames 150            # perfect segmentation
    python benchmarks/tracking.py --drives 8 --frames 150 --model street
    python benchmarks/tracking.py --cost
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from rt_panoptic_core.allocator import keep_freed_memory
from rt_panoptic_core.datasets.generated_streets import StreetSequence
from rt_panoptic_core.datasets.generated_streets.sequence import StreetFrame
from rt_panoptic_core.errors import PanopticError
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.inference.tracking import InstanceTracker

FIRST_SEED = 1000
LEAST_AREA = 100
"""Visible pixels of an object that counts; smaller ones are given to the tracker all the same."""


@dataclass
class Tally:
    """Counts of one or more drives.

    Attributes:
        frames: counted.
        objects: true objects that were matched at least once.
        matches: pairs of a true object and an instance with IoU over 0.5, over all frames.
        switches: an object has another id than in the frame before.
        lost: an object that was not matched for a frame or more has another id than before.
        taken: an id goes on with another object.
        extra: ids of each object but its first, added up.
    """

    frames: int = 0
    objects: int = 0
    matches: int = 0
    switches: int = 0
    lost: int = 0
    taken: int = 0
    extra: int = 0

    def add(self, other: Tally) -> None:
        """Add ``other``'s counts."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Follower:
    """Compares one drive's tracked results with the truth."""

    tally: Tally = field(default_factory=Tally)
    last_id: dict[int, tuple[int, int]] = field(default_factory=dict)
    last_object: dict[int, int] = field(default_factory=dict)
    ids: dict[int, set[int]] = field(default_factory=dict)

    def see(self, frame: StreetFrame, result: PanopticResult) -> None:
        """Count one frame."""
        tally = self.tally
        number = tally.frames
        tally.frames += 1
        for truth, predicted in matches(frame, result):
            tally.matches += 1
            known = self.last_id.get(truth)
            if known is not None and known[1] != predicted:
                if known[0] == number - 1:
                    tally.switches += 1
                else:
                    tally.lost += 1
            if self.last_object.get(predicted, truth) != truth:
                tally.taken += 1
            self.last_id[truth] = (number, predicted)
            self.last_object[predicted] = truth
            self.ids.setdefault(truth, set()).add(predicted)

    def total(self) -> Tally:
        """All counts."""
        self.tally.objects = len(self.ids)
        self.tally.extra = sum(len(ids) - 1 for ids in self.ids.values())
        return self.tally


def matches(frame: StreetFrame, result: PanopticResult) -> Iterator[tuple[int, int]]:
    """True ids and predicted ids of the same class whose masks have an IoU over 0.5."""
    both = (frame.instance > 0) & (result.instance > 0)
    packed = (frame.instance[both].astype(np.int64) << 16) | result.instance[both]
    pairs, pixels = np.unique(packed, return_counts=True)
    areas = np.bincount(frame.instance.ravel())
    classes = {annotation.id: annotation.class_id for annotation in frame.instances}
    predicted = {segment.id: segment for segment in result.instances}
    for pair, count in zip(pairs.tolist(), pixels.tolist(), strict=True):
        true_id, segment = pair >> 16, predicted.get(pair & 0xFFFF)
        if segment is None or areas[true_id] < LEAST_AREA:
            continue
        union = areas[true_id] + segment.area - count
        if classes[true_id] == segment.class_id and count > 0.5 * union:
            yield true_id, segment.id


def perfect(frame: StreetFrame) -> PanopticResult:
    """The truth as a result: instances numbered from 1 by falling area, as scores would number them."""
    areas = np.bincount(frame.instance.ravel())
    order = sorted(frame.instances, key=lambda annotation: -areas[annotation.id])
    numbers = np.zeros(len(areas), dtype=np.uint16)
    low, high = np.full((2, len(areas)), 1 << 30), np.full((2, len(areas)), -1)
    rows, columns = np.nonzero(frame.instance)
    ids = frame.instance[rows, columns]
    for axis, values in enumerate((columns, rows)):
        np.minimum.at(low[axis], ids, values)
        np.maximum.at(high[axis], ids, values)
    segments = []
    for number, annotation in enumerate(order, start=1):
        (x1, y1), (x2, y2) = low[:, annotation.id], high[:, annotation.id] + 1
        box = (float(x1), float(y1), float(x2), float(y2))
        area = int(areas[annotation.id])
        segments.append(Segment(number, annotation.class_id, True, 1.0, area, box))
        numbers[annotation.id] = number
    return PanopticResult(frame.semantic, numbers[frame.instance], segments)


def pace(name: str, frames: int, seed: int) -> list[int]:
    """Numbers of the frames that are given to the tracker."""
    if name == "every frame":
        return list(range(frames))
    if name == "every third":
        return list(range(0, frames, 3))
    rng = random.Random(f"{name}/{seed}")
    # Half are missing, up to seven in a row.
    kept, number = [], 0
    while number < frames:
        kept.append(number)
        number += rng.choice((1, 1, 1, 1, 2, 2, 3, 8))
    return kept


PACES = ("every frame", "irregular", "every third")


def quality(
    segment: Callable[[StreetFrame], PanopticResult], args: argparse.Namespace
) -> dict[str, Tally]:
    """Tallies by pace."""
    tallies = {name: Tally() for name in PACES}
    for seed in range(FIRST_SEED, FIRST_SEED + args.drives):
        drive = StreetSequence(seed, (args.size[0], args.size[1]), fps=args.fps)
        kept = {name: set(pace(name, args.frames, seed)) for name in PACES}
        followers = {name: Follower() for name in PACES}
        trackers = {name: InstanceTracker() for name in PACES}
        for frame in drive.frames(args.frames):
            result = segment(frame)
            for name in PACES:
                if frame.index in kept[name]:
                    followers[name].see(frame, trackers[name].update(result, frame.time))
        for name in PACES:
            tallies[name].add(followers[name].total())
    return tallies


def moving_boxes(count: int, size: tuple[int, int]) -> Iterable[PanopticResult]:
    """Frames of ``count`` boxes in rows that move to the right; without an end."""
    height, width = size
    columns = max(1, round((count * width / height) ** 0.5))
    side = max(4, min(width // (columns + 1), height // (count // columns + 2)) * 2 // 3)
    step = 0
    while True:
        instance = np.zeros(size, dtype=np.uint16)
        segments = []
        for number in range(1, count + 1):
            row, column = divmod(number - 1, columns)
            x = (column * width // columns + 2 * step) % (width - side)
            y = row * side * 3 // 2
            instance[y : y + side, x : x + side] = number
            box = (float(x), float(y), float(x + side), float(y + side))
            segments.append(Segment(number, 13, True, 0.9, side * side, box))
        semantic = (instance > 0).astype(np.uint8) * 13
        yield PanopticResult(semantic, instance, segments)
        step += 1


def cost(size: tuple[int, int], count: int, frames: int) -> tuple[float, float]:
    """Median and 95th percentile of one update's milliseconds of processor time."""
    tracker = InstanceTracker()
    times = []
    for number, result in enumerate(moving_boxes(count, size)):
        if number == frames:
            break
        start = time.thread_time()
        tracker.update(result, number / 15)
        times.append(1e3 * (time.thread_time() - start))
    measured = sorted(times[frames // 5 :])
    return statistics.median(measured), measured[int(0.95 * len(measured))]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=(720, 1280), metavar=("H", "W"))
    parser.add_argument("--drives", type=int, default=8)
    parser.add_argument("--frames", type=int, default=150, help="of each drive")
    parser.add_argument("--fps", type=float, default=15.0)
    parser.add_argument("--model", metavar="M", help="checkpoint or name; without it, the truth")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--cost", action="store_true", help="measure time instead")
    args = parser.parse_args()
    if args.cost:
        keep_freed_memory()  # as the node does
        print("| instances | p50 | p95 |\n|---:|---:|---:|")
        for count in (0, 1, 20, 100):
            p50, p95 = cost((args.size[0], args.size[1]), count, 200)
            print(f"| {count} | {p50:.2f} ms | {p95:.2f} ms |")
        return 0
    segment: Callable[[StreetFrame], PanopticResult] = perfect
    try:
        if args.model:
            from rt_panoptic_core.segmenter import Segmenter

            segmenter = Segmenter.from_checkpoint(args.model, args.engine)

            def segment(frame: StreetFrame) -> PanopticResult:
                return segmenter.segment(frame.image)

        tallies = quality(segment, args)
    except PanopticError as error:
        print(error, file=sys.stderr)
        return 2
    print("Per 100 frames:\n")
    print("| frames | matches | switches | new id after a gap | id taken over | ids an object |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, tally in tallies.items():
        by = 100 / max(1, tally.frames)
        per_object = 1 + tally.extra / max(1, tally.objects)
        print(
            f"| {name} | {tally.matches * by:.0f} | {tally.switches * by:.2f} | "
            f"{tally.lost * by:.2f} | {tally.taken * by:.2f} | {per_object:.3f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
