"""The panoptic node whose engines open only once a file is there: run by the tests as a process of its own.

Everything else is the real thing. The file is ENGINES/HEIGHTxWIDTH, the environment variable's folder and
the size of the engine.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from rt_panoptic_core import segmenter

opens = segmenter.open_engine


def open_engine(checkpoint, size, *arguments, **options):
    built = Path(os.environ["ENGINES"], "{}x{}".format(*size))
    while not built.exists():
        time.sleep(0.02)
    return opens(checkpoint, size, *arguments, **options)


if __name__ == "__main__":
    segmenter.open_engine = open_engine
    from rt_panoptic_ros.panoptic_node import main

    sys.exit(main())
