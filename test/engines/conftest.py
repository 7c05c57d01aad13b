"""A small model that sees things, and an engine cache of the tests' own."""

import numpy as np
import pytest

from rt_panoptic_core.checkpoint import load_checkpoint
from rt_panoptic_core.engines.cache import FOLDER_VARIABLE

SIZE = (64, 96)


@pytest.fixture(scope="session")
def model(save_small_model):
    """Path of a checkpoint that sees cars among a little of everything."""
    # Few candidates and rounds: the graph has every part, and its export takes seconds less.
    return save_small_model(
        sees=True,
        score_threshold=0.1,
        mask_threshold=0.05,
        stuff_area_limit=0,
        candidates=100,
        candidates_per_level=100,
        suppression_rounds=2,
        max_instances=20,
    )


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
