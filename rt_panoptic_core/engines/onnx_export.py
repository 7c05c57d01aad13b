"""The graph as ONNX: named inputs and outputs of static shapes, named cuts between its stages."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import opset20
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

from rt_panoptic_core import __version__
from rt_panoptic_core.checkpoint import Checkpoint
from rt_panoptic_core.engines.base import INPUT_NAMES, OUTPUT_NAMES, Progress, no_progress
from rt_panoptic_core.engines.graph import build_graph
from rt_panoptic_core.errors import EngineError
from rt_panoptic_core.files import write_bytes
from rt_panoptic_core.inference.end_to_end import EndToEnd
from rt_panoptic_core.network.config import NetworkConfig

OPSET = 20

_FOLDED = 1 << 26

PIXELS = "pixels"
"""Tensor between the stages prepare and network."""


def _maximum_and_place(self: Any, dim: int, keepdim: bool = False) -> Any:
    one: Any = opset20.Constant(value_ints=[1])
    values, places = opset20.TopK(self, one, axis=dim, sorted=0)
    if keepdim:
        return values, places
    axes: Any = opset20.Constant(value_ints=[dim])
    return opset20.Squeeze(values, axes), opset20.Squeeze(places, axes)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.max.dim: _maximum_and_place
}
"""For ``torch.onnx.export``: ``max(dim)`` as one TopK, where ReduceMax and ArgMax would each look through the
whole tensor."""


def network_outputs(config: NetworkConfig) -> tuple[str, ...]:
    """Names of the tensors between the stages network and post-processing, in their order."""
    levels = range(3, 3 + len(config.strides))
    names = [f"{kind}_p{i}" for kind in ("box_logits", "box_offsets", "centerness") for i in levels]
    if config.levelness:
        names.append("levelness")
    return (*names, "semantic_logits")


def export_onnx(
    checkpoint: Checkpoint,
    image_size: tuple[int, int],
    precision: str = "fp32",
    progress: Progress = no_progress,
    sparse: bool = False,
) -> onnx.ModelProto:
    """The checkpoint's graph as a checked ONNX model with opset :data:`OPSET`.

    Inputs ``image`` uint8 [1, H, W, 3] and ``thresholds`` float32 [4], outputs
    :data:`~rt_panoptic_core.engines.base.OUTPUT_NAMES`. Under ``fp16`` and ``bf16`` the network's layers
    are of that type, everything else is float32. The tensors where the stages meet keep the names
    :data:`PIXELS` and :func:`network_outputs`. Its metadata has the keys ``checkpoint``, ``precision``,
    ``image_size``, ``classes`` (a JSON list) and ``thresholds``, as texts. ``sparse`` is that of
    :class:`~rt_panoptic_core.inference.end_to_end.EndToEnd`; without it every shape is static.

    Raises:
        EngineError: PyTorch cannot export the graph.
    """
    if precision == "int8":
        raise EngineError("int8: export fp32 and quantise it (engines.quantization)")
    progress("export to ONNX", None)
    graph = _Exposed(build_graph(checkpoint, image_size, precision, sparse))
    names = (*OUTPUT_NAMES, PIXELS, *network_outputs(checkpoint.config))
    height, width = image_size
    example = (
        torch.zeros((1, height, width, 3), dtype=torch.uint8),
        torch.tensor(checkpoint.inference.thresholds.as_tuple()),
    )
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(INPUT_NAMES),
                output_names=list(names),
                optimize=False,
                custom_translation_table=TRANSLATIONS,
            )
    except (RuntimeError, ImportError, torch.onnx.errors.OnnxExporterError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EngineError(
            f"{checkpoint.path.name}: export to ONNX failed: {reason}; "
            "PyTorch 2.13 with onnxscript 0.7 is known to work"
        ) from error
    assert program is not None
    _tidy(program.model)
    model = program.model_proto
    # What passes between the stages stays in the graph, named and typed, but is no output of it.
    model.graph.value_info.extend(model.graph.output[len(OUTPUT_NAMES) :])
    del model.graph.output[len(OUTPUT_NAMES) :]
    model.producer_name, model.producer_version = "rt_panoptic", __version__
    onnx.helper.set_model_props(
        model,
        {
            "checkpoint": checkpoint.digest,
            "precision": precision,
            "image_size": f"{height}x{width}",
            # A name may hold a comma.
            "classes": json.dumps(checkpoint.taxonomy.names, ensure_ascii=False),
            # Of the input of that name, in its order, as the model has them by default.
            "thresholds": ",".join(map(str, checkpoint.inference.thresholds.as_tuple())),
        },
    )
    onnx.checker.check_model(model)
    return model


def save_onnx(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write ``model`` to ``path`` atomically, weights included.

    Raises:
        EngineError: no space, or the folder cannot be written.
    """
    try:
        write_bytes(path, model.SerializeToString())
    except OSError as error:
        raise EngineError(f"{os.fspath(path)}: cannot be written: {error.strerror}") from error


def _tidy(model: ir.Model) -> None:
    """Fold constants, in place, and leave out what is unused or there twice.

    The exporter's own optimisation looks for some hundred patterns at every node, which takes as long as all
    the rest, for rewriting that every engine does by itself. It also folds small constants only, but the
    head's convolutions are cut from larger ones (see global_convolution): unfolded, their weights would be
    computed anew for every frame.
    """
    fold_constants(
        model, onnx_shape_inference=True, input_size_limit=_FOLDED, output_size_limit=_FOLDED
    )
    for tidying in (
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    ):
        tidying(model)


class _Exposed(nn.Module):
    """A graph that also returns what passes between its stages, so that those tensors get names."""

    def __init__(self, graph: EndToEnd) -> None:
        super().__init__()
        self.module = graph  # "graph" is taken: torch.fx keeps its own there

    def forward(self, image: Tensor, thresholds: Tensor) -> tuple[Tensor, ...]:
        pixels = self.module.prepare(image)
        output = self.module.predict(pixels)
        labels = self.module.assemble(output, thresholds)
        between = [*output.box_logits, *output.box_offsets, *output.centerness]
        if output.levelness is not None:
            between.append(output.levelness)
        return (*labels, pixels, *between, output.semantics)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its steps on standard output and its internals as warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
