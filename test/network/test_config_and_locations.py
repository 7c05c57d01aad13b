import pytest

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.locations import grid_locations


def test_locations_begin_at_half_a_stride():
    assert grid_locations(2, 3, 8).tolist() == [
        [[4, 4], [12, 4], [20, 4]],
        [[4, 12], [12, 12], [20, 12]],
    ]
    # The grid of levelness and dense boxes.
    assert grid_locations(1, 2, 4).tolist() == [[[2, 2], [6, 2]]]
    assert grid_locations(1, 1, 128).tolist() == [[[64, 64]]]
    # floor(z / 2) for an odd stride as well.
    assert grid_locations(1, 2, 5).tolist() == [[[2, 2], [7, 2]]]


def test_presets():
    paper, published = NetworkConfig.preset("paper"), NetworkConfig.preset("published")
    assert (paper.semantic_stride, published.semantic_stride) == (4, 8)
    assert published.bgr
    assert not paper.bgr
    assert published.image_mean == (102.9801, 115.9465, 122.7717)
    assert published.image_std == (1.0, 1.0, 1.0)
    assert published.batch_norm_eps == 0.0
    for config in (paper, published):
        assert config.strides == (8, 16, 32, 64, 128)
        assert (config.semantic_tower_channels, config.box_tower_channels) == (128, 256)
        assert config.tower_depth == 4
        assert config.frozen_batch_norm


def test_configuration_survives_plain_data():
    config = NetworkConfig.preset("published", backbone="resnet18", strides=[8, 16, 32])
    assert NetworkConfig.from_dict(config.to_dict()) == config
    assert config.strides == (8, 16, 32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "vgg"}, "backbone 'vgg'"),
        ({"strides": [8, 16]}, "strides"),
        ({"strides": [8, 24, 32]}, "strides"),
        ({"strides": [4, 8, 16]}, "strides"),
        ({"semantic_stride": 16}, "semantic_stride 16"),
        ({"tower_depth": 0}, "tower_depth 0"),
        ({"box_tower_channels": 100}, "box_tower_channels 100"),
        ({"pyramid_channels": 0}, "pyramid_channels 0"),
        ({"pyramid_channels": 10**9}, "pyramid_channels 1000000000"),
        ({"tower_depth": 10**9}, "tower_depth 1000000000"),
        ({"tower_depth": "four"}, "tower_depth"),
        ({"levelness": 1}, "levelness"),
        ({"widht": 3}, "unknown key 'widht'"),
    ],
)
def test_wrong_values_are_explained(changes, words):
    with pytest.raises(ConfigError, match=words):
        NetworkConfig.preset("paper", **changes)


def test_an_unknown_preset_is_explained():
    with pytest.raises(ConfigError, match="one of paper, published"):
        NetworkConfig.preset("best")
