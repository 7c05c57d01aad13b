"""In which precision to train here."""

from __future__ import annotations

import torch

from rt_panoptic_core.engines.hardware import cpu_precision
from rt_panoptic_core.errors import TrainingError

_NARROW = 64
"""Pixels of width from which the pyramid's top level but one has more than one column."""


def training_precision(
    precision: str, accelerator: str = "auto", crop: tuple[int, ...] = ()
) -> str:
    """Lightning's name of the precision to train in: ``precision``, or for ``auto`` the fastest that is safe.

    bfloat16 where the device multiplies it: emulated, as on a CPU without the instructions, it takes several
    times as long as float32. Older GPUs have float16.

    Args:
        precision: one of the configuration's ``optimization.precision``.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        crop: (height, width) of the training images, or empty for images as they are.

    Raises:
        TrainingError: bfloat16 is wanted for images so narrow that PyTorch miscalculates it on a CPU, or
            there is no such accelerator.
    """
    if accelerator == "gpu" and not (
        torch.cuda.is_available() or torch.backends.mps.is_available()
    ):
        raise TrainingError(
            "accelerator 'gpu': PyTorch finds none here (nvidia-smi tells of the driver; a CPU build of "
            "PyTorch never finds one); use cpu, or auto"
        )
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    # A convolution of stride 2 on a map of one column: its gradients hold whatever was in the memory.
    unsafe = not on_gpu and bool(crop) and crop[1] <= _NARROW
    if precision == "bf16-mixed" and unsafe:
        raise TrainingError(
            f"optimization.precision bf16-mixed with augmentation.crop {list(crop)}: on a CPU PyTorch gets "
            f"gradients wrong where a crop is {_NARROW} pixels wide or less; take 32-true, or widen it"
        )
    if precision != "auto":
        return precision
    if on_gpu:
        return "bf16-mixed" if torch.cuda.is_bf16_supported(False) else "16-mixed"
    fastest, _ = cpu_precision()
    return "bf16-mixed" if fastest == "bf16" and not unsafe else "32-true"
