"""COCO panoptic, and any folder in its form: images, id PNGs and one JSON a split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rt_panoptic_core.datasets.augmentation import resize_to_pixels
from rt_panoptic_core.datasets.categories import check_categories
from rt_panoptic_core.datasets.files import check_files, check_folder, first_folder, read_rgb
from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.id_maps import map_ids
from rt_panoptic_core.panoptic_format import (
    VOID,
    measure_segments,
    read_annotations,
    read_ids,
    taxonomy_of_categories,
)
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy

_IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg")


class CocoPanoptic:
    """A panoptic JSON with its id PNGs and images."""

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        masks: str | os.PathLike[str],
        images: str | os.PathLike[str],
        taxonomy: Taxonomy | None = None,
        *,
        pixels: int = 0,
    ) -> None:
        """Read the JSON and check the files.

        Args:
            annotations: the JSON.
            masks: folder of the PNGs that it names.
            images: folder of the images.
            taxonomy: label set whose source ids are the JSON's category ids; the JSON's own categories,
                things first, for None.
            pixels: resize samples to about so many, as a model with that number in its header has images
                resized; 0 for as they are.

        Raises:
            DatasetError: files are missing or no images (all are named), or the JSON is malformed.
        """
        content = read_annotations(annotations)
        self._title = str(content.path)
        self._pixels = pixels
        self.taxonomy = taxonomy or taxonomy_of_categories(
            list(content.categories.values()), content.path.stem
        )
        check_folder(Path(masks), self._title, "the PNGs that its annotations name")
        check_folder(Path(images), self._title, "the images")
        if not content.annotations:
            raise DatasetError(f"{self._title}: it has no annotations")
        twice = [i for i, n in Counter(a["image_id"] for a in content.annotations).items() if n > 1]
        if twice:
            raise DatasetError(
                f"{self._title}: image {twice[0]!r} has more than one annotation "
                f"({len(twice)} images have)"
            )
        used = {int(s["category_id"]) for a in content.annotations for s in a["segments_info"]}
        check_categories(self._title, content.categories, used, self.taxonomy)
        self._records = content.annotations
        self._masks = [Path(masks) / record["file_name"] for record in self._records]
        present = {file.name for file in Path(images).iterdir()}
        self._images = [
            Path(images) / _image_name(record, content.images, present) for record in self._records
        ]
        check_files([*self._images, *self._masks], self._title)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> PanopticSample:
        record = self._records[index]
        mask_file = self._masks[index]
        ids = read_ids(mask_file)
        segments = {int(s["id"]): s for s in record["segments_info"]}
        found = measure_segments(ids, VOID).ids
        strange = [int(i) for i in found if int(i) not in segments]
        if strange:
            raise DatasetError(
                f"{mask_file}: id {strange[0]} is in the picture but not in {self._title}"
            )
        classes = self.taxonomy.class_id_by_source
        class_ids = np.array(
            [classes[segments[int(i)]["category_id"]] for i in found], np.uint8
        ).reshape(-1)
        is_thing = self.taxonomy.is_thing[class_ids]
        instances = tuple(
            InstanceAnnotation(int(i), int(c), bool(segments[int(i)].get("iscrowd", 0)))
            for i, c, thing in zip(found, class_ids, is_thing, strict=True)
            if thing
        )
        kept = np.where(is_thing, found, 0).astype(np.int32)
        sample = PanopticSample(
            Path(record["file_name"]).stem,
            read_rgb(self._images[index]),
            map_ids(ids, found, class_ids, UNLABELLED),
            map_ids(ids, found, kept),
            instances,
            image_id=record["image_id"],
        )
        return resize_to_pixels(sample, self._pixels)


def open_coco(
    root: str | os.PathLike[str], split: str, taxonomy: Taxonomy | None = None
) -> CocoPanoptic:
    """COCO 2017 as it is unpacked: ``train2017``, ``annotations/panoptic_train2017.json`` and PNGs.

    Args:
        root: folder with ``train2017`` and ``val2017`` (or ``images/train2017``) and ``annotations``.
        split: ``train`` or ``val``.
        taxonomy: COCO's 133 classes for None.
    """
    base = Path(root)
    name = split if split.endswith("2017") else f"{split}2017"
    annotations = base / "annotations"
    images = first_folder([base / name, base / "images" / name])
    masks = first_folder([annotations / f"panoptic_{name}", base / f"panoptic_{name}"])
    return CocoPanoptic(
        annotations / f"panoptic_{name}.json", masks, images, taxonomy or Taxonomy.load("coco")
    )


def open_coco_panoptic(
    root: str | os.PathLike[str],
    split: str,
    taxonomy: Taxonomy | None = None,
    *,
    annotations: str = "",
    masks: str = "",
    images: str = "",
    pixels: int = 0,
) -> CocoPanoptic:
    """A folder in COCO's panoptic form.

    Args:
        root: holds ``panoptic_SPLIT.json``, its PNGs in ``panoptic_SPLIT`` and the images in ``SPLIT``, each
            either directly or in ``annotations`` and ``images``.
        split: its name.
        annotations, masks, images: where they are instead, relative to ``root``.
        pixels: see :class:`CocoPanoptic`.
    """
    base = Path(root)
    name = f"panoptic_{split}"
    json_file = next(
        (f for f in (base / f"{name}.json", base / "annotations" / f"{name}.json") if f.is_file()),
        base / f"{name}.json",
    )
    return CocoPanoptic(
        base / annotations if annotations else json_file,
        base / masks
        if masks
        else first_folder([json_file.parent / name, base / name, base / "annotations" / name]),
        base / images
        if images
        else first_folder([base / "images" / split, base / split, base / "images"]),
        taxonomy,
        pixels=pixels,
    )


def _image_name(
    record: Mapping[str, Any], images: Mapping[Any, Mapping[str, Any]], present: set[str]
) -> str:
    """File name of a record's image: as the JSON says, or the PNG's with an image's suffix."""
    listed = images.get(record["image_id"], {}).get("file_name")
    if isinstance(listed, str):
        return listed
    stem = Path(record["file_name"]).stem
    return next(
        (stem + suffix for suffix in _IMAGE_SUFFIXES if stem + suffix in present), f"{stem}.jpg"
    )
