"""Checkpoints: a network's weights with all that is needed to use them, in one safetensors file.

The header holds JSON: the network's configuration, the taxonomy, the inference settings, the licence and
whatever the maker added. Reading one never executes anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rt_panoptic_core.errors import CheckpointError
from rt_panoptic_core.files import write_bytes
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy

FORMAT = "rt_panoptic/1"
DEFAULT_MODEL = "street"
"""Name of the shipped model that is used where none is named."""

_FORMAT_NAME = FORMAT.partition("/")[0]
_HEADER_KEYS = ("network", "taxonomy", "inference")
_STORED = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_PIXEL_DIGITS = 13


class ForeignFormatError(CheckpointError):
    """A safetensors file that can be read, and is none of this package's checkpoints of any version."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        network: in evaluation mode, float32, on the CPU, without gradients.
        inference: its settings.
        metadata: texts from the header: ``licence``, ``description``, what the maker added.
        path: of the file.
        digest: SHA-256 of the file, hexadecimal.
    """

    network: PanopticNetwork
    inference: InferenceConfig
    metadata: Mapping[str, str]
    path: Path
    digest: str = field(repr=False)

    @property
    def config(self) -> NetworkConfig:
        """The network's configuration."""
        return self.network.config

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes it predicts."""
        return self.network.taxonomy

    @property
    def name(self) -> str:
        """The file's name without suffix."""
        return self.path.stem

    @property
    def pixels(self) -> int:
        """Pixels of the images that it was trained for; 0 where its header does not say.

        Raises:
            CheckpointError: the header says something else than a number.
        """
        text = self.metadata.get("pixels", "0")
        if not (text.isascii() and text.isdecimal() and len(text) < _PIXEL_DIGITS):
            raise CheckpointError(
                f"{self.path}: 'pixels' in its header is {text!r}; it must be a whole number"
            )
        return int(text)


