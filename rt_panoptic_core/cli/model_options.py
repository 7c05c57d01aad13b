"""The options by which commands choose a model and what runs it, and opening what was chosen."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rt_panoptic_core.cli.arguments import UsageError, device, number, size
from rt_panoptic_core.engines.spec import ENGINES, PRECISIONS

if TYPE_CHECKING:
    from rt_panoptic_core.checkpoint import Checkpoint
    from rt_panoptic_core.engines.base import Progress
    from rt_panoptic_core.inference.config import Thresholds
    from rt_panoptic_core.segmenter import Segmenter

MANY_SIZES = 5
"""Engines that pictures need, from which on it is told how to do with one."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "model": {
        "metavar": "M",
        "help": "checkpoint, or a shipped model's name; the default model if left out",
    },
    "engine": {
        "default": "auto",
        "choices": ("auto", *ENGINES),
        "help": "what runs it; auto: the fastest that works here (%(default)s)",
    },
    "precision": {
        "choices": PRECISIONS,
        "help": "of the network; the fastest native one if left out, never int8",
    },
    "device": {
        "type": device,
        "metavar": "D",
        "help": "cpu, cuda or cuda:N; the best there is if left out",
    },
    "size": {
        "type": size,
        "metavar": "HxW",
        "help": "work at this size; results keep the input's",
    },
    "threads": {
        "type": number(int, 1),
        "metavar": "N",
        "help": "CPU threads of the engine; all if left out",
    },
    "calibration": {
        "type": Path,
        "metavar": "DIR",
        "help": "images to calibrate int8 on, where that engine is not built yet",
    },
    "score": {
        "type": number(float, 0, 1),
        "metavar": "S",
        "help": "leave out instances below this score; the model's own if left out",
    },
    "mask": {
        "type": number(float, 0, 1),
        "metavar": "P",
        "help": "mask threshold sigma; the model's own if left out",
    },
}

_NAMES_OF_RUNS = ("best", "final")


def add_model_options(
    parser: argparse.ArgumentParser,
    *,
    leave_out: Collection[str] = (),
    **changes: Mapping[str, Any],
) -> argparse._ArgumentGroup:
    """The group of the options that choose a model and what runs it, added to ``parser``.

    Args:
        parser: of the command.
        leave_out: names of options that mean nothing to it.
        changes: what is different there, as ``add_argument`` takes it, by the option's name.
    """
    group = parser.add_argument_group("model and engine")
    for name, settings in _OPTIONS.items():
        if name not in leave_out:
            group.add_argument(f"--{name}", **{**settings, **changes.get(name, {})})
    return group


def refuse_idle_calibration(args: argparse.Namespace, *others: str | None) -> None:
    """Refuse ``--calibration`` where nothing runs in int8: neither ``--precision`` nor one of ``others``.

    Raises:
        UsageError: such a folder would not be looked at.
    """
    if args.calibration is not None and "int8" not in (args.precision, *others):
        raise UsageError(
            "--calibration is for --precision int8, and nothing here runs in int8; "
            "add it, or leave --calibration out"
        )


def open_segmenter(
    args: argparse.Namespace, checkpoint: Checkpoint, progress: Progress, mode: str = "latency"
) -> Segmenter:
    """Segmenter of ``checkpoint`` as all of the options want it, in ``mode``.

    Raises:
        UsageError: the options contradict each other.
    """
    from rt_panoptic_core.segmenter import Segmenter

    refuse_idle_calibration(args)
    segmenter = Segmenter(
        checkpoint,
        engine=args.engine,
        size=args.size,
        device=args.device,
        precision=args.precision,
        threads=args.threads,
        mode=mode,
        calibration=args.calibration,
        progress=progress,
    )
    segmenter.thresholds = thresholds(args, checkpoint)
    return segmenter


def thresholds(args: argparse.Namespace, checkpoint: Checkpoint) -> Thresholds:
    """Those of ``checkpoint``, with ``--score`` and ``--mask`` where they are given."""
    given = {"score": args.score, "mask": args.mask}
    return replace(
        checkpoint.inference.thresholds, **{k: v for k, v in given.items() if v is not None}
    )


def model_name(checkpoint: Checkpoint) -> str:
    """What results call the model: its file's name without suffix, with the folder where that tells nothing.

    Every training leaves a ``final``: that of ``runs/a`` is ``runs/a/final``.
    """
    if checkpoint.name not in _NAMES_OF_RUNS:
        return checkpoint.name
    folder = checkpoint.path.parent.resolve()
    return "/".join(part for part in (folder.parent.name, folder.name, checkpoint.name) if part)


def many_sizes_hint(pictures: Mapping[tuple[int, int], int]) -> str:
    """What to do where pictures need engines of many sizes.

    Args:
        pictures: number of pictures by their engine's (height, width).
    """
    height, width = (max(sides) for sides in zip(*pictures, strict=True))
    # One that holds all, but for strips and panoramas: few pictures must not make all others slow.
    if height * width > 2 * max(h * w for h, w in pictures):
        height, width = max(pictures, key=lambda size: pictures[size])
    return f"the pictures need engines of {len(pictures)} sizes; --size {height}x{width} has one for all"
