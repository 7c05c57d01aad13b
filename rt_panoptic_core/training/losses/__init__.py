"""The six losses of eq. 19, each a function of one batch.

All of them return a *sum* and the *count* that the paper divides it by. The division is left to the
caller, because over several processes the count must be that of all of them: a mean of means over
unequal parts is not the mean.
"""

from rt_panoptic_core.training.losses.box_regression import box_regression_loss
from rt_panoptic_core.training.losses.centerness import centerness_loss
from rt_panoptic_core.training.losses.classification import box_classification_loss
from rt_panoptic_core.training.losses.levelness import levelness_loss
from rt_panoptic_core.training.losses.mask import mask_loss
from rt_panoptic_core.training.losses.semantics import bootstrapped_cross_entropy
from rt_panoptic_core.training.losses.term import LossTerm

__all__ = [
    "LossTerm",
    "bootstrapped_cross_entropy",
    "box_classification_loss",
    "box_regression_loss",
    "centerness_loss",
    "levelness_loss",
    "mask_loss",
]
