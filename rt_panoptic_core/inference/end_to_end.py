"""Everything from camera bytes to label maps in one module, its inputs and outputs of static shapes.

This is what PyTorch runs and what is exported to every other engine. The one other form of the method, for
16 bits on CUDA devices (:mod:`rt_panoptic_core.inference.fused`), is held to it by the tests.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.dense_boxes import dense_boxes
from rt_panoptic_core.inference.fusion import (
    construct_instances,
    full_size_labels,
    stuff_to_drop,
)
from rt_panoptic_core.inference.mask_construction import semantic_probability
from rt_panoptic_core.inference.preprocessing import padded_size, prepare
from rt_panoptic_core.inference.query_selection import (
    Detected,
    select_candidates,
    select_queries,
)
from rt_panoptic_core.inference.rgb_image import MAX_PIXELS
from rt_panoptic_core.inference.upsampling import upsample
from rt_panoptic_core.network.panoptic_head import LEVELNESS_STRIDE, NetworkOutput
from rt_panoptic_core.network.panoptic_network import PanopticNetwork

SEGMENT_COLUMNS = ("valid", "class_id", "score", "area", "x1", "y1", "x2", "y2")
"""Columns of the segment table."""


class EndToEndOutput(NamedTuple):
    """Label maps and segment table of one image.

    Attributes:
        semantic: uint8 [1, H, W], class id, 255 unlabelled.
        instance: uint8 [1, H, W], row of the table plus one, 0 for none.
        segments: float32 [1, Q, 8], columns :data:`SEGMENT_COLUMNS`; areas in pixels, to the stride-4 grid.
        confidence: uint8 [1, H, W], probability of the pixel's class times 255.
    """

    semantic: Tensor
    instance: Tensor
    segments: Tensor
    confidence: Tensor


class Labels(NamedTuple):
    """Label maps of one image as in :class:`EndToEndOutput`, and what they give each query.

    Attributes:
        semantic, instance, confidence: uint8 [1, H, W].
        areas: float32 [Q], pixels, to the stride-4 grid.
    """

    semantic: Tensor
    instance: Tensor
    confidence: Tensor
    areas: Tensor


class EndToEnd(nn.Module):
    """uint8 [1, H, W, 3] RGB and float32 [4] thresholds to :class:`EndToEndOutput`.

    Thresholds are those of :class:`~rt_panoptic_core.inference.config.Thresholds`, in its order: an input,
    so that they change between two frames without building anything again.

    Raises:
        ConfigError: a size that is not positive, or beyond :data:`MAX_PIXELS`.
    """

    is_stuff: Tensor
    thing_ids: Tensor

    def __init__(
        self,
        network: PanopticNetwork,
        config: InferenceConfig,
        image_size: tuple[int, int],
        dtype: torch.dtype = torch.float32,
        sparse: bool = False,
    ) -> None:
        """Build the module around ``network``, whose layers compute in ``dtype`` from now on.

        Only the network's layers: boxes reach 10⁴ pixels and areas far more, which 16 bits cannot hold, so
        everything before and after the network stays float32.

        ``sparse`` leaves out what cannot change the output: masks away from things, the pixels between
        locations that agree. Output and its shapes are the same, but shapes inside depend on the image,
        which is faster on a CPU and impossible in a CUDA graph.
        """
        super().__init__()
        height, width = image_size
        if height < 1 or width < 1 or height * width > MAX_PIXELS:
            raise ConfigError(
                f"image size {height}x{width}: it must be at least 1x1 and at most "
                f"{MAX_PIXELS // 2**20} megapixels; resize the images"
            )
        self.network = network
        for part in (network.backbone, network.pyramid, network.head):
            part.to(dtype)
        self.dtype = dtype
        self.config = config
        self.image_size = image_size
        self.sparse = sparse
        self.padded_size = padded_size(image_size, network.config.size_multiple)
        self.grid = (
            self.padded_size[0] // LEVELNESS_STRIDE,
            self.padded_size[1] // LEVELNESS_STRIDE,
        )
        taxonomy = network.taxonomy
        is_stuff = torch.ones(len(taxonomy), dtype=torch.bool)
        is_stuff[list(taxonomy.thing_ids)] = False
        self.register_buffer("is_stuff", is_stuff, persistent=False)
        self.register_buffer("thing_ids", torch.tensor(taxonomy.thing_ids), persistent=False)

    def forward(self, image: Tensor, thresholds: Tensor) -> EndToEndOutput:
        """Labels of ``image`` uint8 [1, H, W, 3] under ``thresholds`` float32 [4]."""
        return self.assemble(self.predict(self.prepare(image)), thresholds)

    def prepare(self, image: Tensor) -> Tensor:
        """Normalised and padded input float32 [1, 3, H', W'] of ``image`` uint8 [1, H, W, 3]."""
        return prepare(image, self.network)

    def predict(self, normalized: Tensor) -> NetworkOutput:
        """The network's output, in float32 whatever the layers compute in."""
        output = self.network.predict(normalized.to(self.dtype))
        return NetworkOutput(
            [level.float() for level in output.box_logits],
            [level.float() for level in output.box_offsets],
            [level.float() for level in output.centerness],
            None if output.levelness is None else output.levelness.float(),
            output.semantics.float(),
        )

    def assemble(self, output: NetworkOutput, thresholds: Tensor) -> EndToEndOutput:
        """Labels from the network's output: everything after the network."""
        thresholds = thresholds.float()
        queries = self.select(output)
        semantic, instance, confidence, areas = self.label(output, queries, thresholds)
        segments = torch.cat(
            (
                (areas > 0).float().unsqueeze(1),
                self.thing_ids.index_select(0, queries.things).float().unsqueeze(1),
                queries.scores.unsqueeze(1),
                areas.unsqueeze(1),
                queries.boxes,
            ),
            dim=1,
        )
        return EndToEndOutput(semantic, instance, segments.unsqueeze(0), confidence)

    def select(self, output: NetworkOutput) -> Detected:
        """The query boxes."""
        candidates = select_candidates(
            [x[0] for x in output.box_logits],
            [x[0] for x in output.box_offsets],
            [x[0] for x in output.centerness],
            self.network.config.strides,
            self.image_size,
            self.config,
        )
        return select_queries(candidates, self.config)

    def label(self, output: NetworkOutput, queries: Detected, thresholds: Tensor) -> Labels:
        """Label maps and areas, from the network's output and its query boxes."""
        score, sigma, overlap, stuff_limit = thresholds.unbind()
        dense = dense_boxes(output.box_offsets, output.levelness, self.grid)[0]
        probability = semantic_probability(output.semantics, self.grid)[0].flatten(1)
        alive = ((queries.scores > 0) & (queries.scores >= score)).float()
        assignment = construct_instances(
            queries.boxes,
            queries.things,
            alive,
            dense,
            probability.index_select(0, self.thing_ids),
            sigma,
            overlap,
            self.config,
            self.grid,
            self.sparse,
        )

        highest, semantic_grid = probability.max(dim=0)
        cell = LEVELNESS_STRIDE * LEVELNESS_STRIDE
        dropped, _ = stuff_to_drop(
            semantic_grid, ~assignment.taken, self.is_stuff, stuff_limit, cell
        )
        semantic, instance = full_size_labels(
            output.semantics,
            assignment,
            self.thing_ids.index_select(0, queries.things),
            dropped,
            sigma,
            self.grid,
            self.padded_size,
            self.image_size,
            self.sparse,
        )
        confidence = self._confidence(highest, assignment.probability, assignment.taken)
        # The casts come last: TensorRT has uint8 for inputs and outputs, and for nothing in between.
        return Labels(
            semantic.unsqueeze(0).to(torch.uint8),
            instance.unsqueeze(0).to(torch.uint8),
            confidence,
            assignment.areas * cell,
        )

    def _confidence(self, semantic: Tensor, mask: Tensor, taken: Tensor) -> Tensor:
        probability = torch.where(taken, mask.clamp(0, 1), semantic).reshape(1, *self.grid)
        height, width = self.image_size
        full = upsample(probability, LEVELNESS_STRIDE)[:, :height, :width]
        return (full * 255 + 0.5).to(torch.uint8)
