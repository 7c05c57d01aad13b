"""From samples to the tensors that a training step eats.

Instances leave their data set's ids behind here: the rows of a sample's box table, counted from 1, are
painted into one int16 map, so that a target is a table look-up and never a loop over instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rt_panoptic_core.datasets.sample import PanopticSample, check_sizes
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.id_maps import map_ids
from rt_panoptic_core.panoptic_format import measure_segments
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy

IGNORED_ROW = -1
"""Value in a row map of a pixel that says nothing about instances: void, crowd, a thing without an id."""

MAX_INSTANCES = 32767
"""Rows fit an int16."""


class EncodedSample(NamedTuple):
    """One sample as training sees it.

    Attributes:
        name: the sample's name.
        image: uint8 [H, W, 3], RGB.
        semantic: uint8 [H, W], 255 void.
        rows: int16 [H, W], row + 1 in ``boxes``; 0 background; :data:`IGNORED_ROW`.
        boxes: float32 [K, 4], xyxy in pixels, x2 and y2 exclusive.
        labels: int64 [K], place of the class in ``taxonomy.thing_ids``.
    """

    name: str
    image: npt.NDArray[np.uint8]
    semantic: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int16]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


class TrainingBatch(NamedTuple):
    """N samples of one size; smaller ones are padded at the right and bottom (void, no instance).

    Attributes:
        images: uint8 [N, 3, H, W] (channels last in memory), H and W multiples of the asked divisor.
        semantic: uint8 [N, H, W], 255 void.
        rows: int16 [N, H, W], row + 1 in ``boxes``; 0 background; :data:`IGNORED_ROW`.
        boxes: float32 [N, K, 4], xyxy; zeros beyond a sample's own instances.
        labels: int64 [N, K], place in ``taxonomy.thing_ids``; -1 beyond a sample's own instances.
        names: the samples' names.
    """

    images: Tensor
    semantic: Tensor
    rows: Tensor
    boxes: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The batch on ``device``; the copy from pinned memory runs beside the computation."""
        return TrainingBatch(
            self.images.to(device, non_blocking=True),
            self.semantic.to(device, non_blocking=True),
            self.rows.to(device, non_blocking=True),
            self.boxes.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.names,
        )


def box_instance_map(
    boxes: npt.NDArray[np.float32], height: int, width: int
) -> npt.NDArray[np.int16]:
    """int16 [H, W] of row + 1 of the smallest box over each pixel, 0 where there is none.

    This is the weakly supervised foreground of section 5.6: 'in-box' instead of 'in-mask'. Among equal
    areas the later row wins. ``boxes`` is float [K, 4], xyxy; a pixel is in a box when its top-left
    corner is.
    """
    rows = np.zeros((height, width), np.int16)
    corners = np.ceil(boxes).astype(np.int64).clip(0)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for row in np.argsort(-areas, kind="stable"):
        x1, y1, x2, y2 = corners[row]
        rows[y1:y2, x1:x2] = row + 1
    return rows


