"""Entry point of ``rt-panoptic``: finds the subcommand, runs it, turns errors into one line."""

from __future__ import annotations

import argparse
import errno
import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

from rt_panoptic_core import __version__
from rt_panoptic_core.cli.arguments import UsageError
from rt_panoptic_core.errors import PanopticError
from rt_panoptic_core.hangup import ends_on_hangup, settle_hangup

# Subcommand -> (module with add_arguments(parser) and run(args) -> int, one line of help).
_COMMANDS: dict[str, tuple[str, str]] = {
    "segment": ("segment", "label images, folders and videos"),
    "train": ("train", "train a network"),
    "evaluate": ("evaluate", "run a model over a data set and report its quality"),
    "score": ("score", "score panoptic predictions on disk against their ground truth"),
    "compare": ("compare", "what changed between two evaluations"),
    "export": ("export", "build an engine or write the ONNX graph"),
    "benchmark": ("benchmark", "time a model on the engines of this machine"),
    "models": ("models", "list the models at hand"),
    "cache": ("cache", "list the engines that are kept on this machine, or remove them"),
    "convert-checkpoint": ("convert_checkpoint", "convert the authors' .pth to safetensors"),
    "evaluate-bag": ("evaluate_bag", "replay a rosbag and report what the node would have said"),
    "make-bag": ("make_bag", "write a rosbag from generated streets, images or a video"),
}


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the command line: the whole usage would hide it.

    Options are written out: an unknown one may begin like another one.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message} ({self.prog} --help tells more)\n")


EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: what is done on Ctrl-C is done, too.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status of ``rt-panoptic ARGUMENTS``; ``sys.argv`` when None.

    0 is done, 1 failed, 2 a wrong command line; `segment` has 3 besides, for some inputs skipped.

    Raises:
        SystemExit: with 2 where argparse itself finds the command line wrong, with 0 after help.
    """
    if arguments is None:
        _open_standard_streams()
        _replace_what_streams_cannot_show()
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _Parser(
        prog="rt-panoptic", description="Real-time panoptic segmentation from dense detections."
    )
    parser.add_argument("--version", action="version", version=f"rt-panoptic {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # Only the named command's module is imported: help for the rest stays instant.
    named = next((word for word in words if not word.startswith("-")), None)
    for name, (module_name, summary) in _COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        if name == named:
            module = import_module(f"rt_panoptic_core.cli.{module_name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    parsed = parser.parse_args(words)
    if arguments is None:
        _end_as_if_interrupted()
    try:
        return int(parsed.run(parsed))
    except PanopticError as error:
        print(f"rt-panoptic {parsed.command}: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_ERROR
    except _TerminatedError as error:
        word = "hung up" if error.signal == signal.SIGHUP else "terminated"
        print(f"rt-panoptic {parsed.command}: {word}", file=sys.stderr)
        return 128 + error.signal
    except KeyboardInterrupt:
        print(f"rt-panoptic {parsed.command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) went away; that is its right. Keep Python from complaining at exit.
        sys.stdout = None
        return EXIT_ERROR
    except OSError as error:
        # A full disk, a folder without permission, a file where a folder is wanted: news, not a bug.
        place = f"{error.filename}: " if error.filename is not None else ""
        reason = error.strerror or str(error)
        if error.errno == errno.ENOSPC:
            reason = (
                "the disk is full: free some space, or write somewhere else; what is there is whole"
            )
        print(f"rt-panoptic {parsed.command}: {place}{reason}", file=sys.stderr)
        return EXIT_ERROR
    finally:
        if arguments is None:
            # The process ends here: Python need not look through all that is left for cycles first.
            gc.freeze()


def _open_standard_streams() -> None:
    """Nothing where a standard stream is closed (``2>&-``): libraries write to it, and Python has none.

    The next file that was opened would otherwise be taken for it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest free number is given: that of the stream.
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            stream = os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8")
            setattr(sys, name, stream)


def _replace_what_streams_cannot_show() -> None:
    """Have ``?`` for letters that the encoding of standard output or error lacks, in place of an error.

    A stream that takes every letter in some way stays as it is.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            try:
                # A sign of tables, and a byte of a file's name that is no UTF-8.
                "■\udcdf".encode(stream.encoding, stream.errors or "strict")
            except UnicodeEncodeError:
                stream.reconfigure(errors="replace")


def _end_as_if_interrupted() -> None:
    """Let SIGTERM (of `docker stop`, of a service manager) and SIGHUP leave behind what Ctrl-C does."""
    process = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:
            # A worker that was forked since, ended by the one that it works for.
            os._exit(128 + number)
        if number == signal.SIGHUP:
            settle_hangup()
        raise _TerminatedError(number)

    signal.signal(signal.SIGTERM, end)
    if ends_on_hangup():
        signal.signal(signal.SIGHUP, end)


if __name__ == "__main__":
    sys.exit(main())
