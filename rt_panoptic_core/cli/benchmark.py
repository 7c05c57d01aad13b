"""``rt-panoptic benchmark``: how fast a model is here, end to end and by stage."""

from __future__ import annotations

import argparse
import math
import os
import platform
import signal
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rt_panoptic_core import __version__
from rt_panoptic_core.cli.arguments import checked, number
from rt_panoptic_core.cli.model_options import (
    add_model_options,
    model_name,
    refuse_idle_calibration,
)
from rt_panoptic_core.cli.outputs import output_file, refuse_inputs
from rt_panoptic_core.cli.progress import build_progress
from rt_panoptic_core.engines import hardware
from rt_panoptic_core.engines.spec import ENGINES, PRECISIONS
from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.files import write_json
from rt_panoptic_core.resources import cpu_threads
from rt_panoptic_core.wording import counted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from rt_panoptic_core.checkpoint import Checkpoint
    from rt_panoptic_core.engines.measurement import Measurement

_GENERATED_FRAMES = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rt-panoptic benchmark``."""
    parser.epilog = (
        "Every time is that of one frame at batch 1, from the uint8 image in host memory to the id maps in "
        "host memory. With --against both engines take every frame in turn, and the panoptic quality of "
        "the first measured against the results of the second says how far they agree."
    )
    add_model_options(
        parser,
        leave_out=("score", "mask"),
        size={"help": "of the images; what the model was trained for if left out"},
    )
    parser.add_argument(
        "--against",
        type=checked(_engine_and_precision),
        metavar="ENGINE[-PRECISION]",
        help="a second engine, for example pytorch-fp32: times side by side, and agreement",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="frames; generated streets if left out"
    )
    parser.add_argument(
        "--frames", type=number(int, 1), default=30, metavar="N", help="timed runs (%(default)s)"
    )
    parser.add_argument(
        "--warm-up",
        type=number(int, 0),
        default=3,
        metavar="N",
        help="untimed runs first (%(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="F", help="write everything to F as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure, print a table, write JSON."""
    refuse_idle_calibration(args, *(args.against or ())[1:])
    with output_file(args.json):
        return _benchmark(args)


def _benchmark(args: argparse.Namespace) -> int:
    from rt_panoptic_core.checkpoint import load_checkpoint
    from rt_panoptic_core.engines.measurement import measure_together
    from rt_panoptic_core.engines.select import open_engine, select_engine

    checkpoint = load_checkpoint(args.model)
    refuse_inputs("--json", args.json, checkpoint.path)
    size = args.size or benchmark_size(checkpoint)
    asked = [(args.engine, args.precision), *([args.against] if args.against else [])]
    chosen = [select_engine(name, precision, args.device) for name, precision in asked]
    images = frames(args.images, size)
    engines = []
    for (name, precision), choice in zip(asked, chosen, strict=True):
        with build_progress(f"{choice.engine} {choice.precision}") as progress:
            engines.append(
                open_engine(
                    checkpoint,
                    size,
                    name,
                    precision,
                    args.device,
                    threads=args.threads,
                    calibration=args.calibration if choice.precision == "int8" else None,
                    progress=progress,
                )
            )
    used = [(each.spec.engine, each.spec.precision, each.spec.device) for each in engines]
    reason = chosen[0].reason
    if used[0][0] != chosen[0].engine:
        reason = f"{' '.join(used[0])}: {chosen[0].engine} cannot be opened here"
    measured = measure_together(engines, images, frames=args.frames, warm_up=args.warm_up)
    for engine in engines:
        engine.close()
    agreed = None
    if args.against:
        agreed = quality_against(
            checkpoint, size, used[0], used[1], images, args.threads, args.calibration
        )
    _print(checkpoint, reason, measured, agreed)
    if args.json:
        write_json(
            args.json,
            {
                "model": model_name(checkpoint),
                "checkpoint": checkpoint.digest,
                "backbone": checkpoint.config.backbone,
                "chosen": reason,
                "machine": machine(),
                "results": [result.to_dict() for result in measured],
                "pq_against_second": agreed,
            },
        )
    return 0


def benchmark_size(checkpoint: Checkpoint) -> tuple[int, int]:
    """(height, width), 1:2, with the number of pixels that the checkpoint was trained for."""
    pixels = checkpoint.pixels or 384 * 768
    multiple = checkpoint.config.size_multiple
    height = max(1, round((pixels / 2) ** 0.5 / multiple)) * multiple
    return height, 2 * height


