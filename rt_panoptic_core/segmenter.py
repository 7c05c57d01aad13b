"""What people use: images in, panoptic results out."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import compress
from types import TracebackType
from typing import NamedTuple, NoReturn

import cv2
import numpy as np
import numpy.typing as npt
import torch

from rt_panoptic_core.checkpoint import Checkpoint, load_checkpoint
from rt_panoptic_core.engines.base import (
    Engine,
    EngineClosedError,
    EngineOutput,
    Progress,
    no_progress,
)
from rt_panoptic_core.engines.calibration_images import check_image_folder
from rt_panoptic_core.engines.pytorch_engine import cpu_threads_of_torch
from rt_panoptic_core.engines.select import check_names, open_engine
from rt_panoptic_core.engines.spec import (
    MAX_SIDE,
    MODES,
    check_calibration,
    check_choice,
    checked_size,
    checked_threads,
    whole_pair,
)
from rt_panoptic_core.errors import ConfigError, EngineError, ImageError
from rt_panoptic_core.inference.config import Thresholds
from rt_panoptic_core.inference.detection import detect
from rt_panoptic_core.inference.preprocessing import padded_size
from rt_panoptic_core.inference.query_selection import Detected
from rt_panoptic_core.inference.result import Detections, PanopticResult, Segment, label_areas
from rt_panoptic_core.inference.rgb_image import MAX_PIXELS, check_rgb
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.wording import shown

_MAX_OPEN_ENGINES = 4


class Segmenter:
    """Panoptic segmentation of images of any size with one checkpoint and one kind of engine.

    An engine is built for one size. With ``size``, every image is resized into it (keeping its shape; the
    rest is filled with the mean colour). Without, the size follows the image: its own, or, where the
    checkpoint names the number of pixels it was trained for (``pixels`` in its header), scaled to that; in
    both cases rounded up to the network's stride.
    Engines for the last few sizes stay open. Threads may share a segmenter: their images are answered one
    after the other, or, in mode ``throughput``, as many at a time as the engine has streams (:meth:`map` does
    that for you). Processes may not: each opens its own.

    As a context manager it frees its engines when the block ends::

        with Segmenter.from_checkpoint() as segmenter:
            result = segmenter.segment(image)
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        engine: str = "auto",
        size: tuple[int, int] | None = None,
        device: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        mode: str = "latency",
        calibration: str | os.PathLike[str] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Hold ``checkpoint``; the engine is built by :meth:`prepare` or the first image.

        Args:
            engine: ``auto``, ``tensorrt``, ``openvino`` or ``pytorch``.
            size: (height, width) that images are resized into, or None.
            device: ``cpu``, ``cuda`` or ``cuda:N``, or None for the engine's best.
            precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``, or None for the fastest native one.
            threads: CPU threads, or None for all that the process may use.
            mode: ``latency``, every image as soon as can be, or ``throughput``, many images in the shortest
                time, see :class:`EngineSpec`.
            calibration: folder of images that int8 is calibrated on; needed where the cache has no such
                engine yet, and refused for every other precision.
            progress: told what a build is doing.

        Raises:
            ConfigError: an engine, precision, device or mode that does not exist, a side of ``size`` that is
                not from 1 to 8192 pixels, no thread, or a folder for calibration without int8.
            EngineError: there is no such folder for calibration.
            CheckpointError: the checkpoint's header says nonsense about its size.
        """
        check_names(engine, precision, device)
        check_choice("mode", mode, MODES)
        check_calibration(calibration, precision)
        if calibration is not None:
            check_image_folder(calibration)
        self.checkpoint = checkpoint
        self._thresholds = checkpoint.inference.thresholds
        self._size = None if size is None else checked_size("size", size)
        self._engine_name = engine
        self._device = device
        self._precision = precision
        self._threads = checked_threads(threads)
        self._mode = mode
        self._calibration = calibration
        self._progress = progress
        self._engines: OrderedDict[tuple[int, int], Engine] = OrderedDict()
        self._newest: Engine | None = None
        self._lock = threading.RLock()
        mean = checkpoint.config.image_mean
        self._pixels = checkpoint.pixels
        self._multiple = checkpoint.config.size_multiple
        self._fill = tuple(round(c) for c in (mean[::-1] if checkpoint.config.bgr else mean))

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str] | None = None,
        engine: str = "auto",
        size: tuple[int, int] | None = None,
        device: str | None = None,
        *,
        precision: str | None = None,
        threads: int | None = None,
        mode: str = "latency",
        calibration: str | os.PathLike[str] | None = None,
        progress: Progress = no_progress,
    ) -> Segmenter:
        """Segmenter for a checkpoint file, a shipped model's name, or None for the default model.

        Raises:
            CheckpointError: the checkpoint cannot be used.
            ConfigError, EngineError: as the constructor.
        """
        return cls(
            load_checkpoint(path),
            engine=engine,
            size=size,
            device=device,
            precision=precision,
            threads=threads,
            mode=mode,
            calibration=calibration,
            progress=progress,
        )

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the results."""
        return self.checkpoint.taxonomy

    @property
    def thresholds(self) -> Thresholds:
        """What the next image is decided by; may be set at any time."""
        return self._thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Thresholds) -> None:
        if not isinstance(thresholds, Thresholds):
            raise ConfigError(
                f"thresholds {thresholds!r}: they must be Thresholds, for example "
                "dataclasses.replace(segmenter.thresholds, score=0.3)"
            )
        self._thresholds = thresholds

    def __repr__(self) -> str:
        engine = self._newest
        return (
            f"<Segmenter {self.checkpoint.path.stem}, "
            f"{self._engine_name if engine is None else engine.spec.label}>"
        )

    @property
    def engine(self) -> Engine | None:
        """The engine used last, or None before the first image."""
        # Without the lock: whoever asks must not wait while another thread builds an engine.
        return self._newest

    def engine_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the engine that images of ``image_size``, (height, width), go through.

        Raises:
            ImageError: no image that can be segmented has that size.
        """
        image_size = _checked_image_size(image_size)
        if self._size is not None:
            return self._size
        height, width = image_size
        share = height * width / self._pixels if self._pixels else 1.0
        scale = 1.0 if 0.8 <= share <= 1.25 else 1 / math.sqrt(share)
        # No engine is longer, whatever it was trained for.
        scale = min(scale, MAX_SIDE / max(image_size))
        scaled = (max(1, round(height * scale)), max(1, round(width * scale)))
        # The network would fill it up to that anyway; so pictures of many sizes share fewer engines.
        return padded_size(scaled, self._multiple)

    def is_ready(self, image_size: tuple[int, int]) -> bool:
        """Whether the engine for images of ``image_size``, (height, width), is open.

        Raises:
            ImageError: no image that can be segmented has that size.
        """
        size = self.engine_size(image_size)
        with self._lock:
            return size in self._engines

    def prepare(self, image_size: tuple[int, int]) -> Engine:
        """The engine for images of ``image_size``, built or taken from the cache now if need be.

        Raises:
            ImageError: no image that can be segmented has that size.
            EngineError: it cannot be built or run here.
        """
        size = self.engine_size(image_size)
        with self._lock:
            return self._prepared(size)

    def _prepared(self, size: tuple[int, int]) -> Engine:
        opened = self._engines.get(size)
        if opened is None:
            while len(self._engines) >= _MAX_OPEN_ENGINES:
                self._engines.popitem(last=False)[1].close()
            opened = open_engine(
                self.checkpoint,
                size,
                self._engine_name,
                self._precision,
                self._device,
                mode=self._mode,
                threads=self._threads,
                calibration=self._calibration,
                progress=self._progress,
            )
            self._engines[size] = opened
        self._engines.move_to_end(size)
        self._newest = opened
        return opened

    def segment(self, image: npt.NDArray[np.uint8]) -> PanopticResult:
        """Class and instance of every pixel of ``image`` uint8 [H, W, 3] RGB, in its own size.

        Raises:
            ImageError: wrong rank, dtype or size.
            EngineError: the engine failed.
        """
        height, width = check_image(image)
        size = self.engine_size((height, width))
        fitted, placement = _fit(image, size, self._fill, self._multiple)
        while True:
            with self._lock:
                engine = self._prepared(size)
                if engine.streams == 1:
                    # The answer is in the engine's buffers until it is copied.
                    output = self._run(engine, fitted)
                    return _result(output, placement, (height, width), self.taxonomy)
            try:
                output = self._run(engine, fitted)
            except EngineClosedError:
                # Another thread's image needed its place before this one had a stream.
                continue
            return _result(output, placement, (height, width), self.taxonomy)

    def map(self, images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[PanopticResult]:
        """Results of ``images``, as :meth:`segment` gives them, in their order.

        In mode ``throughput`` as many images at a time as the engine has streams. ``images`` is read that
        far ahead, on the calling thread; an array must not be written again before its result is there.

        Raises:
            ImageError: wrong rank, dtype or size; where the image's result would have come, as every error.
            EngineError: the engine failed.
        """
        iterator = iter(images)
        with ExitStack() as stack:
            pool: ThreadPoolExecutor | None = None
            pending: deque[Future[PanopticResult]] = deque()
            while True:
                try:
                    image = next(iterator)
                    streams = self.prepare(check_image(image)).streams
                except StopIteration:
                    break
                # Whatever it is: the results of the images before it come first.
                except Exception:
                    while pending:
                        yield pending.popleft().result()
                    raise
                if pool is None:
                    pool = ThreadPoolExecutor(streams)
                    # What nobody waits for any more is not begun.
                    stack.callback(pool.shutdown, cancel_futures=True)
                pending.append(pool.submit(self.segment, image))
                # One more than runs, so that no stream waits for the caller.
                while len(pending) > (streams + 1 if streams > 1 else 0):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _run(self, engine: Engine, fitted: npt.NDArray[np.uint8]) -> EngineOutput:
        try:
            return engine.run(fitted, self.thresholds)
        except EngineError:
            # It has closed itself; the next image opens another.
            with self._lock:
                size = engine.spec.image_size
                if self._engines.get(size) is engine:
                    del self._engines[size]
                    self._newest = next(reversed(self._engines.values()), None)
            raise

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Instances of ``image`` with their whole, possibly overlapping masks, by falling score.

        This is the reference path: PyTorch in float32 on the CPU, in ``threads`` threads, one mask at a
        time. For speed use :meth:`segment`. Of the thresholds only σ counts here: every detection is
        returned, with its score.

        Raises:
            ImageError: wrong rank, dtype or size.
        """
        height, width = check_image(image)
        fitted, placement = _fit(
            image, self.engine_size((height, width)), self._fill, self._multiple
        )
        with self._lock, cpu_threads_of_torch(self._threads):
            queries, masks = detect(
                self.checkpoint.network,
                replace(self.checkpoint.inference, mask_threshold=self.thresholds.mask),
                torch.from_numpy(np.ascontiguousarray(fitted)).unsqueeze(0),
            )
            # A mask is made when it is asked for, so this is part of the work.
            return _detections(queries, masks, placement, (height, width), self.taxonomy)

    def close(self) -> None:
        """Free the engines; the next image builds them again."""
        with self._lock:
            self._newest = None
            while self._engines:
                self._engines.popitem()[1].close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        # What pickle and copy.deepcopy ask; without it they would name a lock that nobody knows of.
        raise TypeError(
            "a Segmenter holds open engines and cannot be copied or sent to another process; open one in "
            "each process, for example in the initializer of a pool"
        )


