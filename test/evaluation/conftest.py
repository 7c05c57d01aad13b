"""Lets the tests here import what they share: evaluation_pictures."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
