"""In which precision to train here."""

from __future__ import annotations

import torch

from rt_panoptic_core.engines.hardware import cpu_precision


def training_precision(precision: str, accelerator: str = "auto") -> str:
    """Lightning's name of the precision to train in: ``precision``, or for ``auto`` the fastest that is safe.

    bfloat16 where the device multiplies it: emulated, as on a CPU without the instructions, it takes several
    times as long as float32. Older GPUs have float16.

    Args:
        precision: one of the configuration's ``optimization.precision``.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
    """
    if precision != "auto":
        return precision
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(False) else "16-mixed"
    fastest, _ = cpu_precision()
    return "bf16-mixed" if fastest == "bf16" else "32-true"