def check_image(image: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """(H, W) of ``image`` if it is uint8 [H, W, 3] of a usable size.

    Raises:
        ImageError: it is not; what it is and what it must be are named.
    """
    return _checked_image_size(check_rgb(image))


def _checked_image_size(size: object) -> tuple[int, int]:
    """``size`` as a tuple of int if an image of that (height, width) can be segmented.

    Raises:
        ImageError: none can; what is allowed is named.
    """
    pair = whole_pair(size)
    if pair is None:
        given = f"{size.dtype} {list(size.shape)}" if isinstance(size, np.ndarray) else shown(size)
        raise ImageError(
            f"image size {given}: it must be (height, width), two whole numbers: image.shape[:2]"
        )
    height, width = pair
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        way_out = "; resize it, or cut it into pieces" if min(pair) > 0 else ""
        raise ImageError(
            f"image: {height}x{width}; it must have 1 pixel to {MAX_PIXELS // 2**20} megapixels{way_out}"
        )
    return pair


class _Placement(NamedTuple):
    """Height and width that the image takes in the engine's input, from its top left corner."""

    height: int
    width: int

    def scale(self, image_size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Factors that bring (x1, y1, x2, y2) from the engine's pixels to the image's."""
        across, down = image_size[1] / self.width, image_size[0] / self.height
        return across, down, across, down


def _fit(
    image: npt.NDArray[np.uint8], size: tuple[int, int], fill: tuple[int, ...], multiple: int
) -> tuple[npt.NDArray[np.uint8], _Placement]:
    """``image`` resized into ``size``, and where it lies there; ``multiple`` is the network's stride."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image, _Placement(height, width)
    resized = image
    inner = (height, width)
    # Only what the stride asks for is missing: the picture stays as it is.
    if not (0 <= size[0] - height < multiple and 0 <= size[1] - width < multiple):
        scale = min(size[0] / height, size[1] / width)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
        # Rounding to the stride may leave a thin rim; stretching by so little beats padding it.
        if size[0] - inner[0] < multiple and size[1] - inner[1] < multiple:
            inner = size
        method = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
        resized = np.asarray(
            cv2.resize(image, (inner[1], inner[0]), interpolation=method), dtype=np.uint8
        )
    if inner != size:
        below, beside = size[0] - inner[0], size[1] - inner[1]
        resized = np.asarray(
            cv2.copyMakeBorder(resized, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=fill),
            dtype=np.uint8,
        )
    return resized, _Placement(*inner)


def _unfit(
    labels: npt.NDArray[np.uint8], placement: _Placement, image_size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Labels of the engine's input as labels of the image; always an array of its own."""
    inner = labels[: placement.height, : placement.width]
    height, width = image_size
    if inner.shape == image_size:
        return inner.copy()
    resized = cv2.resize(inner, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized, dtype=np.uint8)


def _result(
    output: EngineOutput, placement: _Placement, image_size: tuple[int, int], taxonomy: Taxonomy
) -> PanopticResult:
    semantic = _unfit(output.semantic, placement, image_size)
    rows = _unfit(output.instance, placement, image_size)
    confidence = (
        None if output.confidence is None else _unfit(output.confidence, placement, image_size)
    )
    height, width = image_size
    scale = placement.scale(image_size)
    limit = (width, height, width, height)
    row_areas = label_areas(rows)
    segments: list[Segment] = []
    # Rows come by falling score; those that took no pixel leave no gap in the ids.
    ids = np.zeros(256, dtype=np.uint16)
    for row in np.flatnonzero(row_areas[1 : len(output.segments) + 1]):
        _, class_id, score, _, *box = output.segments[row].tolist()
        x1, y1, x2, y2 = (
            min(max(c * f, 0.0), float(m)) for c, f, m in zip(box, scale, limit, strict=True)
        )
        ids[row + 1] = len(segments) + 1
        segments.append(
            Segment(
                id=len(segments) + 1,
                class_id=int(class_id),
                is_thing=True,
                score=score,
                area=int(row_areas[row + 1]),
                box=(x1, y1, x2, y2),
            )
        )
    areas = label_areas(semantic)
    for class_id in taxonomy.stuff_ids:
        if areas[class_id]:
            segments.append(Segment(0, class_id, False, 1.0, int(areas[class_id]), None))
    # As ids[rows], in a fifth of the time.
    instance = np.asarray(cv2.LUT(rows, ids), dtype=np.uint16)
    return PanopticResult(semantic, instance, segments, confidence)


def _detections(
    queries: Detected,
    masks: Iterable[torch.Tensor],
    placement: _Placement,
    image_size: tuple[int, int],
    taxonomy: Taxonomy,
) -> Detections:
    """``queries`` and their masks bool [H', W'] in the image's pixels, but for those beside the picture."""
    height, width = image_size
    scale = np.asarray(placement.scale(image_size), dtype=np.float32)
    # Beside a picture that does not fill the engine's input there is more room than it has: what was found
    # there is no part of the picture.
    limit = np.asarray((width, height, width, height), dtype=np.float32)
    boxes = np.clip(queries.boxes.numpy() * scale, 0, limit)
    inside = np.asarray((boxes[:, :2] < boxes[:, 2:]).all(axis=1))
    kept = np.zeros((int(inside.sum()), height, width), dtype=bool)
    for row, mask in enumerate(compress(masks, inside)):
        kept[row] = _unfit(mask.numpy().view(np.uint8), placement, image_size)
    class_ids = np.asarray(taxonomy.thing_ids)[queries.things.numpy()]
    return Detections(boxes[inside], class_ids[inside], queries.scores.numpy()[inside], kept)
