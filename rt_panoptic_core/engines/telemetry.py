"""Importing libraries without the part of them that tells their makers of every import.

OpenVINO and NNCF do so through the module openvino_telemetry: a request over the network from a forked
process, and an id of the user in a folder of the home directory. A robot's software sends nothing that its
owner did not ask for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MODULE = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """What is imported inside finds no openvino_telemetry, and does without.

    Whoever has it loaded already, or loads it later, has it.
    """
    if _MODULE in sys.modules:
        yield
        return
    # What an import takes for "there is none".
    sys.modules[_MODULE] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_MODULE]
