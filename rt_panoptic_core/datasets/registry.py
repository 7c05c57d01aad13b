"""Data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rt_panoptic_core.datasets.options import fitted_options
from rt_panoptic_core.errors import ConfigError

if TYPE_CHECKING:
    from rt_panoptic_core.datasets.sample import PanopticDataset
    from rt_panoptic_core.taxonomy import Taxonomy

# Kind -> (module, opener): an opener takes (root, split, taxonomy, **options). Modules are imported when
# their kind is opened.
_KINDS: dict[str, tuple[str, str]] = {
    "cityscapes": ("cityscapes", "open_cityscapes"),
    "coco": ("coco_panoptic", "open_coco"),
    "coco_panoptic": ("coco_panoptic", "open_coco_panoptic"),
    "coco_instances": ("coco_instances", "open_coco_instances"),
    "camvid": ("camvid", "open_camvid"),
    "camvid_pasted": ("paste", "open_camvid_pasted"),
    "generated_streets": ("generated_streets.dataset", "open_generated_streets"),
}

# Other name -> kind.
_ALIASES = {"generated": "generated_streets", "coco-panoptic-folder": "coco_panoptic"}

DATASET_KINDS = (*_KINDS, *_ALIASES)
"""Names that :func:`open_dataset` knows: the kinds, then their other names."""


def dataset_kind(name: str) -> str:
    """The kind that is meant by ``name``: the name itself, or what it is another name of.

    Raises:
        ConfigError: it is not in :data:`DATASET_KINDS`.
    """
    kind = _ALIASES.get(name, name)
    if kind not in _KINDS:
        raise ConfigError(f"data set {name!r}: unknown; one of {', '.join(DATASET_KINDS)}")
    return kind


def open_dataset(
    kind: str,
    root: str | os.PathLike[str] | None = None,
    split: str = "train",
    taxonomy: Taxonomy | None = None,
    **options: Any,
) -> PanopticDataset:
    """The data set of ``kind``, its files checked.

    Args:
        kind: one of :data:`DATASET_KINDS`.
        root: its folder; None for ``generated_streets``, which has no files, and for nothing else.
        split: ``train``, ``val``, … as the data set names its parts.
        taxonomy: label set that the samples are to use; None for the data set's own.
        options: more arguments of the kind, for example ``length`` and ``size`` of generated streets.

    Raises:
        ConfigError: an unknown kind or option, an option's value of another type, no root where one is
            needed, or one where there are no files.
        DatasetError: files are missing or unreadable: all of them are named.
    """
    kind = dataset_kind(kind)
    has_files = kind != "generated_streets"
    if root is None and has_files:
        raise ConfigError(f"data set {kind!r}: it needs 'root', the folder that its files are in")
    if root is not None and not has_files:
        raise ConfigError(
            f"data set {kind!r}, root {os.fspath(root)}: it has no files; leave 'root' out"
        )
    module, name = _KINDS[kind]
    opener: Callable[..., PanopticDataset] = getattr(
        import_module(f"rt_panoptic_core.datasets.{module}"), name
    )
    return opener(root, split, taxonomy, **fitted_options(kind, opener, options))
