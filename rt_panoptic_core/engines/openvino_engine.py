"""The graph on OpenVINO: the engine for machines without an NVIDIA GPU.

The graph is cut where the network ends. The network is compiled in the wanted precision, the rest in fp32:
a precision hint holds for a whole compiled model, and bf16 has 8 bits, too few for a box beyond pixel 256.
Both models share the memory of the tensors between them.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.checkpoint import Checkpoint
from rt_panoptic_core.engines.base import (
    INPUT_NAMES,
    OUTPUT_NAMES,
    Answer,
    EngineBase,
    Progress,
    no_progress,
)
from rt_panoptic_core.engines.cache import Sections, open_cached
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.engines.telemetry import without_telemetry
from rt_panoptic_core.inference.config import Thresholds

if TYPE_CHECKING:
    import onnx

with without_telemetry():
    import openvino as ov

LIBRARY = f"OpenVINO {ov.__version__.split('-')[0]}"

_PARTS = ("network", "postprocessing")

_MAX_STREAMS = 4
"""Each holds the network's maps of an image of its own, and several threads on one image lose little more."""

# Ends the name of an input that stands for the network's output of the same name.
_STAND_IN = "_in"


def open_openvino(
    checkpoint: Checkpoint,
    spec: EngineSpec,
    *,
    engine_file: str | os.PathLike[str] | None = None,
    calibration: str | os.PathLike[str] | None = None,
    progress: Progress = no_progress,
) -> OpenVinoEngine:
    """A ready engine for ``spec``, from ``engine_file`` (None: the cache) or built into it.

    Raises:
        EngineError: OpenVINO cannot build or run it, or int8 has to be built without ``calibration``.
    """
    return open_cached(
        checkpoint,
        spec,
        LIBRARY,
        build=lambda: build_openvino(checkpoint, spec, calibration, progress),
        load=lambda sections: OpenVinoEngine(sections, spec, checkpoint.inference.thresholds),
        engine_file=engine_file,
        progress=progress,
    )


def build_openvino(
    checkpoint: Checkpoint,
    spec: EngineSpec,
    calibration: str | os.PathLike[str] | None = None,
    progress: Progress = no_progress,
) -> Sections:
    """Sections of an engine file: OpenVINO's IR of the network and of everything after it.

    Raises:
        EngineError: the graph cannot be exported, converted or quantised.
    """
    # It takes a third of a second to import; an engine from the cache needs none of it.
    from rt_panoptic_core.engines.onnx_export import export_onnx, network_outputs

    images = []
    if spec.precision == "int8":
        from rt_panoptic_core.engines.quantization import images_for_int8

        images = images_for_int8(calibration, spec.image_size)
    model = export_onnx(checkpoint, spec.image_size, "fp32", progress, sparse=True)
    progress("convert to OpenVINO", None)
    network, rest = split_graph(model, network_outputs(checkpoint.config))
    if spec.precision == "int8":
        from rt_panoptic_core.engines.quantization import quantize_openvino

        network = quantize_openvino(network, images, progress)
    sections: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in zip(_PARTS, (network, rest), strict=True):
            file = Path(folder) / f"{name}.xml"
            ov.save_model(part, file, compress_to_fp16=False)
            sections[f"{name}.xml"] = file.read_bytes()
            sections[f"{name}.bin"] = file.with_suffix(".bin").read_bytes()
    return sections


def split_graph(model: onnx.ModelProto, between: tuple[str, ...]) -> tuple[ov.Model, ov.Model]:
    """(from the image to the tensors named ``between``, from those and the thresholds to the outputs)."""
    whole = the_core().read_model(model.SerializeToString())
    tensors = {
        name: output
        for operation in whole.get_ops()
        for output in operation.outputs()
        for name in output.get_names()
    }
    parameters = {
        name: parameter
        for parameter in whole.get_parameters()
        for name in parameter.output(0).names
    }
    image, thresholds = (parameters[name] for name in INPUT_NAMES)
    # A clone, because the cut below takes these tensors' consumers away.
    network = ov.Model([tensors[name] for name in between], [image], "network").clone()
    inputs = []
    for name in between:
        tensor = tensors[name]
        stand_in = ov.opset13.parameter(tensor.get_partial_shape(), tensor.get_element_type())
        for consumer in list(tensor.get_target_inputs()):
            if consumer.get_node().get_type_name() != "Result":
                consumer.replace_source_output(stand_in.output(0))
        stand_in.output(0).set_names({name + _STAND_IN})
        inputs.append(stand_in)
    results = [r for r in whole.get_results() if r.input_value(0).names & set(OUTPUT_NAMES)]
    return network, ov.Model(results, [*inputs, thresholds], "postprocessing")


_core: ov.Core | None = None
_core_lock = threading.Lock()


def the_core() -> ov.Core:
    """OpenVINO in this process, made when it is first asked for and never given back.

    Its CPU plugin puts a signal stack of its own under the thread that loads it, and takes the memory away
    when the last owner lets go, in whichever order and on whichever thread that is. Whoever is left with such
    a stack ends the process at the next signal, Ctrl-C for one, without a word.
    """
    global _core
    with _core_lock:
        if _core is None:
            _core = ov.Core()
        return _core


