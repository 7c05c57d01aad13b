"""ImageNet weights for the backbones, from files at hand; nothing is downloaded."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rt_panoptic_core.errors import CheckpointError
from rt_panoptic_core.network.panoptic_network import PanopticNetwork

_GLUON_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "running_mean": "running_mean",
    "running_var": "running_var",
}


def load_backbone_weights(
    network: PanopticNetwork, path: str | os.PathLike[str] | None = None
) -> Path:
    """Load ImageNet weights into the backbone of ``network``; the file they came from.

    Takes ``.pth`` and ``.safetensors`` with torchvision's names (the classifier is left aside) and
    ``.npz`` with MXNet's names for ``mobilenet_v2_expanded``. Without ``path``, torchvision's file for
    the backbone is looked for in PyTorch's hub cache.

    Raises:
        CheckpointError: no file, an unreadable one, or weights of another backbone; the way to get the
            right file is named.
    """
    backbone = network.config.backbone
    source = _in_hub_cache(backbone) if path is None else Path(path)
    if not source.is_file():
        raise CheckpointError(f"{source}: no such file; give ImageNet weights of {backbone}")
    tensors = _read(source)
    own = {
        key: value
        for key, value in network.backbone.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    missing = [key for key in own if key not in tensors]
    if missing:
        raise CheckpointError(
            f"{source}: not weights of {backbone}: {len(missing)} of {len(own)} are missing, "
            f"first {missing[0]!r}"
        )
    for key, value in own.items():
        if tensors[key].shape != value.shape:
            raise CheckpointError(
                f"{source}: {key!r} is {list(tensors[key].shape)}, {backbone} has "
                f"{list(value.shape)}"
            )
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(tensors[key])
    return source


def _in_hub_cache(backbone: str) -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    found = sorted(folder.glob(f"{backbone}-*.pth"))
    if not found:
        raise CheckpointError(
            f"{folder}: no ImageNet weights of {backbone} ({backbone}-*.pth); put torchvision's file "
            "there, or name one with 'backbone_weights'"
        )
    return found[-1]


def _read(source: Path) -> dict[str, Tensor]:
    try:
        if source.suffix == ".npz":
            with np.load(source, allow_pickle=False) as arrays:
                return _from_gluon({name: arrays[name] for name in arrays.files})
        if source.suffix == ".safetensors":
            return load_file(source)
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except (
        OSError,
        ValueError,
        RuntimeError,
        SafetensorError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        EOFError,
    ) as error:
        raise CheckpointError(f"{source}: not readable as weights: {error}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{source}: it holds {type(loaded).__name__}, not named weights")
    return {key: value for key, value in loaded.items() if isinstance(value, Tensor)}


def _from_gluon(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Tensor]:
    """MXNet's MobileNetV2 names as torchvision's, for the layout ``mobilenet_v2_expanded``.

    ``…features_linearbottleneck3_conv1_weight`` is convolution 1 (of expansion, depthwise, projection) of
    inverted residual 3, which is ``features.4``. The last 1280-channel layer is left out.
    """
    pattern = re.compile(
        r"^mobilenetv2\d+_features_(?:linearbottleneck(\d+)_)?(conv|batchnorm)(\d+)_(\w+)$"
    )
    result: dict[str, Tensor] = {}
    for name, array in arrays.items():
        match = pattern.match(name)
        if match is None:
            continue
        block, kind, number, part = match.groups()
        index = int(number)
        if block is None:
            if index != 0:
                continue
            prefix = "features.0." + ("0" if kind == "conv" else "1")
        elif index < 2:
            prefix = f"features.{int(block) + 1}.conv.{index}." + ("0" if kind == "conv" else "1")
        else:
            prefix = f"features.{int(block) + 1}.conv." + ("2" if kind == "conv" else "3")
        suffix = "weight" if kind == "conv" else _GLUON_NORM[part]
        result[f"{prefix}.{suffix}"] = torch.from_numpy(np.ascontiguousarray(array))
    return result
