"""Mean intersection over union of classes, whatever instance a pixel belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import ImageError, TaxonomyError
from rt_panoptic_core.evaluation.overlaps import overlaps

if TYPE_CHECKING:
    from rt_panoptic_core.taxonomy import Taxonomy


@dataclass(frozen=True)
class SemanticIoUResult:
    """Semantic quality, in [0, 1].

    Attributes:
        mean_iou: mean over the classes with any pixel on either side; nan where there is none.
        pixel_accuracy: share of the labelled pixels whose class is right.
        per_class: float64 [C]; nan for a class without a pixel on either side.
        confusion: int64 [C, C + 1], pixels by true class and predicted class; the last column counts
            pixels that were left unlabelled.
    """

    mean_iou: float
    pixel_accuracy: float
    per_class: npt.NDArray[np.float64]
    confusion: npt.NDArray[np.int64]


class SemanticIoU:
    """Semantic IoU over a stream of images: IoU = tp / (tp + fp + fn) in pixels of all images together.

    As the Cityscapes evaluation: pixels that the truth leaves unlabelled count nowhere; a pixel that
    the prediction leaves unlabelled is a false negative of its true class and nobody's false positive.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = tuple(class_names)
        self.reset()

    @classmethod
    def for_taxonomy(cls, taxonomy: Taxonomy) -> SemanticIoU:
        """IoU over the classes of ``taxonomy``."""
        return cls(taxonomy.names)

    def reset(self) -> None:
        """Forget everything counted."""
        classes = len(self.class_names)
        self._counted = np.zeros((classes, classes + 1), dtype=np.int64)
        # What add_pairs counted besides: an image adds to a few places, where arrays are slow.
        self._pairs: dict[tuple[int, int], int] = {}

    def update(
        self, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.int64]:
        """Count one image and return its own confusion, int64 [C, C + 1].

        Args:
            truth: uint8 [H, W], class ids; 255 is void.
            predicted: uint8 [H, W], class ids; 255 is unlabelled.

        Raises:
            ImageError: two sizes, or a class id that there is not.
        """
        # Here, for scoring files needs no taxonomy, and its YAML takes a while to import.
        from rt_panoptic_core.taxonomy import UNLABELLED

        if truth.shape != predicted.shape:
            raise ImageError(f"truth of shape {truth.shape}, prediction of {predicted.shape}")
        classes = len(self.class_names)
        shared = overlaps(truth, predicted)
        for side, ids in (("truth", shared.truth_ids), ("prediction", shared.predicted_ids)):
            strange = ids[(ids >= classes) & (ids != UNLABELLED)]
            if len(strange):
                raise ImageError(f"{side}: class id {int(strange[0])}; there are {classes} classes")
        labelled = shared.truth_ids != UNLABELLED
        confusion = np.zeros_like(self._counted)
        columns = np.minimum(shared.predicted_ids[labelled], classes)
        confusion[shared.truth_ids[labelled], columns] = shared.pixels[labelled]
        self._counted += confusion
        return confusion

    def add_pairs(self, pixels: Mapping[tuple[int, int], int]) -> dict[int, tuple[int, int, int]]:
        """Count pixels by ``(true class, predicted class)`` and return them as :func:`class_pixels` does.

        Args:
            pixels: C stands for unlabelled in the prediction; pixels that the truth leaves unlabelled are
                not in it.
        """
        unlabelled = len(self.class_names)
        pairs = self._pairs
        tp: dict[int, int] = {}
        fp: dict[int, int] = {}
        fn: dict[int, int] = {}
        for pair, count in pixels.items():
            pairs[pair] = pairs.get(pair, 0) + count
            true, guess = pair
            if true == guess:
                tp[true] = count
                continue
            fn[true] = fn.get(true, 0) + count
            if guess != unlabelled:
                fp[guess] = fp.get(guess, 0) + count
        return {
            key: (tp.get(key, 0), fp.get(key, 0), fn.get(key, 0))
            for key in sorted(tp.keys() | fp.keys() | fn.keys())
        }

    def merge(self, other: SemanticIoU) -> None:
        """Add all that ``other`` counted.

        Raises:
            TaxonomyError: ``other`` counts other classes.
        """
        if self.class_names != other.class_names:
            raise TaxonomyError("semantic IoU over other classes cannot be merged into this one")
        self._counted += other._confusion()

    def result(self) -> SemanticIoUResult:
        """Semantic IoU of all that was counted."""
        confusion = self._confusion()
        tp = np.diagonal(confusion)[: len(self.class_names)].astype(np.float64)
        pixels = confusion.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            union = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - tp
            per_class = np.where(union > 0, tp / union, np.nan)
            accuracy = float(tp.sum() / pixels) if pixels else float("nan")
        counted = per_class[~np.isnan(per_class)]
        mean = float(counted.mean()) if len(counted) else float("nan")
        return SemanticIoUResult(mean, accuracy, per_class, confusion)

    def _confusion(self) -> npt.NDArray[np.int64]:
        confusion = self._counted.copy()
        for pair, count in self._pairs.items():
            confusion[pair] += count
        return confusion


def class_pixels(confusion: npt.NDArray[np.int64]) -> dict[int, tuple[int, int, int]]:
    """``(tp, fp, fn)`` in pixels by class id, from a confusion [C, C + 1]; classes with any only."""
    tp = np.diagonal(confusion)
    fn = confusion.sum(axis=1) - tp
    fp = confusion[:, :-1].sum(axis=0) - tp
    return {
        int(class_id): (int(tp[class_id]), int(fp[class_id]), int(fn[class_id]))
        for class_id in np.flatnonzero(tp + fp + fn)
    }
