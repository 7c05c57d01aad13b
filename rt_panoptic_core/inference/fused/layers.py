"""Layers of the network that are not convolutions, on channels-last memory.

A map [1, C, h, w] in channels-last memory is a table of h·w rows and C columns: so the kernels see it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rt_panoptic_core.inference.fused.bilinear import between

PROGRAMS = 256
"""One or two for each multiprocessor of a large device."""


def _tile(channels: int, values: int, rows: int | None = None) -> dict[str, int]:
    """Constants of a kernel that works on so many ``values`` of a table at a time, in at most ``rows``."""
    block = triton.next_power_of_2(channels)
    most = max(1, values // block)
    return {
        "CHANNELS": channels,
        "CHANNEL_BLOCK": block,
        "BLOCK": most if rows is None else min(rows, most),
    }


@triton.jit
def _normalise_image(
    image, means, factors, target, height, width, padded_height, padded_width,
    BGR: tl.constexpr, CHANNELS: tl.constexpr, CHANNEL_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Bytes [H, W, 3] to normalised rows of CHANNELS, zero beyond the image and the three colours."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    y, x = place // padded_width, place % padded_width
    channel = tl.arange(0, CHANNEL_BLOCK)
    colour = 2 - channel if BGR else channel
    is_colour = channel < 3
    inside = ((y < height) & (x < width))[:, None] & is_colour[None, :]
    value = tl.load(image + ((y * width + x) * 3)[:, None] + colour[None, :], mask=inside, other=0)
    mean = tl.load(means + channel, mask=is_colour, other=0.0)
    factor = tl.load(factors + channel, mask=is_colour, other=0.0)
    value = tl.where(inside, (value.to(tl.float32) - mean[None, :]) * factor[None, :], 0.0)
    wanted = (place < padded_height * padded_width)[:, None] & (channel < CHANNELS)[None, :]
    out = target + (place * CHANNELS)[:, None] + channel[None, :]
    tl.store(out, value.to(target.dtype.element_ty), mask=wanted)


def normalised_image(
    image: Tensor,
    mean: Tensor,
    std: Tensor,
    padded: tuple[int, int],
    channels: int,
    bgr: bool,
    dtype: torch.dtype,
) -> Tensor:
    """``dtype`` [1, channels, *padded] of ``image`` uint8 [1, H, W, 3], channels last.

    As :func:`~rt_panoptic_core.inference.preprocessing.prepare`, with channels of zeros beyond the third:
    convolutions are fastest where the channels are a multiple of four.
    """
    height, width = image.shape[1:3]
    target = torch.empty((1, *padded, channels), dtype=dtype, device=image.device)
    count = padded[0] * padded[1]
    block = 256
    _normalise_image[(triton.cdiv(count, block),)](
        image, mean.flatten(), std.flatten().reciprocal(), target, height, width, *padded,
        BGR=bgr, CHANNELS=channels, CHANNEL_BLOCK=triton.next_power_of_2(channels), BLOCK=block,
    )  # fmt: skip
    return target.permute(0, 3, 1, 2)


@triton.jit
def _sum_up(
    table, bias, partial, rows,
    CHANNELS: tl.constexpr, CHANNEL_BLOCK: tl.constexpr, GROUP: tl.constexpr,
    STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums and sums of squares of a share of the rows, by group of channels."""
    program = tl.program_id(0)
    channel = tl.arange(0, CHANNEL_BLOCK)
    known = channel < CHANNELS
    added = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    total = tl.zeros([CHANNEL_BLOCK], tl.float32)
    squares = tl.zeros([CHANNEL_BLOCK], tl.float32)
    for step in range(STEPS):
        row = (program * STEPS + step) * BLOCK + tl.arange(0, BLOCK)
        valid = (row < rows)[:, None] & known[None, :]
        value = tl.load(table + (row * CHANNELS)[:, None] + channel[None, :], mask=valid, other=0.0)
        value = tl.where(valid, value.to(tl.float32) + added, 0.0)
        total += tl.sum(value, axis=0)
        squares += tl.sum(value * value, axis=0)
    groups: tl.constexpr = CHANNEL_BLOCK // GROUP
    target = partial + program * 2 * groups + tl.arange(0, groups)
    tl.store(target, tl.sum(tl.reshape(total, [groups, GROUP]), axis=1))
    tl.store(target + groups, tl.sum(tl.reshape(squares, [groups, GROUP]), axis=1))


