"""The segmenter that the node's parameters ask for."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from rt_panoptic_core.engines.spec import parse_size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from rt_panoptic_core.inference.config import Thresholds
    from rt_panoptic_core.inference.result import PanopticResult
    from rt_panoptic_core.taxonomy import Taxonomy

Progress = Callable[[str, "float | None"], None]


class Segments(Protocol):
    """What the node asks of a :class:`rt_panoptic_core.segmenter.Segmenter`."""

    thresholds: Thresholds

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the results."""

    def prepare(self, image_size: tuple[int, int]) -> Any:
        """Build the engine for images of ``image_size`` now."""

    def segment(self, image: npt.NDArray[np.uint8]) -> PanopticResult:
        """Class and instance of every pixel."""

    def close(self) -> None:
        """Free the engines."""


Load = Callable[[Mapping[str, Any], Progress], Segments]
"""Makes a segmenter from the parameters' values, telling how far it is."""


def load_segmenter(values: Mapping[str, Any], progress: Progress) -> Segments:
    """The segmenter of the parameters ``model``, ``engine``, ``precision``, ``device``, sizes and threads.

    With ``image_size`` its engine is built, or taken from the cache, and run once, so that the first frame
    is as fast as all others.

    Raises:
        PanopticError: the checkpoint or engine cannot be used.
    """
    progress("importing the engine libraries", None)
    # Heavy, and not needed by a node that waits to be configured.
    from rt_panoptic_core.segmenter import Segmenter

    progress("loading the checkpoint", None)
    device = values["device"]
    precision = values["precision"]
    segmenter = Segmenter.from_checkpoint(
        values["model"] or None,
        values["engine"],
        parse_size(values["network_size"]) if values["network_size"] else None,
        {"auto": None, "cuda": "cuda:0"}.get(device, device),
        precision=None if precision == "auto" else precision,
        threads=values["threads"] or None,
        progress=progress,
    )
    if values["image_size"]:
        warm_up(segmenter, parse_size(values["image_size"]), progress)
    return segmenter


def warm_up(segmenter: Segments, image_size: tuple[int, int], progress: Progress) -> None:
    """Build the engine for ``image_size`` and run it once."""
    import numpy as np

    segmenter.prepare(image_size)
    progress("first run", None)
    segmenter.segment(np.zeros((*image_size, 3), dtype=np.uint8))


def thresholds_of(own: Thresholds, values: Mapping[str, Any]) -> Thresholds:
    """``own`` with those that the parameters ``thresholds.*`` set; negative ones leave the model's."""
    changes: dict[str, float] = {
        name: type(getattr(own, name))(values[f"thresholds.{name}"])
        for name in ("score", "mask", "overlap", "stuff_area")
        if values[f"thresholds.{name}"] >= 0
    }
    return dataclasses.replace(own, **changes)


def describe(segmenter: Segments) -> tuple[str, str, dict[str, str]]:
    """One line about the engine in use, its device, and further facts for the diagnostics."""
    details: dict[str, str] = {}
    try:
        engine = getattr(segmenter, "engine", None)
    except RuntimeError:  # the inference thread opens or closes one this very moment
        engine = None
    checkpoint = getattr(segmenter, "checkpoint", None)
    if checkpoint is not None:
        details["model"] = str(checkpoint.path)
    if engine is None:
        return "waiting for the first image to build the engine", "", details
    details["library"] = str(engine.library)
    for stage, seconds in list(engine.stages.items()):
        details[f"stage {stage} (ms)"] = f"{seconds * 1e3:.2f}"
    return str(engine.spec.label), str(engine.spec.device), details


def free(segmenter: Segments) -> None:
    """Close ``segmenter`` and give its GPU memory back to the system."""
    segmenter.close()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
