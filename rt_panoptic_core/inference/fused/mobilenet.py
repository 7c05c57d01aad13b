"""MobileNetV2's convolutions with what follows them, on channels-last memory.

cuDNN is slow where every channel has a filter of its own, and knows no ReLU6: it would be a pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from rt_panoptic_core.inference.fused.layers import PROGRAMS

_Tile = TypeVar("_Tile", bound=tuple[int, ...])

MOST_VALUES = 24
"""Of a map inside MobileNetV2, for each pixel of the image: 96 channels at stride 2."""

_DEPTHWISE_TILES = ((4, 512), (2, 512), (1, 512))
"""Output rows of a program, and values of each: the first that occupies the device."""

_POINTWISE_TILES = ((128, 64, 64), (64, 64, 64), (32, 32, 64), (16, 32, 128))
"""Pixels of a program, its output channels at most, input channels at a time at most: as above."""

_STEM_TILE = 128
"""Pixels of a program that computes the first convolution."""


def _occupying(tiles: Sequence[_Tile], programs: Callable[[_Tile], int]) -> tuple[_Tile, int]:
    """The first of ``tiles``, by falling size, whose ``programs`` are enough, else the last; and how many."""
    tile = next((tile for tile in tiles if programs(tile) >= PROGRAMS), tiles[-1])
    return tile, programs(tile)


@triton.jit
def _relu6(value):
    return tl.minimum(tl.maximum(value, 0.0), 6.0)


@triton.jit
def _finish(
    total, bias, added, target, row, rows, output,
    OUTPUTS: tl.constexpr, ADD: tl.constexpr, RELU6: tl.constexpr,
):  # fmt: skip
    """Store the sums ``total`` [rows, outputs], plus bias, plus the rows of ``added``."""
    known = output < OUTPUTS
    valid = (row < rows)[:, None] & known[None, :]
    place = (row * OUTPUTS)[:, None] + output[None, :]
    total += tl.load(bias + output, mask=known, other=0.0).to(tl.float32)[None, :]
    if ADD:
        total += tl.load(added + place, mask=valid, other=0.0).to(tl.float32)
    if RELU6:
        total = _relu6(total)
    tl.store(target + place, total.to(target.dtype.element_ty), mask=valid)


@triton.jit
def _multiply(
    table, weight, bias, added, target, rows,
    INPUTS: tl.constexpr, INPUT_BLOCK: tl.constexpr,
    OUTPUTS: tl.constexpr, OUTPUT_BLOCK: tl.constexpr,
    ADD: tl.constexpr, RELU6: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows of INPUTS to rows of OUTPUTS; programs beside each other read the same rows."""
    tiles: tl.constexpr = (OUTPUTS + OUTPUT_BLOCK - 1) // OUTPUT_BLOCK
    row = tl.program_id(0) // tiles * BLOCK + tl.arange(0, BLOCK)
    output = tl.program_id(0) % tiles * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
    total = tl.zeros([BLOCK, OUTPUT_BLOCK], tl.float32)
    for start in range(0, INPUTS, INPUT_BLOCK):
        channel = start + tl.arange(0, INPUT_BLOCK)
        known = channel < INPUTS
        values = tl.load(
            table + (row * INPUTS)[:, None] + channel[None, :],
            mask=(row < rows)[:, None] & known[None, :],
            other=0.0,
        )
        factors = tl.load(
            weight + channel[:, None] + (output * INPUTS)[None, :],
            mask=known[:, None] & (output < OUTPUTS)[None, :],
            other=0.0,
        )
        total = tl.dot(values, factors, total, input_precision="ieee")
    _finish(total, bias, added, target, row, rows, output, OUTPUTS, ADD, RELU6)


