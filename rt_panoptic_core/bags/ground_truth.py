"""Ground truth of a bag's pictures, found by stamp: from topics of the bag, or from a folder."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.bags.messages import (
    IMAGE,
    LABEL_INFO,
    deserialize,
    read_label_info,
    read_plane,
    stamp_ns,
)
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.datasets.files import read_grey
from rt_panoptic_core.errors import BagError, DatasetError, ImageError
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy

_KEPT = 64


class GroundTruth(NamedTuple):
    """Labels of one picture.

    Attributes:
        stamp: theirs, nanoseconds.
        semantic: uint8 [H, W], class id of the model's taxonomy; 255 is void.
        instance: int32 [H, W], instance id; 0 where there is none. None where only classes are known.
    """

    stamp: int
    semantic: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32] | None


class GroundTruthSource(Protocol):
    """Labels by stamp."""

    @property
    def has_instances(self) -> bool:
        """Whether instances are told apart."""

    def find(self, stamp: int) -> GroundTruth | None:
        """The labels of the picture of ``stamp``, or None; stamps are asked for in rising order mostly.

        Raises:
            ImageError: the labels are there and cannot be read.
        """

    def distance(self, stamp: int) -> int | None:
        """Nanoseconds from ``stamp`` to that of the nearest labels; None where there are none."""

    def close(self) -> None:
        """Close the files."""


@dataclass(frozen=True)
class LabelTopics:
    """The topics that hold ground truth.

    Attributes:
        semantic: mono8 or 8UC1 class ids, or (packed) 32SC1 class << 16 | instance.
        instance: mono16 or 16UC1 instance ids of the same stamps, or None.
        label_info: vision_msgs/LabelInfo naming the class ids, or None: they are the model's.
    """

    semantic: str
    instance: str | None
    label_info: str | None

    @property
    def names(self) -> list[str]:
        """Those of the label images."""
        return [name for name in (self.semantic, self.instance) if name is not None]


class StampIndex:
    """The nearest of a set of stamps."""

    def __init__(self, stamps: Sequence[int], tolerance: int) -> None:
        """Hold ``stamps``; ``tolerance`` in nanoseconds, 0 for equal ones only."""
        self._stamps = sorted(set(stamps))
        self._tolerance = tolerance

    def nearest(self, stamp: int) -> int | None:
        """The nearest stamp within the tolerance, the earlier of two as near; or None."""
        best = self._closest(stamp)
        return best if best is not None and abs(best - stamp) <= self._tolerance else None

    def distance(self, stamp: int) -> int | None:
        """Nanoseconds from ``stamp`` to the nearest, whatever the tolerance; None where there is none."""
        best = self._closest(stamp)
        return None if best is None else abs(best - stamp)

    def _closest(self, stamp: int) -> int | None:
        place = bisect_left(self._stamps, stamp)
        around = self._stamps[max(0, place - 1) : place + 1]
        return min(around, key=lambda s: (abs(s - stamp), s), default=None)


def find_label_topics(reader: BagReader, name: str | None = None) -> LabelTopics | None:
    """The topics that ``name`` means; without a name those that end with ``ground_truth/semantic``.

    ``name`` is a namespace that holds ``semantic`` (and ``instance``, ``label_info``), the semantic
    topic in it, or any topic of label images. None only without a name, where there is not exactly one.

    Raises:
        BagError: there is no such topic; those that are there are listed.
    """
    if name is None:
        found = [t for t in reader.topics if t.endswith("/ground_truth/semantic")]
        if len(found) != 1:
            return None
        name = found[0]
    namespace = name.rstrip("/").removesuffix("/semantic")
    semantic = f"{namespace}/semantic"
    if semantic not in reader.topics:
        return LabelTopics(reader.topic(name, [IMAGE]).name, None, None)
    instance, info = f"{namespace}/instance", f"{namespace}/label_info"
    return LabelTopics(
        reader.topic(semantic, [IMAGE]).name,
        instance if instance in reader.topics else None,
        info if info in reader.topics else None,
    )


# What class ids, and class and instance in one, are published as.
_ENCODINGS = ("mono8", "8UC1", "32SC1")


class BagGroundTruth:
    """Ground truth that a bag holds beside the pictures."""

    def __init__(self, path: Path, topics: LabelTopics, taxonomy: Taxonomy, tolerance: int) -> None:
        """Read the labels' stamps.

        Args:
            path: the bag.
            topics: where the labels are.
            taxonomy: the model's.
            tolerance: largest difference of stamps, nanoseconds.

        Raises:
            BagError: the class names of the bag have nothing in common with the model's, or the topic holds
                no labels.
        """
        self._reader = BagReader(path)
        self._topics = topics
        self._table = self._read_table(taxonomy)
        self._packed = False
        stamps = []
        for message in self._reader.messages([topics.semantic]):
            try:
                content = deserialize(message.data, message.message_type)
            except BagError:
                continue
            if content.encoding.strip() not in _ENCODINGS:
                raise BagError(
                    f"{path}: {topics.semantic} has the encoding {content.encoding!r}; ground truth has "
                    "class ids in mono8 or 8UC1, or class << 16 | instance in 32SC1"
                )
            self._packed = content.encoding.strip() == "32SC1"
            stamps.append(stamp_ns(content.header))
        self._index = StampIndex(stamps, tolerance)
        self._messages = self._labels()
        self._kept: OrderedDict[int, dict[str, npt.NDArray[np.generic]]] = OrderedDict()

    @property
    def has_instances(self) -> bool:
        """Whether instances are told apart."""
        return self._packed or self._topics.instance is not None

    def find(self, stamp: int) -> GroundTruth | None:
        """See :class:`GroundTruthSource`."""
        wanted = self._index.nearest(stamp)
        if wanted is None:
            return None
        parts = self._parts(wanted)
        if parts is None:
            # Stamps that go back: what has passed and was not kept is looked for from the start.
            self._messages = self._labels()
            self._kept.clear()
            parts = self._parts(wanted)
        if parts is None:
            raise ImageError(
                f"it is not complete: {self._topics.semantic} or {self._topics.instance} cannot be read"
            )
        semantic = parts[self._topics.semantic]
        if self._packed:
            packed = semantic.astype(np.int32)
            return self._mapped(wanted, (packed >> 16).clip(0, 255), packed & 0xFFFF)
        if semantic.dtype != np.uint8:
            raise ImageError(
                f"{self._topics.semantic} holds {semantic.dtype}; it must be mono8 or 8UC1 with class ids, "
                "or 32SC1 with class << 16 | instance"
            )
        instance = parts[self._topics.instance] if self._topics.instance is not None else None
        if instance is not None and instance.shape != semantic.shape:
            raise ImageError(
                f"{self._topics.semantic} has the shape "
                f"{list(semantic.shape)}, {self._topics.instance} {list(instance.shape)}"
            )
        return self._mapped(wanted, semantic, instance)

    def distance(self, stamp: int) -> int | None:
        """See :class:`GroundTruthSource`."""
        return self._index.distance(stamp)

    def close(self) -> None:
        """Close the bag."""
        self._reader.close()

    def _mapped(
        self,
        stamp: int,
        semantic: npt.NDArray[np.generic],
        instance: npt.NDArray[np.generic] | None,
    ) -> GroundTruth:
        return GroundTruth(
            stamp,
            self._table[semantic.astype(np.uint8, copy=False)],
            None if instance is None else instance.astype(np.int32),
        )

    def _parts(self, stamp: int) -> dict[str, npt.NDArray[np.generic]] | None:
        """The label images of ``stamp`` by topic, read up to; None if the bag ends before."""
        names = self._topics.names
        while len(self._kept.get(stamp, {})) < len(names):
            item = next(self._messages, None)
            if item is None:
                return None
            topic, at, plane = item
            self._kept.setdefault(at, {})[topic] = plane
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[stamp]

    def _labels(self) -> Iterator[tuple[str, int, npt.NDArray[np.generic]]]:
        for message in self._reader.messages(self._topics.names):
            try:
                content = deserialize(message.data, message.message_type)
                yield message.topic, stamp_ns(content.header), read_plane(content)
            except (BagError, ImageError):
                continue

    def _read_table(self, taxonomy: Taxonomy) -> npt.NDArray[np.uint8]:
        name = self._topics.label_info
        for message in self._reader.messages([name] if name is not None else []):
            names = read_label_info(deserialize(message.data, LABEL_INFO))
            return class_table(names, taxonomy, f"{self._reader.path}, {name}")
        return class_table(dict(enumerate(taxonomy.names)), taxonomy, str(self._reader.path))


class FolderGroundTruth:
    """Ground truth in PNG files named by stamp: ``STAMP_semantic.png`` and ``STAMP_instance.png``.

    STAMP is nanoseconds, or seconds and nanoseconds with an underscore or a point between them. The
    semantic file has 8 bits (class ids, 255 void), the instance file 16 and may be missing from all.
    ``taxonomy.yaml`` in the folder names the class ids; without it they are the model's.
    """

    def __init__(self, folder: Path, taxonomy: Taxonomy, tolerance: int) -> None:
        """List the folder.

        Raises:
            BagError: it is missing or holds no such file.
        """
        self._semantic = _files_by_stamp(folder, "semantic")
        self._instance = _files_by_stamp(folder, "instance")
        if not self._semantic:
            raise BagError(
                f"{folder} holds no ground truth; files are named STAMP_semantic.png and "
                "STAMP_instance.png, STAMP in nanoseconds"
            )
        names: Mapping[int, str] = dict(enumerate(taxonomy.names))
        if (folder / "taxonomy.yaml").exists():
            names = dict(enumerate(Taxonomy.from_yaml(folder / "taxonomy.yaml").names))
        self._table = class_table(names, taxonomy, str(folder))
        self._index = StampIndex(list(self._semantic), tolerance)

    @property
    def has_instances(self) -> bool:
        """Whether instances are told apart."""
        return bool(self._instance)

    def find(self, stamp: int) -> GroundTruth | None:
        """See :class:`GroundTruthSource`."""
        found = self._index.nearest(stamp)
        if found is None:
            return None
        semantic = _read_png(self._semantic[found], np.uint8)
        instance = None
        if self._instance:
            if found not in self._instance:
                raise ImageError(f"{self._semantic[found]} has no _instance.png beside it")
            instance = _read_png(self._instance[found], np.uint16).astype(np.int32)
            if instance.shape != semantic.shape:
                raise ImageError(
                    f"{self._instance[found]} has the shape {list(instance.shape)}, "
                    f"{self._semantic[found].name} {list(semantic.shape)}"
                )
        return GroundTruth(found, self._table[semantic], instance)

    def distance(self, stamp: int) -> int | None:
        """See :class:`GroundTruthSource`."""
        return self._index.distance(stamp)

    def close(self) -> None:
        """Nothing: no file stays open."""


def class_table(names: Mapping[int, str], taxonomy: Taxonomy, where: str) -> npt.NDArray[np.uint8]:
    """uint8 [256]: class id of ``taxonomy`` by the id that has its name; 255 for all others.

    Raises:
        BagError: no name is one of the taxonomy's.
    """
    table = np.full(256, UNLABELLED, dtype=np.uint8)
    ids = {name: class_id for class_id, name in enumerate(taxonomy.names)}
    for class_id, name in names.items():
        if name in ids and 0 <= class_id < UNLABELLED:
            table[class_id] = ids[name]
    if (table == UNLABELLED).all():
        raise BagError(
            f"{where}: its classes ({', '.join(names.values())}) and the model's "
            f"({', '.join(taxonomy.names)}) have no name in common"
        )
    return table


def _files_by_stamp(folder: Path, kind: str) -> dict[int, Path]:
    if not folder.is_dir():
        raise BagError(f"ground truth folder {folder} does not exist")
    files = {}
    for path in sorted(folder.glob(f"*_{kind}.png")):
        match = re.fullmatch(rf"(\d+)(?:[._](\d{{1,9}}))?_{kind}\.png", path.name)
        if match:
            seconds, rest = match.groups()
            stamp = int(seconds) if rest is None else int(seconds) * 10**9 + int(rest)
            files[stamp] = path
    return files


def _read_png(path: Path, dtype: type[np.generic]) -> npt.NDArray[np.generic]:
    try:
        pixels = read_grey(path)
    except DatasetError as error:
        raise ImageError(str(error)) from error
    if pixels.dtype not in (np.uint8, dtype):
        raise ImageError(
            f"{path}: {pixels.dtype}; it must be a grey PNG of {np.dtype(dtype).itemsize * 8} bits"
        )
    return pixels