def encode_sample(
    sample: PanopticSample,
    taxonomy: Taxonomy,
    *,
    boxes_only: bool = False,
    boxes: npt.NDArray[np.float32] | None = None,
) -> EncodedSample:
    """The sample with its instances as rows of a box table.

    Args:
        sample: any sample; without instances (``has_instances`` False) all its pixels are ignored
            where instances are learnt.
        taxonomy: the network's label set; the sample must use the same.
        boxes_only: weak supervision: every pixel of a box belongs to the smallest box over it, and
            the instances' masks are not looked at.
        boxes: with ``boxes_only``, float32 [len(sample.instances), 4]: the annotated boxes where they
            are known better than from the (cropped) masks.

    Raises:
        DatasetError: sizes differ, a class id is outside of the taxonomy, an instance is not of a
            thing class or is in the map but not in the list; the sample is named.
    """
    check_sample(sample, taxonomy)
    shape = sample.semantic.shape
    if not sample.has_instances:
        rows = np.full(shape, IGNORED_ROW, np.int16)
        return EncodedSample(
            sample.name,
            sample.image,
            sample.semantic,
            rows,
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
        )
    thing_index = {class_id: place for place, class_id in enumerate(taxonomy.thing_ids)}
    annotations = {a.id: a for a in sample.instances}
    ids, _, found_boxes = measure_segments(sample.instance)
    unknown = [int(i) for i in ids if int(i) not in annotations]
    if unknown:
        raise DatasetError(
            f"{sample.name}: instance id {unknown[0]} is in the instance map but not among the "
            "annotated instances"
        )
    row_of_id = np.zeros(len(ids), np.int16)
    kept: list[int] = []
    for place, instance_id in enumerate(ids):
        if annotations[int(instance_id)].is_crowd:
            row_of_id[place] = IGNORED_ROW
        else:
            kept.append(place)
            row_of_id[place] = len(kept)
    if len(kept) > MAX_INSTANCES:
        raise DatasetError(f"{sample.name}: {len(kept)} instances; at most {MAX_INSTANCES} fit")
    labels = np.array([thing_index[annotations[int(ids[p])].class_id] for p in kept], np.int64)
    table = found_boxes[kept].astype(np.float32).reshape(-1, 4)
    rows = map_ids(sample.instance, ids, row_of_id)
    ignored = rows == IGNORED_ROW
    if boxes_only:
        if boxes is not None:
            by_id = {a.id: box for a, box in zip(sample.instances, boxes, strict=True)}
            table = np.array([by_id[int(ids[p])] for p in kept], np.float32).reshape(-1, 4)
        rows = box_instance_map(table, *shape)
    # A thing's pixel that no instance owns is neither foreground nor background.
    ignored |= sample.semantic == UNLABELLED
    ignored |= taxonomy.is_thing[sample.semantic] & (rows == 0)
    rows[ignored] = IGNORED_ROW
    return EncodedSample(sample.name, sample.image, sample.semantic, rows, table, labels)


def collate(samples: Sequence[EncodedSample], divisor: int = 32) -> TrainingBatch:
    """One batch of ``samples``, padded to the largest height and width rounded up to ``divisor``.

    Padding is void for the semantics and background for the instances: nothing is to be found there.
    """
    count = len(samples)
    height = max(-(-s.image.shape[0] // divisor) * divisor for s in samples)
    width = max(-(-s.image.shape[1] // divisor) * divisor for s in samples)
    most = (
        max(1, *(len(s.labels) for s in samples)) if count > 1 else max(1, len(samples[0].labels))
    )
    images = np.zeros((count, height, width, 3), np.uint8)
    semantic = np.full((count, height, width), UNLABELLED, np.uint8)
    rows = np.zeros((count, height, width), np.int16)
    boxes = np.zeros((count, most, 4), np.float32)
    labels = np.full((count, most), -1, np.int64)
    for n, sample in enumerate(samples):
        h, w = sample.semantic.shape
        images[n, :h, :w] = sample.image
        semantic[n, :h, :w] = sample.semantic
        rows[n, :h, :w] = sample.rows
        boxes[n, : len(sample.boxes)] = sample.boxes
        labels[n, : len(sample.labels)] = sample.labels
    return TrainingBatch(
        torch.from_numpy(images).permute(0, 3, 1, 2),
        torch.from_numpy(semantic),
        torch.from_numpy(rows),
        torch.from_numpy(boxes),
        torch.from_numpy(labels),
        tuple(s.name for s in samples),
    )


def check_sample(sample: PanopticSample, taxonomy: Taxonomy) -> None:
    """Accept ``sample`` if its maps have the image's size, and its classes are those of ``taxonomy``.

    Raises:
        DatasetError: they do not; the sample and the value are named.
    """
    check_sizes(sample)
    # A class id above the last is found by a table: a look-up is far cheaper than np.unique.
    wrong = np.ones(256, bool)
    wrong[: len(taxonomy)] = False
    wrong[UNLABELLED] = False
    hits = wrong[sample.semantic]
    if hits.any():
        value = int(sample.semantic[hits][0])
        raise DatasetError(
            f"{sample.name}: class id {value} is outside of taxonomy {taxonomy.name!r} "
            f"(0 to {len(taxonomy) - 1}, {UNLABELLED} for void)"
        )
    for annotation in sample.instances:
        if not taxonomy.is_thing[annotation.class_id]:
            raise DatasetError(
                f"{sample.name}: instance {annotation.id} has class id {annotation.class_id}, which "
                f"is not a thing of taxonomy {taxonomy.name!r}"
            )
