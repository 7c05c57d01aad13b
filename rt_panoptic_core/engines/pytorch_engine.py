"""The graph on PyTorch, on a CPU or a CUDA device: the reference the other engines are compared with."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rt_panoptic_core.checkpoint import Checkpoint
from rt_panoptic_core.engines.base import (
    STAGES,
    EngineOutput,
    check_image,
    closed,
    output_of,
    thresholds_array,
)
from rt_panoptic_core.engines.graph import build_graph, layers
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.errors import EngineError
from rt_panoptic_core.inference.config import Thresholds
from rt_panoptic_core.inference.end_to_end import EndToEnd

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


class PyTorchCpuEngine:
    """Eager PyTorch on the CPU, channels last."""

    def __init__(self, checkpoint: Checkpoint, spec: EngineSpec) -> None:
        """Build the graph of ``spec`` from ``checkpoint``."""
        graph = build_graph(checkpoint, spec.image_size, spec.precision)
        _channels_last(graph)
        self._graph: EndToEnd | None = graph
        self._thresholds = checkpoint.inference.thresholds
        self._stages: dict[str, float] = {}
        self.spec = spec
        self.library = LIBRARY

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of the last run: prepare, network, post-processing."""
        return dict(self._stages)

    def run(
        self, image: npt.NDArray[np.uint8], thresholds: Thresholds | None = None
    ) -> EngineOutput:
        """See :class:`rt_panoptic_core.engines.base.Engine`."""
        check_image(image, self.spec.image_size)
        if self._graph is None:
            raise closed(self.spec)
        if self.spec.threads is not None and torch.get_num_threads() != self.spec.threads:
            torch.set_num_threads(self.spec.threads)
        values = torch.from_numpy(thresholds_array(thresholds or self._thresholds))
        clock = [time.perf_counter()]
        try:
            with torch.inference_mode():
                batch = torch.from_numpy(np.ascontiguousarray(image)[None])
                pixels = self._graph.prepare(batch)
                pixels = pixels.contiguous(memory_format=torch.channels_last)
                clock.append(time.perf_counter())
                network_output = self._graph.predict(pixels)
                clock.append(time.perf_counter())
                outputs = self._graph.assemble(network_output, values)
                arrays = [output.numpy() for output in outputs]
                clock.append(time.perf_counter())
        except RuntimeError as error:
            raise self._failed(error) from error
        self._stages = dict(zip(STAGES, np.diff(clock).tolist(), strict=True))
        return output_of(arrays)

    def close(self) -> None:
        """Drop the weights."""
        self._graph = None

    def _failed(self, error: RuntimeError) -> EngineError:
        self.close()
        first_line = str(error).splitlines()[0]
        return EngineError(
            f"{self.spec.label}: PyTorch failed: {first_line}. "
            "If memory ran out, use a smaller size or close other engines"
        )


class PyTorchCudaEngine:
    """PyTorch on a CUDA device: one captured CUDA graph between pinned host buffers."""

    def __init__(self, checkpoint: Checkpoint, spec: EngineSpec) -> None:
        """Build, warm up and capture the graph of ``spec`` from ``checkpoint``."""
        check_cuda(spec)
        self.spec = spec
        self.library = LIBRARY
        self._thresholds = checkpoint.inference.thresholds
        self._stages: dict[str, float] = {}
        self._resources: dict[str, Any] = {}
        graph = build_graph(checkpoint, spec.image_size, spec.precision)
        try:
            self._capture(graph)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            raise self._failed(error) from error

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of the last run: upload, graph, download, by the device's clock."""
        return dict(self._stages)

    def run(
        self, image: npt.NDArray[np.uint8], thresholds: Thresholds | None = None
    ) -> EngineOutput:
        """See :class:`rt_panoptic_core.engines.base.Engine`."""
        check_image(image, self.spec.image_size)
        if not self._resources:
            raise closed(self.spec)
        held = self._resources
        held["host_image"].numpy()[0] = image
        held["host_thresholds"].numpy()[:] = thresholds_array(thresholds or self._thresholds)
        events = held["events"]
        try:
            with torch.cuda.stream(held["stream"]):
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
        except (torch.OutOfMemoryError, RuntimeError) as error:
            raise self._failed(error) from error
        self._stages = {
            name: events[i].elapsed_time(events[i + 1]) / 1000
            for i, name in enumerate(("upload", "graph", "download"))
        }
        return output_of([host.numpy() for host in held["host_outputs"]])

    def close(self) -> None:
        """Free the device memory of this engine."""
        if self._resources:
            self._resources = {}
            torch.cuda.empty_cache()

    def _capture(self, graph: EndToEnd) -> None:
        device = torch.device(self.spec.device)
        height, width = self.spec.image_size
        with torch.cuda.device(device), torch.inference_mode():
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
            with torch.cuda.graph(captured, stream=stream):
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
        self.close()
        first_line = str(error).splitlines()[0]
        hint = (
            "use a smaller size, fp16, or close other engines"
            if isinstance(error, torch.OutOfMemoryError)
            else "see the driver's log; engine 'openvino' runs without this device"
        )
        return EngineError(f"{self.spec.label}: {first_line}; {hint}")


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
    if spec.precision == "bf16" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(index)
        raise EngineError(f"pytorch on {spec.device}: {name} has no bf16; use fp16")


def _channels_last(graph: EndToEnd) -> None:
    for part in layers(graph):
        # A type that mypy's stubs for Module.to lack.
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
