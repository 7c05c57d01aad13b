"""A training run in one YAML file.

Sections are dataclasses; every key is checked when the file is read, before anything is loaded.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rt_panoptic_core.datasets.augmentation import AugmentationConfig
from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.network.config import NetworkConfig, config_from_dict, suggestion
from rt_panoptic_core.training.criterion import LossConfig

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
OPTIMIZERS = ("sgd", "adamw")
STORED = ("float32", "float16")
SCHEDULES = ("steps", "cosine", "poly")

_LARGEST_SEED = 2**32 - 1
"""As NumPy has it."""


@dataclass(frozen=True)
class SourceConfig:
    """One data set of a mixture.

    Attributes:
        name: by which its measures are reported; the kind where empty.
        kind: as :func:`~rt_panoptic_core.datasets.registry.open_dataset` takes it.
        root: its folder; ``$KEY`` stands for ``data.KEY``.
        split: ``train``, ``val``, …
        weight: share of the draws relative to the other sources.
        limit: only the first so many samples; 0 for all.
        cached: its samples are slow to make: keep them in ``data.cache``.
        options: more arguments of the kind.
    """

    name: str = ""
    kind: str = ""
    root: str = ""
    split: str = "train"
    weight: float = 1.0
    limit: int = 0
    cached: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name, or its kind."""
        return self.name or self.kind


