"""Which engine to use here, and opening it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from rt_panoptic_core.checkpoint import Checkpoint, load_checkpoint
from rt_panoptic_core.engines import hardware
from rt_panoptic_core.engines.base import Engine, Progress, no_progress
from rt_panoptic_core.engines.spec import (
    ENGINES,
    PRECISIONS,
    EngineSpec,
    check_calibration,
    check_choice,
    parse_device,
)
from rt_panoptic_core.errors import EngineError, EngineMemoryError

_LOG = logging.getLogger(__name__)

_FIRST_WITH_BF16 = (8, 0)
"""Compute capability, Ampere's."""


@dataclass(frozen=True)
class Selection:
    """An engine, its precision and device, and in words why it was chosen."""

    engine: str
    precision: str
    device: str
    reason: str


def select_engine(
    engine: str = "auto", precision: str | None = None, device: str | None = None
) -> Selection:
    """The engine to use here: the one that is named, or the fastest that works.

    ``auto`` takes TensorRT if its module and a CUDA device are there, then PyTorch on CUDA, then OpenVINO
    on the CPU, then PyTorch on the CPU. A precision that is not named is the fastest that the device
    computes natively and that keeps the results: never int8, which costs quality.

    Raises:
        ConfigError: an unknown engine, precision or device.
        EngineError: nothing that fits can run here; what is missing is named.
    """
    return next(_selections(engine, precision, device, []))


def _selections(
    engine: str, precision: str | None, device: str | None, passed_over: list[str]
) -> Iterator[Selection]:
    """What fits and can run here, the fastest first; what cannot is added to ``passed_over``.

    Raises:
        ConfigError, EngineError: as :func:`select_engine`; the latter after the last one.
    """
    check_names(engine, precision, device)
    for name, where in _candidates(engine, device):
        missing = missing_for(name, where, precision)
        if missing is None:
            chosen, why = _precision_for(where, precision)
            skipped = "".join(f"; not {other}" for other in passed_over)
            yield Selection(name, chosen, where, f"{name} on {where} in {chosen}: {why}{skipped}")
        else:
            passed_over.append(f"{name} on {where}: {missing}")
    raise EngineError("; ".join(passed_over))


def check_names(engine: str, precision: str | None, device: str | None) -> None:
    """Accept what an engine, a precision and a device are called, whether or not they work here.

    Raises:
        ConfigError: one of them does not exist.
    """
    check_choice("engine", engine, ("auto", *ENGINES))
    if precision is not None:
        check_choice("precision", precision, PRECISIONS)
    if device is not None:
        parse_device(device)


def missing_for(engine: str, device: str, precision: str | None = None) -> str | None:
    """What ``engine`` lacks to run on ``device`` here (in ``precision``, if given), or None."""
    on_cpu = device == "cpu"
    if engine == "openvino":
        if not on_cpu:
            return "OpenVINO runs on the CPU here; use device cpu"
        return hardware.missing_cpu_precision(precision) or hardware.missing_openvino()
    if engine == "tensorrt":
        if on_cpu:
            return "TensorRT runs on CUDA devices only"
        return (
            hardware.missing_tensorrt()
            or _missing_on_device(device, precision)
            or _unfit_tensorrt(device)
        )
    if precision == "int8":
        return "PyTorch runs no int8 here; use openvino or tensorrt"
    if on_cpu:
        return "fp16 is for CUDA devices; use bf16 or fp32" if precision == "fp16" else None
    return hardware.missing_torch_cuda() or _missing_on_device(device, precision)


def _missing_on_device(device: str, precision: str | None) -> str | None:
    names = hardware.cuda_device_names()
    index = int(device.split(":")[1])
    if names and index >= len(names):
        return f"the devices here are cuda:0 to cuda:{len(names) - 1}"
    capability = hardware.cuda_capability(index)
    if precision == "bf16" and capability is not None and capability < _FIRST_WITH_BF16:
        return f"{names[index]} computes no bf16; use fp16 or fp32"
    return None


