"""What the core has to say, in the node's log: on the console as everything else, and on /rosout."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_CORE = "rt_panoptic_core"


class _Handler(logging.Handler):
    """Hands records to rclpy's ``logger``; its methods are one for each severity, by the calling line."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log ``record`` in its severity."""
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


@contextmanager
def core_log_to(logger: Any) -> Iterator[None]:
    """Let rclpy's ``logger`` say what the core logs within the block: why an engine is built again, say."""
    core = logging.getLogger(_CORE)
    handler = _Handler(logger)
    propagates = core.propagate
    core.addHandler(handler)
    # Some libraries give the root logger a handler of their own; everything would be said twice.
    core.propagate = False
    try:
        yield
    finally:
        core.removeHandler(handler)
        core.propagate = propagates
