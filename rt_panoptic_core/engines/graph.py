"""The one graph that every engine runs, made ready for inference."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn

from rt_panoptic_core.checkpoint import Checkpoint
from rt_panoptic_core.inference.end_to_end import EndToEnd
from rt_panoptic_core.network.batch_norm import FrozenBatchNorm2d

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def build_graph(
    checkpoint: Checkpoint,
    image_size: tuple[int, int],
    precision: str = "fp32",
    sparse: bool = False,
) -> EndToEnd:
    """The checkpoint's graph for one image size, in evaluation mode, on the CPU.

    The checkpoint's own network is left as it is. Batch normalisation is folded into the convolutions
    before it. ``int8`` gives the float32 graph: quantisation works on its ONNX form. ``sparse`` is that of
    :class:`EndToEnd`.
    """
    network = copy.deepcopy(checkpoint.network).cpu().float().eval()
    fold_batch_norm(network)
    dtype = DTYPES.get(precision, torch.float32)
    graph = EndToEnd(network, checkpoint.inference, image_size, dtype, sparse)
    return graph.eval().requires_grad_(False)


def layers(graph: EndToEnd) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Backbone, pyramid and head: the layers that compute in the graph's precision."""
    network = graph.network
    return network.backbone, network.pyramid, network.head


def fold_batch_norm(module: nn.Module) -> int:
    """Fold every batch normalisation into the Conv2d right before it, in place; how many were folded.

    Right before means: the child registered just before it in the same module, which is how the backbones
    pair them (``conv1, bn1``; ``downsample.0, downsample.1``).
    """
    folded = 0
    for parent in module.modules():
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
                _fold(conv, norm)
                setattr(parent, name, nn.Identity())
                folded += 1
    return folded


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    with torch.no_grad():
        scale = norm.weight * (variance + norm.eps).rsqrt()
        shift = norm.bias - mean * scale
        bias = shift if conv.bias is None else conv.bias * scale + shift
        conv.weight.copy_(conv.weight * scale.reshape(-1, 1, 1, 1))
        conv.bias = nn.Parameter(bias.clone())