class OpenVinoEngine(EngineBase):
    """Two compiled models between buffers of their own.

    In mode ``latency`` all threads work on one image. In mode ``throughput`` there are several streams, each
    with an image of its own on a share of the threads: then no thread waits for another after every layer,
    and what comes before and after the network is done beside it.

    Its stages are ``prepare and network`` and ``post-processing``.
    """

    def __init__(self, sections: Sections, spec: EngineSpec, thresholds: Thresholds) -> None:
        """Compile the IR in ``sections`` for this CPU.

        Raises:
            EngineError: OpenVINO refuses it.
        """
        super().__init__(spec, LIBRARY, thresholds)
        self._lanes: list[_Lane] = []
        # Those that run nothing; None once the engine is closed, for whoever waits.
        self._free: queue.SimpleQueue[_Lane | None] = queue.SimpleQueue()
        try:
            core = the_core()
            compiled = [
                core.compile_model(
                    core.read_model(sections[f"{name}.xml"], _tensor(sections[f"{name}.bin"])),
                    "CPU",
                    self._configuration(name),
                )
                for name in _PARTS
            ]
            streams = 1
            if spec.mode == "throughput":
                streams = int(compiled[0].get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            self._lanes = [_Lane(*compiled) for _ in range(streams)]
        except (RuntimeError, KeyError) as error:
            raise self._failed(error) from error
        self._streams = streams
        for lane in self._lanes:
            self._free.put(lane)

    @property
    def streams(self) -> int:
        """See :class:`Engine`."""
        return self._streams

    def close(self) -> None:
        """Free the compiled models; streams that are running an image end it."""
        self._lanes = []
        with suppress(queue.Empty):
            while True:
                self._free.get_nowait()
        self._free.put(None)

    @property
    def _is_open(self) -> bool:
        return bool(self._lanes)

    def _infer(self, image: npt.NDArray[np.uint8], thresholds: npt.NDArray[np.float32]) -> Answer:
        lane = self._free.get()
        if lane is None:
            self._free.put(None)
            self._check_open()
        assert lane is not None
        try:
            outputs, stages = lane.run(image, thresholds)
            # With several streams, another thread may take the lane before these are read.
            return [o.copy() for o in outputs] if self._streams > 1 else outputs, stages
        except RuntimeError:
            # Those who wait are to hear that the engine is closed, not to fail one after the other.
            self.close()
            raise
        finally:
            if self._is_open:
                self._free.put(lane)

    def _words(self, error: Exception) -> str:
        # The last line that says something: OpenVINO puts where before what.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"OpenVINO failed: {lines[-1] if lines else type(error).__name__}"

    def _configuration(self, part: str) -> Mapping[str, Any]:
        low = self.spec.precision != "fp32" and part == "network"
        if low and self.spec.precision == "int8":
            # Layers that are left out of the quantisation run in the CPU's best precision.
            from rt_panoptic_core.engines.hardware import cpu_precision

            low = cpu_precision()[0] == "bf16"
        configuration: dict[str, Any] = {
            "PERFORMANCE_HINT": self.spec.mode.upper(),
            "INFERENCE_PRECISION_HINT": "bf16" if low else "f32",
            # Both models' threads would be bound to the same cores, one waiting behind the other while a core
            # is idle; and whatever else runs on a core holds up what is bound to it.
            "ENABLE_CPU_PINNING": False,
        }
        if self.spec.mode == "throughput":
            configuration["PERFORMANCE_HINT_NUM_REQUESTS"] = _MAX_STREAMS
        if self.spec.threads is not None:
            configuration["INFERENCE_NUM_THREADS"] = self.spec.threads
        return configuration


class _Lane:
    """One frame's way through both models: their requests, sharing the tensors between them."""

    def __init__(self, network: ov.CompiledModel, rest: ov.CompiledModel) -> None:
        self._network = network.create_infer_request()
        self._rest = rest.create_infer_request()
        for entry in rest.inputs:
            name = entry.get_any_name()
            if name.endswith(_STAND_IN):
                shared = self._network.get_tensor(name.removesuffix(_STAND_IN))
                self._rest.set_tensor(name, shared)
        self._thresholds = self._rest.get_tensor(INPUT_NAMES[1]).data
        self._outputs = [self._rest.get_tensor(name) for name in OUTPUT_NAMES]

    def run(self, image: npt.NDArray[np.uint8], thresholds: npt.NDArray[np.float32]) -> Answer:
        """(views of the outputs, seconds by stage)."""
        start = time.perf_counter()
        # OpenVINO shares the memory, and takes none that may not be written, as of a picture from PIL.
        batch = np.require(image, requirements=("C", "W"))[None]
        self._network.set_tensor(INPUT_NAMES[0], ov.Tensor(batch, shared_memory=True))
        self._thresholds[:] = thresholds
        self._network.infer()
        middle = time.perf_counter()
        self._rest.infer()
        stages = {
            "prepare and network": middle - start,
            "post-processing": time.perf_counter() - middle,
        }
        return [output.data for output in self._outputs], stages


def _tensor(data: bytes) -> ov.Tensor:
    return ov.Tensor(np.frombuffer(data, dtype=np.uint8))
