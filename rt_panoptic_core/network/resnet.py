"""ResNet backbones with torchvision's parameter names, so that its ImageNet weights load as they are."""

from __future__ import annotations

from torch import Tensor, nn

from rt_panoptic_core.network.batch_norm import batch_norm

_BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, *, frozen: bool, eps: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = batch_norm(width, frozen=frozen, eps=eps)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = batch_norm(width, frozen=frozen, eps=eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, width, stride, frozen=frozen, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1×1, 3×3 (which takes the stride), 1×1, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, *, frozen: bool, eps: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = batch_norm(width, frozen=frozen, eps=eps)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = batch_norm(width, frozen=frozen, eps=eps)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = batch_norm(width * self.expansion, frozen=frozen, eps=eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, width * self.expansion, stride, frozen=frozen, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


def _shortcut(
    inputs: int, outputs: int, stride: int, *, frozen: bool, eps: float
) -> nn.Module | None:
    if inputs == outputs and stride == 1:
        return None
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False),
        batch_norm(outputs, frozen=frozen, eps=eps),
    )


class ResNet(nn.Module):
    """ResNet-18, -34, -50 or -101 without its classifier."""

    def __init__(self, name: str, *, frozen: bool, eps: float) -> None:
        super().__init__()
        block = BasicBlock if name in ("resnet18", "resnet34") else Bottleneck
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = batch_norm(64, frozen=frozen, eps=eps)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for stage, blocks in enumerate(_BLOCKS[name]):
            width = 64 * 2**stage
            layers = []
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(block(channels, width, stride, frozen=frozen, eps=eps))
                channels = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.out_channels = tuple(64 * 2**stage * block.expansion for stage in (1, 2, 3))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at strides 8, 16 and 32 of ``x`` [N, 3, H, W]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.get_submodule("layer1")(x)
        c3 = self.get_submodule("layer2")(x)
        c4 = self.get_submodule("layer3")(c3)
        return c3, c4, self.get_submodule("layer4")(c4)
