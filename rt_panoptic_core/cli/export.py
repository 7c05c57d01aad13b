"""``rt-panoptic export``: an engine built ahead of time, or the graph as ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rt_panoptic_core.cli.arguments import UsageError
from rt_panoptic_core.cli.model_options import add_model_options, refuse_idle_calibration
from rt_panoptic_core.cli.outputs import output_file, refuse_inputs
from rt_panoptic_core.cli.progress import build_progress
from rt_panoptic_core.engines import hardware
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.errors import EngineError
from rt_panoptic_core.wording import megabytes

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
    # An engine is built for a machine that may be another one: which, nobody but the user knows.
    add_model_options(
        parser,
        leave_out=("device", "threads", "score", "mask"),
        engine={"default": "openvino", "choices": _FORMATS, "help": "to build (%(default)s)"},
        precision={"help": "of the network; the engine's best if left out, never int8"},
        size={"required": True, "help": "of the images"},
        calibration={"help": "images to calibrate int8 on"},
    )
    parser.add_argument("--output", type=Path, metavar="F", help="file to write")


def run(args: argparse.Namespace) -> int:
    """Build and write."""
    from rt_panoptic_core.checkpoint import load_checkpoint

    if args.engine == "onnx" and args.output is None:
        raise UsageError("--engine onnx: name the file with --output F.onnx")
    refuse_idle_calibration(args)
    checkpoint = load_checkpoint(args.model)
    refuse_inputs("--output", args.output, checkpoint.path)
    height, width = args.size
    with build_progress(f"{checkpoint.name} {height}x{width}") as progress:
        if args.engine == "onnx":
            written, kept = _onnx(checkpoint, args.size, args, progress), None
        else:
            written, kept = _engine(checkpoint, args.size, args, progress)
    print(f"{written} ({megabytes(written)})")
    if kept is not None and kept != written:
        print(f"in the engine cache of the machine that is to run it: {kept.name}")
    if args.engine == "openvino" and (missing := hardware.missing_cpu_precision(args.precision)):
        print(f"this machine cannot run it: {missing}")
    return 0


def _onnx(
    checkpoint: Checkpoint, size: tuple[int, int], args: argparse.Namespace, progress: Progress
) -> Path:
    if missing := hardware.missing_export():
        raise EngineError(f"onnx: {missing}")
    from rt_panoptic_core.engines.onnx_export import export_onnx, save_onnx

    path: Path = args.output
    precision = args.precision or "fp32"
    _check_int8(precision, args)
    with output_file(path):
        if precision == "int8":
            from rt_panoptic_core.engines.quantization import export_int8

            model = export_int8(checkpoint, size, args.calibration, progress)
        else:
            model = export_onnx(checkpoint, size, precision, progress)
        save_onnx(model, path)
    return path


def _engine(
    checkpoint: Checkpoint, size: tuple[int, int], args: argparse.Namespace, progress: Progress
) -> tuple[Path, Path]:
    from rt_panoptic_core.engines.cache import engine_identity, engine_path
    from rt_panoptic_core.engines.engine_file import write_engine_file

    if args.engine == "tensorrt":
        if missing := hardware.missing_tensorrt_build():
            raise EngineError(f"tensorrt: {missing}")
        from rt_panoptic_core.engines.tensorrt_engine import build_identity
        from rt_panoptic_core.engines.tensorrt_engine import build_tensorrt as build

        spec = EngineSpec(size, "tensorrt", args.precision or "fp16", "cuda:0")
        identity = build_identity(checkpoint, spec)
    else:
        if missing := hardware.missing_openvino():
            raise EngineError(f"openvino: {missing}")
        from rt_panoptic_core.engines.openvino_engine import LIBRARY
        from rt_panoptic_core.engines.openvino_engine import build_openvino as build

        spec = EngineSpec(size, "openvino", args.precision or hardware.cpu_precision()[0], "cpu")
        if spec.precision == "fp16":
            raise EngineError("openvino: the CPU computes no fp16; use bf16, fp32 or int8")
        identity = engine_identity(checkpoint, spec, LIBRARY)
    _check_int8(spec.precision, args)
    kept = engine_path(checkpoint, spec)
    path: Path = kept if args.output is None else args.output
    with output_file(path):
        sections = build(checkpoint, spec, args.calibration, progress)
        try:
            write_engine_file(path, identity, sections)
        except OSError as error:
            raise EngineError(
                f"{path}: cannot be written: {error.strerror or error}; free some space, or name "
                "another file"
            ) from error
    return path, kept


def _check_int8(precision: str, args: argparse.Namespace) -> None:
    """Find out first whether int8 can be built here."""
    if precision != "int8":
        return
    from rt_panoptic_core.engines.quantization import ASK_FOR_IMAGES, require_nncf

    require_nncf()
    if args.calibration is None:
        raise EngineError(ASK_FOR_IMAGES)
