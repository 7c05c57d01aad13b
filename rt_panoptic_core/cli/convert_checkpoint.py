"""``rt-panoptic convert-checkpoint``: the authors' ``.pth`` to a checkpoint of this package."""

from __future__ import annotations

import argparse
import shlex
import warnings
from pathlib import Path

from rich.console import Console

from rt_panoptic_core.cli.outputs import output_file, refuse_inputs
from rt_panoptic_core.errors import CheckpointError
from rt_panoptic_core.wording import megabytes

_CITYSCAPES_LICENCE = (
    "Converted from the authors' checkpoint (TRI-ML/realtime_panoptic, code under MIT). Trained on "
    "Cityscapes, whose terms allow non-commercial use only."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.add_argument("source", type=Path, metavar="IN.pth", help="the authors' file")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors", help="file to write")
    parser.add_argument(
        "--taxonomy",
        default="cityscapes",
        metavar="NAME|YAML",
        help="classes it was trained on (default: %(default)s)",
    )
    parser.add_argument("--licence", metavar="TEXT", help="terms to note in the file's header")
    parser.add_argument(
        "--half", action="store_true", help="store 16-bit weights: half the size, results may move"
    )


def run(args: argparse.Namespace) -> int:
    """Convert ``args.source`` to ``args.target``; exit status."""
    if args.target.suffix != ".safetensors":
        raise CheckpointError(f"{args.target}: the name must end with .safetensors")
    refuse_inputs("OUT.safetensors", args.target, args.source)
    with output_file(args.target):
        return _convert(args)


def _convert(args: argparse.Namespace) -> int:
    import torch

    from rt_panoptic_core.checkpoint import load_checkpoint, save_checkpoint
    from rt_panoptic_core.inference.config import InferenceConfig
    from rt_panoptic_core.network.official_checkpoint import load_official
    from rt_panoptic_core.taxonomy import Taxonomy

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    taxonomy = Taxonomy.load(args.taxonomy)
    with console.status(f"Reading {args.source}"), warnings.catch_warnings():
        # PyTorch warns of what it then refuses, by paths and names that say nothing to the user.
        warnings.simplefilter("ignore", UserWarning)
        network = load_official(args.source, taxonomy)
    licence = args.licence
    if licence is None:
        licence = _CITYSCAPES_LICENCE if taxonomy.name == "cityscapes" else "not stated"
    metadata = {
        "licence": licence,
        "description": f"{network.config.backbone}, preset published, converted from "
        f"{args.source.name}",
    }
    with console.status(f"Writing {args.target}"):
        save_checkpoint(
            args.target,
            network,
            inference=InferenceConfig.preset("published"),
            metadata=metadata,
            dtype=torch.float16 if args.half else torch.float32,
        )
        # What was written must be readable, or it is no conversion.
        written = load_checkpoint(args.target)
    numbers = sum(value.numel() for value in written.network.state_dict().values())
    console.print(
        f"{args.target}: {written.config.backbone}, {len(taxonomy)} classes, "
        f"{numbers / 1e6:.1f} M numbers, {megabytes(args.target)}\n"
        f"licence: {licence}\n"
        f"use it: rt-panoptic segment --model {shlex.quote(str(args.target))} PICTURE",
        markup=False,
    )
    return 0
