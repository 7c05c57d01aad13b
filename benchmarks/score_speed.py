"""Time `rt-panoptic score` beside panopticapi's own script on the same files, in one run.

    python benchmarks/score_speed.py --panopticapi PATH_OF_ITS_CHECKOUT

Makes 500 pairs of 640x480 with about 15 segments each, ragged outlines, void, crowds and errors of
every kind, lets both programs score them in turn, each as a user would start it (interpreter start
included), and prints the times of every round, their medians and both results. Beside the time on the
clock stands the processor time of all processes, which a busy machine disturbs less. Each runs once
unmeasured before, so that Python finds its modules compiled, as it does for a user the second time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.files import write_json
from rt_panoptic_core.panoptic_format import (
    coco_categories,
    ids_to_rgb,
    measure_segments,
    write_ids,
)
from rt_panoptic_core.taxonomy import Taxonomy

_THEIRS = """
import json, sys
from panopticapi.evaluation import pq_compute
json.dump(pq_compute(*sys.argv[1:5])["All"], open(sys.argv[5], "w"))
"""


def main() -> None:
    """Make the files, time both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--panopticapi", type=Path, help="folder that holds the package panopticapi"
    )
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    parser.add_argument("--segments", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="make the files here and keep them")
    parser.add_argument("--reuse", action="store_true", help="take the files kept there before")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        width, height = args.size
        if not args.reuse:
            mean = make_pairs(folder, args.pairs, height, width, args.segments)
            print(f"{args.pairs} pairs of {width}x{height}, {mean:.1f} true segments on average")
        # Compiled modules are kept, whatever the environment says, and in no folder but this one.
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(scratch) / "compiled")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        run_ours(folder)
        if args.panopticapi:
            run_theirs(folder, args.panopticapi)
        ours: list[Run] = []
        theirs: list[Run] = []
        for number in range(args.rounds):
            ours.append(run_ours(folder))
            line = f"round {number + 1}: rt-panoptic score {ours[-1].times()}"
            if args.panopticapi:
                theirs.append(run_theirs(folder, args.panopticapi))
                line += f"; panopticapi {theirs[-1].times()}"
            print(line, flush=True)
        report("rt-panoptic score", ours, args.pairs)
        if theirs:
            report("panopticapi", theirs, args.pairs)
            clock = median(theirs, "clock") / median(ours, "clock")
            processor = median(theirs, "processor") / median(ours, "processor")
            print(f"panopticapi takes {clock:.1f} times as long, {processor:.1f} of processor time")


class Run(NamedTuple):
    """Seconds on the clock, seconds of processor time, and the result over all classes."""

    clock: float
    processor: float
    result: dict[str, Any]

    def times(self) -> str:
        """Both times in words."""
        return f"{self.clock:.2f} s ({self.processor:.2f} s of processor time)"


def median(runs: list[Run], name: str) -> float:
    """Median of one of the times."""
    return statistics.median(getattr(run, name) for run in runs)


def spread(runs: list[Run], name: str) -> str:
    """Shortest and longest of one of the times."""
    times = [getattr(run, name) for run in runs]
    return f"{min(times):.2f}–{max(times):.2f}"


def report(title: str, runs: list[Run], pairs: int) -> None:
    """Print medians and result."""
    clock, processor = median(runs, "clock"), median(runs, "processor")
    print(
        f"{title}: median {clock:.2f} s on the clock ({spread(runs, 'clock')}), "
        f"{processor:.2f} s of processor time ({spread(runs, 'processor')}); "
        f"{pairs / clock:.0f} pairs/s"
    )
    result = runs[-1].result
    print("  " + ", ".join(f"{key} {100 * result[key]:.13f}" for key in ("pq", "sq", "rq")))


def timed(command: list[str], folder: Path | None = None) -> tuple[float, float]:
    """Run a command; seconds on the clock and of processor time, its children's included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    clock = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return clock, used


def run_ours(folder: Path) -> Run:
    """`rt-panoptic score`."""
    output = folder / "ours.json"
    command = [sys.executable, "-m", "rt_panoptic_core", "score", "--quiet"]
    command += ["--ground-truth", str(folder / "truth.json")]
    command += ["--predictions", str(folder / "predictions.json"), "--output", str(output)]
    return Run(*timed(command), json.loads(output.read_text())["panoptic"]["all"])


def run_theirs(folder: Path, checkout: Path) -> Run:
    """panopticapi's pq_compute."""
    output = folder / "theirs.json"
    paths = [folder / name for name in ("truth.json", "predictions.json", "truth", "predictions")]
    command = [sys.executable, "-c", _THEIRS, *map(str, paths), str(output)]
    # The current folder is on the path of `python -c`, so their package is found there.
    return Run(*timed(command, checkout), json.loads(output.read_text()))