def save_checkpoint(
    path: str | os.PathLike[str],
    network: PanopticNetwork,
    *,
    inference: InferenceConfig,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write ``network`` and its settings to ``path`` atomically.

    Args:
        metadata: texts for the header, for example ``licence`` and ``description``.
        dtype: of the stored floating-point weights; ``torch.float16`` halves the file.

    Raises:
        CheckpointError: a weight is not finite, or overflows ``dtype``.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in _weights(network.state_dict()).items():
        stored = value.detach().cpu()
        if stored.is_floating_point():
            stored = stored.to(dtype)
            if not torch.isfinite(stored).all():
                raise CheckpointError(
                    f"{os.fspath(path)}: weight {key!r} is not finite as {dtype}; not written"
                )
        tensors[key] = stored.contiguous()
    header = {
        **(metadata or {}),
        "format": FORMAT,
        "network": json.dumps(network.config.to_dict()),
        "taxonomy": json.dumps(network.taxonomy.to_dict()),
        "inference": json.dumps(inference.to_dict()),
    }
    # Not save_file(), which makes a file of its own.
    write_bytes(path, save(tensors, metadata=header))


def load_checkpoint(path: str | os.PathLike[str] | None = None) -> Checkpoint:
    """The checkpoint at ``path``, of the shipped model with that name, or the default model for None.

    Raises:
        CheckpointError: no such file or model, not a checkpoint of this package, truncated, or its weights
            are missing, unknown, of another shape or not finite; the file and the key are named.
    """
    source = find_model(path)
    name = str(source)
    try:
        with safe_open(source, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        if source.suffix == ".engine":
            raise CheckpointError(
                f"{name}: an engine, which holds a model for one size and precision; name the checkpoint "
                "that it was built from. Engines are taken from the engine cache (docs/engines.md)"
            ) from error
        if source.suffix == ".onnx":
            raise CheckpointError(
                f"{name}: an ONNX graph, which 'rt-panoptic export' writes for other programs; name the "
                "checkpoint that it was made of"
            ) from error
        if source.suffix == ".ckpt":
            raise CheckpointError(
                f"{name}: what a training goes on from, not its model; {_models_in(source.parent)}"
            ) from error
        raise CheckpointError(
            f"{name}: not a readable safetensors file ({error}); "
            "convert a .pth with 'rt-panoptic convert-checkpoint', or copy the file again"
        ) from error
    _check_format(header, name)
    config, taxonomy, inference = _settings(header, name)
    network = PanopticNetwork(config, taxonomy)
    load_weights(network, tensors, name)
    texts = {k: _harmless(v) for k, v in header.items() if k not in (*_HEADER_KEYS, "format")}
    network.eval().requires_grad_(False)
    return Checkpoint(network, inference, texts, source, _digest(source))


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Header of a checkpoint without its weights: texts, and the parsed network, taxonomy, inference.

    Raises:
        ForeignFormatError: a safetensors file of somebody else.
        CheckpointError: it cannot be read, is truncated, of another version, or its header is malformed.
    """
    name = os.fspath(path)
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{name}: not a readable safetensors file ({error}); copy the file again, or remove it"
        ) from error
    _check_format(header, name)
    _settings(header, name)
    texts = {key: _harmless(text) for key, text in header.items()}
    return {**texts, **{key: json.loads(header[key]) for key in _HEADER_KEYS}}


def _check_format(header: Mapping[str, str], name: str) -> None:
    found = header.get("format")
    if found == FORMAT:
        return
    if str(found).partition("/")[0] == _FORMAT_NAME:
        raise CheckpointError(
            f"{name}: format {found!r}, this version reads {FORMAT!r}; use the version of the package that "
            "wrote it, or a newer one"
        )
    raise ForeignFormatError(
        f"{name}: a safetensors file, but no model of this package; of other networks the authors' .pth "
        "alone can be converted: rt-panoptic convert-checkpoint IN.pth OUT.safetensors"
    )


def shipped_models() -> dict[str, Path]:
    """Path by name of the models that come with the package, the default model first."""
    folder = Path(str(resources.files("rt_panoptic_core"))) / "models"
    found = {file.stem: file for file in sorted(folder.glob("*.safetensors"))}
    return dict(sorted(found.items(), key=lambda item: item[0] != DEFAULT_MODEL))


def find_model(path: str | os.PathLike[str] | None) -> Path:
    """File of a model given by path, by the name of a shipped model, or None for the default.

    Raises:
        CheckpointError: there is none; the shipped ones are listed.
    """
    shipped = shipped_models()
    name = DEFAULT_MODEL if path is None else os.fspath(path)
    if name in shipped:
        return shipped[name]
    if Path(name).is_file():
        return Path(name)
    if Path(name).is_dir():
        raise CheckpointError(f"{name}: a folder, no model; {_models_in(Path(name))}")
    listed = ", ".join(shipped) or "none"
    raise CheckpointError(f"{name}: no such file, nor a shipped model (those are: {listed})")


def _models_in(folder: Path) -> str:
    """Which models there are in ``folder``, to be named instead of something else in it."""
    found = ", ".join(str(file) for file in sorted(folder.glob("*.safetensors")))
    return f"the models there are {found}" if found else "there is no .safetensors there yet"


def load_weights(network: PanopticNetwork, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Copy ``tensors`` into ``network``, all of them and nothing else.

    Raises:
        CheckpointError: keys are missing, unknown, of another shape, or hold numbers that are not finite;
            ``origin`` and the first keys are named.
    """
    own = _weights(network.state_dict())
    # Running batch statistics come with a counter, which is no weight: frozen ones are loaded from them too.
    tensors = _weights(tensors)
    problems = []
    missing = [key for key in own if key not in tensors]
    extra = [key for key in tensors if key not in own]
    shapes = [
        f"{key} {list(tensors[key].shape)} instead of {list(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    if missing:
        problems.append(f"{len(missing)} missing: {_some(missing)}")
    if extra:
        problems.append(f"{len(extra)} unknown: {_some(extra)}")
    if shapes:
        problems.append(f"{len(shapes)} of another shape: {_some(shapes)}")
    if problems:
        raise CheckpointError(
            f"{origin}: the weights do not fit the network ({'; '.join(problems)}); "
            "check the backbone, the widths and the taxonomy"
        )
    kinds = [f"{key} {tensors[key].dtype}" for key in own if tensors[key].dtype not in _STORED]
    if kinds:
        raise CheckpointError(
            f"{origin}: {len(kinds)} weights are of a type that none has: {_some(kinds)}; "
            f"one of {', '.join(map(str, _STORED))}"
        )
    tensors = {key: tensors[key].to(own[key].dtype) for key in own}
    bad = [key for key in own if not torch.isfinite(tensors[key]).all()]
    if bad:
        raise CheckpointError(
            f"{origin}: {len(bad)} weights hold NaN or infinity: {_some(bad)}; "
            "training diverged, take an earlier checkpoint"
        )
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(tensors[key])


def _weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _settings(
    header: Mapping[str, str], name: str
) -> tuple[NetworkConfig, Taxonomy, InferenceConfig]:
    """What the header of the file ``name`` says."""
    try:
        return (
            NetworkConfig.from_dict(json.loads(header["network"])),
            Taxonomy.from_dict(json.loads(header["taxonomy"]), name),
            InferenceConfig.from_dict(json.loads(header["inference"])),
        )
    except KeyError as error:
        raise CheckpointError(f"{name}: its header is malformed: it lacks {error}") from error
    # No JSON, nested without end, or what the settings refuse.
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{name}: its header is malformed: {error}") from error


def _harmless(text: str) -> str:
    """``text`` without what would steer a terminal that it is printed on."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
