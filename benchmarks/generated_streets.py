"""How fast streets are generated, on one core.

Prints a Markdown table: frames a second of drives, with and without depth, and of single samples, each
of which is a new street. Processor time is given beside wall-clock time: on a busy machine it says more.

    python benchmarks/generated_streets.py --size 512 1024 --frames 40
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import cv2

from rt_panoptic_core.datasets.generated_streets import GeneratedStreets, StreetSequence
from rt_panoptic_core.errors import PanopticError


def timed(steps: Iterator[Callable[[], object]]) -> tuple[float, float, float]:
    """Median wall-clock and processor milliseconds of the steps, and the slowest's wall-clock."""
    wall, cpu = [], []
    for step in steps:
        start, start_cpu = time.perf_counter(), time.process_time()
        step()
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - start_cpu))
    return statistics.median(wall), statistics.median(cpu), max(wall)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"))
    parser.add_argument("--frames", type=int, default=40, help="of each drive")
    parser.add_argument("--streets", type=int, default=10, help="drives and samples of them")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    size = (args.size[0], args.size[1])
    try:
        samples = GeneratedStreets(args.streets * 4 + 1, size, seed=1, depth=False)
        drives = [StreetSequence(seed, size) for seed in range(args.streets)]
    except PanopticError as error:
        print(error, file=sys.stderr)
        return 2
    start = time.perf_counter()
    samples[0]
    print(f"first sample, with the making of the textures: {time.perf_counter() - start:.1f} s\n")

    def drive_steps(depth: bool) -> Iterator[Callable[[], object]]:
        for drive in drives:
            frames = iter(drive)
            next(frames)
            for _ in range(max(1, args.frames // args.streets)):
                yield (lambda f=frames: next(f).depth) if depth else (lambda f=frames: next(f))  # type: ignore[misc]

    rows = {
        "drive": timed(drive_steps(False)),
        "drive, with depth": timed(drive_steps(True)),
        "samples, each a new street": timed(
            (lambda i=i: samples[i]) for i in range(1, len(samples))
        ),
    }
    print(f"| {size[0]} x {size[1]}, one core | median | processor time | slowest | frames/s |")
    print("|---|---|---|---|---|")
    for name, (wall, cpu, slowest) in rows.items():
        print(f"| {name} | {wall:.1f} ms | {cpu:.1f} ms | {slowest:.1f} ms | {1e3 / cpu:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
