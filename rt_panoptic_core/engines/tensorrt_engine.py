"""The graph on TensorRT or TensorRT-RTX, written once against the API that both modules share.

Precision is what the ONNX graph says: the network is strongly typed. A frame is one launch of one captured
CUDA graph: copy in, everything from bytes to label maps, copy out, between buffers made when the engine
was opened.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.checkpoint import Checkpoint
from rt_panoptic_core.engines import hardware
from rt_panoptic_core.engines.base import (
    INPUT_NAMES,
    OUTPUT_NAMES,
    EngineOutput,
    Progress,
    check_image,
    closed,
    no_progress,
    output_of,
    thresholds_array,
)
from rt_panoptic_core.engines.cache import Sections, cached, engine_identity, engine_path
from rt_panoptic_core.engines.cuda import CudaRuntime
from rt_panoptic_core.engines.engine_file import ANY
from rt_panoptic_core.engines.onnx_export import export_onnx
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.errors import EngineError
from rt_panoptic_core.inference.config import Thresholds

_PLAN = "plan"

# What TensorRT-RTX builds for on a machine without a GPU, as far as its version knows them: Ampere, Ada,
# Blackwell. Not Turing (SM75): it has no float32 matrix product there, and suppression needs one.
_CAPABILITIES = ("SM80", "SM86", "SM89", "SM120")


def load_module() -> ModuleType:
    """``tensorrt``, or else ``tensorrt_rtx``.

    Raises:
        EngineError: neither can be imported; why is said.
    """
    reasons = []
    for name in hardware.TENSORRT_MODULES:
        try:
            module = import_module(name)
        except (ImportError, OSError) as error:
            reasons.append(f"{name}: {error}")
            continue
        if hasattr(module, "Builder"):
            return module
        reasons.append(f"{name}: installed without its libraries")
    raise EngineError(
        f"TensorRT cannot be imported ({'; '.join(reasons)}); pip install tensorrt, or tensorrt-rtx"
    )


def library_name(module: ModuleType) -> str:
    """Name and version, for example ``TensorRT-RTX 1.7.1.116``."""
    name = "TensorRT-RTX" if module.__name__ == "tensorrt_rtx" else "TensorRT"
    return f"{name} {module.__version__}"


def open_tensorrt(
    checkpoint: Checkpoint,
    spec: EngineSpec,
    *,
    engine_file: str | os.PathLike[str] | None = None,
    calibration: str | os.PathLike[str] | None = None,
    progress: Progress = no_progress,
) -> TensorRtEngine:
    """A ready engine for ``spec``, from ``engine_file`` (None: the cache) or built into it.

    Raises:
        EngineError: TensorRT, the driver or the device is missing, or TensorRT cannot build or run it.
    """
    module = load_module()
    path = engine_path(checkpoint, spec) if engine_file is None else Path(engine_file)
    return cached(
        path,
        engine_identity(checkpoint, spec, library_name(module)),
        build=lambda: build_tensorrt(checkpoint, spec, calibration, progress),
        load=lambda sections: TensorRtEngine(sections, spec, checkpoint.inference.thresholds),
        progress=progress,
    )


def build_tensorrt(
    checkpoint: Checkpoint,
    spec: EngineSpec,
    calibration: str | os.PathLike[str] | None = None,
    progress: Progress = no_progress,
) -> Sections:
    """Section of an engine file: the serialised plan. TensorRT-RTX needs no GPU for it.

    Raises:
        EngineError: the graph cannot be exported, quantised, parsed or built.
    """
    if spec.precision == "int8":
        from rt_panoptic_core.engines.quantization import calibration_images, quantize_onnx

        images = calibration_images(calibration, spec.image_size)
        model = export_onnx(checkpoint, spec.image_size, "fp32", progress)
        model = quantize_onnx(model, checkpoint.config, images, progress)
    else:
        model = export_onnx(checkpoint, spec.image_size, spec.precision, progress)
    return {_PLAN: build_plan(model.SerializeToString(), progress)}


def build_identity(checkpoint: Checkpoint, spec: EngineSpec) -> dict[str, str]:
    """Identity of an engine that :func:`build_tensorrt` builds here.

    One that TensorRT-RTX builds without a GPU is for every device that it knows.
    """
    identity = engine_identity(checkpoint, spec, library_name(load_module()))
    if hardware.missing_cuda_driver() is not None:
        identity.update(device=ANY, driver=ANY)
    return identity


def build_plan(onnx_bytes: bytes, progress: Progress = no_progress) -> bytes:
    """Serialised plan of an ONNX graph.

    Raises:
        EngineError: TensorRT cannot parse or build it; its own words are given.
    """
    trt: Any = load_module()
    logger = _logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what pybind says of a constructor that gave nothing
        raise EngineError(f"{library_name(trt)}: no builder: {_words(logger, error)}") from error
    # TensorRT 11 knows nothing but strong typing and may drop the flag.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_bytes):
        problems = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"{library_name(trt)} cannot parse the graph: {problems}")
    config = builder.create_builder_config()
    # TF32 would round what is float32 on purpose.
    config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(config, "num_compute_capabilities") and hardware.missing_cuda_driver() is not None:
        wanted = [getattr(trt.ComputeCapability, name, None) for name in _CAPABILITIES]
        known = [capability for capability in wanted if capability is not None]
        config.num_compute_capabilities = len(known)
        for index, capability in enumerate(known):
            config.set_compute_capability(capability, index)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt, progress)
    progress(f"build with {library_name(trt)}", None)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{library_name(trt)} cannot build the graph: {_words(logger)}")
    return bytes(plan)


class TensorRtEngine:
    """A deserialised plan, its buffers, and the captured graph of one frame."""

    def __init__(
        self,
        sections: Sections,
        spec: EngineSpec,
        thresholds: Thresholds,
        *,
        module: ModuleType | Any | None = None,
        runtime: CudaRuntime | None = None,
    ) -> None:
        """Deserialise the plan, make the buffers, warm up, capture.

        Args:
            module, runtime: stand for TensorRT's module and the CUDA device.

        Raises:
            EngineError: the device refuses the plan, or its memory does not suffice.
        """
        trt: Any = load_module() if module is None else module
        self.spec = spec
        self.library = library_name(trt)
        self._thresholds = thresholds
        self._stages: dict[str, float] = {}
        self._engine: Any = None
        self._context: Any = None
        self._cuda: CudaRuntime | None = None
        cuda = CudaRuntime(int(spec.device.split(":")[1])) if runtime is None else runtime
        self._cuda = cuda
        try:
            self._open(trt, sections[_PLAN], cuda)
        except (EngineError, KeyError) as error:
            self.close()
            raise EngineError(f"{spec.label}: {error}{_memory_hint(str(error))}") from error

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of the last run: copy to pinned memory, and the graph from upload to download."""
        return dict(self._stages)

    def run(
        self, image: npt.NDArray[np.uint8], thresholds: Thresholds | None = None
    ) -> EngineOutput:
        """See :class:`rt_panoptic_core.engines.base.Engine`."""
        check_image(image, self.spec.image_size)
        cuda = self._cuda
        if cuda is None:
            raise closed(self.spec)
        start = time.perf_counter()
        self._host[INPUT_NAMES[0]][0] = image
        self._host[INPUT_NAMES[1]][:] = thresholds_array(thresholds or self._thresholds)
        copied = time.perf_counter()
        try:
            cuda.activate()
            self._launch()
            cuda.synchronize()
        except EngineError as error:
            self.close()
            raise EngineError(f"{self.spec.label}: {error}{_memory_hint(str(error))}") from error
        self._stages = {
            "copy to pinned memory": copied - start,
            "upload, graph, download": time.perf_counter() - copied,
        }
        return output_of([self._host[name] for name in OUTPUT_NAMES])

    def close(self) -> None:
        """Free the device's memory."""
        cuda, self._cuda = self._cuda, None
        # The context uses the buffers, so it goes first.
        self._context = None
        self._engine = None
        if cuda is not None:
            cuda.close()

    def _open(self, trt: Any, plan: bytes, cuda: CudaRuntime) -> None:
        logger = _logger(trt)
        self._runtime: Any = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"{self.library} refuses the engine: {_words(logger)}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{self.library} cannot run the engine: {_words(logger)}")
        self._host: dict[str, npt.NDArray[Any]] = {}
        self._device: dict[str, int] = {}
        for name in (*INPUT_NAMES, *OUTPUT_NAMES):
            shape = tuple(self._engine.get_tensor_shape(name))
            dtype = trt.nptype(self._engine.get_tensor_dtype(name))
            self._host[name] = cuda.pinned(shape, dtype)
            self._host[name][...] = 0
            self._device[name] = cuda.device_memory(self._host[name].nbytes)
            self._context.set_tensor_address(name, self._device[name])

        def queue() -> None:
            for name in INPUT_NAMES:
                cuda.upload(self._device[name], self._host[name])
            if not self._context.execute_async_v3(cuda.stream):
                raise EngineError(f"{self.library} cannot run the engine: {_words(logger)}")
            for name in OUTPUT_NAMES:
                cuda.download(self._host[name], self._device[name])

        # TensorRT-RTX compiles its kernels in the first runs, which no capture may see.
        for _ in range(2):
            queue()
            cuda.synchronize()
        self._launch: Callable[[], None] = cuda.capture(queue)


def _logger(trt: Any) -> Any:
    """A logger that keeps TensorRT's last complaint instead of printing it."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.complaint = ""

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.ERROR):
                self.complaint = message.strip()

    return Logger()


def _monitor(trt: Any, progress: Progress) -> Any:
    """TensorRT's progress, told on: the fraction is that of its outermost phase."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.outermost = ""

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.steps[name] = steps
            if not parent:
                self.outermost = name

        def phase_finish(self, name: str) -> None:
            self.steps.pop(name, None)

        def step_complete(self, name: str, step: int) -> bool:
            if name == self.outermost and self.steps.get(name):
                progress(name, min(1.0, (step + 1) / self.steps[name]))
            return True  # False would cancel the build

    return Monitor()


def _words(logger: Any, error: BaseException | None = None) -> str:
    return logger.complaint or (str(error) if error is not None else "it does not say why")


def _memory_hint(message: str) -> str:
    if "memory" not in message.lower():
        return ""
    return "; use a smaller size or fp16, or close other engines"
