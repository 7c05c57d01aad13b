"""CamVid: real street frames with semantic labels and no instances.

``ROOT/{train,val}/images/NAME.jpg`` (or ``.png``) and ``ROOT/{train,val}/labels/NAME.png``, one byte a pixel:
0 … 10 as in ``taxonomies/camvid.yaml``, 11 unlabelled.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.files import read_grey, read_labelled_rgb
from rt_panoptic_core.datasets.sample import PanopticSample
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy
from rt_panoptic_core.wording import counted

# CamVid class -> Cityscapes class that its pixels teach. CamVid's cars include trucks and buses, its
# bicyclists their bicycles: they teach the class that nearly all of them are.
_TO_CITYSCAPES = {
    "sky": "sky",
    "building": "building",
    "pole": "pole",
    "road": "road",
    "pavement": "sidewalk",
    "tree": "vegetation",
    "sign": "traffic sign",
    "fence": "fence",
    "car": "car",
    "pedestrian": "person",
    "bicyclist": "rider",
}

# Cityscapes class -> CamVid class that a prediction of it counts as. CamVid's grouping puts walls with
# buildings, traffic lights with signs, and all that is green with trees.
_FROM_CITYSCAPES = {
    **{cityscapes: camvid for camvid, cityscapes in _TO_CITYSCAPES.items()},
    "wall": "building",
    "traffic light": "sign",
    "terrain": "tree",
    "truck": "car",
    "bus": "car",
    "train": "car",
    "motorcycle": "bicyclist",
    "bicycle": "bicyclist",
}

_UNLABELLED_BYTE = 11

_SUFFIXES = (".jpg", ".jpeg", ".png")


def prediction_table(taxonomy: Taxonomy) -> npt.NDArray[np.uint8]:
    """uint8 [256]: CamVid class id that a predicted class id of ``taxonomy`` counts as, 255 for none.

    For models of CamVid's own classes it is the identity, for others it goes by Cityscapes' class names.
    """
    camvid = Taxonomy.load("camvid")
    table = np.full(256, UNLABELLED, dtype=np.uint8)
    for category in taxonomy:
        name = category.name
        if name not in camvid.names:
            name = _FROM_CITYSCAPES.get(name, "")
        if name:
            table[category.class_id] = camvid.class_id(name)
    return table


class CamVid:
    """Frames of one split in order of their names; every sample has ``has_instances`` False."""

    def __init__(self, files: list[tuple[Path, Path]], taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self._files = files
        camvid = Taxonomy.load("camvid")
        self._classes = np.full(256, UNLABELLED, dtype=np.uint8)
        for category in camvid:
            name = category.name
            if name not in taxonomy.names:
                name = _TO_CITYSCAPES[name]
            if name in taxonomy.names:
                self._classes[category.source_id] = taxonomy.class_id(name)

    @property
    def counts_as(self) -> npt.NDArray[np.uint8]:
        """uint8 [256]: class id that a predicted one is compared as: CamVid calls a truck a car."""
        table = prediction_table(self.taxonomy)
        return np.where(table == UNLABELLED, UNLABELLED, self._classes[table]).astype(np.uint8)

    @property
    def picture_files(self) -> list[Path]:
        """The file of each sample's image."""
        return [image for image, _ in self._files]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> PanopticSample:
        """Sample ``index``.

        Raises:
            DatasetError: a file cannot be decoded, sizes differ, or a label is none of CamVid's.
        """
        image_path, label_path = self._files[index]
        labels = read_grey(label_path)
        if labels.dtype != np.uint8:
            raise DatasetError(f"{label_path}: {labels.dtype}; it must be one byte a pixel")
        height, width = labels.shape
        image = read_labelled_rgb(image_path, (height, width), label_path)
        strange = labels[(labels > _UNLABELLED_BYTE) & (labels != UNLABELLED)]
        if strange.size:
            raise DatasetError(
                f"{label_path}: label {strange[0]}; CamVid's are 0 to {_UNLABELLED_BYTE}, or "
                f"{UNLABELLED} for what has none"
            )
        return PanopticSample(
            name=image_path.stem,
            image=image,
            semantic=self._classes[labels],
            instance=np.zeros(labels.shape, dtype=np.int32),
            has_instances=False,
        )


def open_camvid(
    root: str | os.PathLike[str] | None, split: str = "train", taxonomy: Taxonomy | None = None
) -> CamVid:
    """CamVid's ``split`` under ``root``, in its own 11 classes or in those of ``taxonomy``.

    Raises:
        DatasetError: the folder has no images, or images without labels; all of them are named.
    """
    folder = Path(root or ".") / split
    images = {
        path.stem: path
        for path in sorted((folder / "images").glob("*"))
        if path.suffix.lower() in _SUFFIXES
    }
    if not images:
        raise DatasetError(
            f"{folder / 'images'}: no {' or '.join(_SUFFIXES)} there; is it CamVid's folder?"
        )
    pairs = [(path, folder / "labels" / f"{stem}.png") for stem, path in images.items()]
    missing = [str(label) for _, label in pairs if not label.is_file()]
    if missing:
        raise DatasetError(
            f"{folder}: {counted(len(missing), 'picture')} without a label map: {', '.join(missing)}"
        )
    return CamVid(pairs, taxonomy or Taxonomy.load("camvid"))
