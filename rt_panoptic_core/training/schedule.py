"""Learning rate by update, and which weights get which."""

from __future__ import annotations

import bisect
from typing import Any

import torch
from torch import nn

from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.training.configuration import OptimizationConfig

RATES = ("learning_rate", "backbone_factor", "weight_decay", "momentum")
"""Settings that optimizer and schedule are made with, and that a run may go on with others of."""


def learning_rate_factor(update: int, config: OptimizationConfig, time_share: float = 0.0) -> float:
    """Factor of the learning rate at ``update`` (from 0), when ``time_share`` of the run's hours are over.

    Warm-up: linear from ``warmup_factor`` to 1, times the schedule. ``steps``: γ^(milestones passed).
    ``cosine``: ½(1 + cos πt), ``poly``: (1 − t)^0.9, t the share of the run that is done, in updates or in
    time, whichever is more; milestones are passed at that share too.
    """
    progress = min(1.0, max(update / config.steps, time_share))
    if config.schedule == "steps":
        reached = max(update, time_share * config.steps)
        factor = config.gamma ** bisect.bisect_right(sorted(config.milestones), reached)
    elif config.schedule == "cosine":
        factor = 0.5 * (
            1 + float(torch.cos(torch.tensor(progress * torch.pi, dtype=torch.float64)))
        )
    else:
        factor = (1 - progress) ** 0.9
    if update < config.warmup:
        share = update / config.warmup
        factor *= config.warmup_factor + (1 - config.warmup_factor) * share
    return factor


def make_optimizer(network: PanopticNetwork, config: OptimizationConfig) -> torch.optim.Optimizer:
    """Optimizer over the weights that require a gradient: backbone and the rest, decayed and not."""
    undecayed = set()
    if not config.decay_norms:
        for name, module in network.named_modules():
            norm = isinstance(module, (nn.GroupNorm, nn.BatchNorm2d))
            for key, _ in module.named_parameters(name, recurse=False):
                if norm or key.endswith(".bias") or key.endswith("offset_scales"):
                    undecayed.add(key)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), name not in undecayed)
            groups.setdefault(key, []).append(parameter)
    listed: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": config.learning_rate * (config.backbone_factor if backbone else 1.0),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (backbone, decayed), parameters in groups.items()
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(listed, lr=config.learning_rate)
    return torch.optim.SGD(listed, lr=config.learning_rate, momentum=config.momentum)


def set_rates(
    checkpoint: dict[str, Any], network: PanopticNetwork, config: OptimizationConfig
) -> None:
    """Put learning rates and decay of ``config`` into a checkpoint of a run that had others.

    Optimizer and schedule come out of a checkpoint with all that they were made with; what is theirs alone,
    momenta and the number of updates, stays.
    """
    fresh = make_optimizer(network, config).param_groups
    for optimizer in checkpoint["optimizer_states"]:
        groups = optimizer["param_groups"]
        # How far down the schedule they were, all alike; a backbone may have a rate of 0.
        factor = next((g["lr"] / g["initial_lr"] for g in groups if g["initial_lr"]), 1.0)
        for group, new in zip(groups, fresh, strict=True):
            kept = {
                "params": group["params"],
                "lr": new["lr"] * factor,
                "initial_lr": new["lr"],
            }
            group |= {**new, **kept}
    for schedule in checkpoint["lr_schedulers"]:
        schedule["base_lrs"] = [group["lr"] for group in fresh]


def freeze_stages(network: PanopticNetwork, stages: int) -> None:
    """Keep the first stages of the backbone as they are: 1 the stem, 2 the first residual stage, …"""
    for part in frozen_parts(network, stages):
        part.requires_grad_(False)


def frozen_parts(network: PanopticNetwork, stages: int) -> list[nn.Module]:
    """The first ``stages`` stages of the backbone."""
    backbone = network.backbone
    if stages == 0:
        return []
    if hasattr(backbone, "layer1"):
        parts: list[nn.Module] = [backbone.get_submodule("conv1"), backbone.get_submodule("bn1")]
        for stage in range(1, stages):
            parts.append(backbone.get_submodule(f"layer{stage}"))
    else:
        # MobileNetV2: the first block ends at stride 2, the next stages where the stride doubles.
        ends = (2, 4, 7, 14, 18)
        features = backbone.get_submodule("features")
        parts = list(features.children())[: ends[stages - 1]]
    return parts
