"""The unified panoptic head: section 4.2 of the paper."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rt_panoptic_core.network.config import NetworkConfig

MAX_OFFSET = 10_000.0
"""Largest box offset in pixels: the exponent is clamped so that an untrained network stays finite."""

LEVELNESS_STRIDE = 4
"""Stride of the grid of levelness and dense boxes."""


class NetworkOutput(NamedTuple):
    """What the network predicts. L levels, T things, C classes; s is ``config.semantic_stride``.

    Attributes:
        box_logits: per level [N, T, h_l, w_l], logits of the things in the order of ``thing_ids``.
        box_offsets: per level [N, 4, h_l, w_l], distances (l, t, r, b) of eq. 8 in input pixels, > 0.
        centerness: per level [N, 1, h_l, w_l], logits.
        levelness: [N, L + 1, H / 4, W / 4] logits, channel 0 background; None without levelness.
        semantics: [N, C, H / s, W / s] logits.
    """

    box_logits: list[Tensor]
    box_offsets: list[Tensor]
    centerness: list[Tensor]
    levelness: Tensor | None
    semantics: Tensor


def _tower(inputs: int, channels: int, config: NetworkConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(config.tower_depth):
        layers.append(nn.Conv2d(inputs, channels, 3, 1, 1))
        layers.append(nn.GroupNorm(channels // config.group_channels, channels))
        layers.append(nn.ReLU(inplace=True))
        inputs = channels
    return nn.Sequential(*layers)


def global_convolution(features: list[Tensor], conv: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    """``conv(cat([resize(f, size) for f in features], dim=1))`` without the concatenation, [N, O, *size].

    ``conv`` is 3×3 with padding 1, ``resize`` bilinear. A 1×1 convolution commutes with resizing, and a
    3×3 convolution is nine 1×1 convolutions, each shifted by its tap: so every level computes its nine
    taps at its own, smaller size. Resizing rows and columns are two steps, and moving rows commutes with
    resizing columns: each level's rows are resized, moved and added, which leaves three taps to resize
    and move along the columns. Equal up to rounding, with a fraction of the arithmetic and of the memory.
    """
    outputs = conv.out_channels
    height, width = size
    columns: Tensor | None = None
    start = 0
    for feature in features:
        channels = feature.shape[1]
        weight = conv.weight[:, start : start + channels]
        start += channels
        weight = weight.permute(2, 3, 0, 1).reshape(9 * outputs, channels, 1, 1)
        taps = _resized(F.conv2d(feature, weight), (height, feature.shape[-1]))
        above, middle, below = taps.chunk(3, dim=1)
        # What is moved in is zero, as the padding of the convolution.
        taps = F.pad(above[:, :, :-1], (0, 0, 1, 0)) + middle + F.pad(below[:, :, 1:], (0, 0, 0, 1))
        taps = _resized(taps, (height, width))
        columns = taps if columns is None else columns + taps
    assert columns is not None
    left, centre, right = columns.chunk(3, dim=1)
    result = F.pad(left[..., :-1], (1, 0)) + centre + F.pad(right[..., 1:], (0, 1))
    return result if conv.bias is None else result + conv.bias.reshape(-1, 1, 1)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def concatenated_convolution(
    features: list[Tensor], conv: nn.Conv2d, size: tuple[int, int]
) -> Tensor:
    """The plain form of :func:`global_convolution`: resize, concatenate, convolve."""
    result: Tensor = conv(torch.cat([_resized(feature, size) for feature in features], dim=1))
    return result


class PanopticHead(nn.Module):
    """Two towers shared over the levels; boxes per level, levelness and semantics over all of them."""

    def __init__(self, config: NetworkConfig, things: int, classes: int) -> None:
        super().__init__()
        self.config = config
        levels = len(config.strides)
        box_channels = config.box_tower_channels
        semantic_channels = config.semantic_tower_channels if config.two_towers else box_channels
        self.box_tower = _tower(config.pyramid_channels, box_channels, config)
        self.semantic_tower = (
            _tower(config.pyramid_channels, semantic_channels, config)
            if config.two_towers
            else None
        )
        self.box_logits = nn.Conv2d(semantic_channels, things, 3, 1, 1)
        self.box_offsets = nn.Conv2d(box_channels, 4, 3, 1, 1)
        self.centerness = nn.Conv2d(box_channels, 1, 3, 1, 1)
        self.levelness = (
            nn.Conv2d(box_channels * levels, levels + 1, 3, 1, 1) if config.levelness else None
        )
        self.semantics = nn.Conv2d(semantic_channels * levels, classes, 3, 1, 1)
        self.offset_scales = nn.Parameter(torch.ones(levels))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        # Focal loss starts from a foreground probability of 0.01, or the rare positives drown.
        assert self.box_logits.bias is not None
        assert self.box_offsets.bias is not None
        nn.init.constant_(self.box_logits.bias, -math.log((1 - 0.01) / 0.01))
        # Offsets start at eight strides of each level rather than at one pixel: inside the range that
        # eq. 9 assigns to the level, so that the IoU of the first predictions is not zero.
        reference = math.log(8.0 * self.config.strides[0])
        nn.init.constant_(self.box_offsets.bias, reference)
        with torch.no_grad():
            for level, stride in enumerate(self.config.strides):
                self.offset_scales[level] = math.log(8.0 * stride) / reference

    def forward(self, features: list[Tensor]) -> NetworkOutput:
        """Predictions from pyramid levels, finest first."""
        box_logits, box_offsets, centerness = [], [], []
        box_features, semantic_features = [], []
        for level, feature in enumerate(features):
            box_feature = self.box_tower(feature)
            semantic_feature = (
                box_feature if self.semantic_tower is None else self.semantic_tower(feature)
            )
            box_logits.append(self.box_logits(semantic_feature))
            centerness.append(self.centerness(box_feature))
            exponent = self.offset_scales[level] * self.box_offsets(box_feature)
            # Up to 10⁴: beyond what half precision can count, so always in float32.
            box_offsets.append(exponent.float().clamp(max=math.log(MAX_OFFSET)).exp())
            box_features.append(box_feature)
            semantic_features.append(semantic_feature)

        height, width = features[0].shape[-2:]
        fine = (height * 2, width * 2)
        levelness = None
        if self.levelness is not None:
            levelness = global_convolution(box_features, self.levelness, fine)
        size = fine if self.config.semantic_stride == LEVELNESS_STRIDE else (height, width)
        semantics = global_convolution(semantic_features, self.semantics, size)
        return NetworkOutput(box_logits, box_offsets, centerness, levelness, semantics)
