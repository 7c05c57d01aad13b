"""Modules run as processes that end when the process ends which started them, in whichever way.

``python -m rt_panoptic_core.bags.child_process PARENT MODULE ARGUMENT…`` becomes
``python -m MODULE ARGUMENT…``, and gets SIGTERM once the process PARENT is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command line that runs ``module`` as a child of this process, which it does not outlive.

    The kernel goes by the thread that starts it: that one has to stay as well. Linux only; elsewhere the
    module runs as any other process does.
    """
    return [sys.executable, "-m", __name__, str(os.getpid()), module, *arguments]


def main(arguments: Sequence[str]) -> None:
    """Become the module that is named after the parent's process id."""
    parent, module, *rest = arguments
    if sys.platform == "linux":
        # Outlives the exec below. In the child's own program: between a fork and an exec of a process with
        # threads nothing may be called.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        # It may have ended before the kernel was told.
        if os.getppid() != int(parent):
            sys.exit(1)
    os.execv(sys.executable, [sys.executable, "-m", module, *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
