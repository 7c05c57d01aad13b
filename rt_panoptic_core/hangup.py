"""SIGHUP: the terminal was closed, or the connection to it was lost."""

from __future__ import annotations

import errno
import os
import signal
import termios
from types import FrameType


def ends_on_hangup() -> bool:
    """Whether SIGHUP is to end this process; False where it was started with ``nohup``."""
    return signal.getsignal(signal.SIGHUP) != signal.SIG_IGN


def settle_hangup() -> None:
    """Let what ends after a SIGHUP end in peace: further ones are passed over, a lost terminal is silent."""
    # Of one lost terminal both the kernel and the shell tell. Not SIG_IGN: what is started from here on would
    # inherit it.
    signal.signal(signal.SIGHUP, _pass_over)
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            # Writing to a terminal that is gone is an error.
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def _pass_over(number: int, frame: FrameType | None) -> None:
    del number, frame
