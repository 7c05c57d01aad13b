"""COCO panoptic, and any folder in its form: images, id PNGs and one JSON a split."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from rt_panoptic_core.datasets.augmentation import check_pixels, resize_to_pixels
from rt_panoptic_core.datasets.categories import check_categories
from rt_panoptic_core.datasets.files import (
    check_files,
    check_folder,
    first_folder,
    listed,
    read_labelled_rgb,
)
from rt_panoptic_core.datasets.json_images import (
    found_files,
    no_such_image,
    other_form,
    written_names,
)
from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.id_maps import map_ids
from rt_panoptic_core.panoptic_format import (
    VOID,
    image_name,
    measure_segments,
    read_annotations,
    read_ids,
    taxonomy_of_categories,
)
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy
from rt_panoptic_core.wording import counted

_IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg", ".ppm", ".pgm")
_NAMED_IDS = 10


class CocoPanoptic:
    """A panoptic JSON with its id PNGs and images."""

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        masks: str | os.PathLike[str],
        images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        taxonomy: Taxonomy | None = None,
        *,
        pixels: int = 0,
    ) -> None:
        """Read the JSON and check the files.

        Args:
            annotations: the JSON.
            masks: folder of the PNGs that it names.
            images: folder of the images, or several that they may be in; they are in the first that has one
                of them. Absolute names are taken as they are.
            taxonomy: label set whose source ids are the JSON's category ids; the JSON's own categories,
                things first, for None.
            pixels: resize samples to about so many, as a model with that number in its header has images
                resized; 0 for as they are.

        Raises:
            DatasetError: files are missing or no images (all are named), or the JSON is malformed.
            ConfigError: ``pixels`` is negative.
        """
        content = read_annotations(annotations)
        self._title = str(content.path)
        check_pixels(self._title, pixels)
        self._pixels = pixels
        self.taxonomy = taxonomy or taxonomy_of_categories(
            list(content.categories.values()), content.path.stem
        )
        check_folder(Path(masks), self._title, "the PNGs that its annotations name")
        if not content.annotations:
            raise DatasetError(f"{self._title}: it has no annotations")
        twice = [i for i, n in Counter(a["image_id"] for a in content.annotations).items() if n > 1]
        if twice:
            named = [f"image {image_id!r} has more than one annotation" for image_id in twice]
            raise DatasetError(
                f"{self._title}: all segments of an image belong in one annotation:{listed(named)}"
            )
        _check_image_ids(self._title, content.annotations, content.images)
        _check_segments(self._title, content.annotations)
        used = {int(s["category_id"]) for a in content.annotations for s in a["segments_info"]}
        check_categories(self._title, content.categories, used, self.taxonomy)
        self._records = content.annotations
        pngs = [written_names(record["file_name"]) for record in self._records]
        self._masks = found_files(pngs, [Path(masks)]) or [Path(masks) / names[0] for names in pngs]
        folders = [images] if isinstance(images, str | os.PathLike) else images
        self.picture_files = _image_files(
            self._records, content.images, [Path(folder) for folder in folders], self._title
        )
        check_files([*self.picture_files, *self._masks], self._title)
        annotated = {record["image_id"] for record in self._records}
        bare = len(content.images.keys() - annotated)
        unlisted = len(annotated - content.images.keys()) if content.images else 0
        self.notes = []
        if bare:
            self.notes.append(f"{counted(bare, 'image')} of the JSON without annotation, left out")
        if unlisted:
            one, several = "annotation of an image that is", "annotations of images that are"
            self.notes.append(
                f"{counted(unlisted, one, several)} not in the JSON's 'images', found by the PNG's name"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> PanopticSample:
        record = self._records[index]
        mask_file = self._masks[index]
        ids = read_ids(mask_file)
        segments = {int(s["id"]): s for s in record["segments_info"]}
        found = measure_segments(ids, VOID).ids
        self._check_ids(record, mask_file, set(found.tolist()))
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
            image_name(record),
            read_labelled_rgb(self.picture_files[index], ids.shape, mask_file),
            map_ids(ids, found, class_ids, UNLABELLED),
            map_ids(ids, found, kept),
            instances,
            image_id=record["image_id"],
        )
        return resize_to_pixels(sample, self._pixels)

    def _check_ids(self, record: Mapping[str, Any], mask_file: Path, found: set[int]) -> None:
        """Accept a PNG with the ids ``found`` if they are those of the segments that are listed for it."""
        ids = {int(segment["id"]) for segment in record["segments_info"]}
        image = f"image {record['image_id']!r}"
        if found - ids:
            raise DatasetError(
                f"{mask_file}: {_ids(found - ids)} in the picture but not in the segments of {image} "
                f"in {self._title}"
            )
        if ids - found:
            raise DatasetError(
                f"{self._title}: {image}: {_ids(ids - found)} listed but not in {mask_file}"
            )


def open_coco(
    root: str | os.PathLike[str], split: str, taxonomy: Taxonomy | None = None
) -> CocoPanoptic:
    """COCO 2017 as it is unpacked: ``train2017``, ``annotations/panoptic_train2017.json`` and PNGs.

    Args:
        root: folder with ``train2017`` and ``val2017`` (or ``images/train2017``) and ``annotations``.
        split: ``train`` or ``val``; with a year at its end (``val2014``) it is taken as it is.
        taxonomy: COCO's 133 classes for None.
    """
    base = Path(root)
    name = split if re.search(r"[0-9]{4}$", split) else f"{split}2017"
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
            either directly or in ``annotations`` and ``images``; names in the JSON may also count from here.
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
        base / images if images else [base / "images" / split, base / split, base / "images", base],
        taxonomy,
        pixels=pixels,
    )


def _image_files(
    records: Sequence[Mapping[str, Any]],
    images: Mapping[Any, Mapping[str, Any]],
    folders: Sequence[Path],
    title: str,
) -> list[Path]:
    """The image's file of each record, in the first of ``folders`` that has one of them.

    Raises:
        DatasetError: none has, and the first is no folder.
    """
    pictures = [_image_names(record, images) for record in records]
    files = found_files(pictures, folders)
    if files is not None:
        return files
    others = ", ".join(str(folder) for folder in folders[1:])
    check_folder(
        folders[0], title, "the images" + (f"; nor are they in {others}" if others else "")
    )
    return [folders[0] / names[0] for names in pictures]


def _image_names(
    record: Mapping[str, Any], images: Mapping[Any, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Names that a record's image may have: as the JSON says, or the PNG's with an image's suffix."""
    named = images.get(record["image_id"], {}).get("file_name")
    if isinstance(named, str):
        return written_names(named)
    stem = PurePosixPath(written_names(record["file_name"])[-1]).stem
    return tuple(stem + suffix for suffix in _IMAGE_SUFFIXES)


