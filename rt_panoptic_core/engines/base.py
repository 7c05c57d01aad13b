"""What every engine promises, whichever library runs it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.errors import EngineError, EngineMemoryError, ImageError

if TYPE_CHECKING:
    from rt_panoptic_core.inference.config import Thresholds

Progress = Callable[[str, float | None], None]
"""Told what a build is doing: a step in words, and its fraction done in [0, 1] or None if unknown."""

OUTPUT_NAMES = ("semantic", "instance", "segments", "confidence")
"""Names of the graph's outputs, in order."""

INPUT_NAMES = ("image", "thresholds")
"""Names of the graph's inputs, in order."""

STAGES = ("prepare", "network", "post-processing")
"""Stages of the graph: bytes to normalised pixels, the network, everything after it."""


# Arrays have no one answer to ==, so outputs are equal if they are the same object.
@dataclass(frozen=True, eq=False)
class EngineOutput:
    """What a graph says of one image, in the image's pixels.

    The arrays are views of the engine's own buffers, which hold until its next ``run``; with several streams
    they are arrays of their own.

    Attributes:
        semantic: uint8 [H, W], class id; 255 where unlabelled.
        instance: uint8 [H, W], row number of ``segments`` plus 1; 0 where there is none.
        segments: float32 [Q, 8], one row per query, columns
            :data:`rt_panoptic_core.inference.end_to_end.SEGMENT_COLUMNS`.
        confidence: uint8 [H, W], probability of the pixel's class times 255.
    """

    semantic: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.uint8]
    segments: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.uint8]

    def copy(self) -> EngineOutput:
        """The same output in arrays of its own."""
        return EngineOutput(
            self.semantic.copy(),
            self.instance.copy(),
            self.segments.copy(),
            self.confidence.copy(),
        )


class Engine(Protocol):
    """A graph ready to run. As many threads at a time as it has streams may use it.

    Different engines are independent.
    """

    @property
    def spec(self) -> EngineSpec:
        """What this engine is."""

    @property
    def library(self) -> str:
        """Library and version that run it, for example ``OpenVINO 2026.4.1``."""

    @property
    def streams(self) -> int:
        """Images that it runs at a time: 1, but for mode ``throughput`` where the library has it."""

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of the last ``run`` by stage, in order; what is around them is in none."""

    def run(
        self, image: npt.NDArray[np.uint8], thresholds: Thresholds | None = None
    ) -> EngineOutput:
        """Output for one image.

        Args:
            image: uint8 [H, W, 3] RGB of exactly ``spec.image_size``.
            thresholds: those of the checkpoint when None.

        Raises:
            ImageError: the image has another shape or dtype.
            EngineError: the device failed, for example for lack of memory; the engine is closed, other
                engines and the process live on.
        """

    def close(self) -> None:
        """Free what the engine holds; ``run`` then raises EngineError. Closing twice is harmless."""


Answer = tuple[list[npt.NDArray[Any]], dict[str, float]]
"""The graph's outputs in their order, with their batch dimension, and seconds by stage."""


class EngineClosedError(EngineError):
    """Nothing failed: the engine was closed before."""


class EngineBase(ABC):
    """What the engines share: what is checked before a frame, and what becomes of one that fails."""

    def __init__(self, spec: EngineSpec, library: str, thresholds: Thresholds) -> None:
        """Keep what every engine has; ``thresholds`` are those of the checkpoint."""
        self.spec = spec
        self.library = library
        self._thresholds = thresholds
        self._stages: dict[str, float] = {}

    @property
    def streams(self) -> int:
        """See :class:`Engine`."""
        return 1

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of the last run by stage."""
        return dict(self._stages)

    def run(
        self, image: npt.NDArray[np.uint8], thresholds: Thresholds | None = None
    ) -> EngineOutput:
        """See :class:`Engine`."""
        check_image(image, self.spec.image_size)
        self._check_open()
        values = thresholds_array(thresholds or self._thresholds)
        return self._guarded(lambda: self._infer(image, values))

    @abstractmethod
    def close(self) -> None:
        """See :class:`Engine`."""

    @property
    @abstractmethod
    def _is_open(self) -> bool:
        """Whether it holds what it runs with."""

    @abstractmethod
    def _infer(self, image: npt.NDArray[np.uint8], thresholds: npt.NDArray[np.float32]) -> Answer:
        """One frame: ``image`` uint8 [H, W, 3], ``thresholds`` float32 [4]."""

    @abstractmethod
    def _words(self, error: Exception) -> str:
        """What went wrong, in one line."""

    def _check_open(self) -> None:
        if not self._is_open:
            raise EngineClosedError(
                f"{self.spec.label}: the engine is closed; open it again with open_engine"
            )

    def _guarded(self, infer: Callable[[], Answer]) -> EngineOutput:
        """The output of ``infer``, whose failure closes the engine."""
        try:
            arrays, self._stages = infer()
        except EngineClosedError:
            raise
        except RuntimeError as error:  # EngineError is one, too
            raise self._failed(error) from error
        return output_of(arrays)

    def _failed(self, error: Exception) -> EngineError:
        """Close the engine; what is to be raised for ``error``."""
        self.close()
        words = f"{self.spec.label}: {self._words(error)}"
        if lacks_memory(error):
            return EngineMemoryError(f"{words}; use a smaller size or fp16, or close other engines")
        return EngineError(words)


# How PyTorch, CUDA and its libraries, TensorRT and the C++ library say it. Not "memory" alone: an illegal
# access is none.
_OUT_OF_MEMORY = (
    "out of memory", "outofmemory", "allocate memory", "bad_alloc", "bad allocation",
    "alloc_failed", "allocation_failed",
)  # fmt: skip

# OpenVINO names the bytes in between.
_ALLOCATION = re.compile(r"allocate \d+ bytes of memory")


def lacks_memory(error: BaseException) -> bool:
    """Whether ``error``, or one that it came from, says that memory ran out."""
    words = str(error).lower()
    if isinstance(error, EngineMemoryError) or any(word in words for word in _OUT_OF_MEMORY):
        return True
    if _ALLOCATION.search(words):
        return True
    # What ends after a failure, a capture for example, may fail for its part and hide it.
    cause = error.__cause__ or error.__context__
    return cause is not None and lacks_memory(cause)


def check_image(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> None:
    """Accept ``image`` if it is uint8 [H, W, 3] with (H, W) = ``size``.

    Raises:
        ImageError: it is not.
    """
    expected = (*size, 3)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != expected:
        found = (
            f"{image.dtype} {list(image.shape)}"
            if isinstance(image, np.ndarray)
            else type(image).__name__
        )
        raise ImageError(
            f"image: {found}; this engine takes uint8 {list(expected)} (RGB). "
            "Resize the image, use Segmenter which does, or open an engine of that size"
        )


def thresholds_array(thresholds: Thresholds) -> npt.NDArray[np.float32]:
    """float32 [4], the graph's second input."""
    return np.array(thresholds.as_tuple(), dtype=np.float32)


def output_of(arrays: list[npt.NDArray[Any]]) -> EngineOutput:
    """Outputs of the graph, in its order and with their batch dimension, as :class:`EngineOutput`."""
    named = dict(zip(OUTPUT_NAMES, arrays, strict=True))
    return EngineOutput(
        semantic=named["semantic"][0],
        instance=named["instance"][0],
        segments=named["segments"][0],
        confidence=named["confidence"][0],
    )


def no_progress(step: str, fraction: float | None) -> None:
    """Progress that nobody watches."""
    del step, fraction
