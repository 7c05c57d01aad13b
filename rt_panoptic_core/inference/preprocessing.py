"""Camera bytes to network input."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rt_panoptic_core.network.panoptic_network import PanopticNetwork


def padded_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """``size`` (H, W) with each side rounded up to a multiple of ``multiple``."""
    height, width = size
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def prepare(image: Tensor, network: PanopticNetwork) -> Tensor:
    """float32 [1, 3, H', W'] for :meth:`PanopticNetwork.predict` from uint8 [1, H, W, 3] RGB.

    Padded at the right and the bottom with what the normalisation maps to zero, the mean colour.
    """
    # The cast comes first: TensorRT moves no uint8 around.
    images = network.normalize(image.float().permute(0, 3, 1, 2))
    height, width = images.shape[-2:]
    full_height, full_width = padded_size((height, width), network.config.size_multiple)
    if (full_height, full_width) != (height, width):
        images = F.pad(images, (0, full_width - width, 0, full_height - height))
    return images
