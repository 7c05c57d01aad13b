import pytest
import torch

from rt_panoptic_core.errors import TaxonomyError
from rt_panoptic_core.network.config import BACKBONES, NetworkConfig
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy

SMALL = {
    "pyramid_channels": 8,
    "semantic_tower_channels": 8,
    "box_tower_channels": 8,
    "tower_depth": 1,
}
CITYSCAPES = Taxonomy.load("cityscapes")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gives_every_output(backbone):
    config = NetworkConfig.preset("paper", backbone=backbone, **SMALL)
    network = PanopticNetwork(config, CITYSCAPES).eval()
    with torch.inference_mode():
        output = network(torch.full((1, 3, 64, 96), 127.0))
    assert output.semantics.shape == (1, 19, 16, 24)
    assert output.levelness.shape == (1, 6, 16, 24)
    assert [tuple(x.shape) for x in output.box_logits] == [
        (1, 8, 8, 12),
        (1, 8, 4, 6),
        (1, 8, 2, 3),
        (1, 8, 1, 2),
        (1, 8, 1, 1),
    ]
    for maps in (output.box_logits, output.box_offsets, output.centerness):
        assert all(torch.isfinite(x).all() for x in maps)
    assert all((x > 0).all() for x in output.box_offsets)


def test_a_batch_is_its_images():
    torch.manual_seed(0)
    config = NetworkConfig.preset("paper", backbone="resnet18", **SMALL)
    network = PanopticNetwork(config, CITYSCAPES).eval()
    images = torch.rand(2, 3, 32, 64) * 255
    with torch.inference_mode():
        both, second = network(images), network(images[1:])
    torch.testing.assert_close(both.semantics[1:], second.semantics, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both.box_offsets[0][1:], second.box_offsets[0], rtol=1e-4, atol=0)


def test_published_input_is_blue_green_red_minus_the_mean():
    network = PanopticNetwork(NetworkConfig.preset("published", **SMALL), CITYSCAPES)
    rgb = torch.tensor([200.0, 150.0, 100.0]).reshape(1, 3, 1, 1)
    expected = [100 - 102.9801, 150 - 115.9465, 200 - 122.7717]
    assert network.normalize(rgb).flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_paper_input_is_red_green_blue_with_imagenet_statistics():
    network = PanopticNetwork(NetworkConfig.preset("paper", **SMALL), CITYSCAPES)
    rgb = torch.tensor([123.675 + 58.395, 116.28, 103.53 - 2 * 57.375]).reshape(1, 3, 1, 1)
    assert network.normalize(rgb).flatten().tolist() == pytest.approx([1, 0, -2], abs=1e-5)


def test_normalisation_is_no_weight():
    network = PanopticNetwork(NetworkConfig.preset("paper", **SMALL), CITYSCAPES)
    assert not [key for key in network.state_dict() if "image_" in key]


def test_a_taxonomy_without_things_is_refused():
    stuff = Taxonomy.from_dict({"name": "sky", "classes": [{"name": "sky", "thing": False}]})
    with pytest.raises(TaxonomyError, match=r"'sky'.*no thing"):
        PanopticNetwork(NetworkConfig.preset("paper", **SMALL), stuff)


def test_the_head_follows_the_taxonomy():
    network = PanopticNetwork(NetworkConfig.preset("paper", **SMALL), Taxonomy.load("coco"))
    assert network.head.semantics.out_channels == 133
    assert network.head.box_logits.out_channels == 80
