"""Data sets, workers and batches of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader, Dataset

from rt_panoptic_core.datasets.augmentation import AugmentationConfig, augment
from rt_panoptic_core.datasets.batch import (
    EncodedSample,
    TrainingBatch,
    collate,
    encode_sample,
)
from rt_panoptic_core.datasets.cache import CachedDataset
from rt_panoptic_core.datasets.registry import open_dataset
from rt_panoptic_core.datasets.sample import PanopticDataset, PanopticSample, check_sizes
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.panoptic_format import measure_segments
from rt_panoptic_core.resources import cpu_threads
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.configuration import DataConfig, SourceConfig, TrainingConfig
from rt_panoptic_core.training.interruption import leave_signals_to_the_run
from rt_panoptic_core.training.output_folder import leave_the_folder_to_the_run
from rt_panoptic_core.training.sampler import Draw, EvaluationSampler, MixtureSampler


class TrainingSamples(Dataset[EncodedSample]):
    """Augmented and encoded samples of a mixture, by :class:`Draw`.

    A draw's random choices come from the seed and the draw's number: the same draw is the same picture,
    in whichever worker and run it is made. Of each source its first samples are drawn from, as many as
    ``lengths`` says.
    """

    def __init__(
        self,
        sources: Sequence[PanopticDataset],
        lengths: Sequence[int],
        taxonomy: Taxonomy,
        augmentation: AugmentationConfig,
        *,
        seed: int,
        boxes_only: bool = False,
    ) -> None:
        self.sources = tuple(sources)
        self.lengths = tuple(lengths)
        self.taxonomy = taxonomy
        self.augmentation = augmentation
        self.seed = seed
        self.boxes_only = boxes_only

    def __len__(self) -> int:
        return sum(self.lengths)

    def __getitem__(self, draw: Draw) -> EncodedSample:
        source, length = self.sources[draw.source], self.lengths[draw.source]
        sample = _sample(source, draw.index)
        rng = np.random.default_rng([self.seed, 2, draw.number])
        boxes = _boxes(sample) if self.boxes_only else None

        def other(generator: np.random.Generator) -> PanopticSample:
            return _sample(source, int(generator.integers(length)))

        if boxes is None:
            sample, _ = augment(sample, self.augmentation, rng, other=other)
        else:
            sample, boxes = augment(sample, self.augmentation, rng, boxes)
        return encode_sample(sample, self.taxonomy, boxes_only=self.boxes_only, boxes=boxes)


def _sample(source: PanopticDataset, index: int) -> PanopticSample:
    """A sample whose maps have one size: cutting a window out of it would make them so, and wrong."""
    sample = source[index]
    check_sizes(sample)
    return sample


class EvaluationSamples(Dataset[PanopticSample]):
    """A data set as it is, its first ``limit`` samples (0 for all)."""

    def __init__(self, source: PanopticDataset, limit: int = 0) -> None:
        self.source = source
        self._length = min(len(source), limit) if limit else len(source)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> PanopticSample:
        return self.source[index]


def open_sources(
    data: DataConfig, sources: Sequence[SourceConfig], taxonomy: Taxonomy
) -> list[PanopticDataset]:
    """The data sets of ``sources``; what is wrong with any of them is told at once.

    Raises:
        DatasetError: files are missing or unreadable in one or more of them.
        ConfigError: a folder is not set, a kind or option is unknown.
    """
    opened: list[PanopticDataset] = []
    problems: list[str] = []
    for source in sources:
        root = data.root_of(source)
        try:
            dataset = open_dataset(source.kind, root, source.split, taxonomy, **source.options)
        except DatasetError as error:
            problems.append(str(error))
            continue
        if len(dataset) == 0:
            problems.append(f"{source.label}: no samples in {root or 'it'} ({source.split})")
        if data.cache and source.cached:
            identity: dict[str, Any] = {"kind": source.kind, "root": root, "split": source.split}
            identity |= {"taxonomy": taxonomy.to_dict(), "options": source.options}
            dataset = CachedDataset(dataset, data.cache, identity)
        opened.append(dataset)
    if problems:
        raise DatasetError("\n".join(problems))
    return opened


class PanopticDataModule(L.LightningDataModule):
    """Training mixture and validation sets of a run, for one process or many."""

    def __init__(self, config: TrainingConfig, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.config = config
        self.taxonomy = taxonomy
        # Opened here and not in setup(): whatever is wrong with the files is told before anything starts.
        self.training_sets = open_sources(config.data, config.data.train, taxonomy)
        self.validation_sets = open_sources(config.data, config.data.validation, taxonomy)
        self.train_lengths = _lengths(self.training_sets, config.data.train)
        self._loaders: list[DataLoader[Any]] = []
        self.validation_lengths = _lengths(self.validation_sets, config.data.validation)

    def train_dataloader(self) -> DataLoader[EncodedSample]:
        """Batches from the first one that is not done yet to the run's last."""
        config, trainer = self.config, self.trainer
        world = trainer.world_size if trainer else 1
        each = config.optimization.batch_size * config.optimization.accumulate * world
        done = trainer.global_step if trainer else 0
        sampler = MixtureSampler(
            self.train_lengths,
            [source.weight for source in config.data.train],
            config.optimization.steps * each,
            seed=config.seed,
            start=done * each,
            rank=trainer.global_rank if trainer else 0,
            world_size=world,
        )
        samples = TrainingSamples(
            self.training_sets,
            self.train_lengths,
            self.taxonomy,
            config.augmentation,
            seed=config.seed,
            boxes_only=config.losses.supervision == "boxes",
        )
        loader = DataLoader(
            samples,
            batch_size=config.optimization.batch_size,
            sampler=sampler,
            collate_fn=collate_batch,
            drop_last=True,
            **self._workers(),
        )
        self._loaders.append(loader)
        return loader

    def val_dataloader(self) -> list[DataLoader[PanopticSample]]:
        """One loader a validation set; over all processes each sample comes exactly once."""
        trainer = self.trainer
        loaders = []
        for source, dataset in zip(self.config.data.validation, self.validation_sets, strict=True):
            samples = EvaluationSamples(dataset, source.limit)
            sampler = EvaluationSampler(
                len(samples),
                trainer.global_rank if trainer else 0,
                trainer.world_size if trainer else 1,
            )
            loaders.append(
                DataLoader(
                    samples,
                    batch_size=None,
                    sampler=sampler,
                    collate_fn=keep,  # type: ignore[arg-type]
                    num_workers=min(1, self.config.data.workers),
                    persistent_workers=self.config.data.workers > 0,
                    worker_init_fn=prepare_worker,
                )
            )
        self._loaders += loaders
        return loaders

    def close(self) -> None:
        """End the processes that prepare batches.

        After an error they would wait for the garbage collection, and the process, if it ended first, for
        them.
        """
        CombinedLoader(self._loaders, "sequential").reset()
        self._loaders.clear()

    def transfer_batch_to_device(
        self,
        batch: Any,
        device: torch.device,
        dataloader_idx: int,  # noqa: ARG002
    ) -> Any:
        """A training batch on ``device``; samples to evaluate stay where the segmenter wants them."""
        if isinstance(batch, TrainingBatch):
            return batch.to(device)
        return batch

    def _workers(self) -> dict[str, Any]:
        # More of them than cores only wait for each other; which of them makes a sample changes nothing.
        workers = min(self.config.data.workers, cpu_threads())
        if workers == 0:
            return {"num_workers": 0}
        return {
            "num_workers": workers,
            "prefetch_factor": self.config.data.prefetch,
            "persistent_workers": True,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": prepare_worker,
        }


