"""Bilinear upsampling by phases."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_panoptic_core.inference.upsampling import (
    phase_filters,
    upsample,
    upsampled_above,
    upsampled_argmax,
)


def test_weights_of_factor_two():
    """Phases of factor 2 lie a quarter pixel left and right of the middle: weights 1/4, 3/4."""
    filters = phase_filters(2, torch.device("cpu"))
    assert filters.shape == (4, 1, 3, 3)
    row_up, row_down = [0.25, 0.75, 0.0], [0.0, 0.75, 0.25]
    for phase, (rows, columns) in enumerate(
        [(row_up, row_up), (row_up, row_down), (row_down, row_up), (row_down, row_down)]
    ):
        expected = torch.tensor(rows).unsqueeze(1) * torch.tensor(columns)
        torch.testing.assert_close(filters[phase, 0], expected)


def test_two_pixels_by_hand():
    """0 and 8 at twice the size: the ends keep their value, between them a quarter and three quarters."""
    result = upsample(torch.tensor([[[0.0, 8.0]]]), 2)
    torch.testing.assert_close(result, torch.tensor([[[0.0, 2, 6, 8], [0, 2, 6, 8]]]))


@settings(max_examples=25)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    factor=st.sampled_from([2, 4, 8]),
    seed=st.integers(0, 99),
)
def test_equals_interpolation(height, width, factor, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(3, height, width, generator=generator)
    expected = F.interpolate(
        maps.unsqueeze(0), scale_factor=factor, mode="bilinear", align_corners=False
    )[0]
    torch.testing.assert_close(upsample(maps, factor), expected, atol=1e-5, rtol=1e-5)


MAPS = {
    "height": st.integers(1, 9),
    "width": st.integers(1, 9),
    "factor": st.sampled_from([2, 4, 8]),
    "seed": st.integers(0, 2**31),
}


def regions(seed, height, width, share):
    """Logits [5, h, w] of few regions with a little noise, and noise alone in about ``share`` of them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(5, -(-height // 4), -(-width // 4), generator=generator) * 4
    maps = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]
    noise = torch.randn(5, height, width, generator=generator)
    ragged = torch.rand(height, width, generator=generator) < share
    return torch.where(ragged, noise, maps + 0.1 * noise)


def enlarged(maps, factor):
    return F.interpolate(maps.unsqueeze(0), scale_factor=factor, mode="bilinear")[0]


@pytest.mark.parametrize("sparse", [False, True])
@settings(max_examples=25)
@given(**MAPS, share=st.sampled_from([0, 0.3, 1]))
def test_argmax_equals_argmax_of_the_interpolation(sparse, height, width, factor, seed, share):
    maps = regions(seed, height, width, share)
    expected = enlarged(maps, factor)
    best, second = expected.topk(2, dim=0).values
    result = upsampled_argmax(maps, factor, sparse)
    assert result.dtype == torch.int64
    clear = best - second > 1e-4
    assert torch.equal(result[clear], expected.argmax(0)[clear])


def test_a_class_that_wins_between_its_neighbours_is_found():
    """Second at both ends and first in the middle: 1, 0 and 0.7, 0.7 and 0, 1."""
    maps = torch.tensor([[[1.0, 0.0]], [[0.7, 0.7]], [[0.0, 1.0]]])
    for sparse in (False, True):
        # Pixels 4 to 11 of 16 lie at 1/16, 3/16, ... 15/16 between the two.
        assert upsampled_argmax(maps, 8, sparse)[0].tolist() == [0] * 6 + [1] * 4 + [2] * 6


@pytest.mark.parametrize("sparse", [False, True])
@settings(max_examples=25)
@given(**MAPS, threshold=st.sampled_from([-99.0, -0.5, 0.3, 99.0]))
def test_above_equals_the_comparison_after_interpolation(
    sparse, height, width, factor, seed, threshold
):
    values = regions(seed, height, width, 0.2)[:1]
    expected = enlarged(values, factor)[0]
    result = upsampled_above(values[0], torch.tensor(threshold), factor, sparse)
    assert result.dtype == torch.bool
    clear = (expected - threshold).abs() > 1e-4
    assert torch.equal(result[clear], (expected > threshold)[clear])
