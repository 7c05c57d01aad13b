"""Making a bag out of pictures: images, camera_info, depth and ground truth, all of one stamp."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.bags.messages import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    LABEL_INFO,
    camera_info_message,
    compressed_message,
    header,
    image_message,
    label_info_message,
)
from rt_panoptic_core.bags.sources import FrameSource, SourceFrame, fitted
from rt_panoptic_core.bags.writer import BagWriter, qos
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.pipeline import Ahead

START = 1_700_000_000 * 10**9
"""Stamp of the first frame, nanoseconds: fixed, so that the same source gives the same bytes."""

ENCODINGS = ("rgb8", "bgr8", "mono8")

_MOST_INSTANCES = 65535
_MILLIMETRES = 65535


@dataclass(frozen=True)
class BagPlan:
    """What a bag is to hold.

    Attributes:
        frames: how many, or None for all that the source has.
        size: (height, width), or None for the source's own.
        fps: frames per second.
        namespace: the camera's: ``/camera`` gives ``/camera/image``, ``/camera/camera_info``, ….
        encoding: one of :data:`ENCODINGS`, of raw images.
        compressed: ``jpeg`` or ``png`` for ``sensor_msgs/CompressedImage`` on ``…/image/compressed``, or
            None for raw images.
        quality: of jpeg images.
        depth: write depth where the source has it.
        ground_truth: write labels where the source has them.
        storage: of the bag, see :class:`BagWriter`.
        compression: of the bag, see :class:`BagWriter`.
        frame_id: of the headers.
        start: stamp of the first frame, nanoseconds.
    """

    frames: int | None = None
    size: tuple[int, int] | None = None
    fps: float = 10.0
    namespace: str = "/camera"
    encoding: str = "rgb8"
    compressed: str | None = None
    quality: int = 90
    depth: bool = True
    ground_truth: bool = True
    storage: str = "mcap"
    compression: str = "chunk"
    frame_id: str = "camera_optical_frame"
    start: int = START

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            BagError: one is out of range.
        """
        if self.compressed is not None and self.encoding != ENCODINGS[0]:
            raise BagError(
                f"encoding {self.encoding!r}: it is of raw images; leave it out, or the compression to "
                f"{self.compressed}"
            )
        if self.encoding not in ENCODINGS:
            raise BagError(f"encoding {self.encoding!r}; one of {', '.join(ENCODINGS)}")
        if not 0 < self.fps <= 1000:
            raise BagError(f"fps {self.fps:g}; it must be above 0 and at most 1000")
        if self.frames is not None and self.frames < 1:
            raise BagError(f"frames {self.frames}; it must be at least 1")
        if not self.namespace.startswith("/"):
            raise BagError(f"namespace {self.namespace!r}; it must start with a slash")


