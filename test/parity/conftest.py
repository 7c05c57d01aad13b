"""Deterministic weights and pictures for comparing with the authors' code.

The numbers in ``published.npz`` were written by running the authors' published inference code on the CPU
with these weights on these pictures. Both come from the raw stream of PCG64, which numpy keeps stable,
and from closed formulas, so they are the same with every version of torch and numpy.
"""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.official_checkpoint import official_key
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy

# What a random network says on average, taken away again: otherwise one class and one level would win
# everywhere, and no box would be found.
_CENTRES = {
    "cls_logits": [
        *(4.07, -3.96, 2.33, -2.2, 2.54, 0.08, 4.25, -5.71, -5.15, 0.26),
        *(2.48, 0.99, -0.34, 1.25, 2.34, -2.05, -2.2, -1.51, 0.65),
    ],
    "levelness": [-1.38, 0.57, 0.61, -0.5, -1.21, 3.27],
    "box_cls_logits": [-1.2, -1.7, 1.3, 0.05, -0.85, 1.1, -0.25, 1.0],
    "centerness": [-1.41],
}
_TARGETS = {
    "cls_logits": [0.0] * 11 + [5.0, 2, 2, 5, 2, 2, 2, 2],
    "levelness": [0.0] * 6,
    "box_cls_logits": [-3.2, -5, -5, -3.2, -5, -5, -5, -5],
    "centerness": [1.5],
}
_GAINS = {"cls_logits": 1.5, "levelness": 1.0, "box_cls_logits": 2.0, "centerness": 1.5}
_SPREADS = {
    "cls_logits": 6.0,
    "box_cls_logits": 1.8,
    "bbox_pred": 0.12,
    "centerness": 1.5,
    "levelness": 1.5,
}


def _uniform(name, shape):
    """float64 in [-1, 1) that depends on the name and the number of values alone."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(math.prod(shape))
    return ((raw >> np.uint64(40)).astype(np.float64) / 2**23 - 1).reshape(shape)


def _weight(name, shape):
    noise = _uniform(name, shape)
    kind = name.rsplit(".", 1)[1]
    layer = name.split(".")[-2]
    if len(shape) == 4:
        fan_in = math.prod(shape[1:])
        if layer in _SPREADS:
            deviation = _SPREADS[layer] / math.sqrt(fan_in / 2)
        elif "fpn" in name:
            deviation = math.sqrt(1 / fan_in)
        else:
            deviation = math.sqrt(2 / fan_in)
        return noise * math.sqrt(3) * deviation
    if ".bn" in name or "downsample.1" in name:
        module = name.rsplit(".", 1)[0]
        # From 1e-4 to 1: small enough for an eps of 1e-5 to show.
        variance = 10.0 ** (2 * _uniform(module + ".running_var", shape) - 2)
        if kind == "running_var":
            return variance
        if kind == "weight":
            gain = 0.02 if module.endswith("body.bn1") else 0.4 if layer == "bn3" else 1.0
            return gain * np.sqrt(variance) * (1 + 0.2 * noise)
        return 0.1 * noise
    if "tower" in name and kind == "weight":
        return 1 + 0.2 * noise
    if layer == "bbox_pred":
        return 3.0 + 0.1 * noise
    if layer in _CENTRES:
        return np.array(_TARGETS[layer]) - _GAINS[layer] * np.array(_CENTRES[layer])
    return 0.1 * noise


def _scale(level):
    name = f"panoptic_head.scales.{level}.scale"
    return 1.0 + 0.18 * level + 0.02 * _uniform(name, (1,))


@pytest.fixture(scope="session")
def official_state():
    """State dict as the authors' file has it: 328 tensors under their keys, without a prefix."""
    with torch.device("meta"):
        network = PanopticNetwork(NetworkConfig.preset("published"), Taxonomy.load("cityscapes"))
    state = {}
    for key, value in network.state_dict().items():
        if key == "head.offset_scales":
            continue
        name = official_key(key)
        state[name] = torch.from_numpy(_weight(name, tuple(value.shape))).float()
    for level in range(5):
        name = f"panoptic_head.scales.{level}.scale"
        state[name] = torch.from_numpy(_scale(level)).float()
    return state


@pytest.fixture(scope="session")
def official_file(official_state, tmp_path_factory):
    """The state dict as a ``.pth`` file."""
    path = tmp_path_factory.mktemp("official") / "published.pth"
    torch.save(official_state, path)
    return path


@pytest.fixture(scope="session")
def picture():
    """Function from a size to an RGB picture, uint8 [H, W, 3]: waves and blocks."""

    def draw(height, width):
        y, x = np.mgrid[0:height, 0:width].astype(np.float64)
        waves = [
            127 + 60 * np.sin(x / 11 + y / 23 + k) + 50 * np.sin(x / (37 + 5 * k) - y / 17)
            for k in range(3)
        ]
        blocks = _uniform("blocks", (-(-height // 16), -(-width // 16), 3))
        coarse = np.kron(blocks, np.ones((16, 16, 1)))[:height, :width]
        return np.clip(np.round(np.stack(waves, -1) + 40 * coarse), 0, 255).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def golden():
    """Function from a case's name to its expected numbers by name."""
    with np.load(Path(__file__).parent / "published.npz") as file:
        numbers = dict(file)

    def case(name):
        return {k.split("/")[1]: v for k, v in numbers.items() if k.startswith(name + "/")}

    return case
