"""The network that a run begins with: ImageNet weights, or those of a model, also of other classes."""

from __future__ import annotations

from dataclasses import fields

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from rt_panoptic_core.checkpoint import find_model, load_checkpoint, load_weights, read_header
from rt_panoptic_core.errors import CheckpointError
from rt_panoptic_core.network.backbone_weights import load_backbone_weights
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.configuration import TrainingConfig


def build_network(
    config: TrainingConfig, taxonomy: Taxonomy, *, weights: bool = True
) -> PanopticNetwork:
    """The network of a run at its start; with ``weights`` False as it is made, for a checkpoint to fill in.

    Raises:
        CheckpointError: the backbone's or the initial weights are not there or do not fit.
    """
    network = PanopticNetwork(config.network, taxonomy)
    if not weights:
        return network
    if config.initial_checkpoint:
        start = load_checkpoint(config.initial_checkpoint).network
        kept = transfer_weights(network, start, config.initial_checkpoint)
        if kept < len(taxonomy):
            rank_zero_info(
                f"{config.initial_checkpoint}: {kept} of {len(taxonomy)} classes have a name in common with "
                "its own and start with their weights; the others begin anew"
            )
    elif config.backbone_weights:
        source = None if config.backbone_weights == "hub" else config.backbone_weights
        load_backbone_weights(network, source)
    return network


def inherited_terms(config: TrainingConfig) -> dict[str, str]:
    """``licence`` of the model that a run begins with, if there is one that says it and is still there."""
    if not config.initial_checkpoint:
        return {}
    try:
        header = read_header(find_model(config.initial_checkpoint))
    except CheckpointError:
        return {}
    return {"licence": header["licence"]} if header.get("licence") else {}


def transfer_weights(network: PanopticNetwork, start: PanopticNetwork, origin: str) -> int:
    """Copy the weights of ``start`` into ``network``; the number of classes that kept theirs.

    Of the two layers with an output for each class (semantics; box classes, for things) a class has the
    weights of the one with its name in ``start``, and keeps what it was initialised with where there is none.

    Raises:
        CheckpointError: another backbone or other widths; the settings that differ are named.
    """
    tensors = dict(start.state_dict())
    kept = set()
    if start.taxonomy != network.taxonomy:
        own = network.state_dict()
        old, new = start.taxonomy, network.taxonomy
        for layer, old_names, new_names in (
            ("semantics", old.names, new.names),
            ("box_logits", _things(old), _things(new)),
        ):
            pairs = [(new_names.index(n), old_names.index(n)) for n in new_names if n in old_names]
            kept |= {new_names[row] for row, _ in pairs}
            for kind in ("weight", "bias"):
                key = f"head.{layer}.{kind}"
                tensors[key] = _with_rows(own[key], tensors[key], pairs)
    try:
        load_weights(network, tensors, origin)
    except CheckpointError as error:
        differing = _differing(network.config, start.config)
        if not differing:
            raise
        raise CheckpointError(
            f"{origin}: it is another network: {differing}; the run's 'network' must be as there"
        ) from error
    return len(kept) if start.taxonomy != network.taxonomy else len(network.taxonomy)


def _things(taxonomy: Taxonomy) -> tuple[str, ...]:
    return tuple(taxonomy.names[class_id] for class_id in taxonomy.thing_ids)


def _with_rows(own: Tensor, other: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """``own`` with the rows of ``other``: (its row, the other's) in ``pairs``."""
    if own.shape[1:] != other.shape[1:]:
        return other  # of another width, which is told of all layers at once
    result = own.clone()
    with torch.no_grad():
        for row, source in pairs:
            result[row] = other[source]
    return result


def _differing(run: NetworkConfig, start: NetworkConfig) -> str:
    """In words the settings that two networks do not share."""
    return ", ".join(
        f"{f.name} is {getattr(start, f.name)!r} there and {getattr(run, f.name)!r} in the run"
        for f in fields(NetworkConfig)
        if f.init and getattr(start, f.name) != getattr(run, f.name)
    )
