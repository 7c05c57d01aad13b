"""The network's parts with what surrounds the convolutions fused, for 16 bits on a CUDA device."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rt_panoptic_core.inference.fused.layers import (
    add_to_map,
    combined_taps,
    group_norm_relu,
    max_pool,
)
from rt_panoptic_core.inference.fused.mobilenet import depthwise, multiplies, pointwise, stem
from rt_panoptic_core.network.feature_pyramid import FeaturePyramid
from rt_panoptic_core.network.mobilenet import InvertedResidual, MobileNetV2
from rt_panoptic_core.network.panoptic_head import (
    LEVELNESS_STRIDE,
    MAX_OFFSET,
    NetworkOutput,
    PanopticHead,
)
from rt_panoptic_core.network.resnet import BasicBlock, Bottleneck, ResNet

IMAGE_CHANNELS = 4
"""Of a fused ResNet's first convolution, one of them zero: with three, cuDNN has no fast one."""

_ALIGNED = 8
"""Channels that 16-bit convolutions are fastest with a multiple of."""

_MAX_EXPONENT = math.log(MAX_OFFSET)


class FusedPyramid(nn.Module):
    """The feature pyramid, whose biases and sums are one pass each."""

    def __init__(self, pyramid: FeaturePyramid) -> None:
        """Take over the convolutions of ``pyramid``."""
        super().__init__()
        self.lateral, self.output = pyramid.lateral, pyramid.output
        self.extra = pyramid.extra

    def forward(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """See :meth:`FeaturePyramid.forward`; in channels-last memory."""
        merged: Tensor | None = None
        levels: list[Tensor] = []
        for lateral, output, feature in zip(
            _convolutions(self.lateral)[::-1],
            _convolutions(self.output)[::-1],
            features[::-1],
            strict=True,
        ):
            merged = add_to_map(_unbiased(feature, lateral), _bias(lateral), merged)
            levels.insert(0, add_to_map(_unbiased(merged, output), _bias(output)))
        for index, extra in enumerate(_convolutions(self.extra)):
            top = F.relu(levels[-1]) if index > 0 else levels[-1]
            levels.append(add_to_map(_unbiased(top, extra), _bias(extra)))
        return levels


class FusedHead(nn.Module):
    """The panoptic head with levelness, a stream for each pyramid level."""

    def __init__(self, head: PanopticHead) -> None:
        """Take over the towers of ``head``, and arrange its last convolutions for 16 bits."""
        super().__init__()
        assert head.levelness is not None
        config = head.config
        self.levels = len(config.strides)
        self.fine = config.semantic_stride == LEVELNESS_STRIDE
        self.things = head.box_logits.out_channels
        self.box_tower, self.semantic_tower = head.box_tower, head.semantic_tower
        self.scales = [float(scale) for scale in head.offset_scales.detach()]
        box, centre = head.box_offsets, head.centerness
        for name, value in (
            ("box_weight", torch.cat((box.weight, centre.weight))),
            ("box_bias", torch.cat((_bias(box), _bias(centre)))),
            ("thing_weight", head.box_logits.weight),
            ("thing_bias", _bias(head.box_logits)),
        ):
            self.register_buffer(name, _aligned(value.detach()), persistent=False)
        for name, conv in (("levelness", head.levelness), ("semantics", head.semantics)):
            self.register_buffer(f"{name}_bias", _bias(conv).detach(), persistent=False)
            for level, part in enumerate(conv.weight.detach().chunk(self.levels, dim=1)):
                taps = part.permute(2, 3, 0, 1).reshape(-1, part.shape[1], 1, 1)
                self.register_buffer(f"{name}_{level}", _aligned(taps), persistent=False)
        self._widths: Tensor | None = None

    def forward(self, features: list[Tensor]) -> NetworkOutput:
        """See :meth:`PanopticHead.forward`; in float32."""
        finest = features[0]
        if self._widths is None:
            widths = [feature.shape[3] for feature in features]
            self._widths = torch.tensor(widths, dtype=torch.int32, device=finest.device)
        logits, offsets, centres, levelness, semantics = [], [], [], [], []
        # What one stream allocates and another reads has to outlive both: kept until they have met.
        kept: list[Tensor] = []
        with _beside(finest.device, self.levels) as streams:
            for feature, stream, scale, level in zip(
                features, streams, self.scales, range(self.levels), strict=True
            ):
                with stream:
                    box = _tower(feature, self.box_tower)
                    semantic = (
                        box if self.semantic_tower is None else _tower(feature, self.semantic_tower)
                    )
                    found = self._predicted(box, "box")
                    exponent = scale * found[:, :4]
                    offsets.append(exponent.float().clamp(max=_MAX_EXPONENT).exp())
                    centres.append(found[:, 4:5].float())
                    scores = self._predicted(semantic, "thing")
                    logits.append(scores[:, : self.things].float())
                    levelness.append(F.conv2d(box, self.get_buffer(f"levelness_{level}")))
                    semantics.append(F.conv2d(semantic, self.get_buffer(f"semantics_{level}")))
                    kept += [box, semantic, found, scores]
        height, width = finest.shape[-2:]
        fine = (2 * height, 2 * width)
        size = fine if self.fine else (height, width)
        bias = self.get_buffer
        return NetworkOutput(
            logits,
            offsets,
            centres,
            combined_taps(levelness, self._widths, bias("levelness_bias"), fine),
            combined_taps(semantics, self._widths, bias("semantics_bias"), size),
        )

    def _predicted(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias")
        return F.conv2d(x, weight, bias, 1, 1)


_Contexts = list[contextlib.AbstractContextManager[Any]]


@contextlib.contextmanager
def _beside(device: torch.device, count: int) -> Iterator[_Contexts]:
    """Contexts of ``count`` streams that begin where the current one is, itself the first; it waits for all.

    Also where an error ends them: a capture cannot end with a stream on its own.
    """
    if device.type != "cuda":
        yield [contextlib.nullcontext()] * count
        return
    current = torch.cuda.current_stream(device)
    others = _side_streams(device, count - 1)
    for stream in others:
        stream.wait_stream(current)
    try:
        yield [contextlib.nullcontext(), *(torch.cuda.stream(stream) for stream in others)]
    finally:
        for stream in others:
            current.wait_stream(stream)


@cache
def _side_streams(device: torch.device, count: int) -> list[torch.cuda.Stream]:
    # Once for all engines: PyTorch has 32 for a device, and then gives out those again that engines run on.
    # Engines are captured one at a time, and do not use these any more once they are.
    return [torch.cuda.Stream(device) for _ in range(count)]  # type: ignore[no-untyped-call]


class _FusedBlock(nn.Module):
    """A residual block whose convolutions take along what follows them."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        convolutions = [block.conv1, block.conv2]
        if isinstance(block, Bottleneck):
            convolutions.append(block.conv3)
        self.inner = nn.ModuleList(convolutions[:-1])
        self.last = convolutions[-1]
        self.downsample: nn.Conv2d | None = None
        if isinstance(block.downsample, nn.Sequential):
            self.downsample = _convolutions(block.downsample)[0]
            # Both biases are added to the same sum: one of them takes along the other.
            with torch.no_grad():
                self.last.bias = nn.Parameter(_bias(self.last) + _bias(self.downsample))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else _unbiased(x, self.downsample)
        for conv in _convolutions(self.inner):
            x = _conv_relu(x, conv)
        return _conv_relu(x, self.last, shortcut)


class _FusedStem(nn.Module):
    """The first convolution and its ReLU, for images with a channel of zeros."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.new_zeros((conv.out_channels, IMAGE_CHANNELS, *conv.kernel_size))
        weight[:, :3] = conv.weight
        conv.weight = nn.Parameter(_channels_last(weight), requires_grad=False)
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return _conv_relu(x, self.conv)


class _FusedPool(nn.Module):
    """The ResNet's pooling after its first convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return max_pool(x)


def fuse_resnet(backbone: ResNet) -> None:
    """Fuse ``backbone`` in place, whose batch normalisation is folded; it then takes IMAGE_CHANNELS."""
    backbone.conv1 = _FusedStem(backbone.conv1)  # type: ignore[assignment]
    backbone.relu = nn.Identity()  # type: ignore[assignment]
    backbone.maxpool = _FusedPool()  # type: ignore[assignment]
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        blocks = cast(nn.Sequential, backbone.get_submodule(stage))
        fused = [_FusedBlock(cast(BasicBlock | Bottleneck, block)) for block in blocks]
        setattr(backbone, stage, nn.Sequential(*fused))


class _FusedInvertedResidual(nn.Module):
    """An inverted residual whose convolutions take along what follows them."""

    taps: Tensor

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        *expansion, self.depthwise, self.projection = _convolutions(block.modules())
        self.expansion = expansion[0] if expansion else None
        self.has_shortcut = block.has_shortcut
        taps = self.depthwise.weight.detach().flatten(1).t().contiguous()
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y, late = x, False
        if self.expansion is not None:
            # PyTorch's product has no ReLU6: then what reads it takes it along.
            late = not multiplies(x.device)
            y = pointwise(x, self.expansion.weight, _bias(self.expansion), relu6=not late)
        y = depthwise(y, self.taps, _bias(self.depthwise), self.depthwise.stride[0], relu6=late)
        shortcut = x if self.has_shortcut else None
        return pointwise(y, self.projection.weight, _bias(self.projection), shortcut)


class _FusedMobileNetStem(nn.Module):
    """MobileNetV2's first convolution and its ReLU6."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        conv.weight = nn.Parameter(_channels_last(conv.weight), requires_grad=False)
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return stem(x, self.conv.weight, _bias(self.conv))


def fuse_mobilenet(backbone: MobileNetV2) -> None:
    """Fuse ``backbone`` in place, whose batch normalisation is folded."""
    first, *blocks = backbone.features
    backbone.features = nn.Sequential(
        _FusedMobileNetStem(_convolutions(first.modules())[0]),
        *(_FusedInvertedResidual(cast(InvertedResidual, block)) for block in blocks),
    )


def _convolutions(layers: Iterable[nn.Module]) -> list[nn.Conv2d]:
    """The convolutions among ``layers``."""
    return [layer for layer in layers if isinstance(layer, nn.Conv2d)]


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _conv_relu(x: Tensor, conv: nn.Conv2d, added: Tensor | None = None) -> Tensor:
    """``relu(conv(x) + added)``, on CUDA devices in one kernel."""
    if not x.is_cuda:
        y = conv(x)
        return F.relu(y if added is None else y + added)
    shape: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)
    if added is None:
        return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *shape)
    return torch.cudnn_convolution_add_relu(x, conv.weight, added, 1.0, conv.bias, *shape)


def _unbiased(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """``conv(x)`` without its bias, channels last: cuDNN adds a bias in a pass of its own."""
    y = F.conv2d(x, conv.weight, None, conv.stride, conv.padding)
    return y.contiguous(memory_format=torch.channels_last)


def _tower(x: Tensor, tower: nn.Sequential) -> Tensor:
    """``tower`` of convolution, group normalisation and ReLU, again and again."""
    norms = [layer for layer in tower if isinstance(layer, nn.GroupNorm)]
    for conv, norm in zip(_convolutions(tower), norms, strict=True):
        group = norm.num_channels // norm.num_groups
        x = _unbiased(x, conv)
        x = group_norm_relu(x, _bias(conv), norm.weight, norm.bias, group, norm.eps)
    return x


def _aligned(values: Tensor) -> Tensor:
    """``values`` with rows of zeros up to a multiple of eight, channels last."""
    rows = -len(values) % _ALIGNED
    filled = torch.cat((values, values.new_zeros((rows, *values.shape[1:]))))
    return _channels_last(filled) if filled.ndim == 4 else filled


def _channels_last(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)
