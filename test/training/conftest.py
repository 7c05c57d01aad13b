"""A data set of a few tiny pictures on disk, and a run over it that takes a second."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from rt_panoptic_core.panoptic_format import ids_to_rgb
from rt_panoptic_core.training.configuration import config_from

CATEGORIES = [
    {"id": 1, "name": "box", "isthing": 1, "color": [200, 40, 40]},
    {"id": 2, "name": "disc", "isthing": 1, "color": [40, 40, 200]},
    {"id": 5, "name": "ground", "isthing": 0, "color": [90, 90, 90]},
    {"id": 6, "name": "sky", "isthing": 0, "color": [120, 180, 250]},
]
TAXONOMY = """
name: toys
classes:
  - {name: box, thing: true, source_id: 1}
  - {name: disc, thing: true, source_id: 2}
  - {name: ground, thing: false, source_id: 5}
  - {name: sky, thing: false, source_id: 6}
"""


def write_toys(root, count=10, split="train", size=(64, 96)):
    """COCO-panoptic folder ``root`` with ``count`` pictures of boxes and discs."""
    height, width = size
    (root / "images" / split).mkdir(parents=True)
    (root / f"panoptic_{split}").mkdir()
    annotations = []
    for number in range(count):
        rng = np.random.default_rng([len(split), number])
        ids = np.full((height, width), 1005, np.int32)
        ids[: height // 3] = 1006
        image = np.full((height, width, 3), 90, np.uint8)
        image[: height // 3] = (120, 180, 250)
        kinds = {1005: 5, 1006: 6}
        for k in range(int(rng.integers(1, 4))):
            x, y = int(rng.integers(12, width - 12)), int(rng.integers(20, height - 12))
            r, kind = int(rng.integers(6, 12)), int(rng.integers(1, 3))
            mask = np.zeros((height, width), np.uint8)
            if kind == 1:
                cv2.rectangle(mask, (x - r, y - r), (x + r, y + r), 1, -1)
            else:
                cv2.circle(mask, (x, y), r, 1, -1)
            ids[mask > 0] = k + 1
            image[mask > 0] = (200, 40, 40) if kind == 1 else (40, 40, 200)
            kinds[k + 1] = kind
        name = f"{number:04d}"
        noisy = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / "images" / split / f"{name}.png"), noisy[..., ::-1])
        cv2.imwrite(str(root / f"panoptic_{split}" / f"{name}.png"), ids_to_rgb(ids)[..., ::-1])
        segments = [
            {
                "id": int(i),
                "category_id": kinds[int(i)],
                "area": 1,
                "bbox": [0, 0, 1, 1],
                "iscrowd": 0,
            }
            for i in np.unique(ids)
        ]
        annotations.append(
            {"image_id": number, "file_name": f"{name}.png", "segments_info": segments}
        )
    content = {"categories": CATEGORIES, "annotations": annotations}
    (root / f"panoptic_{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    """Folder with ``train`` and ``val`` splits and ``toys.yaml``."""
    root = tmp_path_factory.mktemp("toys")
    write_toys(root, 10, "train")
    write_toys(root, 5, "val")
    (root / "toys.yaml").write_text(TAXONOMY)
    return root


@pytest.fixture
def toy_settings(toys, tmp_path):
    """Plain settings of a run of 6 updates on the toys; change what the test is about."""
    return copy.deepcopy(
        {
            "seed": 3,
            "taxonomy": str(toys / "toys.yaml"),
            "output": str(tmp_path / "run"),
            "backbone_weights": "",
            "network": {
                "backbone": "mobilenet_v2",
                "pyramid_channels": 16,
                "semantic_tower_channels": 16,
                "box_tower_channels": 16,
                "tower_depth": 1,
            },
            "data": {
                "toys_root": str(toys),
                "workers": 0,
                "train": [{"kind": "coco_panoptic", "root": "$toys_root"}],
                "validation": [
                    {"name": "toys", "kind": "coco_panoptic", "root": "$toys_root", "split": "val"}
                ],
            },
            "augmentation": {"crop": [64, 96], "scale": [0.8, 1.25], "brightness": 0.1},
            "losses": {"focal_normalisation": "foreground"},
            "optimization": {
                "batch_size": 2,
                "steps": 6,
                "learning_rate": 0.01,
                "warmup": 2,
                "schedule": "cosine",
                "clip": 10.0,
                "ema": 0.9,
            },
            "evaluation": {"every": 3, "checkpoint_every": 2, "pictures": 1, "log_every": 1},
        }
    )


@pytest.fixture
def toy_config(toy_settings):
    """The run that ``toy_settings`` describes."""
    return config_from(toy_settings)


@pytest.fixture
def start_training(tmp_path, heed_hangups):
    """A function that starts the command on ``settings`` and waits for its first checkpoint.

    It gives (process, in a session of its own; the checkpoint; the log).
    """
    started = []

    def start(settings, *options, devices=1):
        file, log = tmp_path / "started.yaml", tmp_path / "log.txt"
        file.write_text(yaml.safe_dump(settings))
        command = [*heed_hangups, sys.executable, "-m", "rt_panoptic_core", "train"]
        command += ["--config", str(file)]
        command += ["--accelerator", "cpu", "--devices", str(devices), *options]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True
            )
        started.append(process)
        last = Path(settings["output"]) / "last.ckpt"
        deadline = time.monotonic() + 300
        while not last.is_file():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "no checkpoint appeared"
            time.sleep(0.002)
        return process, last, log

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