def make_pairs(folder: Path, pairs: int, height: int, width: int, segments: int) -> float:
    """Write truth and predictions to ``folder``; the mean number of true segments."""
    taxonomy = Taxonomy.load("coco")
    sides: dict[str, list[dict[str, Any]]] = {"truth": [], "predictions": []}
    counted = 0
    for image_id in range(1, pairs + 1):
        random = np.random.default_rng(image_id)
        sites = random.uniform(size=(segments, 2)) * (width, height)
        places = random.choice(len(taxonomy), size=segments)
        truth = cells(random, sites, height, width)
        moved = sites + random.normal(scale=width / 60, size=sites.shape)
        predicted = cells(random, moved, height, width)
        wrong = random.uniform(size=segments) < 0.2
        guesses = np.where(wrong, random.choice(len(taxonomy), size=segments), places)
        crowd = random.uniform(size=segments) < 0.03
        counted += segments
        for side, ids, classes in (
            ("truth", truth, places),
            ("predictions", predicted, guesses),
        ):
            # Ids as the tools make them: colours scattered over all three bytes.
            colours = random.choice(1 << 24, size=segments, replace=False) | 1
            void = cells(random, sites[:3], height, width) == 1
            lost = void & (random.uniform() < 0.5)
            painted = np.where(lost, 0, colours[ids]).astype(np.int32)
            file_name = f"{image_id:012d}.png"
            write_picture(folder / side / file_name, painted, as_coco=side == "truth")
            sides[side].append(
                annotation(image_id, file_name, painted, colours, classes, crowd, taxonomy)
            )
    for side, listed in sides.items():
        content = {"annotations": listed, "categories": coco_categories(taxonomy)}
        write_json(folder / f"{side}.json", content)
    return sum(len(item["segments_info"]) for item in sides["truth"]) / pairs


def write_picture(path: Path, ids: npt.NDArray[np.int32], *, as_coco: bool) -> None:
    """Write a PNG by Pillow, as COCO's ground truth was, or as this package writes predictions."""
    if not as_coco:
        write_ids(path, ids)
        return
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids_to_rgb(ids)).save(path)


def cells(
    random: np.random.Generator, sites: npt.NDArray[np.float64], height: int, width: int
) -> npt.NDArray[np.int64]:
    """Voronoi cells with ragged outlines: int64 [height, width], the nearest site's number."""
    coarse = random.normal(size=(height // 8, width // 8, 2)).astype(np.float32)
    warp = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 6
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    index = cv2.flann_Index(sites.astype(np.float32), {"algorithm": 1, "trees": 1})
    points = np.stack([xs + warp[..., 0], ys + warp[..., 1]], axis=-1).reshape(-1, 2)
    nearest, _ = index.knnSearch(points, 1, params={"checks": -1})
    return nearest.reshape(height, width).astype(np.int64)


def annotation(
    image_id: int,
    file_name: str,
    ids: npt.NDArray[np.int32],
    colours: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int64],
    crowd: npt.NDArray[np.bool_],
    taxonomy: Taxonomy,
) -> dict[str, Any]:
    """An entry of ``annotations`` for the segments that are in ``ids``."""
    number = {int(colour): index for index, colour in enumerate(colours)}
    table = measure_segments(ids)
    infos = []
    for segment_id, area, (x1, y1, x2, y2) in zip(
        table.ids.tolist(), table.areas.tolist(), table.boxes.tolist(), strict=True
    ):
        category = taxonomy[int(classes[number[segment_id]])]
        infos.append(
            {
                "id": segment_id,
                "category_id": category.source_id,
                "area": area,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "iscrowd": int(crowd[number[segment_id]] and category.is_thing),
            }
        )
    return {"image_id": image_id, "file_name": file_name, "segments_info": infos}


if __name__ == "__main__":
    main()
