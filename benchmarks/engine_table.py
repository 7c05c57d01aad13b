"""The table of engines: sizes x backbones x engines x precisions, each with its agreement beside its time.

    python benchmarks/engine_table.py --output engines.json                 # everything that runs here
    python benchmarks/engine_table.py --backbones resnet50 --sizes 1024x2048 --frames 5

Every row runs in a process of its own, so that its memory is its own. A time is that of one frame at batch
1, from the uint8 image in host memory to the id maps in host memory. The agreement is the panoptic quality of
the row's results with those of PyTorch in fp32 as the truth, on the same frames: generated streets. Without
a checkpoint for a backbone its weights are random, and an agreement would say nothing: it is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rt_panoptic_core.engines.select import missing_for
from rt_panoptic_core.engines.spec import ENGINES, parse_size
from rt_panoptic_core.files import write_json

BACKBONES = ("resnet50", "resnet18", "mobilenet_v2")
SIZES = ("512x1024", "1024x2048")
ROWS = (
    ("tensorrt", "fp16", "cuda:0"),
    ("tensorrt", "bf16", "cuda:0"),
    ("tensorrt", "int8", "cuda:0"),
    ("tensorrt", "fp32", "cuda:0"),
    ("pytorch", "fp16", "cuda:0"),
    ("pytorch", "bf16", "cuda:0"),
    ("pytorch", "fp32", "cuda:0"),
    ("openvino", "int8", "cpu"),
    ("openvino", "bf16", "cpu"),
    ("openvino", "fp32", "cpu"),
    ("pytorch", "bf16", "cpu"),
    ("pytorch", "fp32", "cpu"),
)


def main() -> int:
    """Measure every row that can run here, print them as Markdown, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=BACKBONES, metavar="B")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HxW")
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--precisions", nargs="+", metavar="P", help="only these")
    parser.add_argument("--devices", nargs="+", metavar="D", help="only these, such as cuda:0")
    parser.add_argument(
        "--model", action="append", default=[], metavar="M", help="checkpoints instead of backbones"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="frames; else generated streets")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="for int8; else no int8")
    parser.add_argument("--frames", type=int, default=20, metavar="N")
    parser.add_argument("--output", type=Path, metavar="F", help="JSON with everything")
    args = parser.parse_args()
    for size in args.sizes:
        parse_size(size)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        models = [(Path(name).stem, name, True) for name in args.model] or [
            (backbone, str(random_model(backbone, Path(folder))), False)
            for backbone in args.backbones
        ]
        print(
            "| model | size | engine | p50 ms | p95 ms | frames/s | memory MB | PQ against fp32 |"
        )
        print("|---|---|---|---:|---:|---:|---:|---:|")
        for label, model, trained in models:
            for size in args.sizes:
                for engine, precision, device in ROWS:
                    if engine not in args.engines:
                        continue
                    if precision not in (args.precisions or [precision]):
                        continue
                    if device not in (args.devices or [device]):
                        continue
                    if precision == "int8" and args.calibration is None:
                        continue
                    missing = missing_for(engine, device, precision)
                    if missing is not None:
                        rows.append({"model": label, "size": size, "left_out": missing})
                        continue
                    row = measure(model, size, engine, precision, device, trained, args)
                    rows.append({"model": label, "size": size, **row})
                    print(line(label, size, row), flush=True)
        for reason in sorted({row["left_out"] for row in rows if "left_out" in row}):
            print(f"left out: {reason}", file=sys.stderr)
    if args.output:
        write_json(args.output, rows)
    return 0


def random_model(backbone: str, folder: Path) -> Path:
    """A checkpoint of the published architecture with this backbone and random weights."""
    import torch

    from rt_panoptic_core.checkpoint import save_checkpoint
    from rt_panoptic_core.inference.config import InferenceConfig
    from rt_panoptic_core.network.config import NetworkConfig
    from rt_panoptic_core.network.panoptic_network import PanopticNetwork
    from rt_panoptic_core.taxonomy import Taxonomy

    torch.manual_seed(0)
    config = NetworkConfig.preset("published", backbone=backbone, batch_norm_eps=1e-5)
    network = PanopticNetwork(config, Taxonomy.load("cityscapes"))
    path = folder / f"{backbone}.safetensors"
    save_checkpoint(path, network, inference=InferenceConfig.preset("published"))
    return path


def measure(
    model: str,
    size: str,
    engine: str,
    precision: str,
    device: str,
    trained: bool,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """What ``rt-panoptic benchmark`` says of one row, in a process of its own, or why it failed."""
    words = [sys.executable, "-m", "rt_panoptic_core", "benchmark", "--model", model]
    words += ["--size", size, "--engine", engine, "--precision", precision, "--device", device]
    words += ["--frames", str(args.frames)]
    if args.images:
        words += ["--images", str(args.images)]
    if args.calibration and precision == "int8":
        words += ["--calibration", str(args.calibration)]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "row.json"
        done = subprocess.run(
            [*words, "--json", str(target)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0 or not target.exists():
            return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr else "no output"}
        found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        row: dict[str, Any] = {**found["results"][0], "machine": found["machine"]}
        if trained and (engine, precision) != ("pytorch", "fp32"):
            row["pq"] = agreement_of(model, size, engine, precision, device, args)
        return row


def agreement_of(
    model: str, size: str, engine: str, precision: str, device: str, args: argparse.Namespace
) -> float | None:
    """PQ in percent with PyTorch fp32 on the CPU as the truth."""
    from rt_panoptic_core.checkpoint import load_checkpoint
    from rt_panoptic_core.cli.benchmark import frames, quality_against

    height_width = parse_size(size)
    images = frames(args.images, height_width)
    return quality_against(
        load_checkpoint(model),
        height_width,
        (engine, precision, device),
        ("pytorch", "fp32", "cpu"),
        images,
    )


def line(label: str, size: str, row: dict[str, Any]) -> str:
    """A row of the table in Markdown."""
    if "failed" in row:
        return f"| {label} | {size} | failed: {row['failed']} | | | | | |"
    memory = row["device_mb"] or row["resident_mb"]
    quality = f"{row['pq']:.1f}" if row.get("pq") is not None else ""
    return (
        f"| {label} | {size} | {row['engine']} {row['precision']} {row['device']} | {row['p50_ms']:.1f} "
        f"| {row['p95_ms']:.1f} | {row['frames_per_second']:.1f} | {memory:.0f} | {quality} |"
    )


if __name__ == "__main__":
    sys.exit(main())