@dataclass(frozen=True)
class DataConfig:
    """What is read, and how.

    Attributes:
        train, validation: mixtures; the first validation source with instances decides which checkpoint
            is the best.
        roots: folders by key (``cityscapes_root``, …), named in sources as ``$cityscapes_root``. In YAML and
            on the command line they stand directly under ``data``.
        workers: processes that prepare batches; 0 prepares them in the training process.
        prefetch: batches ahead of each worker.
        cache: folder where samples of sources with ``cached`` are kept; empty for none.
    """

    train: tuple[SourceConfig, ...] = ()
    validation: tuple[SourceConfig, ...] = ()
    roots: dict[str, str] = field(default_factory=dict)
    workers: int = 1
    prefetch: int = 2
    cache: str = ""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one of them is out of range.
        """
        for name, least in (("workers", 0), ("prefetch", 1)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"data.{name} {value}: it must be at least {least}")

    def root_of(self, source: SourceConfig) -> str | None:
        """Folder of a source, its ``$KEY`` replaced.

        Raises:
            ConfigError: the key has no value.
        """
        if not source.root.startswith("$"):
            return source.root or None
        key = source.root[1:]
        value = self.roots.get(key, "")
        if not value:
            raise ConfigError(
                f"data.{key} is not set: the folder of {source.label!r}; give --set data.{key}=FOLDER"
            )
        return value


@dataclass(frozen=True)
class OptimizationConfig:
    """Optimizer, schedule and precision.

    Attributes:
        batch_size: samples of one step of one process.
        accumulate: steps whose gradients are summed before an update.
        steps: updates of the whole run.
        hours: the run ends after so many hours even if updates are left, and its schedule is squeezed into
            them; interruptions do not count, the evaluation at the end comes on top. 0 for no limit.
        optimizer: ``sgd`` (momentum) or ``adamw``.
        learning_rate: after the warm-up.
        backbone_factor: factor of the learning rate for the backbone.
        momentum: of SGD.
        weight_decay: not for norms and biases where ``decay_norms`` is False.
        decay_norms: see above; the paper's code of that time decayed everything.
        warmup: updates in which the rate rises linearly from ``warmup_factor``.
        schedule: ``steps`` (times ``gamma`` at each of ``milestones``), ``cosine`` or ``poly`` (power 0.9).
        clip: largest gradient norm; 0 for no clipping.
        ema: decay of the averaged weights, which are evaluated and shipped; 0 for none.
        precision: ``32-true``, ``bf16-mixed``, ``16-mixed``, or ``auto`` for the fastest here.
        channels_last: memory layout of images and convolutions.
        frozen_stages: of a ResNet, 1 keeps the stem fixed, 2 the first stage too, …
    """

    batch_size: int = 1
    accumulate: int = 1
    steps: int = 48_000
    hours: float = 0.0
    optimizer: str = "sgd"
    learning_rate: float = 0.013
    backbone_factor: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_norms: bool = True
    warmup: int = 1000
    warmup_factor: float = 0.01
    schedule: str = "steps"
    milestones: tuple[int, ...] = (36_000, 44_000)
    gamma: float = 0.1
    clip: float = 0.0
    ema: float = 0.0
    precision: str = "32-true"
    channels_last: bool = True
    frozen_stages: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "steps"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"optimization.{name} {getattr(self, name)}: it must be at least 1"
                )
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"optimization.{name} {getattr(self, name)!r}: unknown; one of {', '.join(known)}"
                )
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(
                f"optimization.learning_rate {self.learning_rate}: it must be above 0, and finite"
            )
        for name in ("ema", "momentum"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ConfigError(f"optimization.{name} {value}: it must be at least 0 and below 1")
        for name in ("hours", "weight_decay", "backbone_factor", "warmup", "gamma", "clip"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"optimization.{name} {value}: it must be at least 0, and finite")
        if not 0 <= self.warmup_factor <= 1:
            raise ConfigError(
                f"optimization.warmup_factor {self.warmup_factor}: it must be from 0 to 1"
            )
        if any(type(update) is not int or update < 1 for update in self.milestones):
            raise ConfigError(
                f"optimization.milestones {list(self.milestones)}: each must be a whole number from 1 on"
            )
        if not 0 <= self.frozen_stages <= 5:
            raise ConfigError(f"optimization.frozen_stages {self.frozen_stages}: 0 to 5")


@dataclass(frozen=True)
class EvaluationConfig:
    """Measuring and keeping while training.

    Attributes:
        every: updates between two evaluations; 0 for one at the end only.
        checkpoint_every: updates between two writes of the checkpoint to resume from.
        pictures: results of so many samples of each validation source go to ``pictures/`` and TensorBoard.
        log_every: updates between two logged losses.
    """

    every: int = 1000
    checkpoint_every: int = 200
    pictures: int = 4
    log_every: int = 20

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one of them is out of range.
        """
        for name, least in (
            ("every", 0),
            ("checkpoint_every", 1),
            ("pictures", 0),
            ("log_every", 1),
        ):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"evaluation.{name} {value}: it must be at least {least}")


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run.

    Attributes:
        name: of the run.
        seed: of everything that is drawn.
        taxonomy: built-in name or YAML file.
        output: folder of checkpoints, logs and the final model.
        backbone_weights: a file; ``hub`` for torch's hub cache; empty for random weights.
        initial_checkpoint: an earlier model to start from, a file or a shipped model's name; empty for none.
            Its classes may be others: those with a name in common keep their weights.
        stored: number format of the written models' weights, ``float32`` or ``float16``.
        metadata: texts for the header of the model, for example ``licence``.
    """

    name: str = "run"
    seed: int = 0
    taxonomy: str = "cityscapes"
    output: str = "runs/run"
    backbone_weights: str = "hub"
    initial_checkpoint: str = ""
    stored: str = "float32"
    metadata: dict[str, str] = field(default_factory=dict)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if not self.data.train:
            raise ConfigError("data.train: empty; name at least one data set")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise ConfigError(f"seed {self.seed}: it must be from 0 to {_LARGEST_SEED}")
        pixels = self.metadata.get("pixels", "0")
        if not (pixels.isascii() and pixels.isdecimal()):
            raise ConfigError(f"metadata.pixels {pixels!r}: it must be a whole number")
        if self.stored not in STORED:
            raise ConfigError(f"stored {self.stored!r}: one of {', '.join(STORED)}")
        if self.losses.mask > 0 and not self.network.levelness:
            raise ConfigError("losses.mask needs network.levelness; set losses.mask to 0")

    @property
    def batches_per_log(self) -> int:
        """Batches between two logged losses."""
        return self.evaluation.log_every * self.optimization.accumulate

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as YAML holds it."""
        plain = dataclasses.asdict(self)
        plain["data"].update(plain["data"].pop("roots"))
        result = _plain(plain)
        assert isinstance(result, dict)
        return result


def load_config(path: str | os.PathLike[str], changes: Sequence[str] = ()) -> TrainingConfig:
    """Configuration from a YAML file, with ``section.key=value`` changes.

    Values are YAML; where there is none it is an empty text. A file may name another with
    ``base: other.yaml`` (beside it) and then holds only what differs; lists are replaced, not joined. In
    changes a number names an entry of a list: ``data.train.0.weight=2``.

    Raises:
        ConfigError: unreadable, malformed, an unknown key, a value of the wrong type or out of range.
    """
    data = _read(Path(path))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {change!r}: it must be section.key=value")
        try:
            # The shell takes the quotes of --set cache="" away.
            new = yaml.safe_load(value) if value.strip() else ""
            _assign(data, key.strip().split("."), new, change)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {change!r}: not YAML: {error}") from error
    try:
        return config_from(data)
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from error


