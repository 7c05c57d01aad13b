"""Errors that a user of the package can act on.

Every message names the thing, the value and the way out. The command line prints the message alone;
anything that is not a :class:`PanopticError` is a defect and keeps its traceback.
"""

from __future__ import annotations


class PanopticError(Exception):
    """Base of all errors that this package raises on purpose."""


class ImageError(PanopticError, ValueError):
    """An image cannot be used: wrong rank, dtype, size or encoding, or it cannot be decoded."""


class TaxonomyError(PanopticError, ValueError):
    """A label set is malformed, or does not fit the model or data it is used with."""


class ConfigError(PanopticError, ValueError):
    """A configuration has an unknown key or a value out of range."""


class CheckpointError(PanopticError, ValueError):
    """A checkpoint is missing, malformed, or does not fit the network."""


class EngineError(PanopticError, RuntimeError):
    """An engine cannot be built or run here."""


class EngineMemoryError(EngineError):
    """The memory does not suffice for an engine: building it again would not help."""


class DatasetError(PanopticError, ValueError):
    """Files of a data set are missing, unreadable or contradict each other."""


class BagError(PanopticError, ValueError):
    """A recording cannot be read or written."""


class TrainingError(PanopticError, RuntimeError):
    """Training cannot go on: the loss or the gradient is not finite, or a run does not fit its files."""
