"""``rt-panoptic export``: an engine built ahead of time, or the graph as ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rt_panoptic_core.cli.engine_options import add_model, build_progress
from rt_panoptic_core.engines.spec import PRECISIONS, EngineSpec, parse_size
from rt_panoptic_core.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from rt_panoptic_core.checkpoint import Checkpoint
    from rt_panoptic_core.engines.base import Progress

_FORMATS = ("tensorrt", "openvino", "onnx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rt-panoptic export``."""
    parser.epilog = (
        "Without --output the engine goes into the engine cache, where every command finds it. "
        "TensorRT-RTX builds without a GPU; such an engine runs on every card from Ampere on."
    )
    add_model(parser)
    parser.add_argument("--engine", default="openvino", choices=_FORMATS, help="(%(default)s)")
    parser.add_argument("--size", required=True, metavar="HxW", help="of the images")
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="of the network; the engine's best if left out"
    )
    parser.add_argument("--output", type=Path, metavar="F", help="file to write")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="images to calibrate int8")


def run(args: argparse.Namespace) -> int:
    """Build and write."""
    from rt_panoptic_core.checkpoint import load_checkpoint

    size = parse_size(args.size)
    if args.engine == "onnx" and args.output is None:
        raise ConfigError("--engine onnx: name the file with --output F.onnx")
    checkpoint = load_checkpoint(args.model)
    with build_progress(f"{checkpoint.name} {args.size}") as progress:
        if args.engine == "onnx":
            written = _onnx(checkpoint, size, args, progress)
        else:
            written = _engine(checkpoint, size, args, progress)
    print(f"{written} ({written.stat().st_size / 2**20:.1f} MB)")
    return 0


def _onnx(
    checkpoint: Checkpoint, size: tuple[int, int], args: argparse.Namespace, progress: Progress
) -> Path:
    from rt_panoptic_core.engines import hardware

    if missing := hardware.missing_export():
        raise EngineError(f"onnx: {missing}")
    from rt_panoptic_core.engines.onnx_export import export_onnx, save_onnx

    precision = args.precision or "fp32"
    if precision == "int8":
        from rt_panoptic_core.engines.quantization import export_int8

        model = export_int8(checkpoint, size, args.calibration, progress)
    else:
        model = export_onnx(checkpoint, size, precision, progress)
    save_onnx(model, args.output)
    return Path(args.output)


def _engine(
    checkpoint: Checkpoint, size: tuple[int, int], args: argparse.Namespace, progress: Progress
) -> Path:
    from rt_panoptic_core.engines import hardware
    from rt_panoptic_core.engines.cache import engine_identity, engine_path
    from rt_panoptic_core.engines.engine_file import write_engine_file

    if args.engine == "tensorrt":
        if missing := hardware.missing_tensorrt_build():
            raise EngineError(f"tensorrt: {missing}")
        from rt_panoptic_core.engines.tensorrt_engine import build_identity, build_tensorrt

        spec = EngineSpec(size, "tensorrt", args.precision or "fp16", "cuda:0")
        identity = build_identity(checkpoint, spec)
        sections = build_tensorrt(checkpoint, spec, args.calibration, progress)
    else:
        if missing := hardware.missing_openvino():
            raise EngineError(f"openvino: {missing}")
        from rt_panoptic_core.engines.openvino_engine import LIBRARY, build_openvino

        spec = EngineSpec(size, "openvino", args.precision or hardware.cpu_precision()[0], "cpu")
        if spec.precision == "fp16":
            raise EngineError("openvino: the CPU computes no fp16; use bf16, fp32 or int8")
        identity = engine_identity(checkpoint, spec, LIBRARY)
        sections = build_openvino(checkpoint, spec, args.calibration, progress)
    path = engine_path(checkpoint, spec) if args.output is None else Path(args.output)
    try:
        write_engine_file(path, identity, sections)
    except OSError as error:
        raise EngineError(
            f"{path}: cannot be written: {error.strerror or error}; free some space, or name another file"
        ) from error
    return path
