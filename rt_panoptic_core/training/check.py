"""Reading everything that a run will read, before a night is spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from rt_panoptic_core.datasets.batch import check_sample
from rt_panoptic_core.datasets.files import listed, may_be_turned_wrongly
from rt_panoptic_core.datasets.sample import (
    PanopticDataset,
    PanopticSample,
    notes_of,
    picture_files_of,
)
from rt_panoptic_core.errors import DatasetError, ImageError
from rt_panoptic_core.resources import cpu_threads
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy
from rt_panoptic_core.training.configuration import SourceConfig, TrainingConfig
from rt_panoptic_core.training.data import PanopticDataModule
from rt_panoptic_core.training.initial_weights import build_network
from rt_panoptic_core.training.unlabelled import nothing_labelled
from rt_panoptic_core.wording import counted

_AHEAD = 4
"""Samples read ahead by each thread."""

_NAMED_CLASSES = 8
"""So many of the classes that do not occur are named; more are counted."""


def check_run(config: TrainingConfig, advance: Callable[[int], None] = lambda _: None) -> list[str]:
    """What a run would learn from, a line for each of its data sets.

    Every picture and label map is decoded, sizes and classes are compared, and the network is built with its
    first weights. What is generated has no files and is left out.

    Args:
        config: the run.
        advance: told the number of samples that were read since the last call.

    Raises:
        DatasetError: files are missing, damaged, or contradict each other, or nothing is labelled; they are
            named.
        CheckpointError: the weights to begin with are not there or do not fit.
    """
    taxonomy = Taxonomy.load(config.taxonomy)
    data = PanopticDataModule(config, taxonomy)
    build_network(config, taxonomy)
    lines: list[str] = []
    problems: list[str] = []
    unlabelled: list[str] = []
    learnt: set[Path] = set()
    for title, sources, datasets, lengths in (
        ("train", config.data.train, data.training_sets, data.train_lengths),
        ("validation", config.data.validation, data.validation_sets, data.validation_lengths),
    ):
        for source, dataset, length in zip(sources, datasets, lengths, strict=True):
            found = _Contents(taxonomy)
            for sample in _samples(source, dataset, length, problems):
                advance(1)
                if sample is not None:
                    found.add(sample)
            files = list(picture_files_of(dataset) or ())[:length]
            notes = [*notes_of(dataset), *_turned_notes(files)]
            if title == "train":
                learnt.update(files)
            elif shared := learnt.intersection(files):
                notes.append(
                    f"{len(shared)} of its pictures are in data.train too: how good the model is at others, "
                    "they do not tell"
                )
            told = found.told() + "".join(f"\n            note: {note}" for note in notes)
            lines.append(f"{title:11} {source.label}: {counted(length, 'sample')}{told}")
            if found.is_unlabelled:
                unlabelled.append(nothing_labelled(f"data set {source.label!r} ({title})"))
    # One that is in both mixtures was read twice.
    problems = list(dict.fromkeys(problems))
    if problems:
        raise DatasetError(f"{counted(len(problems), 'sample')} cannot be used:{listed(problems)}")
    if unlabelled:
        raise DatasetError("\n".join(unlabelled))
    return lines


class _Contents:
    """How often classes occur: where one that should is missing, ids and label set do not go together."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self._instances: Counter[int] = Counter()
        self._samples: Counter[int] = Counter()
        self._read = False

    def add(self, sample: PanopticSample) -> None:
        self._read = True
        self._instances.update(a.class_id for a in sample.instances if not a.is_crowd)
        present = np.bincount(sample.semantic.reshape(-1), minlength=256)
        self._samples.update(np.flatnonzero(present).tolist())

    @property
    def is_unlabelled(self) -> bool:
        """Whether samples were read and none of their pixels has a class."""
        return self._read and set(self._samples) <= {UNLABELLED}

    def told(self) -> str:
        """The classes with their instances, stuff with the samples that it is in."""
        if not self._read:
            return ""
        lines = []
        for title, ids, counts in (
            ("instances", self._taxonomy.thing_ids, self._instances),
            ("samples with", self._taxonomy.stuff_ids, self._samples),
        ):
            there = ", ".join(f"{self._taxonomy.names[i]} {counts[i]}" for i in ids if counts[i])
            absent = _absent([self._taxonomy.names[i] for i in ids if not counts[i]])
            if there or absent:
                told = "; ".join(part for part in (there, absent) if part)
                lines.append(f"\n            {title}: {told}")
        return "".join(lines)


def _turned_notes(files: list[Path]) -> list[str]:
    """A line about pictures whose EXIF turns them so that labels for either reading would fit."""
    with ThreadPoolExecutor(cpu_threads()) as pool:
        doubtful = [
            str(file)
            for file, doubt in zip(files, pool.map(may_be_turned_wrongly, files), strict=True)
            if doubt
        ]
    if not doubtful:
        return []
    return [
        f"{counted(len(doubtful), 'picture')} that the EXIF turns or mirrors within its size, read as "
        f"viewers show it; labels drawn on the pixels as they lie are wrong there:{listed(doubtful)}"
    ]


def _absent(names: list[str]) -> str:
    """``none of: …`` for classes that do not occur, the first few of many."""
    if len(names) <= _NAMED_CLASSES:
        return f"none of: {', '.join(names)}" if names else ""
    return f"none of {len(names)} classes: {', '.join(names[:_NAMED_CLASSES])}, …"


def _samples(
    source: SourceConfig, dataset: PanopticDataset, length: int, problems: list[str]
) -> Iterator[PanopticSample | None]:
    """The samples, None for one that has a problem, which goes to ``problems``."""

    def read(index: int) -> tuple[PanopticSample | None, str]:
        try:
            sample = dataset[index]
            check_sample(sample, dataset.taxonomy)
        except (DatasetError, ImageError) as error:
            return None, str(error)
        return sample, ""

    if source.kind == "generated_streets":
        return
    threads = cpu_threads()
    with ThreadPoolExecutor(threads) as pool:
        indices = iter(range(length))
        # map() would read all samples ahead, and hold them.
        while batch := list(islice(indices, threads * _AHEAD)):
            for sample, problem in pool.map(read, batch):
                if problem:
                    problems.append(problem)
                yield sample
