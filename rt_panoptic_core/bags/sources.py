"""Pictures for a bag: generated streets, a folder, a video, a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.camera_intrinsics import CameraIntrinsics
from rt_panoptic_core.datasets.sample import PanopticDataset
from rt_panoptic_core.errors import BagError, ImageError
from rt_panoptic_core.image_files import IMAGE_SUFFIXES, Video, read_image
from rt_panoptic_core.taxonomy import Taxonomy


@dataclass(frozen=True)
class SourceFrame:
    """A picture and what is known of it.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        semantic: uint8 [H, W] class ids of the source's taxonomy, or None.
        instance: int32 [H, W] instance ids, 0 for none, or None.
        depth: float32 [H, W] metres, inf where there is nothing, or None.
    """

    image: npt.NDArray[np.uint8]
    semantic: npt.NDArray[np.uint8] | None = None
    instance: npt.NDArray[np.int32] | None = None
    depth: npt.NDArray[np.float32] | None = None


class FrameSource(Protocol):
    """Where frames come from.

    Attributes:
        fps: frames per second, or None where the source has no pace of its own.
        length: number of frames, or None where there is no end or it is not known.
        taxonomy: the label set, or None where there are no labels.
    """

    fps: float | None
    length: int | None
    taxonomy: Taxonomy | None

    def frames(self) -> Iterator[SourceFrame]:
        """The frames from the first on.

        Raises:
            BagError: one cannot be read; it is named.
        """

    def intrinsics(self, size: tuple[int, int]) -> CameraIntrinsics | None:
        """Of the pictures of ``size`` (height, width), where they are known."""


class GeneratedSource:
    """An endless drive through a generated street."""

    def __init__(self, size: tuple[int, int], seed: int, fps: float) -> None:
        """A street of ``seed`` seen at ``size`` (height, width)."""
        from rt_panoptic_core.datasets.generated_streets import StreetSequence

        self._sequence = StreetSequence(seed, size, fps=fps)
        self.fps: float | None = fps
        self.length: int | None = None
        self.taxonomy: Taxonomy | None = self._sequence.taxonomy

    def frames(self) -> Iterator[SourceFrame]:
        """See :class:`FrameSource`."""
        for sample in self._sequence:
            yield SourceFrame(sample.image, sample.semantic, sample.instance, sample.depth)

    def intrinsics(self, size: tuple[int, int]) -> CameraIntrinsics | None:
        """See :class:`FrameSource`."""
        del size
        return self._sequence.intrinsics


class FolderSource:
    """The pictures of a folder, by name, or one alone."""

    taxonomy: Taxonomy | None = None

    def __init__(self, folder: Path, skipped: Callable[[str], object] | None = None) -> None:
        """List ``folder``, which may be a picture.

        Args:
            folder: the folder.
            skipped: told why a picture cannot be read; the others then come all the same, if there are any.

        Raises:
            BagError: it holds no picture.
        """
        self._paths = sorted(
            p
            for p in (folder.iterdir() if folder.is_dir() else [folder])
            if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
        )
        if not self._paths:
            raise BagError(
                f"{folder} holds no pictures ({', '.join(IMAGE_SUFFIXES)}); "
                "name a data set's kind with --dataset"
            )
        self._skipped = skipped
        self.fps: float | None = None
        self.length: int | None = len(self._paths)

    def frames(self) -> Iterator[SourceFrame]:
        """See :class:`FrameSource`."""
        unread: list[ImageError] = []
        any_read = False
        for path in self._paths:
            try:
                image = read_image(path)
            except ImageError as error:
                unread.append(error)
                if self._skipped is None:
                    break
                continue
            any_read = True
            self._tell_skipped(unread)
            yield SourceFrame(image)
        if unread and (self._skipped is None or not any_read):
            raise BagError(f"{unread[0]}; remove it, or make it anew") from unread[0]
        self._tell_skipped(unread)

    def _tell_skipped(self, unread: list[ImageError]) -> None:
        """Tell of ``unread``, which is empty then."""
        if self._skipped is not None:
            for error in unread:
                self._skipped(str(error))
        unread.clear()

    def intrinsics(self, size: tuple[int, int]) -> CameraIntrinsics | None:
        """See :class:`FrameSource`."""
        del size
        return None


class VideoSource:
    """The frames of a video file."""

    taxonomy: Taxonomy | None = None

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            BagError: it cannot be opened as a video.
        """
        self._path = path
        video = self._open()
        video.close()
        self.fps: float | None = video.fps
        self.length: int | None = video.length

    def frames(self) -> Iterator[SourceFrame]:
        """See :class:`FrameSource`."""
        for image in self._open().frames():
            yield SourceFrame(image)

    def _open(self) -> Video:
        try:
            return Video(self._path)
        except ImageError as error:
            raise BagError(str(error)) from error

    def intrinsics(self, size: tuple[int, int]) -> CameraIntrinsics | None:
        """See :class:`FrameSource`."""
        del size
        return None


