"""Cityscapes as it is unpacked: ``leftImg8bit`` and ``gtFine`` in one folder, nothing prepared.

Panoptic labels are made on the fly from ``*_gtFine_instanceIds.png``, or taken from
``*_gtFine_panoptic.png`` where only those are there: both hold the same ids.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.augmentation import resize_sample
from rt_panoptic_core.datasets.files import (
    check_files,
    check_folder,
    listed,
    read_grey,
    read_labelled_rgb,
)
from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample
from rt_panoptic_core.errors import ConfigError, DatasetError
from rt_panoptic_core.id_maps import map_ids
from rt_panoptic_core.panoptic_format import measure_segments, read_ids, split_cityscapes_ids
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy
from rt_panoptic_core.wording import counted

_IMAGE_SUFFIX = "_leftImg8bit.png"
_LABEL_SUFFIX = "_gtFine_instanceIds.png"

_LAST_LABEL = 33
"""The largest label id of Cityscapes; ids from 1000 on are label · 1000 + instance."""

_VOID_THINGS = (29, 30)
"""Caravan and trailer: of no class, but with instances, which the benchmark's AP does not take for void."""


class Cityscapes:
    """One split of Cityscapes with fine annotations.

    Pixels of labels that are not in the taxonomy (caravan and trailer among them) are void. A region with
    a thing's label but no instance number is a group of things: a crowd region.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        taxonomy: Taxonomy | None = None,
        *,
        height: int = 0,
    ) -> None:
        """Find and check the files.

        Args:
            root: folder that holds ``leftImg8bit`` and ``gtFine``.
            split: ``train``, ``val`` or another folder of both.
            taxonomy: label set whose source ids are Cityscapes label ids; Cityscapes' 19 classes for None.
            height: resize everything to this height (512 is half size); 0 for the full size.

        Raises:
            DatasetError: folders or files are missing or no images; all are named.
            ConfigError: ``height`` is negative.
        """
        self.taxonomy = taxonomy or Taxonomy.load("cityscapes")
        if height < 0:
            raise ConfigError(f"Cityscapes: height {height}; it must be positive, or 0")
        self._height = height
        base = Path(root)
        images = base / "leftImg8bit" / split
        labels = base / "gtFine" / split
        title = f"Cityscapes {split}"
        check_folder(images, title, f"leftImg8bit_trainvaltest.zip's {split} images")
        check_folder(labels, title, f"gtFine_trainvaltest.zip's {split} labels")
        self.picture_files = sorted(images.glob(f"*/*{_IMAGE_SUFFIX}"))
        if not self.picture_files:
            raise DatasetError(f"{title}: {images} has no CITY/*{_IMAGE_SUFFIX}")
        panoptic = base / "gtFine" / f"cityscapes_panoptic_{split}"
        self._labels = [_label_file(image, labels, panoptic) for image in self.picture_files]
        check_files([*self.picture_files, *self._labels], title)
        self.notes = _notes(labels, self._labels)

    def __len__(self) -> int:
        return len(self.picture_files)

    def __getitem__(self, index: int) -> PanopticSample:
        image_file, label_file = self.picture_files[index], self._labels[index]
        if label_file.name.endswith("_panoptic.png"):
            ids = read_ids(label_file)
        else:
            ids = read_grey(label_file).astype(np.int32)
        found = measure_segments(ids, None).ids
        classes = self.taxonomy.class_id_by_source
        _check_labels(found, classes, label_file)
        things = [source for source, i in classes.items() if self.taxonomy.is_thing[i]]
        labels, _, crowd = split_cityscapes_ids(found, things)
        class_ids = np.array([classes.get(int(label), UNLABELLED) for label in labels], np.uint8)
        is_thing = self.taxonomy.is_thing[class_ids]
        instances = tuple(
            InstanceAnnotation(int(i), int(c), bool(group))
            for i, c, group, thing in zip(found, class_ids, crowd, is_thing, strict=True)
            if thing
        )
        kept = np.where(is_thing, found, 0).astype(np.int32)
        sample = PanopticSample(
            image_file.name.removesuffix(_IMAGE_SUFFIX),
            read_labelled_rgb(image_file, ids.shape, label_file),
            map_ids(ids, found, class_ids, UNLABELLED),
            map_ids(ids, found, kept),
            instances,
            unlabelled_things=_void_things(ids, found, classes),
        )
        full_height, full_width = sample.semantic.shape
        if self._height in (0, full_height):
            return sample
        size = (self._height, max(1, full_width * self._height // full_height))
        resized = resize_sample(sample, size)
        if sample.unlabelled_things is None:
            return resized
        mask = cv2.resize(
            sample.unlabelled_things.view(np.uint8),
            size[::-1],
            interpolation=cv2.INTER_NEAREST_EXACT,
        )
        return replace(resized, unlabelled_things=mask.astype(bool))


def open_cityscapes(
    root: str | os.PathLike[str],
    split: str,
    taxonomy: Taxonomy | None = None,
    *,
    height: int = 0,
) -> Cityscapes:
    """Cityscapes for :func:`~rt_panoptic_core.datasets.registry.open_dataset`."""
    return Cityscapes(root, split, taxonomy, height=height)


def _label_file(image: Path, labels: Path, panoptic: Path) -> Path:
    """Where the ids of an image are: instanceIds, or else the panoptic PNG, if that exists."""
    name = image.name.removesuffix(_IMAGE_SUFFIX)
    own = labels / image.parent.name / f"{name}{_LABEL_SUFFIX}"
    other = panoptic / f"{name}_gtFine_panoptic.png"
    return other if other.is_file() and not own.is_file() else own


def _notes(folder: Path, used: Sequence[Path]) -> list[str]:
    """A line about labels whose image is not there: the benchmark would count what they hold as missed."""
    alone = sorted(set(folder.glob(f"*/*{_LABEL_SUFFIX}")) - set(used))
    if not alone:
        return []
    return [
        f"{counted(len(alone), 'label map')} without an image CITY/NAME{_IMAGE_SUFFIX}, left out:"
        f"{listed([str(path) for path in alone])}"
    ]


def _check_labels(
    found: npt.NDArray[np.int64], classes: Mapping[int, int], label_file: Path
) -> None:
    """Accept ids whose labels Cityscapes or the label set has.

    Raises:
        DatasetError: there are others; the likely mistake is named.
    """
    labels = np.where(found >= 1000, found // 1000, found)
    strange = [
        int(label) for label in np.unique(labels[labels > _LAST_LABEL]) if label not in classes
    ]
    if strange:
        train_ids = "; these look like train ids" if strange == [UNLABELLED] else ""
        raise DatasetError(
            f"{label_file}: label {strange[0]}; Cityscapes' are 0 to {_LAST_LABEL}{train_ids}. What is read "
            f"here are the ids of NAME{_LABEL_SUFFIX}: label, or label * 1000 + instance"
        )


def _void_things(
    ids: npt.NDArray[np.int32], found: npt.NDArray[np.int64], classes: Mapping[int, int]
) -> npt.NDArray[np.bool_] | None:
    """Where the single caravans and trailers are; None where there are none, or the label set has them."""
    chosen = np.isin(found // 1000, [label for label in _VOID_THINGS if label not in classes])
    if not chosen.any():
        return None
    return map_ids(ids, found, chosen)
