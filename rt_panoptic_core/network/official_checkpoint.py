"""The authors' checkpoint: their ``.pth`` file as a network of this package.

Only tensors are ever read from the file (``weights_only=True``): a file that asks for anything else is
refused before any of it runs.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rt_panoptic_core.errors import CheckpointError, TaxonomyError
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy

# Their module -> ours. Towers and backbone keep what follows.
_MODULES = {
    "backbone.body.": "backbone.",
    "panoptic_head.cls_tower.": "head.semantic_tower.",
    "panoptic_head.bbox_tower.": "head.box_tower.",
    "panoptic_head.cls_logits.": "head.semantics.",
    "panoptic_head.box_cls_logits.": "head.box_logits.",
    "panoptic_head.bbox_pred.": "head.box_offsets.",
    "panoptic_head.centerness.": "head.centerness.",
    "panoptic_head.levelness.": "head.levelness.",
    "backbone.fpn.extra_blocks.p6.": "pyramid.extra.0.",
    "backbone.fpn.extra_blocks.p7.": "pyramid.extra.1.",
}
# torchvision put each convolution into a block of its own later: then '.0' follows the number.
_PYRAMID = re.compile(r"backbone\.fpn\.(inner|layer)_blocks\.(\d+)\.(?:0\.)?(weight|bias)")
_PYRAMID_MODULES = {"inner": "pyramid.lateral", "layer": "pyramid.output"}
_SCALE = re.compile(r"panoptic_head\.scales\.(\d+)\.scale")
_SCALES = "head.offset_scales"

_ANCHOR = "backbone.body.conv1.weight"
"""A key that every one of their files has; what stands before it is the file's prefix."""