@cache
def multiplies(device: torch.device) -> bool:
    """Whether Triton's matrix products are those of tensor cores on ``device``: not on Turing.

    Where they are not, :func:`pointwise` is PyTorch's, and a ReLU6 a pass of its own.
    """
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def pointwise(
    x: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None = None, relu6: bool = False
) -> Tensor:
    """``F.conv2d(x, weight, bias) + added`` [1, N, h, w] of ``x`` float [1, K, h, w], its dtype.

    All in channels-last memory.

    Args:
        weight, bias: [N, K, 1, 1] and [N].
        added: [1, N, h, w], or None.
        relu6: whether ``F.relu6`` of it is wanted.
    """
    inputs, height, width = x.shape[1:]
    outputs = len(weight)
    if not multiplies(x.device):
        # As a table: of a map PyTorch does not always take the bias along.
        table = x.permute(0, 2, 3, 1).reshape(-1, inputs)
        y = F.linear(table, weight.reshape(outputs, inputs), bias)
        y = y.reshape(1, height, width, outputs).permute(0, 3, 1, 2)
        if added is not None:
            y += added
        return y.clamp_(0, 6) if relu6 else y
    rows = height * width
    target = torch.empty((1, height, width, outputs), dtype=x.dtype, device=x.device)
    # A matrix product has at least 16 of everything.
    input_block, output_block = (
        max(16, triton.next_power_of_2(count)) for count in (inputs, outputs)
    )

    def programs(tile: tuple[int, int, int]) -> int:
        return triton.cdiv(rows, tile[0]) * triton.cdiv(outputs, min(tile[1], output_block))

    (block, most_outputs, most_inputs), count = _occupying(_POINTWISE_TILES, programs)
    _multiply[(count,)](
        x, weight, bias, x if added is None else added, target, rows,
        INPUTS=inputs, INPUT_BLOCK=min(most_inputs, input_block),
        OUTPUTS=outputs, OUTPUT_BLOCK=min(most_outputs, output_block),
        ADD=added is not None, RELU6=relu6, BLOCK=block,
    )  # fmt: skip
    return target.permute(0, 3, 1, 2)


