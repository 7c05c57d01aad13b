"""A small model that sees things, and an engine cache of the tests' own."""

import numpy as np
import pytest
import torch

from rt_panoptic_core.checkpoint import load_checkpoint, save_checkpoint
from rt_panoptic_core.engines.cache import FOLDER_VARIABLE
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy

SIZE = (64, 96)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Path of a checkpoint that sees cars among a little of everything."""
    torch.manual_seed(0)
    config = NetworkConfig.preset(
        "paper",
        backbone="resnet18",
        pyramid_channels=8,
        semantic_tower_channels=8,
        box_tower_channels=8,
        tower_depth=1,
    )
    network = PanopticNetwork(config, Taxonomy.load("cityscapes"))
    head = network.head
    with torch.no_grad():
        head.semantics.weight.normal_(std=0.3)
        head.semantics.bias[13] = 2.0
        head.box_logits.weight.normal_(std=0.5)
        head.box_logits.bias[2] = 0.0
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    # Few candidates and rounds: the graph has every part, and its export takes seconds less.
    settings = InferenceConfig.preset(
        "paper",
        score_threshold=0.1,
        mask_threshold=0.05,
        stuff_area_limit=0,
        candidates=100,
        candidates_per_level=100,
        suppression_rounds=2,
        max_instances=20,
    )
    save_checkpoint(path, network, inference=settings, metadata={"licence": "only for tests"})
    return path


@pytest.fixture(scope="session")
def checkpoint(model):
    return load_checkpoint(model)


@pytest.fixture(autouse=True, scope="session")
def engine_cache(tmp_path_factory):
    """The folder of the engine cache, one for the session: engines are built once."""
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="session")
def picture():
    """A function: seed -> uint8 [H, W, 3], blocks of random colours."""

    def draw(seed, size=SIZE):
        blocks = np.random.default_rng(seed).integers(0, 256, (size[0] // 16, size[1] // 16, 3))
        return np.kron(blocks, np.ones((16, 16, 1))).astype(np.uint8)

    return draw
