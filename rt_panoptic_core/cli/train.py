"""``rt-panoptic train``."""

from __future__ import annotations

import argparse
import shlex
import sys
from importlib.util import find_spec

from rt_panoptic_core.cli.progress import progress_bar
from rt_panoptic_core.errors import ConfigError, TrainingError
from rt_panoptic_core.wording import not_installed, percent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--config", required=True, metavar="YAML", help="the run, for example config/train/….yaml"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one setting, for example data.cityscapes_root=/data/cityscapes",
    )
    parser.add_argument("--output", metavar="FOLDER", help="the same as --set output=FOLDER")
    parser.add_argument(
        "--restart",
        action="store_true",
        help="begin anew instead of going on from the output's last.ckpt; what the last run left is removed",
    )
    parser.add_argument(
        "--devices", type=_devices, default="auto", help="number of devices, or 'auto'"
    )
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu"))
    parser.add_argument("--nodes", type=int, default=1, help="machines that take part")
    parser.add_argument("--quiet", action="store_true", help="neither bar nor lines about progress")
    parser.add_argument(
        "--check", action="store_true", help="read configuration and data sets, then stop"
    )


def run(args: argparse.Namespace) -> int:
    """Train, and print where the model is and how good."""
    from rich.console import Console
    from rich.table import Table

    from rt_panoptic_core.training.configuration import load_config

    changes = [*args.set, *([f"output={args.output}"] if args.output else [])]
    config = load_config(args.config, changes)
    if args.check:
        from rt_panoptic_core.training.check import check_run
        from rt_panoptic_core.training.precision import training_precision

        with progress_bar("checking", None, "samples", quiet=args.quiet) as advance:
            lines = check_run(config, advance)
        print(*lines, sep="\n")
        wanted, crop = config.optimization.precision, config.augmentation.crop
        # No mistake of the run's: data is often looked at on another machine than the one that trains.
        try:
            training_precision(wanted, args.accelerator, crop)
        except TrainingError as error:
            print(f"note: this machine would refuse the run: {error}")
        print(f"all is well; to train: {_command(args)}")
        return 0

    if find_spec("lightning") is None:
        raise ConfigError(not_installed("training", "lightning", "train"))
    from lightning.pytorch.utilities import rank_zero_only

    from rt_panoptic_core.training.interruption import TrainingInterruptedError
    from rt_panoptic_core.training.run import train

    try:
        result = train(
            config,
            resume=not args.restart,
            progress=not args.quiet and sys.stderr.isatty(),
            quiet=args.quiet,
            devices=args.devices,
            accelerator=args.accelerator,
            nodes=args.nodes,
        )
    except TrainingInterruptedError as interruption:
        if getattr(rank_zero_only, "rank", 0) == 0:
            print(f"rt-panoptic train: {interruption}", file=sys.stderr)
        # As a shell says it: whatever comes next in a script must not take this for success.
        return 128 + interruption.signal
    if getattr(rank_zero_only, "rank", 0) != 0:
        return 0  # the first process speaks for all
    table = Table("validation", "PQ", "PQ things", "PQ stuff", "mIoU")
    for label, values in result.measures.items():
        cells = (values.get(name) for name in ("pq", "pq_things", "pq_stuff", "miou"))
        table.add_row(label, *(percent(value, "") for value in cells))
    if result.measures:
        Console().print(table)
    print(result.model)
    return 0


def _command(args: argparse.Namespace) -> str:
    """The command that trains as ``args`` say, for a shell."""
    words = ["rt-panoptic", "train", "--config", args.config]
    for change in args.set:
        words += ["--set", change]
    if args.output:
        words += ["--output", args.output]
    for name, usual in (("devices", "auto"), ("accelerator", "auto"), ("nodes", 1)):
        if getattr(args, name) != usual:
            words += [f"--{name}", str(getattr(args, name))]
    words += [f"--{name}" for name in ("restart", "quiet") if getattr(args, name)]
    return shlex.join(words)


def _devices(text: str) -> int | str:
    if text == "auto":
        return text
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}; it must be 'auto' or a number from 1 on")
    return int(text)