def make_bag(
    source: FrameSource,
    output: Path,
    plan: BagPlan,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write a bag and return its number of frames.

    Topics, all with the frame's stamp: ``NAMESPACE/image`` or ``NAMESPACE/image/compressed``,
    ``NAMESPACE/camera_info``; where the source has them ``NAMESPACE/depth`` (16UC1, millimetres, 0 for
    none or more than 65.535 m), ``/ground_truth/semantic`` (mono8, class id, 255 void),
    ``/ground_truth/instance`` (mono16, 0 for none) and, once, ``/ground_truth/label_info``.

    Args:
        source: of the pictures.
        output: the bag's folder.
        plan: what it is to hold.
        overwrite: replace a bag that is there.
        progress: told the number of frames written.

    Raises:
        BagError: the source is endless and no number of frames is given, it has no frame, one cannot be read,
            or the bag cannot be written. What was written before is removed, but for a full disk.
        DatasetError: a sample cannot be read; likewise.
    """
    if plan.frames is None and source.length is None:
        raise BagError("this source has no end; give a number of frames with --frames")
    count = 0
    frames = Ahead(islice(_sized(source, plan), plan.frames), 4)
    try:
        with BagWriter(
            output, storage=plan.storage, compression=plan.compression, overwrite=overwrite
        ) as bag:
            for frame in _read(frames, bag):
                if count == 0:
                    _announce(bag, source, frame, plan)
                # Whole nanoseconds from the start: no rounding adds up over a long bag.
                _write(bag, source, frame, plan, plan.start + round(count * 10**9 / plan.fps))
                count += 1
                progress(count)
            if count == 0:
                raise BagError("the source has no frames")
    finally:
        frames.close()
    return count


def _read(frames: Iterable[SourceFrame], bag: BagWriter) -> Iterator[SourceFrame]:
    """``frames``; what was written is removed where one cannot be read: the source is there to begin anew."""
    try:
        yield from frames
    except Exception:
        bag.discard()
        raise


def _sized(source: FrameSource, plan: BagPlan) -> Iterator[SourceFrame]:
    for frame in source.frames():
        yield frame if plan.size is None else fitted(frame, plan.size)


def _image_topic(plan: BagPlan) -> tuple[str, str]:
    if plan.compressed is not None:
        return f"{plan.namespace}/image/compressed", COMPRESSED_IMAGE
    return f"{plan.namespace}/image", IMAGE


def _announce(bag: BagWriter, source: FrameSource, frame: SourceFrame, plan: BagPlan) -> None:
    bag.add_topic(*_image_topic(plan))
    bag.add_topic(f"{plan.namespace}/camera_info", CAMERA_INFO)
    if plan.depth and frame.depth is not None:
        bag.add_topic(f"{plan.namespace}/depth", IMAGE)
    if plan.ground_truth and frame.semantic is not None and source.taxonomy is not None:
        bag.add_topic("/ground_truth/semantic", IMAGE)
        if frame.instance is not None:
            bag.add_topic("/ground_truth/instance", IMAGE)
        bag.add_topic("/ground_truth/label_info", LABEL_INFO, offered=qos(latched=True, depth=1))
        head = header(plan.start, plan.frame_id)
        bag.write("/ground_truth/label_info", plan.start, label_info_message(source.taxonomy, head))


def _write(
    bag: BagWriter, source: FrameSource, frame: SourceFrame, plan: BagPlan, stamp: int
) -> None:
    head = header(stamp, plan.frame_id)
    size = (frame.image.shape[0], frame.image.shape[1])
    topic, _ = _image_topic(plan)
    if plan.compressed is not None:
        picture = compressed_message(
            frame.image, head, image_format=plan.compressed, quality=plan.quality
        )
    else:
        picture = image_message(_encoded(frame.image, plan.encoding), head, encoding=plan.encoding)
    bag.write(topic, stamp, picture)
    known = source.intrinsics(size)
    if known is not None and (known.height, known.width) == size:
        focal, center = (known.fx, known.fy), (known.cx, known.cy)
    else:
        # A plausible camera: 90 degrees across, the axis through the middle.
        focal = (size[1] / 2, size[1] / 2)
        center = ((size[1] - 1) / 2, (size[0] - 1) / 2)
    bag.write(
        f"{plan.namespace}/camera_info", stamp, camera_info_message(size, focal, center, head)
    )
    if plan.depth and frame.depth is not None:
        depth = image_message(_millimetres(frame.depth), head, encoding="16UC1")
        bag.write(f"{plan.namespace}/depth", stamp, depth)
    if plan.ground_truth and frame.semantic is not None and source.taxonomy is not None:
        bag.write("/ground_truth/semantic", stamp, image_message(frame.semantic, head))
        if frame.instance is not None:
            instance = image_message(_mono16(frame.instance), head)
            bag.write("/ground_truth/instance", stamp, instance)


def _mono16(instance: npt.NDArray[np.int32]) -> npt.NDArray[np.uint16]:
    """The ids as they are, for a source may keep them from frame to frame; numbered anew where too large."""
    if instance.max(initial=0) <= _MOST_INSTANCES:
        return instance.astype(np.uint16)
    ids, places = np.unique(instance, return_inverse=True)
    numbers = np.arange(len(ids)) + int(ids[0] != 0)
    if numbers[-1] > _MOST_INSTANCES:
        raise BagError(f"a frame has {len(ids)} instances; mono16 holds {_MOST_INSTANCES}")
    return numbers[places].reshape(instance.shape).astype(np.uint16)


def _encoded(image: npt.NDArray[np.uint8], encoding: str) -> npt.NDArray[np.uint8]:
    if encoding == "rgb8":
        return image
    code = cv2.COLOR_RGB2BGR if encoding == "bgr8" else cv2.COLOR_RGB2GRAY
    return np.asarray(cv2.cvtColor(image, code), dtype=np.uint8)


def _millimetres(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    scaled = np.nan_to_num(depth * 1000.0, nan=0.0, posinf=0.0, neginf=0.0)
    scaled[(scaled < 0) | (scaled > _MILLIMETRES)] = 0
    return np.rint(scaled).astype(np.uint16)
