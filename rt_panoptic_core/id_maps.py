"""Replacing the ids of a map by something else, run by run."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_Value = TypeVar("_Value", bound=np.generic)


def map_ids(
    ids: npt.NDArray[np.integer[Any]],
    old: npt.NDArray[np.integer[Any]],
    new: npt.NDArray[_Value],
    default: int = 0,
) -> npt.NDArray[_Value]:
    """``new[i]`` where ``ids`` is ``old[i]``, ``default`` elsewhere, in the shape of ``ids``.

    Neighbours along a row mostly have one id: only the runs are looked up.

    Args:
        ids: integers [H, W].
        old: integers [K], rising.
        new: [K].
    """
    flat = np.ascontiguousarray(ids).reshape(-1)
    changes = np.empty(flat.size, bool)
    changes[:1] = True
    np.not_equal(flat[1:], flat[:-1], out=changes[1:])
    starts = np.flatnonzero(changes)
    values = flat[starts]
    painted = np.full(len(values), default, new.dtype)
    if len(old):
        places = np.searchsorted(old, values).clip(max=len(old) - 1)
        hit = old[places] == values
        painted[hit] = new[places[hit]]
    return np.repeat(painted, np.diff(starts, append=flat.size)).reshape(ids.shape)