class DatasetSource:
    """The samples of a data set, in its order."""

    def __init__(self, dataset: PanopticDataset) -> None:
        """Hold ``dataset``."""
        self._dataset = dataset
        self.fps: float | None = None
        self.length: int | None = len(dataset)
        self.taxonomy: Taxonomy | None = dataset.taxonomy

    def frames(self) -> Iterator[SourceFrame]:
        """See :class:`FrameSource`."""
        for index in range(len(self._dataset)):
            sample = self._dataset[index]
            instance = sample.instance if sample.has_instances else None
            yield SourceFrame(sample.image, sample.semantic, instance, sample.depth)

    def intrinsics(self, size: tuple[int, int]) -> CameraIntrinsics | None:
        """See :class:`FrameSource`."""
        del size
        return None


def open_source(
    source: str,
    *,
    size: tuple[int, int],
    seed: int = 0,
    fps: float = 10.0,
    dataset: str | None = None,
    split: str = "val",
    skipped: Callable[[str], object] | None = None,
) -> FrameSource:
    """The source that ``source`` names: ``generated``, a folder or a video.

    Args:
        source: the name, or a path.
        size: (height, width) of a generated street.
        seed: of a generated street.
        fps: of a generated street.
        dataset: kind of the data set in the folder, or None for a folder of pictures.
        split: of the data set.
        skipped: see :class:`FolderSource`.

    Raises:
        BagError: there is no such thing.
        DatasetError: the folder does not hold the data set.
    """
    if source == "generated":
        return GeneratedSource(size, seed, fps)
    path = Path(source)
    if not path.exists():
        raise BagError(f"source {source!r}: neither 'generated' nor a folder or video that exists")
    if dataset is not None:
        from rt_panoptic_core.datasets.registry import open_dataset

        return DatasetSource(open_dataset(dataset, path, split))
    is_picture = path.suffix.lower() in IMAGE_SUFFIXES
    return FolderSource(path, skipped) if path.is_dir() or is_picture else VideoSource(path)


def fitted(frame: SourceFrame, size: tuple[int, int]) -> SourceFrame:
    """``frame`` in the size (height, width); labels and depth by the nearest pixel."""
    if frame.image.shape[:2] == size:
        return frame
    target = (size[1], size[0])
    shrinks = size[0] < frame.image.shape[0]
    image = cv2.resize(
        frame.image, target, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )

    def nearest(plane: npt.NDArray[np.generic] | None) -> npt.NDArray[np.generic] | None:
        if plane is None:
            return None
        rows = (np.arange(size[0]) * plane.shape[0]) // size[0]
        columns = (np.arange(size[1]) * plane.shape[1]) // size[1]
        return plane[rows[:, None], columns]

    return SourceFrame(
        np.asarray(image, dtype=np.uint8),
        nearest(frame.semantic),  # type: ignore[arg-type]
        nearest(frame.instance),  # type: ignore[arg-type]
        nearest(frame.depth),  # type: ignore[arg-type]
    )
