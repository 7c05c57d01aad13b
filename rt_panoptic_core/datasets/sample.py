"""What every data set yields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.taxonomy import Taxonomy


@dataclass(frozen=True)
class InstanceAnnotation:
    """One annotated instance: its id in the instance map, its class, and whether it is a crowd region."""

    id: int
    class_id: int
    is_crowd: bool = False


@dataclass(frozen=True)
class PanopticSample:
    """An image with its annotation.

    Attributes:
        name: unique in its data set, without a suffix (``frankfurt_000000_000294``).
        image: uint8 [H, W, 3], RGB.
        semantic: uint8 [H, W], class id; 255 is void and counts in no loss and no measure.
        instance: int32 [H, W], instance id; 0 for stuff, void, and things without an id.
        instances: the instances, crowd regions among them; every id occurs in ``instance``.
        has_instances: False where the data has semantics only: then things teach and measure semantics
            and nothing else.
        depth: float32 [H, W] metres along the optical axis (inf for sky), where the data has it.
        image_id: what the data set's own files call the image, where that is not ``name``.
        unlabelled_things: bool [H, W], single things of classes beyond the label set, where there are any:
            void, but to an instance AP whose benchmark takes predictions there for false (Cityscapes'
            caravans and trailers).
    """

    name: str
    image: npt.NDArray[np.uint8]
    semantic: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32]
    instances: tuple[InstanceAnnotation, ...] = ()
    has_instances: bool = True
    depth: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    image_id: int | str | None = None
    unlabelled_things: npt.NDArray[np.bool_] | None = field(default=None, repr=False)


class PanopticDataset(Protocol):
    """A finite, indexable data set; ``__getitem__`` may be called from several processes at once."""

    @property
    def taxonomy(self) -> Taxonomy:
        """The label set that ``semantic`` and ``InstanceAnnotation.class_id`` refer to."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int) -> PanopticSample:
        """Sample ``index`` in [0, len)."""


def notes_of(dataset: PanopticDataset) -> list[str]:
    """What a data set says of itself, a sentence each: what it leaves out, and what may not be meant."""
    return list(getattr(dataset, "notes", ()))


def picture_files_of(dataset: PanopticDataset) -> Sequence[Path] | None:
    """The file of each sample's image; None where samples are made, or kept in a cache."""
    files: Sequence[Path] | None = getattr(dataset, "picture_files", None)
    return files


def check_sizes(sample: PanopticSample) -> None:
    """Accept ``sample`` if its label maps have the image's size.

    Raises:
        DatasetError: they have another; the sample and the sizes are named.
    """
    shape = sample.image.shape[:2]
    if sample.semantic.shape != shape or sample.instance.shape != shape:
        raise DatasetError(
            f"{sample.name}: the image is {shape[1]}x{shape[0]}, its semantic map "
            f"{sample.semantic.shape[1]}x{sample.semantic.shape[0]}, its instance map "
            f"{sample.instance.shape[1]}x{sample.instance.shape[0]}; they must be of one size"
        )


def present_ids(instance: npt.NDArray[np.integer[Any]]) -> set[int]:
    """The ids in an instance map, 0 among them where something has none.

    Neighbours mostly have one id: one of each run is looked at, in a fraction of the time.
    """
    flat = instance.reshape(-1)
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    return {*np.unique(flat[starts]).tolist(), *flat[-1:].tolist()}
