"""The segmenter that the node's parameters ask for."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from rt_panoptic_core.engines.spec import parse_size
from rt_panoptic_core.errors import EngineError, PanopticError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from rt_panoptic_core.inference.config import Thresholds
    from rt_panoptic_core.inference.result import PanopticResult
    from rt_panoptic_core.taxonomy import Taxonomy

Progress = Callable[[str, "float | None"], None]

BUILDING = "building the engine"
"""Begins what is told of an engine's build, which takes seconds to minutes."""


class UnfitEngineError(EngineError):
    """The engine, precision and device that the parameters ask for cannot run here, now or later."""


class Segments(Protocol):
    """What the node asks of a :class:`rt_panoptic_core.segmenter.Segmenter`."""

    thresholds: Thresholds

    @property
    def engine(self) -> Any:
        """The engine used last; None before the first image."""

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the results."""

    def is_ready(self, image_size: tuple[int, int]) -> bool:
        """Whether the engine for images of ``image_size`` is open."""

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
        UnfitEngineError: what is asked for cannot run here.
        PanopticError: the checkpoint or engine cannot be used.
    """
    progress("importing the engine libraries", None)
    check_engine(values)
    # Heavy, and not needed by a node that waits to be configured.
    from rt_panoptic_core.segmenter import Segmenter

    progress("loading the checkpoint", None)
    engine, precision, device = _wish(values)
    segmenter = Segmenter.from_checkpoint(
        values["model"] or None,
        engine,
        parse_size(values["network_size"]) if values["network_size"] else None,
        device,
        precision=precision,
        threads=values["threads"] or None,
        progress=lambda step, fraction: progress(f"{BUILDING}: {step}", fraction),
    )
    if values["image_size"]:
        warm_up(segmenter, parse_size(values["image_size"]), progress)
    return segmenter


def check_engine(values: Mapping[str, Any]) -> None:
    """Accept the parameters ``engine``, ``precision`` and ``device`` if something that fits can run here.

    Raises:
        UnfitEngineError: nothing can; what is missing is named, and which of the three to set to auto.
    """
    reason = _missing(values)
    if reason is None:
        return
    names = [name for name in ("engine", "device", "precision") if values[name] != "auto"]
    alone = [name for name in names if _missing({**values, name: "auto"}) is None]
    way_out = " or ".join(alone) if alone else " and ".join(names)
    raise UnfitEngineError(f"{reason}; set the parameter {way_out} to auto")


def _missing(values: Mapping[str, Any]) -> str | None:
    """Why nothing that fits the parameters can run here; None if something can."""
    # Looks for drivers and libraries: not needed by a node that waits to be configured.
    from rt_panoptic_core.engines.select import select_engine

    try:
        select_engine(*_wish(values))
    except PanopticError as error:
        return str(error)
    return None


def _wish(values: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    """Engine, precision and device as the core takes them: None leaves it the choice."""
    precision, device = values["precision"], values["device"]
    return (
        values["engine"],
        None if precision == "auto" else precision,
        None if device == "auto" else device,
    )


def warm_up(segmenter: Segments, image_size: tuple[int, int], progress: Progress) -> None:
    """Build the engine for ``image_size`` and run it once."""
    import numpy as np

    segmenter.prepare(image_size)
    progress(f"{BUILDING}: first run", None)
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
    engine = segmenter.engine
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
        # After a failed kernel every call reports it again.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
