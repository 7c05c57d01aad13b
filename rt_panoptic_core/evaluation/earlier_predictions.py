"""Panoptic files that an earlier run left where a new one writes its own."""

from __future__ import annotations

import os
from pathlib import Path

from rt_panoptic_core.panoptic_format import PanopticWriter, read_annotations


def pngs_of(writer: PanopticWriter) -> frozenset[Path]:
    """PNGs in the writer's folder that the JSON at its place names, where an earlier writer left one."""
    if not writer.json_path.is_file():
        return frozenset()
    there = read_annotations(writer.json_path)
    names = [os.path.normpath(annotation["file_name"]) for annotation in there.annotations]
    return frozenset(
        writer.folder / name
        for name in names
        if not os.path.isabs(name) and not name.startswith(os.pardir)  # noqa: PTH117
    )


def remove_left_over(earlier: frozenset[Path], writer: PanopticWriter) -> None:
    """Remove the files of ``earlier`` that the JSON which ``writer`` has written does not name.

    Args:
        earlier: what :func:`pngs_of` said before.
        writer: closed.

    Raises:
        OSError: one of them cannot be removed.
    """
    for path in sorted(earlier - pngs_of(writer)) if earlier else ():
        if path.suffix == ".png":
            path.unlink(missing_ok=True)
