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
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.checkpoint import Checkpoint
from rt_panoptic_core.engines import hardware
from rt_panoptic_core.engines.base import (
    INPUT_NAMES,
    OUTPUT_NAMES,
    Answer,
    EngineBase,
    Progress,
    no_progress,
)
from rt_panoptic_core.engines.cache import Sections, engine_identity, open_cached
from rt_panoptic_core.engines.cuda import CudaRuntime, use_device
from rt_panoptic_core.engines.engine_file import ANY
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


def missing_for_device(index: int) -> str | None:
    """What the TensorRT that is installed lacks to run on the CUDA device ``index``, or None.

    TensorRT-RTX lists the compute capabilities that it has kernels for; it has none for data centres' cards.
    """
    try:
        module = load_module()
    except EngineError as error:
        return str(error)
    capability = hardware.cuda_capability(index)
    known = getattr(module, "ComputeCapability", None)
    if capability is None or known is None:
        return None
    major, minor = capability
    if hasattr(known, f"SM{major}{minor}"):
        return None
    return (
        f"{library_name(module)} has no kernels for {hardware.cuda_device_names()[index]} "
        f"(compute capability {major}.{minor}); pip install tensorrt"
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
    return open_cached(
        checkpoint,
        spec,
        library_name(module),
        build=lambda: build_tensorrt(checkpoint, spec, calibration, progress),
        load=lambda sections: TensorRtEngine(sections, spec, checkpoint.inference.thresholds),
        engine_file=engine_file,
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
        from rt_panoptic_core.engines.quantization import export_int8

        model = export_int8(checkpoint, spec.image_size, calibration, progress)
    else:
        # Slow to import, and not needed for an engine from the cache.
        from rt_panoptic_core.engines.onnx_export import export_onnx

        model = export_onnx(checkpoint, spec.image_size, spec.precision, progress)
    if hardware.missing_cuda_driver() is None:
        # TensorRT builds for, and tries kernels on, the device that is the thread's.
        use_device(_device_index(spec))
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
    monitor = _monitor(trt, progress) if hasattr(trt, "IProgressMonitor") else None
    if monitor is not None:
        config.progress_monitor = monitor
    progress(f"build with {library_name(trt)}", None)
    plan = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.interruption is not None:
        raise monitor.interruption
    if plan is None:
        raise EngineError(f"{library_name(trt)} cannot build the graph: {_words(logger)}")
    return bytes(plan)


class TensorRtEngine(EngineBase):
    """A deserialised plan, its buffers, and the captured graph of one frame.

    Its stages are ``copy to pinned memory`` and ``upload, graph, download``.
    """

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
        super().__init__(spec, library_name(trt), thresholds)
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._host: dict[str, npt.NDArray[Any]] = {}
        self._launch: Callable[[], None] | None = None
        self._cuda: CudaRuntime | None = (
            CudaRuntime(_device_index(spec)) if runtime is None else runtime
        )
        try:
            if _PLAN not in sections:
                raise EngineError(f"the engine file has no section {_PLAN!r}")
            self._open(trt, sections[_PLAN], self._cuda)
        except RuntimeError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Free the device's memory. Outputs that somebody still holds stay readable."""
        cuda, self._cuda = self._cuda, None
        if cuda is None:
            return
        # Nothing may run any more when what it uses goes: the graph, its context, the buffers.
        cuda.drain()
        self._launch = None
        self._context = None
        self._engine = None
        self._runtime = None
        self._host = {}
        cuda.close()

    @property
    def _is_open(self) -> bool:
        return self._cuda is not None

    def _infer(self, image: npt.NDArray[np.uint8], thresholds: npt.NDArray[np.float32]) -> Answer:
        cuda, launch = self._cuda, self._launch
        assert cuda is not None
        assert launch is not None
        start = time.perf_counter()
        self._host[INPUT_NAMES[0]][0] = image
        self._host[INPUT_NAMES[1]][:] = thresholds
        copied = time.perf_counter()
        cuda.activate()
        launch()
        cuda.synchronize()
        stages = {
            "copy to pinned memory": copied - start,
            "upload, graph, download": time.perf_counter() - copied,
        }
        return [self._host[name] for name in OUTPUT_NAMES], stages

    def _words(self, error: Exception) -> str:
        return str(error)

    def _open(self, trt: Any, plan: bytes, cuda: CudaRuntime) -> None:
        logger = _logger(trt)
        self._runtime = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"{self.library} refuses the engine: {_words(logger)}")
        self._check_tensors(trt)
        self._context = context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(f"{self.library} cannot run the engine: {_words(logger)}")
        host, device = self._host, {}
        for name in (*INPUT_NAMES, *OUTPUT_NAMES):
            shape = tuple(self._engine.get_tensor_shape(name))
            host[name] = cuda.pinned(shape, trt.nptype(self._engine.get_tensor_dtype(name)))
            host[name][...] = 0
            device[name] = cuda.device_memory(host[name].nbytes)
            if not context.set_tensor_address(name, device[name]):
                raise EngineError(f"{self.library} takes no buffer for {name}: {_words(logger)}")

        # No reference to this object: it would live, with the device's memory, until cycles are looked for.
        library = self.library

        def queue() -> None:
            for name in INPUT_NAMES:
                cuda.upload(device[name], host[name])
            if not context.execute_async_v3(cuda.stream):
                raise EngineError(f"{library} cannot run the engine: {_words(logger)}")
            for name in OUTPUT_NAMES:
                cuda.download(host[name], device[name])

        # TensorRT-RTX compiles its kernels in the first runs, which no capture may see.
        for _ in range(2):
            queue()
            cuda.synchronize()
        capturable = getattr(context, "is_stream_capturable", None)  # TensorRT-RTX says
        self._launch = queue
        if capturable is None or capturable(cuda.stream):
            self._launch = cuda.capture(queue)
            # The device takes memory for a graph at its first launch, and refuses it then if at all.
            self._launch()
            cuda.synchronize()

    def _check_tensors(self, trt: Any) -> None:
        """Accept the deserialised engine if it has the graph's inputs and outputs.

        Raises:
            EngineError: it has others, or of another size or type.
        """
        engine = self._engine
        found = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        wanted = {*INPUT_NAMES, *OUTPUT_NAMES}
        if found != wanted:
            raise EngineError(
                f"the engine has the tensors {', '.join(sorted(found))}; "
                f"the graph's are {', '.join(sorted(wanted))}"
            )
        height, width = self.spec.image_size
        image, thresholds = INPUT_NAMES
        queries = tuple(engine.get_tensor_shape("segments"))[1:2]  # as many as the checkpoint says
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(OUTPUT_NAMES, (1, height, width))
        shapes.update(
            {image: (1, height, width, 3), thresholds: (4,), "segments": (1, *queries, 8)}
        )
        for name, right in shapes.items():
            shape = tuple(engine.get_tensor_shape(name))
            table = name in (thresholds, "segments")
            dtype, kind = engine.get_tensor_dtype(name), trt.float32 if table else trt.uint8
            if shape != right or dtype != kind:
                raise EngineError(
                    f"the engine's {name} is {dtype} {list(shape)}; it must be {kind} {list(right)}"
                )


def _device_index(spec: EngineSpec) -> int:
    return int(spec.device.split(":")[1])


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
    """TensorRT's progress, told on: the fraction is that of its outermost phase.

    No exception may pass through the library: what ``progress`` raises, a Ctrl-C above all, stops the build
    and is kept as ``interruption``.
    """

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.outermost = ""
            self.interruption: BaseException | None = None

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.steps[name] = steps
            if not parent:
                self.outermost = name

        def phase_finish(self, name: str) -> None:
            self.steps.pop(name, None)

        def step_complete(self, name: str, step: int) -> bool:
            try:
                if name == self.outermost and self.steps.get(name):
                    progress(name, min(1.0, (step + 1) / self.steps[name]))
            except BaseException as error:  # noqa: BLE001 - raised again when the library has returned
                self.interruption = error
            return self.interruption is None  # False cancels the build

    return Monitor()


def _words(logger: Any, error: BaseException | None = None) -> str:
    return logger.complaint or (str(error) if error is not None else "it does not say why")
