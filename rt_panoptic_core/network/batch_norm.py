"""BatchNorm that training leaves alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` with all four kept as constants.

    The buffers have BatchNorm2d's names, so its weights load as they are.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [N, C, H, W], normalised with the constants."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


def batch_norm(channels: int, *, frozen: bool, eps: float) -> nn.Module:
    """A BatchNorm2d, or its frozen form."""
    if frozen:
        return FrozenBatchNorm2d(channels, eps)
    return nn.BatchNorm2d(channels, eps=eps)
