"""What all tests share: skips with their reason, and ROS nodes that meet nobody else's."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Before NumPy, OpenCV or PyTorch are imported: the workers of a parallel run share the cores, and
# each taking all of them makes every one slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nodes of a test must meet neither a robot on the network nor those of another worker.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ["ROS_DOMAIN_ID"] = str(10 + (os.getppid() * 7 + _WORKER) % 90)

# How long an example takes says nothing on a machine that is busy with something else.
settings.register_profile(
    "patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

_TESTS = Path(__file__).parent
_LAUNCH_PACKAGES = ("launch", "launch_ros")


@cache
def _missing(*packages: str) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]


@cache
def _gpu_is_there() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave test/ros out, with a line that says so, where ROS 2 is not on the path."""
    if collection_path == _TESTS / "ros" and _missing("rclpy"):
        return True
    return None


def pytest_report_header() -> list[str]:
    missing = _missing("rclpy")
    return ["test/ros is left out: rclpy is not installed (scripts/test sets it up)"] * bool(
        missing
    )


@pytest.fixture(scope="session")
def needs_openvino() -> None:
    """Skips where OpenVINO is not installed, without importing it, which would tell its makers."""
    if _missing("openvino"):
        pytest.skip("openvino is not installed")


@pytest.fixture(scope="session")
def heed_hangups() -> list[str]:
    """In front of a command: SIGHUP ends it, though the tests themselves may run under nohup."""
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "os.execvp(sys.argv[1], sys.argv[1:])\n"
    )
    return [sys.executable, "-c", script]


@pytest.fixture(scope="session")
def save_small_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that saves a network of eight channels with random weights, and returns the path.

    ``sees``: cars among a little of everything, where random weights alone see next to nothing.
    ``taxonomy``: its label set, Cityscapes' where nothing is said.
    Everything else changes the ``paper`` inference preset.
    """
    import torch

    from rt_panoptic_core.checkpoint import save_checkpoint
    from rt_panoptic_core.inference.config import InferenceConfig
    from rt_panoptic_core.network.config import NetworkConfig
    from rt_panoptic_core.network.panoptic_network import PanopticNetwork
    from rt_panoptic_core.taxonomy import Taxonomy

    widths = ("pyramid_channels", "semantic_tower_channels", "box_tower_channels")

    def save(
        *, sees: bool = False, seed: int = 0, taxonomy: Taxonomy | None = None, **settings: Any
    ) -> Path:
        torch.manual_seed(seed)
        config = NetworkConfig.preset(
            "paper", backbone="resnet18", tower_depth=1, **dict.fromkeys(widths, 8)
        )
        taxonomy = taxonomy or Taxonomy.load("cityscapes")
        network = PanopticNetwork(config, taxonomy)
        if sees:
            head, car = network.head, taxonomy.names.index("car")
            with torch.no_grad():
                head.semantics.weight.normal_(std=0.3)
                head.semantics.bias[car] = 2.0
                head.box_logits.weight.normal_(std=0.5)
                head.box_logits.bias[taxonomy.thing_ids.index(car)] = 0.0
                head.box_offsets.weight.normal_(std=0.08)
        path = tmp_path_factory.mktemp("model") / "small.safetensors"
        inference = InferenceConfig.preset("paper", **settings)
        save_checkpoint(path, network, inference=inference, metadata={"licence": "only for tests"})
        return path

    return save


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _TESTS / "ros" in item.path.parents:
            # Nodes at work in parallel would only measure each other.
            item.add_marker(pytest.mark.xdist_group("ros"))
        if item.get_closest_marker("launch") and (missing := _missing(*_LAUNCH_PACKAGES)):
            reason = f"{', '.join(missing)}: not installed; a ROS 2 installation has them"
            item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("gpu") and not _gpu_is_there():
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU that PyTorch sees"))
