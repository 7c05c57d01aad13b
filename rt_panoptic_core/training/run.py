"""A training run from its configuration to its model."""

from __future__ import annotations

import logging
import math
import pickle
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from rt_panoptic_core.checkpoint import load_checkpoint
from rt_panoptic_core.errors import PanopticError, TrainingError
from rt_panoptic_core.files import remove, write_text
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.callbacks import (
    BEST,
    FINAL,
    Curves,
    DataWait,
    ExponentialAverage,
    ModelWriter,
    Pictures,
    Progress,
    Report,
    last_checkpoint,
    written_evaluations,
)
from rt_panoptic_core.training.configuration import (
    DataConfig,
    SourceConfig,
    TrainingConfig,
    config_from,
)
from rt_panoptic_core.training.data import PanopticDataModule
from rt_panoptic_core.training.initial_weights import build_network
from rt_panoptic_core.training.interruption import Interruption
from rt_panoptic_core.training.module import PanopticModule
from rt_panoptic_core.training.output_folder import held_for_the_run
from rt_panoptic_core.training.precision import training_precision
from rt_panoptic_core.training.time_limit import TimeLimit
from rt_panoptic_core.training.unlabelled import Unlabelled

# What a run leaves in its folder.
_OUTPUTS = (
    *("last.ckpt", "best.ckpt", BEST, FINAL),
    *("history.json", "configuration.yaml", "pictures", "tensorboard"),
)
# Settings that a complete run could not heed any more.
_OF_THE_START_OR_END = (
    *("backbone_weights", "initial_checkpoint"),
    *("inference", "stored", "metadata"),
)
_CHATTER = (
    "Tip:",
    "GPU available",
    "TPU available",
    "HPU available",
    "LOCAL_RANK",
    # Advice on products in float32, of which mixed precision leaves few.
    "that has Tensor Cores",
    "litlogger",
    "`Trainer.fit` stopped",
    "Automatic Mixed Precision",
    "Restoring states",
    "Found current_model_state",
    "Restored all states",
    "Bypassing SIGTERM",
    "Detected KeyboardInterrupt",
)
_KNOWN_WARNINGS = (
    # The sampler takes care of resuming in mid-epoch, which the loop cannot know.
    "resum",
    "does not have many workers",
    "LeafSpec",
    "checkpoint directory .* exists",
    # Callbacks come and go with the settings; those that hold something are matched by their names.
    "Be aware that when using `ckpt_path`",
    # A run goes on where its folder was moved to.
    "The dirpath has changed",
    "The number of training batches",
)


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


def train(
    config: TrainingConfig,
    *,
    resume: bool = True,
    progress: bool = True,
    quiet: bool = False,
    devices: int | str = "auto",
    accelerator: str = "auto",
    nodes: int = 1,
    callbacks: Sequence[L.Callback] = (),
) -> TrainingResult:
    """Train as configured and return what came out.

    With ``resume``, a run whose ``output`` holds ``last.ckpt`` goes on from there, and ends exactly where it
    would have ended without the interruption (on the CPU bit by bit). Without, what such a run left is
    removed once nothing stands in the way of the new one, which may begin with its weights, and nothing else
    that lies in ``output``. With ``progress`` there is a bar, without it a line now and then for a log, and
    nothing with ``quiet``.

    Raises:
        DatasetError: files of the data sets are missing or unreadable.
        TrainingError: the loss or a gradient is not finite, ``output`` holds another run or one writes to it
            at this moment, or there is no such accelerator.
        TrainingInterruptedError: SIGINT, SIGTERM or SIGHUP came.
        KeyboardInterrupt: it came again, before the update at hand was done.
    """
    _drop_chatter()
    precision = training_precision(
        config.optimization.precision, accelerator, config.augmentation.crop
    )
    config = replace(config, optimization=replace(config.optimization, precision=precision))
    folder = Path(config.output)
    L.seed_everything(config.seed, workers=False, verbose=False)
    taxonomy = Taxonomy.load(config.taxonomy)
    data = PanopticDataModule(config, taxonomy)
    curves, wait = Curves(folder), DataWait()
    trainer = _trainer(
        config,
        [*callbacks, wait, curves],
        progress=progress,
        quiet=quiet,
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
    )
    # The other processes of the same run are let in.
    with held_for_the_run(folder) if trainer.is_global_zero else nullcontext():
        return _train(config, taxonomy, data, trainer, curves, wait, resume=resume)