def _unfit_tensorrt(device: str) -> str | None:
    # Only where there is a device: the library is heavy.
    from rt_panoptic_core.engines.tensorrt_engine import missing_for_device

    return missing_for_device(int(device.split(":")[1]))


def _candidates(engine: str, device: str | None) -> list[tuple[str, str]]:
    """Pairs of engine and device to try, the fastest first."""
    wanted = None if device is None else parse_device(device)
    if engine != "auto" and wanted is not None:
        return [(engine, wanted)]
    cuda = "cuda:0" if wanted in (None, "cpu") else wanted
    on_cuda = [("tensorrt", cuda), ("pytorch", cuda)]
    on_cpu = [("openvino", "cpu"), ("pytorch", "cpu")]
    if wanted is not None:
        return on_cpu if wanted == "cpu" else on_cuda
    return [(name, where) for name, where in on_cuda + on_cpu if engine in ("auto", name)]


def _precision_for(device: str, precision: str | None) -> tuple[str, str]:
    if precision is not None:
        return precision, "as asked"
    if device == "cpu":
        return hardware.cpu_precision()
    return "fp16", "CUDA devices are fastest in fp16"


def open_engine(
    checkpoint: Checkpoint | str | os.PathLike[str] | None,
    image_size: tuple[int, int],
    engine: str = "auto",
    precision: str | None = None,
    device: str | None = None,
    *,
    mode: str = "latency",
    threads: int | None = None,
    calibration: str | os.PathLike[str] | None = None,
    progress: Progress = no_progress,
) -> Engine:
    """A ready engine for images of ``image_size``, built now or taken from the cache.

    What :func:`select_engine` chooses; with ``auto`` the next in its order where that cannot be opened after
    all, and a warning is logged.

    Args:
        checkpoint: a loaded one, its path, the name of a shipped model, or None for the default model.
        image_size: (height, width) of the images; id maps have the same size.
        engine: ``auto`` or one of :data:`ENGINES`.
        precision: one of :data:`PRECISIONS`; None = the fastest that keeps the results.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None = the engine's best.
        mode: ``latency`` or ``throughput``, see :class:`EngineSpec`.
        threads: CPU threads; None = all that the process may use.
        calibration: folder of images that int8 is calibrated on; needed where the cache has no engine yet.
        progress: told what a build is doing.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: an unknown engine or precision, a size out of range, or a folder for calibration that
            nothing would look at.
        EngineError: the engine cannot be built or run here; what is missing is named.
    """
    passed_over: list[str] = []
    refused: list[str] = []
    selections = _selections(engine, precision, device, passed_over)
    while True:
        try:
            chosen = next(selections)
        except EngineError:
            # What was tried and did not work is news; what others lack is not.
            if refused:
                raise EngineError("; ".join(refused)) from None
            raise
        if refused:
            _LOG.warning("%s; the next engine is tried", refused[-1])
        check_calibration(calibration, chosen.precision)
        spec = EngineSpec(
            image_size=image_size,
            engine=chosen.engine,
            precision=chosen.precision,
            device=chosen.device,
            mode=mode,
            threads=threads,
        )
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = load_checkpoint(checkpoint)
        try:
            return _open(checkpoint, spec, calibration, progress)
        except EngineError as error:
            if engine != "auto" or isinstance(error, EngineMemoryError):
                raise
            # A library may refuse the device, or the graph on it, though all that it needs is there.
            refused.append(str(error))
            passed_over.append(str(error))


def _open(
    checkpoint: Checkpoint,
    spec: EngineSpec,
    calibration: str | os.PathLike[str] | None,
    progress: Progress,
) -> Engine:
    # The libraries are heavy; only the chosen one is imported.
    if spec.engine == "pytorch":
        from rt_panoptic_core.engines.pytorch_engine import open_pytorch

        return open_pytorch(checkpoint, spec)
    if spec.engine == "openvino":
        from rt_panoptic_core.engines.openvino_engine import open_openvino

        return open_openvino(checkpoint, spec, calibration=calibration, progress=progress)
    from rt_panoptic_core.engines.tensorrt_engine import open_tensorrt

    return open_tensorrt(checkpoint, spec, calibration=calibration, progress=progress)
