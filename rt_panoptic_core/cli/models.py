"""``rt-panoptic models``: which models are at hand, what they know, and how fast they are here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rt_panoptic_core.cli.listing import reader_may_leave
from rt_panoptic_core.errors import CheckpointError, EngineError
from rt_panoptic_core.wording import counted, megabytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rt-panoptic models``."""
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="DIR",
        help="also list the checkpoints in these folders (default: the current one, and models/, runs/)",
    )
    parser.add_argument(
        "--speed", action="store_true", help="run each of them here and say how fast it is"
    )


def run(args: argparse.Namespace) -> int:
    """List the models."""
    with reader_may_leave():
        _list(args)
    return 0


def _list(args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.markup import escape

    from rt_panoptic_core.checkpoint import (
        DEFAULT_MODEL,
        ForeignFormatError,
        read_header,
        shipped_models,
    )

    for folder in args.folders:
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder")
    shipped = shipped_models()
    found = [
        (name, path, "shipped, the default" if name == DEFAULT_MODEL else "shipped")
        for name, path in shipped.items()
    ]
    for folder in args.folders or [Path(), Path("models"), Path("runs")]:
        pattern = "**/*.safetensors" if folder != Path() else "*.safetensors"
        found += [(str(path), path, "yours") for path in sorted(folder.glob(pattern))]
    console = Console(highlight=False, soft_wrap=True)
    listed = 0
    for name, path, origin in found:
        try:
            header = read_header(path)
        except ForeignFormatError:
            continue
        except CheckpointError as error:
            print(f"rt-panoptic models: left out {error}", file=sys.stderr)
            continue
        listed += 1
        # Not printed by rich, which would end the process where the reader has gone away.
        with console.capture() as text:
            console.print(f"[bold]{escape(name)}[/]  {origin}, {megabytes(path)}")
            for line in _about(header) + ([_speed(path)] if args.speed else []):
                # Lines of text: a table would fold names on a narrow terminal.
                console.print(f"  {escape(line)}")
        print(text.get(), end="", flush=True)
    if not listed:
        print("no model at hand; train one (rt-panoptic train), or convert the authors' checkpoint")
        print("(rt-panoptic convert-checkpoint IN.pth OUT.safetensors)")


def _about(header: dict[str, Any]) -> list[str]:
    """What a checkpoint's header says of network, classes and terms."""
    classes = header["taxonomy"].get("classes", [])
    things = sum(bool(item.get("thing")) for item in classes)
    label_set = header["taxonomy"].get("name", "?")
    return [
        f"{header['network'].get('backbone', 'resnet50')}; {label_set}: "
        f"{counted(len(classes), 'class', 'classes')}, {things} of them things",
        f"licence: {header.get('licence') or 'not stated'}",
    ]


def _speed(path: Path) -> str:
    from rt_panoptic_core.checkpoint import load_checkpoint
    from rt_panoptic_core.cli.benchmark import benchmark_size, frames
    from rt_panoptic_core.cli.progress import build_progress
    from rt_panoptic_core.engines.measurement import measure
    from rt_panoptic_core.engines.select import open_engine

    try:
        checkpoint = load_checkpoint(path)
        size = benchmark_size(checkpoint)
        with build_progress(path.stem) as progress:
            engine = open_engine(checkpoint, size, progress=progress)
        result = measure(engine, frames(None, size), frames=10)
        engine.close()
    except (CheckpointError, EngineError) as error:
        return str(error)
    return (
        f"{result.frames_per_second:.1f} frames/s at {size[0]}x{size[1]} "
        f"({result.engine} {result.precision})"
    )
