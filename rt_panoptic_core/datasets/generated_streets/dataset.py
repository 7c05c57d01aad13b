"""Generated streets as a data set: every sample another street."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.layout import STREET_KINDS
from rt_panoptic_core.datasets.generated_streets.sequence import StreetSequence
from rt_panoptic_core.datasets.sample import PanopticDataset, PanopticSample
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy

_STRIDE = 1_000_000_007
"""Distance between the street seeds of neighbouring data set seeds: no two of them share a street."""


class GeneratedStreets:
    """``length`` pictures of different streets with exact labels; a PanopticDataset.

    Sample ``i`` depends on (seed, i, size) alone: the same bytes in every process and in any order.
    """

    def __init__(
        self,
        length: int,
        size: tuple[int, int] = (512, 1024),
        seed: int = 0,
        *,
        kind: str | None = None,
        depth: bool = True,
    ) -> None:
        """Describe the set; nothing is generated yet.

        Args:
            length: number of samples, from 1 to 1 000 000 000.
            size: (height, width) of the pictures.
            seed: sets with different seeds share no street; from 0.
            kind: all streets of one kind (see ``STREET_KINDS``), or drawn street by street.
            depth: whether samples have their depth map.

        Raises:
            DatasetError: an argument is out of range.
        """
        if (
            isinstance(length, bool)
            or not isinstance(length, int)
            or not 1 <= length <= 1_000_000_000
        ):
            raise DatasetError(
                f"length: {length!r}; it must be a whole number from 1 to 1000000000"
            )
        _check_seed(seed)
        if kind is not None and kind not in STREET_KINDS:
            raise DatasetError(f"kind: {kind!r}; one of {', '.join(STREET_KINDS)}")
        StreetSequence(0, size)  # checks the size
        self._length, self._seed, self._kind, self._depth = length, seed, kind, depth
        self._size = (int(size[0]), int(size[1]))

    @property
    def taxonomy(self) -> Taxonomy:
        """Cityscapes' 19 classes."""
        return labels.TAXONOMY

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> PanopticSample:
        """Sample ``index``.

        Raises:
            IndexError: ``index`` is outside [-length, length).
        """
        at = index + self._length if index < 0 else index
        if not 0 <= at < self._length:
            raise IndexError(f"sample {index} of {self._length} generated streets")
        street = self._seed * _STRIDE + at
        frame = next(iter(StreetSequence(street, self._size, kind=self._kind)))
        return PanopticSample(
            name=f"street_{self._seed}_{at:06d}",
            image=frame.image,
            semantic=frame.semantic,
            instance=np.asarray(frame.instance, dtype=np.int32),
            instances=frame.instances,
            has_instances=True,
            depth=frame.depth if self._depth else None,
        )


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise DatasetError(f"seed: {seed!r}; it must be a whole number from 0")


_SPLITS = ("train", "val", "test")


class _Relabelled:
    """Generated streets in another label set, by the names of the classes."""

    def __init__(self, streets: GeneratedStreets, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self._streets = streets
        self._classes: npt.NDArray[np.uint8] = np.full(256, UNLABELLED, dtype=np.uint8)
        for category in streets.taxonomy:
            if category.name in taxonomy.names:
                self._classes[category.class_id] = taxonomy.class_id(category.name)
        if (self._classes == UNLABELLED).all():
            raise DatasetError(
                f"taxonomy {taxonomy.name!r} shares no class name with Cityscapes, in whose classes streets "
                f"are generated: {', '.join(streets.taxonomy.names)}"
            )
        common = [name for name in streets.taxonomy.names if name in taxonomy.names]
        void = [name for name in streets.taxonomy.names if name not in taxonomy.names]
        self.notes = []
        if void:
            self.notes.append(
                f"of the streets' classes taxonomy {taxonomy.name!r} has {', '.join(common)}; the others are "
                f"void, neither learnt nor measured: {', '.join(void)}"
            )

    def __len__(self) -> int:
        return len(self._streets)

    def __getitem__(self, index: int) -> PanopticSample:
        sample = self._streets[index]
        things = self.taxonomy.is_thing
        kept = []
        for annotation in sample.instances:
            class_id = int(self._classes[annotation.class_id])
            if things[class_id]:
                kept.append(replace(annotation, class_id=class_id))
        instance = np.where(np.isin(sample.instance, [a.id for a in kept]), sample.instance, 0)
        return replace(
            sample,
            semantic=self._classes[sample.semantic],
            instance=instance.astype(np.int32),
            instances=tuple(kept),
        )


def open_generated_streets(
    root: str | os.PathLike[str] | None = None,
    split: str = "train",
    taxonomy: Taxonomy | None = None,
    *,
    length: int = 10000,
    size: Sequence[int] = (512, 1024),
    seed: int = 0,
    street_kind: str | None = None,
    depth: bool = False,
) -> PanopticDataset:
    """Generated streets for training (``train``), or others for measuring (``val``, ``test``).

    Args:
        root: not used, as there are no files.
        split: the splits share no street, whatever their seeds.
        taxonomy: a class of it with the name of a Cityscapes class is labelled, the rest is void, which
            the data set's ``notes`` say.
        length, size, seed, street_kind, depth: as ``length``, ``size``, ``seed``, ``kind`` and ``depth`` of
            :class:`GeneratedStreets`.

    Raises:
        DatasetError: an argument is out of range, or the taxonomy has none of the classes.
    """
    del root
    if split not in _SPLITS:
        raise DatasetError(f"generated streets, split {split!r}: one of {', '.join(_SPLITS)}")
    # Here too, for it is told as it was given.
    _check_seed(seed)
    height_width = tuple(size)
    if len(height_width) != 2:
        raise DatasetError(f"size: {size!r}; it must be (height, width)")
    streets = GeneratedStreets(
        length,
        (height_width[0], height_width[1]),
        seed * len(_SPLITS) + _SPLITS.index(split),
        kind=street_kind,
        depth=depth,
    )
    if taxonomy is None or taxonomy == streets.taxonomy:
        return streets
    return _Relabelled(streets, taxonomy)
