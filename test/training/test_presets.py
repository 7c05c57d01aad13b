"""The YAML files that are shipped say what they are meant to say."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from rt_panoptic_core.checkpoint import load_checkpoint
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.training.configuration import load_config
from rt_panoptic_core.training.data import open_sources
from rt_panoptic_core.training.initial_weights import build_network

FOLDER = Path(__file__).parents[2] / "config" / "train"
FILES = sorted(FOLDER.glob("*.yaml"))


def load(name, *changes):
    return load_config(FOLDER / f"{name}.yaml", changes)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_file_is_valid_and_builds_its_network(file):
    config = load_config(file)
    stage = file.stem.removesuffix("_gpu").removesuffix("_longer")
    assert config.name in (file.stem, stage, "street")
    assert config.output.startswith("runs/")
    build_network(config, Taxonomy.load(config.taxonomy), weights=False)


def test_cityscapes_is_the_papers():
    config = load("cityscapes_r50")
    settings = config.optimization
    assert (settings.learning_rate, settings.weight_decay, settings.steps) == (0.013, 1e-4, 48_000)
    assert (settings.milestones, settings.gamma, settings.batch_size) == ((36_000, 44_000), 0.1, 1)
    assert config.augmentation.crop == (900, 1800)
    assert config.augmentation.scale == (0.7, 1.3)
    assert not config.augmentation.scale_keeps_size
    assert config.augmentation.copy_paste == config.augmentation.brightness == 0
    assert config.losses.semantics == 1
    assert config.losses.focal_normalisation == "locations"
    assert config.losses.semantic_share == 0.3
    assert config.network.frozen_batch_norm
    assert config.network.semantic_stride == 4


def test_coco_is_the_papers():
    config = load("coco_r50")
    settings = config.optimization
    assert (settings.learning_rate, settings.steps, settings.batch_size) == (0.01, 180_000, 2)
    assert settings.milestones == (120_000, 160_000)
    assert config.augmentation.shortest == (640, 720, 800)
    assert config.augmentation.crop == ()
    assert config.losses.semantics == 0.4
    assert config.taxonomy == "coco"


def test_weak_supervision_has_no_mask_loss():
    config = load("weak_cityscapes_r50")
    assert (config.losses.supervision, config.losses.mask) == ("boxes", 0)


def test_variants_of_table_a5():
    for depth in (18, 34, 50):
        assert load(f"cityscapes_r{depth}").network.backbone == f"resnet{depth}"
        half = load(f"cityscapes_r{depth}_half")
        assert half.network.backbone == f"resnet{depth}"
        assert half.data.train[0].options == {"height": 512}
        assert half.optimization == load("cityscapes_r50").optimization


def test_the_default_model_and_its_twin_differ_in_their_data():
    first, default, twin = map(
        load, ("default_street", "default_street_refine", "generated_street")
    )
    assert default.network == twin.network
    # The second stage takes the weights of the first as they are.
    assert replace(first.network, semantic_stride=4, frozen_batch_norm=True) == default.network
    assert first.data == default.data
    assert {s.kind for s in twin.data.train} == {"generated_streets"}
    assert "camvid" in {s.name for s in default.data.train}
    assert "not for commercial" in default.metadata["licence"]
    assert "commercial" not in twin.metadata["licence"]
    network = build_network(default, Taxonomy.load("cityscapes"), weights=False)
    assert sum(p.numel() for p in network.parameters()) < 12e6


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        ("default_street_gpu", "default_street_refine"),
        ("default_street_longer", "default_street_gpu"),
        ("generated_street_gpu", "generated_street"),
        ("generated_street_longer", "generated_street_gpu"),
    ],
)
def test_what_is_made_longer_on_a_gpu_stays_the_same_network(longer, shorter):
    made, base = load(longer), load(shorter)
    assert (made.network, made.inference, made.metadata) == (
        base.network,
        base.inference,
        base.metadata,
    )
    assert made.initial_checkpoint == f"{base.output}/final.safetensors"
    assert {s.kind for s in made.data.train} == {s.kind for s in base.data.train}


def test_own_data_can_begin_with_a_shipped_model(tmp_path):
    taxonomy = tmp_path / "yard.yaml"
    taxonomy.write_text(
        "classes: [{name: car, thing: true}, {name: crane, thing: true}, {name: road, thing: false}]"
    )
    config = load("own_data_small", f"taxonomy={taxonomy}")
    network = build_network(config, Taxonomy.load(config.taxonomy)).state_dict()
    shipped = load_checkpoint(config.initial_checkpoint).network
    row = shipped.taxonomy.names.index("road")
    lent = shipped.state_dict()["head.semantics.weight"][row]
    assert torch.equal(network["head.semantics.weight"][2], lent)


YARD = """
name: yard
classes:
  - {name: crane, thing: true, source_id: 1}
  - {name: background, thing: false, source_id: 99}
"""


def write_outlines(json_file, folder, names):
    """Pictures in ``folder`` with a crane on each; Roboflow's category 0, which none is of, among them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((48, 64, 3), np.uint8))
    square = [[8, 8, 40, 8, 40, 40, 8, 40]]
    content = {
        "images": [
            {"id": number, "file_name": name, "width": 64, "height": 48}
            for number, name in enumerate(names)
        ],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "segmentation": square, "iscrowd": 0}
            for n in range(len(names))
        ],
        "categories": [{"id": 0, "name": "crane"}, {"id": 1, "name": "crane"}],
    }
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(content))


def as_roboflow(root):
    for split, names in (("train", ["a.jpg", "b.jpg"]), ("valid", ["c.jpg"]), ("test", ["d.jpg"])):
        write_outlines(root / split / "_annotations.coco.json", root / split, names)
    return {"a", "b"}, {"c"}


def as_coco(root):
    for split, names in (("train2017", ["a.jpg", "b.jpg"]), ("val2017", ["c.jpg"])):
        write_outlines(root / "annotations" / f"instances_{split}.json", root / split, names)
    return {"a", "b"}, {"c"}


def as_cvat(root):
    names = [f"{number:02d}.png" for number in range(20)]
    write_outlines(root / "annotations" / "instances_default.json", root / "images", names)
    held_out = {"01", "08", "14"}
    return {name[:2] for name in names} - held_out, held_out


@pytest.mark.parametrize("layout", [as_roboflow, as_cvat, as_coco])
def test_own_outlines_takes_what_the_tools_export(tmp_path, layout):
    train, held_out = layout(tmp_path)
    (tmp_path / "taxonomy.yaml").write_text(YARD)
    config = load(
        "own_outlines", f"data.own_root={tmp_path}", f"taxonomy={tmp_path / 'taxonomy.yaml'}"
    )
    taxonomy = Taxonomy.load(config.taxonomy)
    for sources, names in ((config.data.train, train), (config.data.validation, held_out)):
        (data,) = open_sources(config.data, sources, taxonomy)
        samples = [data[index] for index in range(len(data))]
        assert {sample.name for sample in samples} == names
        assert all(len(sample.instances) == 1 for sample in samples)
        assert all(set(np.unique(sample.semantic)) == {0, 1} for sample in samples)
