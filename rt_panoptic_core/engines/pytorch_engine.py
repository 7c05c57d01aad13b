"""The graph on PyTorch, on a CPU or a CUDA device: in float32 what the other engines are compared with."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rt_panoptic_core.checkpoint import Checkpoint
from rt_panoptic_core.engines.base import (
    STAGES,
    Answer,
    EngineBase,
    lacks_memory,
    thresholds_array,
)
from rt_panoptic_core.engines.cache import cache_folder
from rt_panoptic_core.engines.cuda import CAPTURING
from rt_panoptic_core.engines.graph import build_graph, layers
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.errors import EngineError
from rt_panoptic_core.inference.end_to_end import EndToEnd

_LOG = logging.getLogger(__name__)

LIBRARY = f"PyTorch {torch.__version__}"


def open_pytorch(checkpoint: Checkpoint, spec: EngineSpec) -> PyTorchCpuEngine | PyTorchCudaEngine:
    """A ready engine for ``spec``; its device decides the class.

    Raises:
        EngineError: the device is missing, cannot compute in the precision, or lacks memory.
    """
    if spec.precision == "int8":
        raise EngineError(
            "pytorch: int8 is not supported; use engine 'openvino' or 'tensorrt', or bf16"
        )
    if spec.device == "cpu":
        if spec.precision == "fp16":
            raise EngineError("pytorch: fp16 is for CUDA devices; on the CPU use bf16 or fp32")
        return PyTorchCpuEngine(checkpoint, spec)
    return PyTorchCudaEngine(checkpoint, spec)


class PyTorchCpuEngine(EngineBase):
    """Eager PyTorch on the CPU, channels last. Its stages are those of the graph."""

    def __init__(self, checkpoint: Checkpoint, spec: EngineSpec) -> None:
        """Build the graph of ``spec`` from ``checkpoint``."""
        super().__init__(spec, LIBRARY, checkpoint.inference.thresholds)
        graph = build_graph(checkpoint, spec.image_size, spec.precision, sparse=True)
        _channels_last(graph)
        self._graph: EndToEnd | None = graph

    def close(self) -> None:
        """Drop the weights."""
        self._graph = None

    @property
    def _is_open(self) -> bool:
        return self._graph is not None

    def _infer(self, image: npt.NDArray[np.uint8], thresholds: npt.NDArray[np.float32]) -> Answer:
        graph = self._graph
        assert graph is not None
        with cpu_threads_of_torch(self.spec.threads), torch.inference_mode(), _as_built("cpu"):
            clock = [time.perf_counter()]
            pixels = graph.prepare(
                torch.from_numpy(np.require(image, requirements=("C", "W"))[None])
            )
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            clock.append(time.perf_counter())
            network_output = graph.predict(pixels)
            clock.append(time.perf_counter())
            outputs = graph.assemble(network_output, torch.from_numpy(thresholds))
            arrays = [output.numpy() for output in outputs]
            clock.append(time.perf_counter())
        return arrays, dict(zip(STAGES, np.diff(clock).tolist(), strict=True))

    def _words(self, error: Exception) -> str:
        return f"PyTorch failed: {_first_line(error)}"


@contextlib.contextmanager
def cpu_threads_of_torch(threads: int | None) -> Iterator[None]:
    """PyTorch on ``threads`` CPU threads within the block; None leaves them as they are."""
    # The number of threads is the process's: others in it get theirs back.
    others = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(others)


def _as_built(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """The graph computes in the precision it was built in, also where its caller casts automatically.

    Whoever validates a model while it is trained does: float32 parts would not be float32.
    """
    return torch.autocast(device_type, enabled=False)


@contextlib.contextmanager
def _exact_float32() -> Iterator[None]:
    """What is float32 is so on purpose: PyTorch rounds it to TF32 if it is let."""
    parts: list[Any] = [
        getattr(torch.backends.cudnn, "conv", None),
        getattr(torch.backends.cuda, "matmul", None),
    ]
    # PyTorch 2.9 has one switch for each kind of layer, and refuses those of before where they disagree.
    name, exact = "fp32_precision", "ieee"
    if not all(hasattr(part, name) for part in parts):
        parts[0] = torch.backends.cudnn
        name, exact = "allow_tf32", False  # type: ignore[assignment]
    try:
        products = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by kind already: then the old switch is out of the way
        products = None
    if products is not None:
        torch.set_float32_matmul_precision("highest")
    before = [getattr(part, name) for part in parts]
    for part in parts:
        setattr(part, name, exact)
    try:
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            setattr(part, name, value)
        if products is not None:
            torch.set_float32_matmul_precision(products)


@contextlib.contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """cuDNN times its kernels for every convolution and takes the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class PyTorchCudaEngine(EngineBase):
    """PyTorch on a CUDA device: one captured CUDA graph between pinned host buffers.

    Its stages are ``upload``, ``graph`` and ``download``, by the device's clock.
    """

    def __init__(self, checkpoint: Checkpoint, spec: EngineSpec) -> None:
        """Build, warm up and capture the graph of ``spec`` from ``checkpoint``."""
        check_cuda(spec)
        super().__init__(spec, LIBRARY, checkpoint.inference.thresholds)
        self._resources: dict[str, Any] = {}
        try:
            self._capture_fastest(checkpoint)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            raise self._failed(error) from error

    def close(self) -> None:
        """Free the device memory of this engine."""
        self._resources = {}
        # After a failed kernel every call reports it again.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()

    @property
    def _is_open(self) -> bool:
        return bool(self._resources)

    def _infer(self, image: npt.NDArray[np.uint8], thresholds: npt.NDArray[np.float32]) -> Answer:
        held = self._resources
        # By NumPy, in one thread: PyTorch would wake as many as there are, which then spin for longer than
        # the copy takes.
        held["host_image"].numpy()[0] = image
        held["host_thresholds"].numpy()[:] = thresholds
        events = held["events"]
        # The buffers were made in inference mode, and nothing else may write to such tensors.
        with torch.inference_mode(), torch.cuda.stream(held["stream"]):
            events[0].record()
            held["image"].copy_(held["host_image"], non_blocking=True)
            held["thresholds"].copy_(held["host_thresholds"], non_blocking=True)
            events[1].record()
            held["graph"].replay()
            events[2].record()
            for host, device in zip(held["host_outputs"], held["outputs"], strict=True):
                host.copy_(device, non_blocking=True)
            events[3].record()
        events[3].synchronize()
        stages = {
            name: events[i].elapsed_time(events[i + 1]) / 1000
            for i, name in enumerate(("upload", "graph", "download"))
        }
        return [host.numpy() for host in held["host_outputs"]], stages

    def _capture_fastest(self, checkpoint: Checkpoint) -> None:
        """Capture the fused form of the graph where it can be had, else the plain one; why is logged."""
        graph = build_graph(checkpoint, self.spec.image_size, self.spec.precision)
        try:
            _choose_kernel_cache()
            import triton

            from rt_panoptic_core.inference.fused.end_to_end import FusedEndToEnd

            unfit = FusedEndToEnd.unfit(graph)
            if unfit is None:
                self._capture(FusedEndToEnd(graph))
                self.library = f"{LIBRARY}, Triton {triton.__version__}"
                return
            _LOG.info("%s: kernels are not fused: %s", self.spec.label, unfit)
        # Triton compiles with the C compiler that it finds, and fails in as many ways as that does.
        except Exception as error:
            if lacks_memory(error):
                raise
            _LOG.warning(
                "%s: slower: its kernels cannot be fused: %s", self.spec.label, _first_line(error)
            )
            traceback.clear_frames(error.__traceback__)
            # What was begun with it may be on the device, and half fused by now.
            graph = build_graph(checkpoint, self.spec.image_size, self.spec.precision)
        self._capture(graph)

    def _capture(self, graph: EndToEnd) -> None:
        device = torch.device(self.spec.device)
        height, width = self.spec.image_size
        with (
            CAPTURING,
            torch.cuda.device(device),
            torch.inference_mode(),
            _as_built("cuda"),
            _exact_float32(),
            _fastest_convolutions(),
        ):
            graph = graph.to(device)
            _channels_last(graph)
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            image = torch.zeros((1, height, width, 3), dtype=torch.uint8, device=device)
            values = torch.from_numpy(thresholds_array(self._thresholds)).to(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for _ in range(3):  # cuDNN picks its kernels before anything is captured
                    graph(image, values)
            stream.synchronize()
            captured = torch.cuda.CUDAGraph()
            # Other threads may allocate meanwhile, for whatever else the process does. A capture that fails
            # leaves the thread on its stream, if nobody puts that back.
            with (
                torch.cuda.stream(torch.cuda.current_stream(device)),
                torch.cuda.graph(captured, stream=stream, capture_error_mode="thread_local"),
            ):
                outputs = graph(image, values)
            self._resources = {
                "model": graph,
                "graph": captured,
                "stream": stream,
                "image": image,
                "thresholds": values,
                "outputs": list(outputs),
                "host_image": torch.empty(image.shape, dtype=torch.uint8, pin_memory=True),
                "host_thresholds": torch.empty(values.shape, pin_memory=True),
                "host_outputs": [
                    torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
                    for output in outputs
                ],
                "events": [
                    torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                    for _ in range(4)
                ],
            }

    def _failed(self, error: Exception) -> EngineError:
        # The frames that it came through hold tensors, and whoever keeps the error would keep them.
        traceback.clear_frames(error.__traceback__)
        return super()._failed(error)

    def _words(self, error: Exception) -> str:
        words = f"PyTorch failed: {_first_line(error)}"
        if lacks_memory(error):
            return words
        return f"{words}; see the driver's log; engine 'openvino' runs without this device"


def check_cuda(spec: EngineSpec) -> None:
    """Accept ``spec`` if PyTorch can use its CUDA device in its precision.

    Raises:
        EngineError: it cannot; what is missing is named.
    """
    if torch.version.cuda is None:
        raise EngineError(
            f"pytorch on {spec.device}: PyTorch {torch.__version__} is built without CUDA; "
            "install a CUDA build, or use device 'cpu'"
        )
    if not torch.cuda.is_available():
        raise EngineError(
            f"pytorch on {spec.device}: no CUDA device or driver found; check nvidia-smi, "
            "or use device 'cpu'"
        )
    index = int(spec.device.split(":")[1])
    if index >= torch.cuda.device_count():
        raise EngineError(
            f"pytorch on {spec.device}: there are {torch.cuda.device_count()} CUDA devices; "
            f"the last is cuda:{torch.cuda.device_count() - 1}"
        )
    if spec.precision == "bf16":
        with torch.cuda.device(index):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        if native:
            return
        name = torch.cuda.get_device_name(index)
        raise EngineError(f"pytorch on {spec.device}: {name} has no bf16; use fp16")


def _choose_kernel_cache() -> None:
    """Let Triton keep what it compiles beside the engines, or in a temporary folder if it cannot."""
    if "TRITON_CACHE_DIR" in os.environ:
        return
    folder = cache_folder() / "triton"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        usable = False
    os.environ["TRITON_CACHE_DIR"] = str(folder) if usable else tempfile.mkdtemp(prefix="triton-")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _channels_last(graph: EndToEnd) -> None:
    for part in layers(graph):
        # A type that mypy's stubs for Module.to lack.
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
