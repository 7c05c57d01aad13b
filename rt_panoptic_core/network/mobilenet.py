"""MobileNetV2 backbone with torchvision's parameter names."""

from __future__ import annotations

from torch import Tensor, nn

from rt_panoptic_core.network.batch_norm import batch_norm

# Expansion, output channels, blocks, stride of the first: table 2 of the MobileNetV2 paper.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Index in ``features`` of the last block at strides 8, 16 and 32.
_TAPS = (6, 13, 17)


def _conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    groups: int,
    *,
    frozen: bool,
    eps: float,
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        batch_norm(outputs, frozen=frozen, eps=eps),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expansion, depthwise 3×3, linear projection; a shortcut where shapes allow."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expansion: int,
        *,
        expand: bool,
        frozen: bool,
        eps: float,
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expand:
            layers.append(_conv_bn(inputs, hidden, 1, 1, 1, frozen=frozen, eps=eps))
        layers.append(_conv_bn(hidden, hidden, 3, stride, hidden, frozen=frozen, eps=eps))
        layers.append(nn.Conv2d(hidden, outputs, 1, bias=False))
        layers.append(batch_norm(outputs, frozen=frozen, eps=eps))
        self.conv = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """MobileNetV2 1.0 up to its last inverted residual (320 channels at stride 32).

    ``expanded`` gives the first block, whose expansion is 1, an expansion layer all the same: the layout
    of the weights trained with MXNet, which the ONNX model zoo carries.
    """

    def __init__(self, *, expanded: bool, frozen: bool, eps: float) -> None:
        super().__init__()
        channels = 32
        layers: list[nn.Module] = [_conv_bn(3, channels, 3, 2, 1, frozen=frozen, eps=eps)]
        for expansion, outputs, blocks, first_stride in _STAGES:
            for index in range(blocks):
                layers.append(
                    InvertedResidual(
                        channels,
                        outputs,
                        first_stride if index == 0 else 1,
                        expansion,
                        expand=expanded or expansion != 1,
                        frozen=frozen,
                        eps=eps,
                    )
                )
                channels = outputs
        self.features = nn.Sequential(*layers)
        self.out_channels = (32, 96, 320)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at strides 8, 16 and 32 of ``x`` [N, 3, H, W]."""
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _TAPS:
                taps.append(x)
        c3, c4, c5 = taps
        return c3, c4, c5
