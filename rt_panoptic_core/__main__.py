"""``python -m rt_panoptic_core`` is ``rt-panoptic``."""

import sys

from rt_panoptic_core.cli.main import main

# A process that multiprocessing starts reads this file again.
if __name__ == "__main__":
    sys.exit(main())