def _check_image_ids(
    title: str, annotations: Sequence[Mapping[str, Any]], images: Mapping[Any, Any]
) -> None:
    """Refuse annotations whose image is listed with a number for their text, or a text for their number."""
    problems = [
        f"annotations[{place}]: {no_such_image(annotation['image_id'], images)}"
        for place, annotation in enumerate(annotations)
        if annotation["image_id"] not in images
        and other_form(annotation["image_id"], images) is not None
    ]
    if problems:
        raise DatasetError(
            f"{title}: {counted(len(problems), 'entry', 'entries')} cannot be used:{listed(problems)}"
        )


def _check_segments(title: str, annotations: Sequence[Mapping[str, Any]]) -> None:
    """Refuse annotations that list an id twice, so that its class is in doubt, or that of void."""
    problems = []
    for annotation in annotations:
        ids = [segment["id"] for segment in annotation["segments_info"]]
        if len(set(ids)) < len(ids):
            twice = [number for number, count in Counter(ids).items() if count > 1]
            problems.append(
                f"image {annotation['image_id']!r}: {_ids(twice)} listed more than once"
            )
        if VOID in ids:
            problems.append(
                f"image {annotation['image_id']!r}: id {VOID} is listed, but it is void"
            )
    if problems:
        raise DatasetError(
            f"{title}: every segment of an image needs an id of its own:{listed(problems)}"
        )


def _ids(numbers: Iterable[int]) -> str:
    """``id 3 is``, ``ids 3, 4 are``: the first few of them."""
    ordered = sorted(numbers)
    named = ", ".join(str(number) for number in ordered[:_NAMED_IDS])
    more = f" and {len(ordered) - _NAMED_IDS} more" if len(ordered) > _NAMED_IDS else ""
    return f"id {named} is" if len(ordered) == 1 else f"ids {named}{more} are"