@triton.jit
def _rectify(
    table, bias, weight, shift, partial, rows, programs, eps,
    CHANNELS: tl.constexpr, CHANNEL_BLOCK: tl.constexpr, GROUP: tl.constexpr,
    PROGRAM_BLOCK: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows normalised with the sums of all programs, and not below zero, in place."""
    groups: tl.constexpr = CHANNEL_BLOCK // GROUP
    program = tl.arange(0, PROGRAM_BLOCK)
    source = partial + (program * 2 * groups)[:, None] + tl.arange(0, groups)[None, :]
    summed = (program < programs)[:, None]
    count = rows * 1.0 * GROUP
    mean = tl.sum(tl.load(source, mask=summed, other=0.0), axis=0) / count
    square = tl.sum(tl.load(source + groups, mask=summed, other=0.0), axis=0) / count
    scale = tl.rsqrt(tl.maximum(square - mean * mean, 0.0) + eps)
    mean = tl.reshape(tl.broadcast_to(mean[:, None], [groups, GROUP]), [CHANNEL_BLOCK])
    scale = tl.reshape(tl.broadcast_to(scale[:, None], [groups, GROUP]), [CHANNEL_BLOCK])
    channel = tl.arange(0, CHANNEL_BLOCK)
    known = channel < CHANNELS
    scale *= tl.load(weight + channel, mask=known, other=0.0).to(tl.float32)
    added = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32) - mean
    added = tl.load(shift + channel, mask=known, other=0.0).to(tl.float32) + added * scale
    for step in range(STEPS):
        row = (tl.program_id(0) * STEPS + step) * BLOCK + tl.arange(0, BLOCK)
        valid = (row < rows)[:, None] & known[None, :]
        place = table + (row * CHANNELS)[:, None] + channel[None, :]
        value = tl.load(place, mask=valid, other=0.0).to(tl.float32)
        value = tl.maximum(value * scale[None, :] + added[None, :], 0.0)
        tl.store(place, value.to(table.dtype.element_ty), mask=valid)


def group_norm_relu(
    x: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, group: int, eps: float
) -> Tensor:
    """``relu(group_norm(x + bias))`` of ``x`` float [1, C, h, w] in channels-last memory, in place.

    The sums are added up in a fixed order: the same input gives the same output.

    Args:
        bias: [C], of the convolution before, which then needs none.
        weight, shift: [C], of the normalisation.
        group: channels in a group, a power of two.
        eps: of the normalisation.
    """
    rows = x.shape[2] * x.shape[3]
    shape = _tile(x.shape[1], 8192, rows=32)
    steps = triton.next_power_of_2(triton.cdiv(rows, PROGRAMS * shape["BLOCK"]))
    programs = triton.cdiv(rows, steps * shape["BLOCK"])
    partial = torch.empty((programs, 2, shape["CHANNEL_BLOCK"] // group), device=x.device)
    shape |= {"GROUP": group, "STEPS": steps}
    _sum_up[(programs,)](x, bias, partial, rows, num_warps=8, **shape)
    _rectify[(programs,)](
        x, bias, weight, shift, partial, rows, programs, eps,
        PROGRAM_BLOCK=triton.next_power_of_2(programs), num_warps=8, **shape,
    )  # fmt: skip
    return x


@triton.jit
def _pool(
    table, target, height, width, out_height, out_width,
    CHANNELS: tl.constexpr, CHANNEL_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The highest of 3×3 rows, at every second row and column."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    y, x = place // out_width, place % out_width
    channel = tl.arange(0, CHANNEL_BLOCK)
    valid = (y < out_height)[:, None] & (channel < CHANNELS)[None, :]
    highest = tl.full([BLOCK, CHANNEL_BLOCK], float("-inf"), tl.float32)
    for tap in tl.static_range(9):
        row, column = 2 * y + (tap // 3 - 1), 2 * x + (tap % 3 - 1)
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        source = table + ((row * width + column) * CHANNELS)[:, None] + channel[None, :]
        value = tl.load(source, mask=valid & inside[:, None], other=float("-inf"))
        highest = tl.maximum(highest, value.to(tl.float32))
    out = target + (place * CHANNELS)[:, None] + channel[None, :]
    tl.store(out, highest.to(target.dtype.element_ty), mask=valid)


def max_pool(x: Tensor) -> Tensor:
    """``F.max_pool2d(x, 3, 2, 1)`` of ``x`` float [1, C, h, w], its dtype, both in channels-last memory."""
    channels, height, width = x.shape[1:]
    out_height, out_width = (height + 1) // 2, (width + 1) // 2
    target = torch.empty((1, out_height, out_width, channels), dtype=x.dtype, device=x.device)
    shape = _tile(channels, 4096)
    _pool[(triton.cdiv(out_height * out_width, shape["BLOCK"]),)](
        x, target, height, width, out_height, out_width, num_warps=8, **shape
    )
    return target.permute(0, 3, 1, 2)


@triton.jit
def _raise(
    table, bias, above, rows, width,
    ABOVE: tl.constexpr, CHANNELS: tl.constexpr, CHANNEL_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows plus bias, plus those of a map half as large, in place."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNEL_BLOCK)
    known = channel < CHANNELS
    valid = (row < rows)[:, None] & known[None, :]
    place = table + (row * CHANNELS)[:, None] + channel[None, :]
    value = tl.load(place, mask=valid, other=0.0).to(tl.float32)
    value += tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    if ABOVE:
        y, x = row // width, row % width
        half = ((y // 2) * (width // 2) + x // 2) * CHANNELS
        value += tl.load(above + half[:, None] + channel[None, :], mask=valid, other=0.0).to(
            tl.float32
        )
    tl.store(place, value.to(table.dtype.element_ty), mask=valid)


def add_to_map(x: Tensor, bias: Tensor, above: Tensor | None = None) -> Tensor:
    """``x + bias + resize(above)``, ``x`` float [1, C, h, w] in channels-last memory, in place.

    Args:
        bias: [C].
        above: [1, C, h/2, w/2] in channels-last memory, resized by the nearest neighbour; or None.
    """
    channels, height, width = x.shape[1:]
    shape = _tile(channels, 4096)
    _raise[(triton.cdiv(height * width, shape["BLOCK"]),)](
        x, bias, x if above is None else above, height * width, width,
        ABOVE=above is not None, **shape,
    )  # fmt: skip
    return x


@triton.jit
def _stretch_rows(
    taps, stretched, row, level_height, level_width, height,
    TRIPLE: tl.constexpr, TRIPLE_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The rows of a 3×3 filter, of a level resized to ``height``: added, zero beyond the border."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    y, x = place // level_width, place % level_width
    column = tl.arange(0, TRIPLE_BLOCK)
    valid = (y < height)[:, None] & (column < TRIPLE)[None, :]
    total = tl.zeros([BLOCK, TRIPLE_BLOCK], tl.float32)
    scale = level_height / height
    for tap in tl.static_range(3):
        moved = y + (tap - 1)
        inside = valid & ((moved >= 0) & (moved < height))[:, None]
        top, bottom, below = between(moved, scale, level_height)
        source = taps + (tap * TRIPLE + column)[None, :]
        a = tl.load(source + ((top * level_width + x) * row)[:, None], mask=inside, other=0.0)
        b = tl.load(source + ((bottom * level_width + x) * row)[:, None], mask=inside, other=0.0)
        a, b = a.to(tl.float32), b.to(tl.float32)
        total += a + (b - a) * below[:, None]
    tl.store(stretched + (place * TRIPLE)[:, None] + column[None, :], total, mask=valid)


@triton.jit
def _add_columns(
    stretched, widths, bias, target, height, width,
    LEVELS: tl.constexpr, OUTPUTS: tl.constexpr, OUTPUT_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The three columns of the filter, of every level resized to ``width``: added over the levels."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    y, x = place // width, place % width
    output = tl.arange(0, OUTPUT_BLOCK)
    known = output < OUTPUTS
    valid = (y < height)[:, None] & known[None, :]
    total = tl.zeros([BLOCK, OUTPUT_BLOCK], tl.float32)
    total += tl.load(bias + output, mask=known, other=0.0).to(tl.float32)[None, :]
    start = 0
    for level in tl.static_range(LEVELS):
        level_width = tl.load(widths + level)
        scale = level_width / width
        for tap in tl.static_range(3):
            moved = x + (tap - 1)
            inside = valid & ((moved >= 0) & (moved < width))[:, None]
            left, right, aside = between(moved, scale, level_width)
            source = stretched + (tap * OUTPUTS + output)[None, :]
            row = start + y * level_width
            a = tl.load(source + ((row + left) * (3 * OUTPUTS))[:, None], mask=inside, other=0.0)
            b = tl.load(source + ((row + right) * (3 * OUTPUTS))[:, None], mask=inside, other=0.0)
            total += a + (b - a) * aside[:, None]
        start += height * level_width
    out = target + (output * (height * width))[None, :] + place[:, None]
    tl.store(out, total, mask=valid)


def combined_taps(
    taps: list[Tensor], widths: Tensor, bias: Tensor, size: tuple[int, int]
) -> Tensor:
    """float32 [1, O, *size] from the nine taps of every level, each at its own size.

    The part of :func:`~rt_panoptic_core.network.panoptic_head.global_convolution` after its convolutions.

    Args:
        taps: per level float [1, at least 9·O, h_l, w_l] in channels-last memory: row of the filter, column,
            output, and then whatever fills the channels up.
        widths: int32 [L], the w_l.
        bias: [O].
        size: (h, w).
    """
    height, width = size
    outputs = len(bias)
    triple = 3 * outputs
    cells = [height * level.shape[3] for level in taps]
    stretched = torch.empty((sum(cells), triple), device=bias.device)
    start = 0
    block = max(1, min(64, 4096 // triton.next_power_of_2(triple)))
    for level, count in zip(taps, cells, strict=True):
        _stretch_rows[(triton.cdiv(count, block),)](
            level, stretched[start:], level.shape[1], level.shape[2], level.shape[3], height,
            TRIPLE=triple, TRIPLE_BLOCK=triton.next_power_of_2(triple), BLOCK=block,
        )  # fmt: skip
        start += count
    target = torch.empty((1, outputs, height, width), device=bias.device)
    output_block = triton.next_power_of_2(outputs)
    block = max(1, min(128, 4096 // output_block))
    _add_columns[(triton.cdiv(height * width, block),)](
        stretched, widths, bias, target, height, width,
        LEVELS=len(taps), OUTPUTS=outputs, OUTPUT_BLOCK=output_block, BLOCK=block,
    )  # fmt: skip
    return target
