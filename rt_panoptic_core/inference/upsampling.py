"""Bilinear upsampling by whole factors, in the forms that engines compute fastest.

The ``factor``² output pixels that fall into one input pixel are its phases. A phase is a fixed 3×3 filter,
so upsampling is one small convolution whose channels are the phases, and a pixel shuffle puts them in
place. Resizing layers of the engines want channels last and what follows wants them first: for 19 classes
at 1024×2048 that reordering alone took four times as long as all of this.

What is asked of an upsampled map is mostly a decision: which class is the highest, is a threshold exceeded.
Between four neighbouring input pixels, the corners of a square, every output pixel is a mixture of these
four and of nothing else. Where the corners agree, so do all pixels of their square, and the sparse forms
compute the squares alone in which they do not: the borders, a tenth of a picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def phase_filters(factor: int, device: torch.device) -> Tensor:
    """float32 [factor², 1, 3, 3]: the bilinear weights of each phase, row by row.

    Output pixel ``factor·i + p`` lies (p + ½)/factor − ½ input pixels from input pixel i.
    """
    phases = torch.arange(factor, dtype=torch.float32, device=device)
    place = (phases + 0.5) / factor - 0.5
    taps = torch.arange(-1, 2, dtype=torch.float32, device=device)
    weights = (1 - (place.unsqueeze(1) - taps).abs()).clamp(min=0)
    filters = weights.reshape(factor, 1, 3, 1) * weights.reshape(1, factor, 1, 3)
    return filters.reshape(factor * factor, 1, 3, 3)


def upsample(maps: Tensor, factor: int) -> Tensor:
    """float32 [C, factor·h, factor·w] of ``maps`` [C, h, w].

    Equal to ``F.interpolate(..., mode="bilinear", align_corners=False)`` up to rounding.
    """
    padded = F.pad(maps.float().unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    phases = F.conv2d(padded, phase_filters(factor, maps.device))
    return F.pixel_shuffle(phases, factor).squeeze(1)


def upsampled_argmax(maps: Tensor, factor: int, sparse: bool = False) -> Tensor:
    """int64 [factor·h, factor·w]: ``upsample(maps, factor).argmax(0)`` of ``maps`` [C, h, w].

    The class is chosen before the pixels are put in place, so that one map is moved instead of C.

    Args:
        maps: float [C, h, w].
        factor: an even number.
        sparse: compute only what differs, see above; shapes inside then depend on the values.
    """
    if sparse:
        highest = _corners(maps.argmax(dim=0, keepdim=True).float()).squeeze(0)
        squares = _undecided(highest)
        chosen = _inside(_corners_of(maps.float(), squares), factor).argmax(dim=0).float()
        pixels = _filled(highest[0], squares, chosen)
    else:
        pixels = _inside(_corners(maps.float()), factor).argmax(dim=0).float()
    return _placed(pixels, factor, maps.shape[1], maps.shape[2]).long()


def upsampled_above(values: Tensor, threshold: Tensor, factor: int, sparse: bool = False) -> Tensor:
    """bool [factor·h, factor·w]: ``upsample(values, factor) > threshold`` of ``values`` [h, w].

    Args:
        values: float32 [h, w].
        threshold: float32 scalar.
        factor: an even number.
        sparse: as for :func:`upsampled_argmax`.
    """
    if not sparse:
        return upsample(values.unsqueeze(0), factor)[0] > threshold
    above = _corners((values > threshold).float().unsqueeze(0)).squeeze(0)
    squares = _undecided(above)
    inside = _inside(_corners_of(values.unsqueeze(0), squares), factor).squeeze(0)
    chosen = (inside > threshold).float()
    return _placed(_filled(above[0], squares, chosen), factor, *values.shape) > 0


def _corners(maps: Tensor) -> Tensor:
    """[C, 4, S] of ``maps`` [C, h, w]: the corners of S = (h + 1)·(w + 1) squares, row by row.

    The outermost squares reach beyond the map, where it repeats its border.
    """
    padded = _bordered(maps)
    rows = padded[:, :-1], padded[:, 1:]
    corners = [corner for row in rows for corner in (row[..., :-1], row[..., 1:])]
    return torch.stack(corners, dim=1).flatten(2)


def _corners_of(maps: Tensor, squares: Tensor) -> Tensor:
    """[C, 4, n]: those of :func:`_corners` of the ``squares`` int64 [n]."""
    padded = _bordered(maps)
    across = padded.shape[2]
    # In every row there is one square less than there are locations.
    first = squares + torch.div(squares, across - 1, rounding_mode="floor")
    steps = torch.tensor([[0], [1], [across], [across + 1]], device=maps.device)
    corners = padded.flatten(1).index_select(1, (first + steps).flatten())
    return corners.reshape(maps.shape[0], 4, -1)


def _bordered(maps: Tensor) -> Tensor:
    return F.pad(maps.unsqueeze(0), (1, 1, 1, 1), mode="replicate").squeeze(0)


def _inside(corners: Tensor, factor: int) -> Tensor:
    """[C, factor², S]: the pixels inside squares, row by row, of their ``corners`` [C, 4, S]."""
    place = (torch.arange(factor, dtype=torch.float32, device=corners.device) + 0.5) / factor
    rows, columns = place.reshape(-1, 1, 1), place.reshape(-1, 1)
    left, right = corners[:, 0::2].unsqueeze(2), corners[:, 1::2].unsqueeze(2)
    above, below = torch.addcmul(left, right - left, columns).unsqueeze(2).unbind(1)
    return torch.addcmul(above, below - above, rows).flatten(1, 2)


def _undecided(corners: Tensor) -> Tensor:
    """int64 [n]: the squares whose ``corners`` [4, S] differ."""
    return torch.nonzero((corners[1:] != corners[:1]).any(dim=0)).flatten()


def _filled(everywhere: Tensor, squares: Tensor, pixels: Tensor) -> Tensor:
    """[factor², S]: ``pixels`` [factor², n] in the ``squares`` [n], ``everywhere`` [S] in the others."""
    count = pixels.shape[0]
    places = squares.unsqueeze(0).expand(count, -1)
    return everywhere.unsqueeze(0).expand(count, -1).scatter(1, places, pixels)


def _placed(pixels: Tensor, factor: int, height: int, width: int) -> Tensor:
    """[factor·h, factor·w]: ``pixels`` [factor², S] of all squares in their places."""
    squares = pixels.reshape(1, factor * factor, height + 1, width + 1)
    half = factor // 2
    return F.pixel_shuffle(squares, factor)[0, 0, half:-half, half:-half]
