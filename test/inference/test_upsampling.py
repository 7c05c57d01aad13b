"""Bilinear upsampling by phases."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_panoptic_core.inference.upsampling import phase_filters, upsample, upsampled_argmax


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


@pytest.mark.parametrize("factor", [4, 8])
def test_argmax_equals_argmax_of_the_interpolation(factor):
    maps = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(maps.unsqueeze(0), scale_factor=factor, mode="bilinear")[0].argmax(0)
    result = upsampled_argmax(maps, factor)
    assert result.dtype == torch.int64
    assert torch.equal(result, expected)
