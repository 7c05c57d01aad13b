"""``rt-panoptic export``: an engine built ahead of time, or the graph as ONNX."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
    from rt_panoptic_core.engines.cache import Sections

_FORMATS = ("tensorrt", "openvino", "onnx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rt-panoptic export``."""
    parser.epilog = (
        "Without --output the engine goes into the engine cache, where every command finds it. One that is "
        "there is not built again, unless --calibration or --force is given. "
        "TensorRT-RTX builds without a GPU; such an engine is for compute capability 8.0, 8.6, 8.9 and 12.0."
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
    parser.add_argument(
        "--force", action="store_true", help="build it again where the engine cache has it"
    )


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
            written = _onnx(checkpoint, args.size, args, progress)
            exported = _Exported(written, written, False)
        else:
            exported = _engine(checkpoint, args.size, args, progress)
    path, kept, was_there = exported
    print(f"{path} ({megabytes(path)})")
    if was_there:
        print("the engine cache had it; --force builds it again")
    if kept != path:
        print(f"in the engine cache of the machine that is to run it: {kept.name}")
    if args.engine == "onnx" and args.precision == "bf16":
        print("note: ONNX Runtime has no convolution in bf16; for it use fp32, fp16 or int8")
    if args.engine == "openvino" and (missing := hardware.missing_cpu_precision(args.precision)):
        print(f"this machine cannot run it: {missing}")
    return 0


class _Exported(NamedTuple):
    """What was written, where the cache has it, and whether it was there before."""

    path: Path
    kept: Path
    was_there: bool


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
) -> _Exported:
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
    kept = engine_path(checkpoint, spec)
    path: Path = kept if args.output is None else args.output
    # Which images an engine was calibrated on, its file does not say.
    anew = args.force or args.calibration is not None
    sections = None if anew else _there(kept, identity)
    if sections is not None and path == kept:
        return _Exported(path, kept, True)
    if sections is None:
        _check_int8(spec.precision, args)
    with output_file(path):
        was_there = sections is not None
        if sections is None:
            sections = build(checkpoint, spec, args.calibration, progress)
        try:
            write_engine_file(path, identity, sections)
        except OSError as error:
            raise EngineError(
                f"{path}: cannot be written: {error.strerror or error}; free some space, or name "
                "another file"
            ) from error
    return _Exported(path, kept, was_there)


def _there(path: Path, identity: Mapping[str, str]) -> Sections | None:
    """The engine at ``path``, if it is whole and the one that is wanted."""
    from rt_panoptic_core.engines.engine_file import EngineFileError, read_engine_file

    try:
        return read_engine_file(path, identity)
    except (FileNotFoundError, EngineFileError):
        return None


def _check_int8(precision: str, args: argparse.Namespace) -> None:
    """Find out first whether int8 can be built here."""
    if precision != "int8":
        return
    from rt_panoptic_core.engines.quantization import ASK_FOR_IMAGES, require_nncf

    require_nncf()
    if args.calibration is None:
        raise EngineError(ASK_FOR_IMAGES)
