"""A training run from its configuration to its model."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from rt_panoptic_core.checkpoint import load_checkpoint, load_weights
from rt_panoptic_core.errors import PanopticError, TrainingError
from rt_panoptic_core.files import write_text
from rt_panoptic_core.network.backbone_weights import load_backbone_weights
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.callbacks import (
    Curves,
    DataWait,
    ExponentialAverage,
    ModelWriter,
    Pictures,
    Progress,
    checkpoints,
)
from rt_panoptic_core.training.configuration import TrainingConfig, config_from
from rt_panoptic_core.training.data import PanopticDataModule
from rt_panoptic_core.training.module import PanopticModule

# What a run leaves in its folder.
_OUTPUTS = (
    *("last.ckpt", "best.ckpt", "best.safetensors", "final.safetensors"),
    *("history.json", "configuration.yaml", "pictures", "tensorboard"),
)
_CHATTER = ("Tip:", "TPU available", "HPU available", "litlogger", "`Trainer.fit` stopped")


@dataclass(frozen=True)
class TrainingResult:
    """What a run left behind.

    Attributes:
        measures: of the last evaluation, by validation set and name.
        evaluations: all of them with their steps and seconds.
        data_wait: share of the time that training waited for data.
        model: the final model's file.
        network: with the weights of ``model``.
    """

    measures: dict[str, dict[str, float]]
    evaluations: list[dict[str, Any]]
    data_wait: float
    model: Path
    network: PanopticNetwork


def build_network(
    config: TrainingConfig, taxonomy: Taxonomy, *, weights: bool = True
) -> PanopticNetwork:
    """The network of a run at its start.

    Raises:
        CheckpointError: the backbone's or the initial weights are not there or do not fit.
    """
    network = PanopticNetwork(config.network, taxonomy)
    if not weights:
        return network
    if config.initial_checkpoint:
        start = load_checkpoint(config.initial_checkpoint)
        load_weights(network, start.network.state_dict(), config.initial_checkpoint)
    elif config.backbone_weights:
        source = None if config.backbone_weights == "hub" else config.backbone_weights
        load_backbone_weights(network, source)
    return network


def train(
    config: TrainingConfig,
    *,
    resume: bool = True,
    progress: bool = True,
    devices: int | str = "auto",
    accelerator: str = "auto",
    nodes: int = 1,
    callbacks: Sequence[L.Callback] = (),
) -> TrainingResult:
    """Train as configured and return what came out.

    With ``resume``, a run whose ``output`` holds ``last.ckpt`` goes on from there, and ends exactly where it
    would have ended without the interruption (on the CPU bit by bit). Without, what such a run left is
    removed, and nothing else that lies in ``output``.

    Raises:
        DatasetError: files of the data sets are missing or unreadable.
        TrainingError: the loss or a gradient is not finite, or ``output`` holds another run.
    """
    _drop_chatter()
    folder = Path(config.output)
    last = folder / "last.ckpt"
    resumed = resume and last.is_file()
    L.seed_everything(config.seed, workers=False, verbose=False)
    taxonomy = Taxonomy.load(config.taxonomy)
    data = PanopticDataModule(config, taxonomy)
    if resumed:
        _check_same_run(last, config)
    elif not resume:
        _remove_outputs(folder)
    network = build_network(config, taxonomy, weights=not resumed)
    if config.optimization.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = PanopticModule(network, config)
    write_text(folder / "configuration.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False))

    _announce(config, data, network, resumed)
    curves, wait = Curves(folder), DataWait()
    extra: list[L.Callback] = [*callbacks, *checkpoints(folder, config)]
    if config.optimization.ema:
        extra.append(ExponentialAverage(config.optimization.ema))
    if config.evaluation.pictures and config.data.validation:
        extra.append(Pictures(folder, config.evaluation.pictures))
    if progress:
        extra.append(Progress(config.name))
    settings = config.optimization
    every = config.evaluation.every or settings.steps
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        # Plain DDP serves: sums over nothing are sums too, so every parameter has a gradient in every batch.
        strategy="auto",
        precision=settings.precision,  # type: ignore[arg-type]
        max_steps=settings.steps,
        max_epochs=1,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip or None,
        val_check_interval=every * settings.accumulate if config.data.validation else None,
        check_val_every_n_epoch=None if config.data.validation else 1,
        limit_val_batches=None if config.data.validation else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=config.evaluation.log_every,
        use_distributed_sampler=False,
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        callbacks=[
            wait,
            LearningRateMonitor("step"),
            *extra,
            curves,
            ModelWriter(folder, config),
        ],
        enable_progress_bar=progress,
        enable_model_summary=False,
        enable_checkpointing=True,
    )
    with warnings.catch_warnings():
        # The sampler takes care of resuming in mid-epoch, which the loop cannot know.
        warnings.filterwarnings("ignore", ".*resum.*")
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        warnings.filterwarnings("ignore", ".*checkpoint directory .* exists.*")
        try:
            trainer.fit(module, data, ckpt_path=str(last) if resumed else None, weights_only=True)
        except PanopticError as error:
            raise _without_worker(error) from error
    if trainer.interrupted:
        raise KeyboardInterrupt
    if config.data.validation and settings.steps % every:
        # The last updates came after the last evaluation.
        trainer.validate(module, data, verbose=False)
    return TrainingResult(
        module.results, curves.evaluations, wait.share, folder / "final.safetensors", network
    )


@rank_zero_only
def _remove_outputs(folder: Path) -> None:
    """Remove by their names what an earlier run left, so that the folder tells of one run."""
    for name in _OUTPUTS:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _drop_chatter() -> None:
    """Keep what Lightning says about the run, drop what it says about itself."""
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        # The same function: a second run in the process adds nothing.
        logging.getLogger(name).addFilter(_is_about_the_run)


def _is_about_the_run(record: logging.LogRecord) -> bool:
    return not any(word in record.getMessage() for word in _CHATTER)


def _without_worker(error: PanopticError) -> PanopticError:
    """The error without the worker's traceback that the loader wraps around its text."""
    text = str(error)
    if "Original Traceback" not in text:
        return error
    return type(error)(text.rpartition(f"{type(error).__name__}: ")[2].strip())


def _announce(
    config: TrainingConfig, data: PanopticDataModule, network: PanopticNetwork, resumed: bool
) -> None:
    """Say once what is about to happen."""
    sources = ", ".join(
        f"{source.label} {length}"
        for source, length in zip(config.data.train, data.train_lengths, strict=True)
    )
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    settings = config.optimization
    rank_zero_info(
        f"{config.name}: {config.network.backbone}, {millions:.1f} M parameters; samples: {sources}; "
        f"{settings.steps} updates of {settings.batch_size} x {settings.accumulate} a process, "
        f"{settings.precision}; output {config.output}"
        + (", going on from its last.ckpt" if resumed else "")
    )


def _check_same_run(last: Path, config: TrainingConfig) -> None:
    """Refuse to continue a run under settings that would make it another one."""
    stored = torch.load(last, map_location="cpu", weights_only=True, mmap=True)
    before = config_from(stored["configuration"])
    # Longer, elsewhere, watched differently: still the same run.
    for name in ("network", "taxonomy", "seed", "augmentation", "losses"):
        if getattr(before, name) != getattr(config, name):
            raise TrainingError(
                f"{last}: it was trained with another {name!r}; choose another 'output', or train "
                "from the start with --restart"
            )
    same = replace(config.optimization, steps=before.optimization.steps, precision="32-true")
    if same != replace(before.optimization, precision="32-true"):
        warnings.warn(f"{last}: the run goes on with changed 'optimization' settings", stacklevel=2)