@triton.jit
def _values(
    table, y, x, channel, height, width,
    RELU6: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Float32 [places, channels] of row ``y`` at the columns ``x``, zero beyond the border."""
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    source = table + ((y * width + x) * CHANNELS)[:, None] + channel[None, :]
    valid = inside[:, None] & (channel < CHANNELS)[None, :]
    value = tl.load(source, mask=valid, other=0.0).to(tl.float32)
    return _relu6(value) if RELU6 else value


@triton.jit
def _factor(taps, tap: tl.constexpr, channel, CHANNELS: tl.constexpr):
    """Float32 [1, channels]: one of the nine of each filter."""
    value = tl.load(taps + tap * CHANNELS + channel, mask=channel < CHANNELS, other=0.0)
    return value.to(tl.float32)[None, :]


@triton.jit
def _depthwise(
    table, taps, bias, target, height, width, out_height, out_width, across,
    STRIDE: tl.constexpr, RELU6: tl.constexpr,
    CHANNELS: tl.constexpr, CHANNEL_BLOCK: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A filter of 3×3 for each channel, and ReLU6; an input row is read once for all rows that need it."""
    tiles: tl.constexpr = (CHANNELS + CHANNEL_BLOCK - 1) // CHANNEL_BLOCK
    program = tl.program_id(0) // tiles
    channel = tl.program_id(0) % tiles * CHANNEL_BLOCK + tl.arange(0, CHANNEL_BLOCK)
    known = channel < CHANNELS
    first = program // across * ROWS
    x = program % across * BLOCK + tl.arange(0, BLOCK)
    valid = (x < out_width)[:, None] & known[None, :]
    out = target + (x * CHANNELS)[:, None] + channel[None, :]
    shift = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    a, b, c = (
        _factor(taps, 0, channel, CHANNELS),
        _factor(taps, 1, channel, CHANNELS),
        _factor(taps, 2, channel, CHANNELS),
    )
    d, e, f = (
        _factor(taps, 3, channel, CHANNELS),
        _factor(taps, 4, channel, CHANNELS),
        _factor(taps, 5, channel, CHANNELS),
    )
    g, h, i = (
        _factor(taps, 6, channel, CHANNELS),
        _factor(taps, 7, channel, CHANNELS),
        _factor(taps, 8, channel, CHANNELS),
    )
    # Output rows that still lack input rows: two of them, and one of them.
    begun = tl.zeros([BLOCK, CHANNEL_BLOCK], tl.float32)
    nearly = tl.zeros([BLOCK, CHANNEL_BLOCK], tl.float32)
    for step in tl.static_range(STRIDE * (ROWS - 1) + 3):
        y = first * STRIDE + (step - 1)
        left = _values(table, y, x * STRIDE - 1, channel, height, width, RELU6, CHANNELS)
        middle = _values(table, y, x * STRIDE, channel, height, width, RELU6, CHANNELS)
        right = _values(table, y, x * STRIDE + 1, channel, height, width, RELU6, CHANNELS)
        if step >= 2 and step % STRIDE == 0:
            row = first + (step - 2) // STRIDE
            done = _relu6(nearly + left * g + middle * h + right * i)
            place = out + row * out_width * CHANNELS
            done = done.to(target.dtype.element_ty)
            tl.store(place, done, mask=valid & (row < out_height))
        if STRIDE == 1 or step % 2 == 1:
            nearly = begun + left * d + middle * e + right * f
        if step % STRIDE == 0:
            begun = shift + left * a + middle * b + right * c


def depthwise(x: Tensor, taps: Tensor, bias: Tensor, stride: int, relu6: bool = False) -> Tensor:
    """``F.relu6(F.conv2d(x, …, bias, stride, 1, groups=C))`` of ``x`` float [1, C, h, w], its dtype.

    Both in channels-last memory.

    Args:
        taps: [9, C], the filters of 3×3.
        bias: [C].
        stride: 1 or 2.
        relu6: whether ``F.relu6(x)`` is meant by ``x``.
    """
    channels, height, width = x.shape[1:]
    out_height, out_width = (height - 1) // stride + 1, (width - 1) // stride + 1
    target = torch.empty((1, out_height, out_width, channels), dtype=x.dtype, device=x.device)
    channel_block = 64 if channels % 64 == 0 else 32

    def programs(tile: tuple[int, int]) -> int:
        across = triton.cdiv(out_width, tile[1] // channel_block)
        return triton.cdiv(out_height, tile[0]) * across * triton.cdiv(channels, channel_block)

    (rows, values), count = _occupying(_DEPTHWISE_TILES, programs)
    block = values // channel_block
    _depthwise[(count,)](
        x, taps, bias, target, height, width, out_height, out_width,
        triton.cdiv(out_width, block), STRIDE=stride, RELU6=relu6,
        CHANNELS=channels, CHANNEL_BLOCK=channel_block, ROWS=rows, BLOCK=block,
    )  # fmt: skip
    return target.permute(0, 3, 1, 2)


@triton.jit
def _begin(
    image, weight, bias, target, height, width, out_width, rows,
    CHANNELS: tl.constexpr, TAP_BLOCK: tl.constexpr,
    OUTPUTS: tl.constexpr, OUTPUT_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A convolution of 3×3 at every second row and column, and ReLU6, as one matrix product."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    y, x = 2 * (row // out_width), 2 * (row % out_width)
    tap = tl.arange(0, TAP_BLOCK)
    down, across = tap // (3 * CHANNELS), tap // CHANNELS % 3
    # A bit for every reason not to read: the four borders, rows and taps that are none.
    absent = (
        tl.where(y == 0, 1, 0)
        | tl.where(y + 1 >= height, 2, 0)
        | tl.where(x == 0, 4, 0)
        | tl.where(x + 1 >= width, 8, 0)
        | tl.where(row < rows, 16, 48)
    )
    touched = (
        tl.where(down == 0, 1, 0)
        | tl.where(down == 2, 2, 0)
        | tl.where(across == 0, 4, 0)
        | tl.where(across == 2, 8, 0)
        | tl.where(tap < 9 * CHANNELS, 32, 48)
    )
    place = ((y - 1) * width + x - 1) * CHANNELS
    offset = (down * width + across) * CHANNELS + tap % CHANNELS
    values = tl.load(
        image + place[:, None] + offset[None, :],
        mask=(absent[:, None] & touched[None, :]) == 0,
        other=0.0,
    )
    output = tl.arange(0, OUTPUT_BLOCK)
    factors = tl.load(
        weight + tap[:, None] + (output * 9 * CHANNELS)[None, :],
        mask=(tap < 9 * CHANNELS)[:, None] & (output < OUTPUTS)[None, :],
        other=0.0,
    )
    total = tl.dot(values, factors, input_precision="ieee")
    _finish(total, bias, bias, target, row, rows, output, OUTPUTS, False, True)


def stem(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.relu6(F.conv2d(x, weight, bias, 2, 1))`` of ``x`` float [1, C, h, w] with few channels, its dtype.

    All in channels-last memory.

    Args:
        weight, bias: [N, C, 3, 3] and [N].
    """
    if not multiplies(x.device):
        return F.relu6(F.conv2d(x, weight, bias, 2, 1))
    channels, height, width = x.shape[1:]
    out_height, out_width = (height + 1) // 2, (width + 1) // 2
    outputs, rows = len(bias), out_height * out_width
    target = torch.empty((1, out_height, out_width, outputs), dtype=x.dtype, device=x.device)
    _begin[(triton.cdiv(rows, _STEM_TILE),)](
        x, weight, bias, target, height, width, out_width, rows,
        CHANNELS=channels, TAP_BLOCK=triton.next_power_of_2(9 * channels),
        OUTPUTS=outputs, OUTPUT_BLOCK=max(16, triton.next_power_of_2(outputs)), BLOCK=_STEM_TILE,
    )  # fmt: skip
    return target.permute(0, 3, 1, 2)
