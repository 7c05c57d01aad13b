"""The whole network: images in, dense predictions out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rt_panoptic_core.errors import TaxonomyError
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.feature_pyramid import FeaturePyramid
from rt_panoptic_core.network.mobilenet import MobileNetV2
from rt_panoptic_core.network.panoptic_head import NetworkOutput, PanopticHead
from rt_panoptic_core.network.resnet import ResNet
from rt_panoptic_core.taxonomy import Taxonomy


class PanopticNetwork(nn.Module):
    """Backbone, feature pyramid and panoptic head (section 4 of the paper).

    Raises:
        TaxonomyError: the taxonomy has no thing; then there is nothing to detect.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: NetworkConfig, taxonomy: Taxonomy) -> None:
        super().__init__()
        if not taxonomy.thing_ids:
            raise TaxonomyError(
                f"taxonomy {taxonomy.name!r}: it has no thing; mark at least one class 'thing: true'"
            )
        self.config = config
        self.taxonomy = taxonomy
        frozen, eps = config.frozen_batch_norm, config.batch_norm_eps
        self.backbone: ResNet | MobileNetV2
        if config.backbone.startswith("resnet"):
            self.backbone = ResNet(config.backbone, frozen=frozen, eps=eps)
        else:
            expanded = config.backbone == "mobilenet_v2_expanded"
            self.backbone = MobileNetV2(expanded=expanded, frozen=frozen, eps=eps)
        self.pyramid = FeaturePyramid(
            self.backbone.out_channels, config.pyramid_channels, len(config.strides)
        )
        self.head = PanopticHead(config, len(taxonomy.thing_ids), len(taxonomy))
        # Configuration, not weights: kept out of the state dict.
        mean = torch.tensor(config.image_mean).reshape(1, 3, 1, 1)
        std = torch.tensor(config.image_std).reshape(1, 3, 1, 1)
        self.register_buffer("image_mean", mean, persistent=False)
        self.register_buffer("image_std", std, persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """``images`` float [N, 3, H, W], RGB 0 … 255, as the backbone wants them."""
        if self.config.bgr:
            images = images.flip(1)
        return (images - self.image_mean) / self.image_std

    def predict(self, normalized: Tensor) -> NetworkOutput:
        """Predictions from images that :meth:`normalize` has seen; H and W multiples of 32."""
        output: NetworkOutput = self.head(self.pyramid(self.backbone(normalized)))
        return output

    def forward(self, images: Tensor) -> NetworkOutput:
        """Predictions for ``images`` float32 [N, 3, H, W], RGB 0 … 255, H and W multiples of 32."""
        return self.predict(self.normalize(images))
