"""``python -m rt_panoptic_core`` is ``rt-panoptic``."""

import sys

from rt_panoptic_core.cli.main import main

sys.exit(main())