# Blocks in layer3, and whether they are bottlenecks: enough to tell the ResNets apart.
_BACKBONES = {
    (2, False): "resnet18",
    (6, False): "resnet34",
    (6, True): "resnet50",
    (23, True): "resnet101",
}


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file by key, and nothing else of it.

    A file that wraps them as ``{"state_dict": …}`` or ``{"model": …}`` is unwrapped.

    Raises:
        CheckpointError: the file is missing, truncated, no PyTorch file, holds anything but tensors and
            plain data, or no tensor by name; the file is named.
    """
    name = os.fspath(path)
    if not Path(name).is_file():
        raise CheckpointError(f"{name}: there is no such file")
    try:
        loaded = torch.load(name, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asks = re.search(r"GLOBAL ([\w.]+)", str(error))
        wants = f"it asks to run {asks[1]!r}" if asks else "it holds more than tensors"
        raise CheckpointError(
            f"{name}: refused: {wants}, or it is damaged. Nothing of it was run; "
            "save the state_dict alone, or get the file again from where it is published"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError) as error:
        # PyTorch's message is a paragraph; its first sentence says it.
        reason = str(error).split(". ")[0].split("\n")[0] or "it is empty"
        raise CheckpointError(
            f"{name}: not a readable PyTorch file, or cut short ({reason}); copy it again"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not any(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError(f"{name}: it holds no tensors by name; it must be a state_dict")
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}


def own_key(official: str) -> str | None:
    """Key in :class:`PanopticNetwork`'s state dict of an official key without prefix; None for unknown.

    The learned scales of the box offsets, one tensor a level there, share one key here.
    """
    pyramid = _PYRAMID.fullmatch(official)
    if pyramid:
        return f"{_PYRAMID_MODULES[pyramid[1]]}.{pyramid[2]}.{pyramid[3]}"
    if _SCALE.fullmatch(official):
        return _SCALES
    for theirs, ours in _MODULES.items():
        if official.startswith(theirs):
            return ours + official[len(theirs) :]
    return None


def convert_state_dict(
    official: Mapping[str, Tensor], network: PanopticNetwork, origin: str
) -> dict[str, Tensor]:
    """float32 state dict for ``network`` from the tensors of an official file.

    Raises:
        CheckpointError: a key is missing, unknown, given twice, or a tensor has another shape or is not
            finite; every one of them is named, by its name in the file.
    """
    prefix = _prefix(official, origin)
    wanted = {k: v.shape for k, v in network.state_dict().items()}
    levels = len(network.config.strides)
    result: dict[str, Tensor] = {}
    scales: dict[int, Tensor] = {}
    unknown, twice, shapes, not_finite = [], [], [], []
    for key, value in official.items():
        if key.endswith(".num_batches_tracked"):
            continue
        bare = key[len(prefix) :] if key.startswith(prefix) else ""
        ours = own_key(bare)
        scale = _SCALE.fullmatch(bare)
        if ours is None or ours not in wanted or (scale and int(scale[1]) >= levels):
            unknown.append(key)
            continue
        shape = torch.Size([1]) if scale else wanted[ours]
        if (int(scale[1]) in scales) if scale else (ours in result):
            twice.append(key)
        elif value.shape != shape:
            shapes.append(f"{key} {list(value.shape)} instead of {list(shape)}")
        elif not torch.isfinite(value).all():
            not_finite.append(key)
        # Known keys are recorded whatever is wrong with them, so that none is also called missing.
        if scale:
            scales[int(scale[1])] = value.float().reshape(-1)
        else:
            result[ours] = value.float()

    missing = [prefix + official_key(key) for key in wanted if key not in result and key != _SCALES]
    missing += [
        f"{prefix}panoptic_head.scales.{level}.scale"
        for level in range(levels)
        if level not in scales
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names)}"
        for what, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("given twice", twice),
            ("of another shape", shapes),
            ("with NaN or infinity", not_finite),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{origin}: the weights do not fit {network.config.backbone} with "
            f"{len(network.taxonomy)} classes: {'; '.join(problems)}"
        )
    result[_SCALES] = torch.cat([scales[level] for level in range(levels)])
    return result


def official_key(own: str) -> str:
    """The official name, without prefix, of a key of :class:`PanopticNetwork` (all but the scales)."""
    pyramid = re.fullmatch(r"pyramid\.(lateral|output)\.(\d+)\.(weight|bias)", own)
    if pyramid:
        block = {"lateral": "inner", "output": "layer"}[pyramid[1]]
        return f"backbone.fpn.{block}_blocks.{pyramid[2]}.{pyramid[3]}"
    for theirs, ours in sorted(_MODULES.items(), key=lambda pair: -len(pair[1])):
        if own.startswith(ours):
            return theirs + own[len(ours) :]
    raise KeyError(own)


def load_official(
    path: str | os.PathLike[str], taxonomy: Taxonomy | None = None
) -> PanopticNetwork:
    """Network of preset ``published`` with the weights of an official ``.pth`` file.

    In evaluation mode, float32, without gradients. The ResNet is found from the keys.

    Args:
        taxonomy: of the file; Cityscapes when None.

    Raises:
        CheckpointError: the file cannot be used; what is wrong with it is named.
        TaxonomyError: the taxonomy does not have the file's number of classes or things, or its things
            do not follow one another.
    """
    name = os.fspath(path)
    official = read_state_dict(path)
    prefix = _prefix(official, name)
    if taxonomy is None:
        taxonomy = Taxonomy.load("cityscapes")
    _check_taxonomy(official, prefix, taxonomy, name)
    config = NetworkConfig.preset("published", backbone=_backbone(official, prefix, name))
    network = PanopticNetwork(config, taxonomy)
    network.load_state_dict(convert_state_dict(official, network, name), strict=True)
    return network.eval().requires_grad_(False)


def _prefix(official: Mapping[str, Tensor], origin: str) -> str:
    for key in official:
        if key == _ANCHOR or key.endswith("." + _ANCHOR):
            return key[: -len(_ANCHOR)]
    first = ", ".join(list(official)[:3])
    raise CheckpointError(
        f"{origin}: not the authors' checkpoint: no key ends with {_ANCHOR!r}; it begins with {first}"
    )


def _check_taxonomy(
    official: Mapping[str, Tensor], prefix: str, taxonomy: Taxonomy, origin: str
) -> None:
    for key, what, count in (
        ("panoptic_head.cls_logits.weight", "classes", len(taxonomy)),
        ("panoptic_head.box_cls_logits.weight", "things", len(taxonomy.thing_ids)),
    ):
        weight = official.get(prefix + key)
        if weight is not None and weight.ndim == 4 and weight.shape[0] != count:
            raise TaxonomyError(
                f"{origin}: its head has {weight.shape[0]} {what}, taxonomy {taxonomy.name!r} has "
                f"{count}; give the one that it was trained with"
            )
    things = taxonomy.thing_ids
    if things and things != tuple(range(things[0], things[0] + len(things))):
        raise TaxonomyError(
            f"taxonomy {taxonomy.name!r}: its things are the classes {list(things)}; "
            "in the authors' checkpoints they follow one another"
        )


def _backbone(official: Mapping[str, Tensor], prefix: str, origin: str) -> str:
    pattern = re.compile(re.escape(prefix) + r"backbone\.body\.layer3\.(\d+)\.conv(\d)\.weight")
    found = [match for key in official if (match := pattern.fullmatch(key))]
    blocks = len({match[1] for match in found})
    bottleneck = any(match[2] == "3" for match in found)
    try:
        return _BACKBONES[blocks, bottleneck]
    except KeyError:
        raise CheckpointError(
            f"{origin}: its backbone has {blocks} {'bottlenecks' if bottleneck else 'blocks'} in "
            f"layer3; known are ResNets: {', '.join(_BACKBONES.values())}"
        ) from None
