"""The graph as CUDA devices run it fastest: the same method, with what surrounds the convolutions fused."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rt_panoptic_core.inference.end_to_end import EndToEnd, Labels
from rt_panoptic_core.inference.fused.labels import LabelSettings, make_labels, thing_rows
from rt_panoptic_core.inference.fused.layers import normalised_image
from rt_panoptic_core.inference.fused.mobilenet import MOST_VALUES
from rt_panoptic_core.inference.fused.network import (
    IMAGE_CHANNELS,
    FusedHead,
    FusedPyramid,
    fuse_mobilenet,
    fuse_resnet,
)
from rt_panoptic_core.inference.fused.suppression import MAX_CANDIDATES, suppressed_scores
from rt_panoptic_core.inference.query_selection import (
    Detected,
    best_queries,
    select_candidates_at_once,
)
from rt_panoptic_core.network.locations import grid_locations
from rt_panoptic_core.network.panoptic_head import NetworkOutput
from rt_panoptic_core.network.resnet import ResNet

_MOST_GROUPS = 256
"""Of a group normalisation: more do not fit into the registers of a program."""


class FusedEndToEnd(EndToEnd):
    """:class:`EndToEnd` of 16-bit layers, on a CUDA device, with the same inputs and outputs.

    Convolutions of the backbone take their bias, their shortcut and their ReLU along; group normalisation,
    the global predictions and everything after the network are kernels of
    :mod:`~rt_panoptic_core.inference.fused`; pyramid levels run beside each other.
    """

    def __init__(self, graph: EndToEnd) -> None:
        """Take over ``graph``, whose batch normalisation is folded, on the CPU and in its precision."""
        network = graph.network
        super().__init__(network, graph.config, graph.image_size, graph.dtype)
        if isinstance(network.backbone, ResNet):
            fuse_resnet(network.backbone)
        else:
            fuse_mobilenet(network.backbone)
        self.pyramid = FusedPyramid(network.pyramid)
        self.head = FusedHead(network.head)
        sizes = [
            (-(-self.padded_size[0] // stride), -(-self.padded_size[1] // stride))
            for stride in network.config.strides
        ]
        starts = [sum(h * w for h, w in sizes[:level]) for level in range(len(sizes))]
        table = [(start, *size) for start, size in zip(starts, sizes, strict=True)]
        locations = [
            grid_locations(*size, stride, torch.device("cpu")).reshape(-1, 2)
            for size, stride in zip(sizes, network.config.strides, strict=True)
        ]
        for name, value in (
            ("levels", torch.tensor(table, dtype=torch.int32)),
            ("thing_rows", thing_rows(network.taxonomy)),
            ("locations", torch.cat(locations)),
        ):
            self.register_buffer(name, value, persistent=False)
        self.eval().requires_grad_(False)

    @staticmethod
    def unfit(graph: EndToEnd) -> str | None:
        """Why ``graph`` cannot be fused, or None."""
        config, network = graph.config, graph.network.config
        if graph.dtype == torch.float32:
            return "float32 is computed as it is written"
        if not network.levelness:
            return "there are no kernels for masks without levelness"
        if config.candidates > min(config.candidates_per_level, MAX_CANDIDATES):
            return f"more candidates than a level may give, or than {MAX_CANDIDATES}"
        group = network.group_channels
        widest = max(network.box_tower_channels, network.semantic_tower_channels)
        if group & (group - 1) or widest // group > _MOST_GROUPS:
            return f"there are no kernels for {widest} channels in groups of {group}"
        # Of the backbone's largest map, and of what is added up for the global predictions.
        widest_map = 16 if isinstance(graph.network.backbone, ResNet) else MOST_VALUES
        values = max(widest_map, 3 * len(graph.network.taxonomy) / 16)
        values *= math.prod(graph.padded_size)
        if values >= 2**31:
            return "the image is so large that 32 bits cannot count its values"
        return None

    def prepare(self, image: Tensor) -> Tensor:
        """Normalised and padded input [1, 4, H', W'] in the layers' precision, channels last."""
        network = self.network
        channels = IMAGE_CHANNELS if isinstance(network.backbone, ResNet) else 3
        return normalised_image(
            image,
            network.image_mean,
            network.image_std,
            self.padded_size,
            channels,
            network.config.bgr,
            self.dtype,
        )

    def predict(self, normalized: Tensor) -> NetworkOutput:
        """See :meth:`EndToEnd.predict`."""
        output: NetworkOutput = self.head(self.pyramid(self.network.backbone(normalized)))
        return output

    def select(self, output: NetworkOutput) -> Detected:
        """See :meth:`EndToEnd.select`."""
        candidates = select_candidates_at_once(
            [x[0] for x in output.box_logits],
            [x[0] for x in output.box_offsets],
            [x[0] for x in output.centerness],
            self.get_buffer("locations"),
            self.image_size,
            self.config,
        )
        kept = suppressed_scores(candidates, self.config)
        return best_queries(candidates.boxes, candidates.things, kept, self.config)

    def label(self, output: NetworkOutput, queries: Detected, thresholds: Tensor) -> Labels:
        """See :meth:`EndToEnd.label`."""
        settings = LabelSettings(
            self.grid,
            self.image_size,
            self.config,
            self.get_buffer("levels"),
            self.get_buffer("thing_rows"),
            self.thing_ids,
        )
        return make_labels(output, queries, thresholds, settings)
