import pytest
import torch

from rt_panoptic_core.network.feature_pyramid import FeaturePyramid


@pytest.fixture
def identity():
    """One channel everywhere; laterals and outputs pass their input on, extra levels sum 3x3."""
    pyramid = FeaturePyramid((1, 1, 1), 1, 5)
    with torch.no_grad():
        for parameter in pyramid.parameters():
            parameter.zero_()
        for lateral, output in zip(pyramid.lateral, pyramid.output, strict=True):
            lateral.weight.fill_(1)
            output.weight[0, 0, 1, 1] = 1
        for extra in pyramid.extra:
            extra.weight[0, 0, 1, 1] = 1
    return pyramid


def features(value=0.0):
    return tuple(torch.full((1, 1, 16 >> k, 16 >> k), value) for k in range(3))


def test_coarse_levels_are_added_by_the_nearest_neighbour(identity):
    c3, c4, c5 = features()
    c5[0, 0, 1, 2] = 7
    c4[0, 0, 5, 5] = 3
    p3, p4, p5, *_ = identity((c3, c4, c5))
    assert torch.equal(p5, c5)
    expected = torch.zeros(8, 8)
    expected[2:4, 4:6] = 7
    expected[5, 5] = 3
    assert torch.equal(p4[0, 0], expected)
    expected = torch.zeros(16, 16)
    expected[4:8, 8:12] = 7
    expected[10:12, 10:12] = 3
    assert torch.equal(p3[0, 0], expected)


def test_p6_comes_from_p5_and_p7_from_the_positive_part_of_p6(identity):
    c3, c4, c5 = features()
    # Places 0, 2, ... of P5 are the centres of P6's stride-2 convolution, places 0, 4, ... of P7's.
    c5[0, 0, 0, 0] = -5
    c5[0, 0, 2, 2] = 4
    p6, p7 = identity((c3, c4, c5))[3:]
    assert p6[0, 0].tolist() == [[-5, 0], [0, 4]]
    assert p7[0, 0].tolist() == [[0]]
    c5[0, 0, 0, 0] = 5
    assert identity((c3, c4, c5))[4][0, 0].tolist() == [[5]]


def test_level_sizes_are_rounded_up(identity):
    sizes = ((20, 36), (10, 18), (5, 9))
    levels = identity(tuple(torch.zeros(1, 1, *size) for size in sizes))
    assert [tuple(level.shape[-2:]) for level in levels] == [*sizes, (3, 5), (2, 3)]


@pytest.mark.parametrize("levels", [3, 4, 6])
def test_other_numbers_of_levels(levels):
    pyramid = FeaturePyramid((4, 8, 16), 6, levels)
    inputs = tuple(torch.zeros(1, 4 << k, 16 >> k, 16 >> k) for k in range(3))
    result = pyramid(inputs)
    assert len(result) == levels
    assert {level.shape[1] for level in result} == {6}
