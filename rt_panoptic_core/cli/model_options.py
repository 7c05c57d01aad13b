"""The options by which commands choose a model's engine, size and thresholds, and what they open."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from rt_panoptic_core.engines.spec import ENGINES, PRECISIONS, parse_size
from rt_panoptic_core.errors import ConfigError

if TYPE_CHECKING:
    from rt_panoptic_core.engines.base import Progress
    from rt_panoptic_core.segmenter import Segmenter


def size(text: str) -> tuple[int, int]:
    """(height, width) of ``HEIGHTxWIDTH``, as the type of an argument."""
    try:
        return parse_size(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_engine_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The group ``engine`` with ``--engine``, ``--device``, ``--precision`` and ``--size``, added."""
    group = parser.add_argument_group("engine")
    group.add_argument("--engine", default="auto", choices=("auto", *ENGINES))
    group.add_argument("--device", metavar="D", help="cpu or cuda:N; the best there is if left out")
    group.add_argument("--precision", choices=PRECISIONS, help="fastest native one if left out")
    group.add_argument(
        "--size", type=size, metavar="HxW", help="work at this size; results keep the input's"
    )
    return group


def open_segmenter(args: argparse.Namespace, progress: Progress) -> Segmenter:
    """Segmenter for ``--model`` and the options above, with ``--score`` and ``--mask`` where given.

    Raises:
        CheckpointError: the model cannot be used.
        ConfigError: a threshold is out of range.
    """
    from rt_panoptic_core.segmenter import Segmenter

    segmenter = Segmenter.from_checkpoint(
        args.model,
        args.engine,
        args.size,
        args.device,
        precision=args.precision,
        progress=progress,
    )
    changes = {"score": args.score, "mask": args.mask}
    segmenter.thresholds = replace(
        segmenter.thresholds, **{key: v for key, v in changes.items() if v is not None}
    )
    return segmenter