def _train(
    config: TrainingConfig,
    taxonomy: Taxonomy,
    data: PanopticDataModule,
    trainer: L.Trainer,
    curves: Curves,
    wait: DataWait,
    *,
    resume: bool,
) -> TrainingResult:
    """:func:`train` in a folder that no other run writes to."""
    folder = Path(config.output)
    last = folder / "last.ckpt"
    resumed = resume and last.is_file()
    updates_left, complete, done, hours = True, False, 0, 0.0
    if resumed:
        before, done, hours = _check_same_run(last, config, taxonomy)
        updates_left = done < config.optimization.steps and not (
            0 < config.optimization.hours <= hours
        )
        complete = not updates_left and (folder / FINAL).is_file()
        _tell_changes(before, config, complete=complete)
    if complete:
        return _complete_already(folder, config, done, hours)
    # The first process hands its weights on to the others, which start when the files may be gone.
    network = build_network(config, taxonomy, weights=not resumed and trainer.is_global_zero)
    if config.optimization.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = PanopticModule(network, config)
    if not resume:
        # Not before all is loaded: weights and terms may come from these files.
        _remove_outputs(folder)
    write_text(folder / "configuration.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False))
    _announce(config, data, network, resumed)
    with warnings.catch_warnings(), _interrupts(), closing(data):
        for words in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", f".*{words}.*")
        try:
            trainer.fit(module, data, ckpt_path=str(last) if resumed else None, weights_only=True)
        except PanopticError as error:
            raise _without_worker(error) from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise TrainingError(
                f"a process that prepares batches died ({error}); usually memory ran out: lower "
                "data.workers or data.prefetch. The same command goes on from the last checkpoint"
            ) from error
        if config.data.validation and trainer.global_step not in curves.steps:
            # The last updates came after the last evaluation.
            trainer.validate(module, data, verbose=False)
    if not updates_left:
        return _complete_already(folder, config, done, hours)
    return TrainingResult(module.results, curves.evaluations, wait.share, folder / FINAL, network)


def _trainer(
    config: TrainingConfig,
    callbacks: Sequence[L.Callback],
    *,
    progress: bool,
    quiet: bool,
    nodes: int,
    **where: Any,
) -> L.Trainer:
    folder, settings = Path(config.output), config.optimization
    evaluated = bool(config.data.validation)
    every = config.evaluation.every or settings.steps
    limit = TimeLimit(settings.hours)
    extra: list[L.Callback] = [limit, *callbacks, Unlabelled()]
    if settings.ema:
        extra.append(ExponentialAverage(settings.ema))
    if config.evaluation.pictures and evaluated:
        extra.append(Pictures(folder, config.evaluation.pictures))
    if progress:
        extra.append(Progress(config.name))
    elif not quiet:
        extra.append(Report(settings.steps, limit))
    return L.Trainer(
        default_root_dir=folder,
        num_nodes=nodes,
        # Plain DDP serves: sums over nothing are sums too, so every parameter has a gradient in every batch.
        strategy="auto",
        precision=settings.precision,  # type: ignore[arg-type]
        max_steps=settings.steps,
        max_epochs=1,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip or None,
        val_check_interval=every * settings.accumulate if evaluated else None,
        check_val_every_n_epoch=None if evaluated else 1,
        limit_val_batches=None if evaluated else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=config.evaluation.log_every,
        use_distributed_sampler=False,
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        callbacks=[
            LearningRateMonitor("step"),
            *extra,
            ModelWriter(folder, config),
            Interruption(
                folder / "last.ckpt",
                accumulate=settings.accumulate,
                evaluation_every=every if evaluated else 0,
            ),
            last_checkpoint(folder, config),
        ],
        enable_progress_bar=progress,
        enable_model_summary=False,
        enable_checkpointing=True,
        **where,
    )


def _complete_already(
    folder: Path, config: TrainingConfig, done: int, hours: float
) -> TrainingResult:
    """What a run left that has made all its updates: nothing is changed."""
    name = "steps" if done >= config.optimization.steps else "hours"
    rank_zero_info(
        f"{config.name}: complete already, {done} updates are done, in {hours:.3g} hours, and "
        f"optimization.{name} is {getattr(config.optimization, name):g}; raise it beyond that to go on, "
        "or begin anew with --restart"
    )
    evaluations = written_evaluations(folder)
    measures = {
        label: {name: math.nan if v is None else v for name, v in values.items()}
        for label, values in (evaluations[-1] if evaluations else {}).items()
        if isinstance(values, dict)
    }
    final = load_checkpoint(folder / FINAL)
    return TrainingResult(measures, evaluations, 0.0, final.path, final.network)


@rank_zero_only
def _remove_outputs(folder: Path) -> None:
    """Remove by their names what an earlier run left, so that the folder tells of one run."""
    for name in _OUTPUTS:
        remove(folder / name)


@contextmanager
def _interrupts() -> Iterator[None]:
    """Give back the KeyboardInterrupt that Lightning makes a SystemExit of, and the handler that it drops."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        interrupt = end.__context__
        if not isinstance(interrupt, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise interrupt from None


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
    hours = f"at most {settings.hours:g} hours, " if settings.hours else ""
    rank_zero_info(
        f"{config.name}: {config.network.backbone}, {millions:.1f} M parameters; samples: {sources}; "
        f"{settings.steps} updates of {settings.batch_size} x {settings.accumulate} a process, "
        f"{hours}{settings.precision}; output {config.output}"
        + (", going on from its last.ckpt" if resumed else "")
    )


def _check_same_run(
    last: Path, config: TrainingConfig, taxonomy: Taxonomy
) -> tuple[TrainingConfig, int, float]:
    """Configuration, updates and hours of ``last``; settings of another run are refused."""
    try:
        stored = torch.load(last, map_location="cpu", weights_only=True, mmap=True)
        before = config_from(stored["configuration"])
        done = int(stored["global_step"])
        clock = stored.get("callbacks", {}).get(TimeLimit.__qualname__, {"seconds": 0.0})
        hours = float(clock["seconds"]) / 3600
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        raise TrainingError(
            f"{last}: no checkpoint to go on from ({type(error).__name__}); train from the start with "
            "--restart"
        ) from error
    # Longer, elsewhere, watched differently: still the same run.
    differing = [
        name
        for name in ("network", "seed", "augmentation", "losses")
        if getattr(before, name) != getattr(config, name)
    ]
    # What the optimizer remembers is by its kind and its groups of weights.
    differing += [
        f"optimization.{name}"
        for name in ("optimizer", "decay_norms", "frozen_stages")
        if getattr(before.optimization, name) != getattr(config.optimization, name)
    ]
    # A label set is what it says, wherever its file lies; older checkpoints have only the file's name.
    if stored.get("taxonomy", before.taxonomy) not in (taxonomy.to_dict(), config.taxonomy):
        differing.append("taxonomy")
    if differing:
        raise TrainingError(
            f"{last}: it was trained with another {differing[0]!r}; choose another 'output', or train "
            "from the start with --restart"
        )
    return before, done, hours


def _tell_changes(before: TrainingConfig, config: TrainingConfig, *, complete: bool) -> None:
    """Say which settings are others than ``before``, where that concerns what the run does, or has done."""
    # How long it is, and what it computes in.
    now = replace(config.optimization, precision="32-true")
    same = now == replace(
        before.optimization, steps=now.steps, hours=now.hours, precision=now.precision
    )
    changed = [] if same else ["optimization"]
    if _sources(before.data, before.data.train) != _sources(config.data, config.data.train):
        changed.append("data.train")
    if not complete:
        if changed:
            rank_zero_info(
                f"note: the run goes on with changed settings in {' and '.join(changed)}; for a run of its "
                "own choose another 'output'"
            )
        return
    # What a run that goes on would take over, or needs no more.
    measured, measures = (_sources(c.data, c.data.validation) for c in (before, config))
    if measured != measures:
        changed.append("data.validation")
    changed += [
        name for name in _OF_THE_START_OR_END if getattr(before, name) != getattr(config, name)
    ]
    if changed:
        rank_zero_info(
            f"note: the run was made with other settings in {' and '.join(changed)}, which are ignored now; "
            "--restart makes it anew"
        )


def _sources(data: DataConfig, sources: Sequence[SourceConfig]) -> list[Any]:
    """What ``sources`` read, with the folders' names."""
    return [
        (
            source.kind,
            source.split,
            source.weight,
            source.limit,
            source.options,
            data.roots.get(key, key),
        )
        for source in sources
        for key in [source.root.removeprefix("$")]
    ]