def config_from(data: Mapping[str, Any]) -> TrainingConfig:
    """Configuration from plain data, as :meth:`TrainingConfig.to_dict` gives it.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of range.
    """
    values = dict(data)
    sections: dict[str, Any] = {}
    for name, kind in (("network", NetworkConfig), ("inference", InferenceConfig)):
        section = _section(values.pop(name, {}), name)
        preset = section.pop("preset", "paper")
        sections[name] = kind.preset(preset, **section)
    for name, plain in (
        ("augmentation", AugmentationConfig),
        ("losses", LossConfig),
        ("optimization", OptimizationConfig),
        ("evaluation", EvaluationConfig),
    ):
        sections[name] = config_from_dict(plain, _section(values.pop(name, {}), name), name)
    sections["data"] = _data(_section(values.pop("data", {}), "data"))
    known = {f.name for f in dataclasses.fields(TrainingConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r}; {suggestion(unknown[0], known)}")
    for name, expected, meaning in (
        ("name", str, "a text"),
        ("seed", int, "a whole number"),
        ("taxonomy", str, "the name of a built-in taxonomy or a YAML file"),
        ("output", str, "a folder"),
        ("backbone_weights", str, "a file, 'hub' or empty"),
        ("initial_checkpoint", str, "a file, a shipped model's name or empty"),
        ("stored", str, "a text"),
        ("metadata", dict, "a section of keys and texts"),
    ):
        if name in values and type(values[name]) is not expected:
            raise ConfigError(f"{name}: {values[name]!r}; it must be {meaning}")
    if "metadata" in values:
        # A file's header holds texts; numbers are how YAML reads some of them.
        values["metadata"] = {str(k): _text(v) for k, v in values["metadata"].items()}
    return TrainingConfig(**values, **sections)


def _data(section: dict[str, Any]) -> DataConfig:
    roots = {key: section.pop(key) or "" for key in list(section) if key.endswith("_root")}
    for name in ("train", "validation"):
        listed = section.get(name, [])
        if not isinstance(listed, list):
            raise ConfigError(f"data.{name}: {listed!r}; it must be a list of data sets")
        section[name] = [_source(item, f"data.{name}[{n}]") for n, item in enumerate(listed)]
    config: DataConfig = config_from_dict(DataConfig, {**section, "roots": {}}, "data")
    named = {s.root.removeprefix("$") for s in (*config.train, *config.validation)}
    for key, folder in roots.items():
        # One that a file inherits and does not use is empty.
        if folder and key not in named:
            raise ConfigError(f"data.{key}: no data set has the root ${key}; {_of(named)}")
    return dataclasses.replace(config, roots={k: str(v) for k, v in roots.items()})


def _of(roots: set[str]) -> str:
    used = sorted(f"data.{root}" for root in roots if root.endswith("_root"))
    return f"those in use are {', '.join(used)}" if used else "none of them has one"


def _source(item: Any, where: str) -> SourceConfig:
    section = _section(item, where)
    options = section.pop("options", {})
    source: SourceConfig = config_from_dict(SourceConfig, section, where)
    if not source.kind:
        raise ConfigError(f"{where}: it has no 'kind'")
    if not 0 < source.weight < math.inf:
        raise ConfigError(f"{where}: weight {source.weight}; it must be above 0, and finite")
    if source.limit < 0:
        raise ConfigError(
            f"{where}: limit {source.limit}; it must be positive, or 0 for all samples"
        )
    return dataclasses.replace(source, options=_section(options, f"{where}.options"))


def _section(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: {value!r}; it must be a section of keys and values")
    return dict(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a readable YAML file: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: it must hold sections of keys and values")
    base = data.pop("base", None)
    if base is None:
        return data
    file = path.parent / str(base)
    if not file.is_file():
        raise ConfigError(
            f"{path}: its 'base: {base}' is not there: {file}; copy that file beside it, or write the path"
        )
    return _merge(_read(file), data)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        raise ConfigError(f"metadata: {value!r}; it must be a text")
    return str(value)


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _assign(data: dict[str, Any], keys: list[str], value: Any, change: str) -> None:
    place: Any = data
    for position, name in enumerate(keys):
        key: Any = name
        outer = ".".join(keys[:position])
        if isinstance(place, list):
            if not (name.isascii() and name.isdecimal() and int(name) < len(place)):
                raise ConfigError(
                    f"--set {change!r}: {outer} is a list of {len(place)}; its entries are {outer}.0, …"
                )
            key = int(name)
        elif not isinstance(place, dict):
            raise ConfigError(f"--set {change!r}: {outer} is no section")
        if position == len(keys) - 1:
            place[key] = value
        else:
            place = place[key] if isinstance(place, list) else place.setdefault(key, {})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
