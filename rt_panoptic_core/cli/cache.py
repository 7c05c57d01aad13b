"""``rt-panoptic cache``: which engines are kept on this machine, and removing them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rt_panoptic_core.cli.arguments import UsageError, number
from rt_panoptic_core.cli.listing import reader_may_leave
from rt_panoptic_core.wording import counted

if TYPE_CHECKING:
    from rt_panoptic_core.engines.cached_engines import CachedEngine

_DAY = 86400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rt-panoptic cache``."""
    parser.epilog = (
        "An engine that is removed is built again where it is wanted; int8 needs its calibration images for "
        "that. One that a process is building stays; one that a process has open goes on running."
    )
    parser.add_argument(
        "--clear",
        choices=("all", "stale"),
        help="remove them all, or those that would be built again anyway",
    )
    parser.add_argument(
        "--older-than",
        type=number(float, 0),
        metavar="DAYS",
        help="with --clear: of these only what was not used for so long",
    )


def run(args: argparse.Namespace) -> int:
    """List the engines, or remove some; exit status."""
    from rt_panoptic_core.engines.cache import cache_folder
    from rt_panoptic_core.engines.cached_engines import cached_engines

    if args.older_than is not None and args.clear is None:
        raise UsageError("--older-than: it is for --clear all or --clear stale; add one of them")
    engines = cached_engines()
    if args.clear is None:
        with reader_may_leave():
            for engine in engines:
                print(_line(engine))
            print(f"{_total(engines)} in {cache_folder()}")
        return 0
    chosen = [engine for engine in engines if args.clear == "all" or engine.stale is not None]
    if args.older_than is not None:
        before = time.time() - args.older_than * _DAY
        chosen = [engine for engine in chosen if engine.last_used < before]
    removed = _remove(chosen)
    print(f"removed: {_total(removed)} of {len(engines)} in {cache_folder()}")
    return 0


def _remove(engines: Sequence[CachedEngine]) -> list[CachedEngine]:
    """Those of ``engines`` that were removed, each of them told."""
    from rt_panoptic_core.engines.cache import remove_engine

    removed = []
    for engine in engines:
        if remove_engine(engine.path):
            print(f"removed {_line(engine)}")
            removed.append(engine)
        else:
            print(f"kept {engine.label}: another process is building it")
    return removed


def _line(engine: CachedEngine) -> str:
    used = datetime.fromtimestamp(engine.last_used).strftime("%Y-%m-%d")
    state = "" if engine.stale is None else f"; stale: {engine.stale}"
    return f"{engine.label}: {engine.bytes / 1e6:.1f} MB, last used {used}{state}"


def _total(engines: Sequence[CachedEngine]) -> str:
    size = sum(engine.bytes for engine in engines)
    return f"{counted(len(engines), 'engine')}, {size / 1e6:.1f} MB,"
