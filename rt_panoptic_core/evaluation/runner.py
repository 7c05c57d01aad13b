"""Running a model over a data set."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.sample import PanopticDataset, PanopticSample, check_sizes
from rt_panoptic_core.errors import DatasetError, ImageError, TaxonomyError
from rt_panoptic_core.evaluation.evaluation import Evaluation
from rt_panoptic_core.evaluation.frame import Frame, compared_as
from rt_panoptic_core.evaluation.record import FrameRecord
from rt_panoptic_core.inference.result import Detections, PanopticResult
from rt_panoptic_core.taxonomy import Taxonomy

_AHEAD = 3


class Model(Protocol):
    """What can be evaluated: a Segmenter, or anything that answers as one does."""

    @property
    def taxonomy(self) -> Taxonomy:
        """The label set of the results."""

    def segment(self, image: npt.NDArray[np.uint8]) -> PanopticResult:
        """Result for ``image``, uint8 [H, W, 3] RGB, in its size."""


@dataclass(frozen=True)
class EvaluatedFrame:
    """A frame that has been counted, for those who want to see it: pictures, a film.

    Attributes:
        frame: truth and prediction.
        record: what was counted.
        image_id: what the data set's own files call it, where that is not the record's name.
        index: of its sample, where it is one of a data set's.
    """

    frame: Frame
    record: FrameRecord
    image_id: int | str | None = None
    index: int | None = None


def evaluate(
    model: Model,
    dataset: PanopticDataset,
    evaluation: Evaluation,
    *,
    indices: Sequence[int] | None = None,
    detect: Callable[[npt.NDArray[np.uint8]], Detections] | None = None,
    overlap: bool = False,
    on_frame: Callable[[EvaluatedFrame], None] | None = None,
) -> list[str]:
    """Run ``model`` over ``dataset`` and count every frame into ``evaluation``.

    The latency of a frame is the time of ``model.segment`` alone. The first image of each size, and every one
    for which the model is not ready, goes through it once before it is timed: engines are built, opened and
    warmed by it.

    Args:
        model: a Segmenter, or what answers as one; where it has ``is_ready`` as a Segmenter has, that tells
            when an image is not answered at once.
        dataset: in the model's label set. Where it tells fewer classes apart than the model, its
            ``counts_as`` (uint8 [256]) says as what a predicted class is compared.
        evaluation: counts; frames are added to it in the order of ``indices``.
        indices: samples to take; None for all, in the data set's order.
        detect: gives instances with whole masks for AP; the panoptic result's for None.
        overlap: read the next samples and count the last one while the model runs. Right where the
            model runs on a GPU; on a CPU it would take the cores that are being timed.
        on_frame: called with every counted frame, in order.

    Returns:
        What was wrong with each sample that could not be read or counted; those are left out.

    Raises:
        TaxonomyError: the data set has other classes than the model.
    """
    if dataset.taxonomy != model.taxonomy:
        raise TaxonomyError(
            f"the data set's label set is {dataset.taxonomy.name!r} ({len(dataset.taxonomy)} "
            f"classes), the model's is {model.taxonomy.name!r} ({len(model.taxonomy)} classes); "
            "they must be the same: open the data set with the model's taxonomy"
        )
    order = range(len(dataset)) if indices is None else indices
    counts_as = getattr(dataset, "counts_as", None)
    is_ready = getattr(model, "is_ready", lambda _: True)
    problems: list[str] = []
    warmed: set[tuple[int, int]] = set()
    counted: deque[Future[None]] = deque()

    def count(
        index: int,
        sample: PanopticSample,
        result: PanopticResult,
        found: Detections | None,
        latency_ms: float,
    ) -> None:
        try:
            frame = Frame.of(sample, compared_as(result, counts_as), evaluation.taxonomy)
            record = evaluation.update(frame, detections=found, latency_ms=latency_ms)
        except (DatasetError, ImageError) as error:
            problems.append(str(error))
            return
        if on_frame is not None:
            on_frame(EvaluatedFrame(frame, record, sample.image_id, index))

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as counter:
        samples = _read(dataset, order, reader if overlap else None, problems)
        try:
            for index, sample in samples:
                height, width = sample.image.shape[:2]
                if (height, width) not in warmed or not is_ready((height, width)):
                    model.segment(sample.image)
                    warmed.add((height, width))
                start = time.perf_counter()
                result = model.segment(sample.image)
                latency_ms = (time.perf_counter() - start) * 1e3
                found = None if detect is None else detect(sample.image)
                if not overlap:
                    count(index, sample, result, found, latency_ms)
                    continue
                counted.append(counter.submit(count, index, sample, result, found, latency_ms))
                if len(counted) > _AHEAD:
                    counted.popleft().result()
            while counted:
                counted.popleft().result()
        except BaseException:
            reader.shutdown(wait=False, cancel_futures=True)
            counter.shutdown(wait=False, cancel_futures=True)
            raise
    return problems


def _read(
    dataset: PanopticDataset,
    order: Sequence[int],
    reader: ThreadPoolExecutor | None,
    problems: list[str],
) -> Iterator[tuple[int, PanopticSample]]:
    """Indices and samples in order, read ahead by ``reader``; what cannot be read goes to ``problems``."""

    def read(index: int) -> PanopticSample | None:
        try:
            sample = dataset[index]
            check_sizes(sample)
            return sample
        except (DatasetError, ImageError) as error:
            problems.append(str(error))
            return None

    if reader is None:
        for index in order:
            sample = read(index)
            if sample is not None:
                yield index, sample
        return
    pending: deque[tuple[int, Future[PanopticSample | None]]] = deque()

    def oldest() -> Iterator[tuple[int, PanopticSample]]:
        index, future = pending.popleft()
        sample = future.result()
        if sample is not None:
            yield index, sample

    for index in order:
        pending.append((index, reader.submit(read, index)))
        if len(pending) > _AHEAD:
            yield from oldest()
    while pending:
        yield from oldest()
