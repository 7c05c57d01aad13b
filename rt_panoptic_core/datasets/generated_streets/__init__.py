"""Procedural streets with exact panoptic labels: pictures for training, tests and demonstrations.

:class:`GeneratedStreets` is a data set of single pictures, :class:`StreetSequence` a drive.
"""

from rt_panoptic_core.datasets.generated_streets.dataset import (
    GeneratedStreets,
    open_generated_streets,
)
from rt_panoptic_core.datasets.generated_streets.layout import STREET_KINDS
from rt_panoptic_core.datasets.generated_streets.sequence import StreetFrame, StreetSequence

__all__ = [
    "STREET_KINDS",
    "GeneratedStreets",
    "StreetFrame",
    "StreetSequence",
    "open_generated_streets",
]