def _lengths(datasets: Sequence[PanopticDataset], sources: Sequence[SourceConfig]) -> list[int]:
    return [
        min(len(dataset), source.limit) if source.limit else len(dataset)
        for dataset, source in zip(datasets, sources, strict=True)
    ]


def collate_batch(samples: list[EncodedSample]) -> TrainingBatch:
    """:func:`~rt_panoptic_core.datasets.batch.collate`, by a name that workers can be told."""
    return collate(samples)


def keep(sample: PanopticSample) -> PanopticSample:
    """The sample as it is."""
    return sample


def prepare_worker(worker: int) -> None:
    """Make a process one that only prepares batches: without threads, signals or hold on the run's folder."""
    import cv2

    leave_signals_to_the_run(worker)
    leave_the_folder_to_the_run(worker)

    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _boxes(sample: PanopticSample) -> npt.NDArray[np.float32] | None:
    """Boxes of the sample's instances in its own order; None without instances."""
    if not sample.has_instances:
        return None
    ids, _, boxes = measure_segments(sample.instance)
    place = {int(i): n for n, i in enumerate(ids)}
    missing = [a.id for a in sample.instances if a.id not in place]
    if missing:
        raise DatasetError(
            f"{sample.name}: instance {missing[0]} is annotated but not in the instance map"
        )
    table = boxes[[place[a.id] for a in sample.instances]] if sample.instances else boxes[:0]
    return np.asarray(table, np.float32).reshape(-1, 4)
