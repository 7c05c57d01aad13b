"""Feature pyramid network with the extra levels of RetinaNet."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FeaturePyramid(nn.Module):
    """Levels P3, P4, P5 from the backbone, and P6, P7, … each a stride-2 convolution of the last.

    P6 is taken from P5, P7 from relu(P6). The top-down path takes the nearest neighbour.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int, levels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, 1, 1) for _ in in_channels)
        self.extra = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(levels - len(in_channels))
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Pyramid levels, finest first, from backbone features at strides 8, 16 and 32."""
        merged = [lateral(f) for lateral, f in zip(self.lateral, features, strict=True)]
        for level in range(len(merged) - 2, -1, -1):
            size = merged[level].shape[-2:]
            merged[level] = merged[level] + F.interpolate(merged[level + 1], size=size)
        levels = [output(f) for output, f in zip(self.output, merged, strict=True)]
        for index, extra in enumerate(self.extra):
            top = levels[-1]
            levels.append(extra(F.relu(top) if index > 0 else top))
        return levels
