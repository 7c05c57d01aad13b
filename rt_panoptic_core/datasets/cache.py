"""Keeping samples that are slow to make."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from rt_panoptic_core.datasets.sample import (
    InstanceAnnotation,
    PanopticDataset,
    PanopticSample,
    notes_of,
)
from rt_panoptic_core.files import replaced_when_complete
from rt_panoptic_core.taxonomy import Taxonomy


class CachedDataset:
    """A data set whose samples are made once and then read from a folder, without their depth.

    A file is complete or absent, so several processes may fill and read one folder at once. One that
    cannot be read is made again.
    """

    def __init__(
        self, source: PanopticDataset, folder: str | os.PathLike[str], identity: dict[str, Any]
    ) -> None:
        """Keep ``source``'s samples in a folder of their own in ``folder``.

        Args:
            identity: everything that decides what a sample is (kind, options, …): another identity
                never meets these files.
        """
        self._source = source
        text = json.dumps(identity, sort_keys=True, default=str)
        self._folder = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def taxonomy(self) -> Taxonomy:
        """The label set of the samples."""
        return self._source.taxonomy

    @property
    def notes(self) -> list[str]:
        """What the data set says of itself."""
        return notes_of(self._source)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> PanopticSample:
        file = self._folder / f"{index:07d}.npz"
        try:
            return _read(file)
        # A zip that was cut short says so in one of several ways.
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            sample = self._source[index]
        with replaced_when_complete(file) as path, path.open("wb") as stream:
            _write(stream, sample)
        return sample


def _write(stream: Any, sample: PanopticSample) -> None:
    table = np.array([[a.id, a.class_id, int(a.is_crowd)] for a in sample.instances], np.int64)
    np.savez(
        stream,
        name=np.array(sample.name),
        image=sample.image,
        semantic=sample.semantic,
        instance=sample.instance,
        instances=table.reshape(-1, 3),
        has_instances=np.array(sample.has_instances),
    )


def _read(file: Path) -> PanopticSample:
    with np.load(file, allow_pickle=False) as held:
        return PanopticSample(
            str(held["name"]),
            held["image"],
            held["semantic"],
            held["instance"],
            tuple(
                InstanceAnnotation(int(i), int(c), bool(crowd)) for i, c, crowd in held["instances"]
            ),
            bool(held["has_instances"]),
        )
