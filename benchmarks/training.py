"""Training throughput, memory, and the share of time that waits for data; target assignment and mask loss.

    python benchmarks/training.py --config config/train/small_street.yaml --steps 40
    python benchmarks/training.py --parts

Without ``--parts``, trains a configuration for a few steps (nothing is evaluated or kept). With it, times
target assignment and the mask loss alone, at full size on one thread, the latter beside its plain form.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from typing import Any

import lightning as L
import numpy as np
import torch

from rt_panoptic_core.datasets.batch import collate, encode_sample
from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample
from rt_panoptic_core.errors import PanopticError
from rt_panoptic_core.inference.boxes import box_iou
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.callbacks import DataWait
from rt_panoptic_core.training.configuration import load_config
from rt_panoptic_core.training.losses import mask_loss
from rt_panoptic_core.training.run import train
from rt_panoptic_core.training.targets import DEFAULT_BOUNDS, assign_targets

STRIDES = (8, 16, 32, 64, 128)


class Stopwatch(L.Callback):
    """Seconds of every step after the warm-up, from batch to batch."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the time since the last step."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if trainer.global_step > self.warmup:
            self.seconds.append(now - self._last)
        self._last = now


def time_run(args: argparse.Namespace) -> None:
    """Print one run's throughput, memory and waiting."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(
            args.config,
            [
                *args.set,
                f"output={folder}",
                f"optimization.steps={args.steps}",
                "data.validation=[]",
                "evaluation.checkpoint_every=1000000",
            ],
        )
        watch, wait = Stopwatch(args.warmup), DataWait(args.warmup)
        train(
            config,
            progress=False,
            accelerator=args.accelerator,
            devices=1,
            callbacks=[watch, wait],
        )
    settings = config.optimization
    median = float(np.median(watch.seconds))
    if torch.cuda.is_available() and args.accelerator != "cpu":
        memory = torch.cuda.max_memory_allocated() / 2**30
        place = torch.cuda.get_device_name()
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        place = f"CPU, {torch.get_num_threads()} threads"
    print("| configuration | device | batch | step | images/s | peak memory | waiting for data |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {config.name}, {settings.precision} | {place} | {settings.batch_size} | "
        f"{1000 * median:.0f} ms | {settings.batch_size / median:.1f} | {memory:.2f} GiB | "
        f"{100 * wait.share:.1f} % |"
    )


def time_parts() -> None:
    """Print the times of target assignment and mask loss."""
    torch.set_num_threads(1)
    taxonomy = Taxonomy.load("cityscapes")
    sample = _crowded(taxonomy, 1024, 2048, 100)
    shapes = [(-(-1024 // s), -(-2048 // s)) for s in STRIDES]
    print("| part, one thread | time |\n|---|---|")
    for name, weak in (("masks", False), ("boxes", True)):
        milliseconds = _median(
            lambda weak=weak: assign_targets(
                collate([encode_sample(sample, taxonomy, boxes_only=weak)]),
                shapes,
                STRIDES,
                DEFAULT_BOUNDS,
            )
        )
        print(
            f"| sample to targets, 100 instances at 1024x2048, from {name} | {milliseconds:.1f} ms |"
        )
    generator = torch.Generator().manual_seed(0)
    pixels, count = 30_000, 100
    corner = torch.rand(pixels, 2, generator=generator) * 1000
    dense = torch.cat([corner, corner + 20 + torch.rand(pixels, 2, generator=generator) * 200], 1)
    owners = torch.arange(pixels) * count // pixels
    queries = dense[torch.arange(count) * pixels // count]
    rows = torch.arange(count)

    def ours() -> None:
        boxes = dense.clone().requires_grad_()
        torch.autograd.backward(mask_loss(boxes, owners, queries, queries, rows).total)

    def plain() -> None:
        boxes = dense.clone().requires_grad_()
        iou = box_iou(boxes, queries)
        inside = owners.unsqueeze(1) == rows
        cost = torch.where(inside, 1 - iou, iou).sum(0) / inside.sum(0)
        torch.autograd.backward(cost.sum())

    for name, function in (("in closed form", ours), ("as written, with autograd", plain)):
        kept = _kept_bytes(function) / 2**20
        print(
            f"| mask loss {name}, 100 queries x 30000 pixels, both ways; keeps {kept:.1f} MiB | "
            f"{_median(function):.0f} ms |"
        )


def _crowded(taxonomy: Taxonomy, height: int, width: int, count: int) -> PanopticSample:
    rng = np.random.default_rng(0)
    car = taxonomy.class_id("car")
    semantic = np.zeros((height, width), np.uint8)
    instance = np.zeros((height, width), np.int32)
    for number in range(1, count + 1):
        h, w = rng.integers(20, 200, 2)
        y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
        grid = np.ogrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
        blob = grid[0] ** 2 + grid[1] ** 2 < 1
        instance[y : y + h, x : x + w][blob] = number
        semantic[y : y + h, x : x + w][blob] = car
    left = [int(i) for i in np.unique(instance) if i]
    image = np.zeros((height, width, 3), np.uint8)
    annotations = tuple(InstanceAnnotation(i, car) for i in left)
    return PanopticSample("crowded", image, semantic, instance, annotations)


def _median(function: Any, rounds: int = 11) -> float:
    """Milliseconds of processor time: what the machine does beside it does not count."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1000 * float(np.median(times))


def _kept_bytes(function: Any) -> int:
    """Bytes that the forward pass keeps for the backward pass, each storage once."""
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return sum(held.values())


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="config/train/small_street.yaml")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=10, help="steps that are not counted")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu"))
    parser.add_argument("--parts", action="store_true", help="time targets and mask loss alone")
    args = parser.parse_args()
    try:
        if args.parts:
            time_parts()
        else:
            time_run(args)
    except PanopticError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