def frames(folder: Path | None, size: tuple[int, int]) -> list[npt.NDArray[np.uint8]]:
    """Images uint8 [H, W, 3] of ``folder`` resized to ``size``, or of generated streets.

    Raises:
        EngineError: the folder has no image that can be read.
    """
    if folder is not None:
        from rt_panoptic_core.engines.calibration_images import calibration_images

        return [image[0] for image in calibration_images(folder, size)]
    # In a process of its own: the textures that streets are made of would count as the engine's memory.
    with ProcessPoolExecutor(
        1, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        return pool.submit(_generated_frames, size).result()


def _generated_frames(size: tuple[int, int]) -> list[npt.NDArray[np.uint8]]:
    from rt_panoptic_core.datasets.generated_streets import GeneratedStreets

    streets = GeneratedStreets(length=_GENERATED_FRAMES, size=size, seed=7)
    return [streets[index].image for index in range(_GENERATED_FRAMES)]


def quality_against(
    checkpoint: Checkpoint,
    size: tuple[int, int],
    engine: tuple[str, str, str],
    reference: tuple[str, str, str],
    images: list[npt.NDArray[np.uint8]],
    threads: int | None = None,
    calibration: Path | None = None,
) -> float | None:
    """PQ in percent of ``engine`` (name, precision, device) with the results of ``reference`` as truth.

    None where neither finds a segment. int8 has to be in the cache by now, or needs ``calibration``.
    """
    from rt_panoptic_core.evaluation.agreement import agreement
    from rt_panoptic_core.segmenter import Segmenter

    results = []
    for name, precision, device in (reference, engine):
        segmenter = Segmenter(
            checkpoint,
            engine=name,
            precision=precision,
            device=device,
            size=size,
            threads=threads,
            calibration=calibration if precision == "int8" else None,
        )
        results.append([segmenter.segment(image) for image in images])
        segmenter.close()
    pairs = zip(*results, strict=True)
    quality = float(agreement(pairs, checkpoint.taxonomy).all.pq)
    return None if math.isnan(quality) else round(100 * quality, 2)


def _engine_and_precision(text: str) -> tuple[str, str | None]:
    """Both of ``ENGINE-PRECISION``; no precision of ``ENGINE``."""
    engine, _, precision = text.partition("-")
    if engine not in ("auto", *ENGINES) or precision not in ("", *PRECISIONS):
        raise ConfigError(
            f"{text}: it must be auto or one of {', '.join(ENGINES)}, or that and a precision, one of "
            f"{', '.join(PRECISIONS)}, for example pytorch-fp32"
        )
    return engine, precision or None


def machine() -> dict[str, Any]:
    """What it ran on, and when."""
    import torch

    return {
        "cpu": hardware.cpu_name(),
        "threads": cpu_threads(),
        "load": round(os.getloadavg()[0], 2),
        "cuda": list(hardware.cuda_device_names()),
        "driver": hardware.cuda_driver_version(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "openvino": hardware.package_version("openvino"),
        "package": __version__,
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def _print(
    checkpoint: Checkpoint, reason: str, measured: list[Measurement], agreed: float | None
) -> None:
    from rich.console import Console
    from rich.table import Table

    height, width = measured[0].size
    here = machine()
    console = Console()
    console.print(
        f"[bold]{model_name(checkpoint)}[/] ({checkpoint.config.backbone}) at {height}x{width} on "
        f"{here['cpu']}, {counted(measured[0].threads, 'thread')}, load {here['load']}",
        highlight=False,
    )
    console.print(f"engine: {reason}", highlight=False, markup=False)
    table = Table(caption=measured[0].boundary, caption_justify="left")
    table.add_column("engine", no_wrap=True)
    columns = ["p50 / p95 / p99 ms", "CPU ms", "per s", "MB"]
    energy = any(result.energy_j is not None for result in measured)
    for column in [*columns, *(["J"] if energy else [])]:
        table.add_column(column, justify="right", no_wrap=True)
    for result in measured:
        joules = "-" if result.energy_j is None else f"{result.energy_j:.2f}"
        table.add_row(
            f"{result.engine} {result.precision} {result.device}",
            f"{result.p50_ms:.1f} / {result.p95_ms:.1f} / {result.p99_ms:.1f}",
            f"{result.cpu_ms:.1f}",
            f"{result.frames_per_second:.1f}",
            f"{result.resident_mb if result.device_mb is None else result.device_mb:.0f}",
            *([joules] if energy else []),
        )
    console.print(table)
    for result in measured:
        total = sum(result.stages_ms.values()) or 1.0
        parts = ", ".join(
            f"{stage} {value:.1f} ms ({100 * value / total:.0f} %)"
            for stage, value in result.stages_ms.items()
        )
        line = f"{result.engine} {result.precision}, {result.boundary}: {parts}"
        console.print(line, highlight=False, soft_wrap=True)
    if len(measured) == 2:
        ratio = measured[1].p50_ms / measured[0].p50_ms
        first, second = (f"{m.engine} {m.precision}" for m in measured)
        console.print(f"{first} is {ratio:.2f} times as fast as {second}", highlight=False)
        quality = "neither finds a segment" if agreed is None else f"PQ {agreed:.1f}"
        console.print(f"{first} with {second} as the truth: {quality}", highlight=False)
