import pytest
import torch

from rt_panoptic_core.network.batch_norm import FrozenBatchNorm2d, batch_norm
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.mobilenet import MobileNetV2
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.network.resnet import ResNet
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.schedule import freeze_stages

# Numbers of torchvision's models without their classifiers (and, for MobileNetV2, without the last
# convolution to 1280 channels, 1280 * 320 + 2 * 1280).
PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
}
MOBILENET_PARAMETERS = 3_504_872 - 1_281_000 - 412_160


@pytest.mark.parametrize("name", PARAMETERS)
def test_resnets_have_torchvisions_parameters(name):
    with torch.device("meta"):
        network = ResNet(name, frozen=False, eps=1e-5)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]
    keys = set(network.state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.bn2.bias", "layer4.1.conv1.weight"} <= keys
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_mean"} <= keys
    # A bottleneck widens in layer1 as well; a basic block does not.
    assert ("layer1.0.downsample.0.weight" in keys) == (name in ("resnet50", "resnet101"))


def test_a_bottleneck_takes_the_stride_in_its_3x3_convolution():
    """As torchvision has it; the original puts it into the first 1x1."""
    with torch.device("meta"):
        block = ResNet("resnet50", frozen=True, eps=0.0).get_submodule("layer2.0")
    assert block.conv1.stride == (1, 1)
    assert block.conv2.stride == (2, 2)
    assert block.downsample[0].stride == (2, 2)


def test_mobilenet_has_torchvisions_parameters():
    with torch.device("meta"):
        network = MobileNetV2(expanded=False, frozen=False, eps=1e-5)
    assert sum(p.numel() for p in network.parameters()) == MOBILENET_PARAMETERS
    keys = set(network.state_dict())
    # The first block has no expansion: depthwise, projection, norm.
    assert {"features.1.conv.0.0.weight", "features.1.conv.1.weight"} <= keys
    assert {"features.2.conv.1.0.weight", "features.17.conv.3.running_var"} <= keys
    assert "features.18.0.weight" not in keys


def test_expanded_mobilenet_has_an_expansion_in_its_first_block():
    with torch.device("meta"):
        network = MobileNetV2(expanded=True, frozen=False, eps=1e-5)
    # 32 x 32 weights, and 32 scales and 32 biases of its norm.
    assert sum(p.numel() for p in network.parameters()) == MOBILENET_PARAMETERS + 32 * 32 + 64
    assert "features.1.conv.2.weight" in network.state_dict()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet"])
def test_features_come_at_strides_8_16_and_32(name):
    if name == "mobilenet":
        network = MobileNetV2(expanded=False, frozen=True, eps=1e-5)
    else:
        network = ResNet(name, frozen=True, eps=1e-5)
    features = network(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape[-2:]) for f in features] == [(8, 12), (4, 6), (2, 3)]
    assert tuple(f.shape[1] for f in features) == network.out_channels


@pytest.mark.parametrize(("eps", "expected"), [(0.0, 2.5), (3.0, 2.0)])
def test_frozen_batch_norm(eps, expected):
    """(5 - 3) / sqrt(1 + eps) * 1 + 0.5, and a scale of 1.5 for eps 3: (2 / 2) * 1.5 + 0.5."""
    norm = FrozenBatchNorm2d(1, eps)
    norm.load_state_dict(
        {
            "weight": torch.tensor([1.0 if eps == 0 else 1.5]),
            "bias": torch.tensor([0.5]),
            "running_mean": torch.tensor([3.0]),
            "running_var": torch.tensor([1.0]),
        }
    )
    assert norm(torch.full((1, 1, 1, 1), 5.0)).item() == pytest.approx(expected)


def test_frozen_batch_norm_equals_batch_norm_in_evaluation():
    generator = torch.Generator().manual_seed(0)
    state = {
        "weight": torch.rand(4, generator=generator),
        "bias": torch.rand(4, generator=generator),
        "running_mean": torch.rand(4, generator=generator),
        "running_var": torch.rand(4, generator=generator) + 0.1,
    }
    frozen = batch_norm(4, frozen=True, eps=1e-5)
    living = batch_norm(4, frozen=False, eps=1e-5).eval()
    frozen.load_state_dict(state)
    living.load_state_dict({**state, "num_batches_tracked": torch.tensor(0)})
    x = torch.rand(2, 4, 3, 5, generator=generator)
    torch.testing.assert_close(frozen(x), living(x))


def test_frozen_batch_norm_does_not_learn():
    network = ResNet("resnet18", frozen=True, eps=1e-5).train()
    before = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    assert not [n for n, _ in network.named_parameters() if "bn" in n or "downsample.1" in n]
    network(torch.rand(2, 3, 64, 64))
    after = network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet_v2"])
def test_training_can_leave_the_first_stages_alone(backbone):
    """As published: the stem, the first residual stage and every BatchNorm do not learn."""
    config = NetworkConfig.preset("published", backbone=backbone)
    with torch.device("meta"):
        network = PanopticNetwork(config, Taxonomy.load("cityscapes"))
    freeze_stages(network, 2)
    learning = {name for name, p in network.backbone.named_parameters() if p.requires_grad}
    assert not [name for name in learning if "bn" in name or "downsample.1" in name]
    if backbone == "resnet50":
        assert not [name for name in learning if name.startswith(("conv1", "layer1"))]
        assert "layer2.0.conv1.weight" in learning
    else:
        assert "features.0.0.weight" not in learning
        assert "features.17.conv.2.weight" in learning
    assert all(p.requires_grad for p in network.head.parameters())
