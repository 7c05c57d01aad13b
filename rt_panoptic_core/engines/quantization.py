"""int8 by explicit quantise-dequantise pairs, calibrated on a folder of images.

Only the network is quantised, and of the network neither the first convolution nor the head's last ones:
they predict coordinates and the probabilities that are compared with thresholds, where 8 bits show as shifted
boxes and ragged borders.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from rt_panoptic_core.checkpoint import Checkpoint
from rt_panoptic_core.engines.base import INPUT_NAMES, Progress, no_progress
from rt_panoptic_core.engines.calibration_images import calibration_images
from rt_panoptic_core.engines.onnx_export import export_onnx, network_outputs
from rt_panoptic_core.engines.telemetry import without_telemetry
from rt_panoptic_core.errors import EngineError
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.wording import not_installed

if TYPE_CHECKING:
    import openvino as ov

ASK_FOR_IMAGES = (
    "int8 is calibrated on images: name a folder of some 20 to 100 images like those the engine will see "
    "(--calibration FOLDER)"
)
"""What is to be done where int8 is to be built and no folder is named."""


def images_for_int8(
    folder: str | os.PathLike[str] | None, size: tuple[int, int]
) -> list[npt.NDArray[np.uint8]]:
    """:func:`calibration_images` of ``folder``, where they are to be used at once.

    Raises:
        EngineError: NNCF is missing, said before minutes go into a graph that it would quantise; or no folder
            is given, or it does not serve.
    """
    require_nncf()
    if folder is None:
        # Not everything that runs an engine can be told a folder, as a ROS node cannot.
        raise EngineError(
            f"{ASK_FOR_IMAGES}. 'rt-panoptic export' with it puts the engine into the cache, for whatever "
            "runs it here"
        )
    return calibration_images(folder, size)


def export_int8(
    checkpoint: Checkpoint,
    image_size: tuple[int, int],
    calibration: str | os.PathLike[str] | None,
    progress: Progress = no_progress,
) -> onnx.ModelProto:
    """The checkpoint's graph as ONNX, quantised by :func:`quantize_onnx` on the folder ``calibration``.

    Raises:
        EngineError: NNCF is not installed, there are no such images, or the graph cannot be exported.
    """
    images = images_for_int8(calibration, image_size)
    model = export_onnx(checkpoint, image_size, "fp32", progress)
    return quantize_onnx(model, checkpoint.config, images, progress)


def quantize_openvino(
    network: ov.Model,
    images: Sequence[npt.NDArray[np.uint8]],
    progress: Progress = no_progress,
) -> ov.Model:
    """``network`` (from the image to the head's outputs) with int8 convolutions, for OpenVINO.

    Args:
        images: those of :func:`calibration_images`.

    Raises:
        EngineError: NNCF is not installed.
    """
    progress(f"calibrate int8 on {len(images)} images", None)
    nncf = _nncf()
    with _quiet():
        quantized: ov.Model = nncf.quantize(
            network,
            nncf.Dataset(list(images)),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=_kept_openvino(network), validate=False),
        )
    return quantized


def quantize_onnx(
    model: onnx.ModelProto,
    config: NetworkConfig,
    images: Sequence[npt.NDArray[np.uint8]],
    progress: Progress = no_progress,
) -> onnx.ModelProto:
    """The whole graph with explicit Q/DQ around the network's convolutions, symmetric, for TensorRT.

    Args:
        images: those of :func:`calibration_images`.

    Raises:
        EngineError: NNCF is not installed.
    """
    progress(f"calibrate int8 on {len(images)} images", None)
    nncf = _nncf()
    ends = network_outputs(config)
    inside = _nodes_between(model, ends)
    network = onnx.shape_inference.infer_shapes(_network_part(model, inside, ends))
    with _quiet():
        quantized = nncf.quantize(
            network,
            nncf.Dataset([{INPUT_NAMES[0]: image} for image in images]),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            ignored_scope=nncf.IgnoredScope(names=_kept_onnx(network, ends), validate=False),
        )
    return _merged(model, quantized, inside)


def _network_part(
    model: onnx.ModelProto, inside: set[str], ends: tuple[str, ...]
) -> onnx.ModelProto:
    """The graph from the image to the tensors ``ends``."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    kept = [node for node in graph.node if node.name in inside]
    typed = {info.name: info for info in graph.value_info}
    outputs = [typed[name] for name in ends]
    used = {tensor for node in kept for tensor in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    inputs = [value for value in graph.input if value.name in used]
    graph.ClearField("node")
    graph.node.extend(kept)
    for field, values in (("output", outputs), ("input", inputs), ("initializer", initializers)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        graph.ClearField(field)
        getattr(graph, field).extend(copies)
    return part


def _merged(
    model: onnx.ModelProto, network: onnx.ModelProto, replaced: set[str]
) -> onnx.ModelProto:
    """``model`` with its nodes ``replaced`` by those of ``network``."""
    merged = onnx.ModelProto()
    merged.CopyFrom(model)
    graph = merged.graph
    rest = [node for node in graph.node if node.name not in replaced]
    rest = [type(node).FromString(node.SerializeToString()) for node in rest]
    graph.ClearField("node")
    graph.node.extend([*network.graph.node, *rest])
    used = {tensor for node in graph.node for tensor in node.input}
    tensors = {
        tensor.name: tensor for tensor in (*model.graph.initializer, *network.graph.initializer)
    }
    graph.ClearField("initializer")
    graph.initializer.extend(tensor for name, tensor in tensors.items() if name in used)
    versions = {
        entry.domain: entry.version for entry in (*model.opset_import, *network.opset_import)
    }
    merged.ClearField("opset_import")
    merged.opset_import.extend(
        onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()
    )
    onnx.checker.check_model(merged)
    return merged


def _kept_openvino(network: ov.Model) -> list[str]:
    """Names of the convolutions that stay in floating point: the first, and each output's last."""
    order = {node.get_friendly_name(): i for i, node in enumerate(network.get_ordered_ops())}
    convolutions = [
        node
        for node in network.get_ordered_ops()
        if node.get_type_name() in ("Convolution", "GroupConvolution")
    ]
    kept = {min(convolutions, key=lambda n: order[n.get_friendly_name()]).get_friendly_name()}
    for result in network.get_results():
        pending, seen = [result.input_value(0).get_node()], set()
        while pending:
            node = pending.pop()
            name = node.get_friendly_name()
            if name in seen:
                continue
            seen.add(name)
            if node.get_type_name() in ("Convolution", "GroupConvolution"):
                kept.add(name)
            else:
                pending.extend(source.get_node() for source in node.input_values())
    return sorted(kept)


def _nodes_between(model: onnx.ModelProto, ends: tuple[str, ...]) -> set[str]:
    """Names of the nodes that the tensors ``ends`` are computed by."""
    producer = {output: node for node in model.graph.node for output in node.output}
    found: set[str] = set()
    pending = list(ends)
    while pending:
        node = producer.get(pending.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            pending.extend(node.input)
    return found


def _kept_onnx(network: onnx.ModelProto, ends: tuple[str, ...]) -> list[str]:
    """The same, of the ONNX graph."""
    producer = {output: node for node in network.graph.node for output in node.output}
    kept = {next(node.name for node in network.graph.node if node.op_type == "Conv")}
    for end in ends:
        pending, seen = [end], set()
        while pending:
            node = producer.get(pending.pop())
            if node is None or node.name in seen:
                continue
            seen.add(node.name)
            if node.op_type == "Conv":
                kept.add(node.name)
            else:
                pending.extend(node.input)
    return sorted(kept)


def require_nncf() -> None:
    """Accept a machine with the module that quantises.

    Raises:
        EngineError: it is not installed.
    """
    if find_spec("nncf") is None:
        raise EngineError(not_installed("int8", "nncf", "int8"))


def _nncf() -> Any:
    require_nncf()
    try:
        with without_telemetry():
            import nncf
    except ImportError as error:
        raise EngineError(f"int8 needs the module nncf, which does not import: {error}") from error
    return nncf


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF logs, and draws bars on standard output; the caller's progress is enough."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
