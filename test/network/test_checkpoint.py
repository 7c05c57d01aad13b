import fcntl
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rt_panoptic_core.checkpoint import (
    find_model,
    load_checkpoint,
    load_weights,
    read_header,
    save_checkpoint,
    shipped_models,
)
from rt_panoptic_core.errors import CheckpointError
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy

CONFIG = NetworkConfig.preset(
    "published",
    backbone="resnet18",
    pyramid_channels=8,
    semantic_tower_channels=8,
    box_tower_channels=8,
    tower_depth=1,
)
SETTINGS = InferenceConfig.preset("published", score_threshold=0.25)
KEY = "head.centerness.weight"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PanopticNetwork(CONFIG, Taxonomy.load("cityscapes"))


@pytest.fixture
def path(network, tmp_path):
    target = tmp_path / "model.safetensors"
    save_checkpoint(target, network, inference=SETTINGS, metadata={"licence": "none"})
    return target


def rewrite(path, change, header=None):
    """Write the file again with its tensors changed by ``change`` and its header by ``header``."""
    with safe_open(path, framework="pt") as file:
        texts = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={**texts, **(header or {})})


def test_everything_comes_back(network, path):
    checkpoint = load_checkpoint(path)
    assert checkpoint.config == CONFIG
    assert checkpoint.taxonomy == Taxonomy.load("cityscapes")
    assert checkpoint.inference == SETTINGS
    assert dict(checkpoint.metadata) == {"licence": "none"}
    assert checkpoint.name == "model"
    assert checkpoint.path == path
    assert len(checkpoint.digest) == 64
    own = checkpoint.network.state_dict()
    assert all(torch.equal(own[k], v) for k, v in network.state_dict().items())
    assert not checkpoint.network.training
    assert not any(p.requires_grad for p in checkpoint.network.parameters())


def test_the_file_that_is_written_keeps_its_lock(network, tmp_path, monkeypatch):
    locked = []

    def flush(descriptor):
        with Path(f"/proc/self/fd/{descriptor}").open("rb") as again:
            try:
                fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                locked.append(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    save_checkpoint(tmp_path / "a.safetensors", network, inference=SETTINGS)
    assert len(locked) == 1


def test_batch_norm_that_learns_is_saved_as_well(tmp_path):
    config = replace(CONFIG, frozen_batch_norm=False)
    network = PanopticNetwork(config, Taxonomy.load("cityscapes"))
    save_checkpoint(tmp_path / "a.safetensors", network, inference=SETTINGS)
    loaded = load_checkpoint(tmp_path / "a.safetensors").network.state_dict()
    assert torch.equal(
        loaded["backbone.bn1.running_var"], network.state_dict()["backbone.bn1.running_var"]
    )


def test_weights_go_from_learning_to_frozen_batch_norm_and_back():
    """Networks with running statistics hold batch counters besides, which are no weights."""
    cityscapes = Taxonomy.load("cityscapes")
    learning = PanopticNetwork(replace(CONFIG, frozen_batch_norm=False), cityscapes)
    frozen = PanopticNetwork(replace(CONFIG, frozen_batch_norm=True), cityscapes)
    torch.nn.init.constant_(learning.state_dict()["backbone.bn1.running_mean"], 3.0)
    load_weights(frozen, learning.state_dict(), "learning")
    assert frozen.state_dict()["backbone.bn1.running_mean"].eq(3.0).all()
    assert "backbone.bn1.num_batches_tracked" in learning.state_dict()
    torch.nn.init.constant_(frozen.state_dict()["backbone.bn1.running_mean"], 5.0)
    load_weights(learning, frozen.state_dict(), "frozen")
    assert learning.state_dict()["backbone.bn1.running_mean"].eq(5.0).all()


def test_half_precision_halves_the_file_and_loads_as_float32(network, path, tmp_path):
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, network, inference=SETTINGS, dtype=torch.float16)
    assert half.stat().st_size < 0.55 * path.stat().st_size
    assert {v.dtype for v in load_checkpoint(half).network.state_dict().values()} == {torch.float32}


def test_the_header_reads_without_the_weights(path):
    header = read_header(path)
    assert header["network"]["backbone"] == "resnet18"
    assert header["taxonomy"]["name"] == "cityscapes"
    assert header["inference"]["score_threshold"] == 0.25


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_neither_written_nor_read(network, path, tmp_path, value):
    broken = PanopticNetwork(CONFIG, Taxonomy.load("cityscapes"))
    with torch.no_grad():
        broken.head.centerness.weight[0, 0, 0, 0] = value
    with pytest.raises(CheckpointError, match=KEY):
        save_checkpoint(tmp_path / "broken.safetensors", broken, inference=SETTINGS)
    assert not (tmp_path / "broken.safetensors").exists()
    rewrite(path, lambda t: t[KEY].view(-1)[0].fill_(value))
    with pytest.raises(CheckpointError, match=rf"model\.safetensors.*NaN or infinity: {KEY}"):
        load_checkpoint(path)


def test_an_overflow_of_half_precision_is_not_written(tmp_path):
    network = PanopticNetwork(CONFIG, Taxonomy.load("cityscapes"))
    with torch.no_grad():
        network.head.centerness.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(CheckpointError, match=KEY):
        save_checkpoint(
            tmp_path / "a.safetensors", network, inference=SETTINGS, dtype=torch.float16
        )


def test_a_missing_key_is_named(path):
    rewrite(path, lambda t: t.pop(KEY))
    with pytest.raises(CheckpointError, match=rf"model\.safetensors.*1 missing: {KEY}"):
        load_checkpoint(path)


def test_an_unknown_key_is_named(path):
    rewrite(path, lambda t: t.update({"head.mask.weight": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"1 unknown: head\.mask\.weight"):
        load_checkpoint(path)


def test_a_wrong_shape_is_named(path):
    rewrite(path, lambda t: t.update({KEY: torch.zeros(2, 8, 3, 3)}))
    with pytest.raises(CheckpointError, match=rf"{KEY} \[2, 8, 3, 3\] instead of \[1, 8, 3, 3\]"):
        load_checkpoint(path)


def test_a_taxonomy_that_does_not_fit_the_head_is_explained(path):
    camvid = json.dumps(Taxonomy.load("coco").to_dict())
    rewrite(path, lambda _: None, {"taxonomy": camvid})
    with pytest.raises(CheckpointError, match=r"head\.\w+\.weight \[8, .*taxonomy"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "header",
    [
        {"network": "{"},
        {"network": json.dumps({"backbone": "vgg"})},
        {"network": json.dumps({"hidden": 3})},
        {"taxonomy": json.dumps({"classes": 3})},
        {"inference": json.dumps({"nms_threshold": 7})},
        {"inference": json.dumps([])},
        {"taxonomy": "null"},
        {"taxonomy": "[" * 100_000},
        {"network": '{"tower_depth": ' + "9" * 5000 + "}"},
        {"network": '{"batch_norm_eps": ' + "9" * 400 + "}"},
        {"network": json.dumps({"batch_norm_eps": math.nan})},
        {"network": json.dumps({"batch_norm_eps": -1e9})},
        {"network": json.dumps({"image_std": [1, 0, 1]})},
        {"network": json.dumps({"image_std": [1, 1]})},
        {"network": json.dumps({"image_std": [1, math.nan, 1]})},
        {"network": json.dumps({"image_mean": [1, 1e300, 1]})},
        {"network": json.dumps({"image_mean": [1, "x", 1]})},
        {"network": json.dumps({"image_mean": [1, [1], 1]})},
        {"network": json.dumps({"box_tower_channels": 4096, "tower_depth": 64})},
        {"inference": json.dumps({"suppression_rounds": 10**9})},
        {
            "taxonomy": json.dumps(
                {"classes": [{"name": "a", "thing": True, "source_id": math.inf}]}
            )
        },
        {
            "taxonomy": json.dumps(
                {"classes": [{"name": "a", "thing": True, "color": [0, 0, 1e400]}]}
            )
        },
        {"taxonomy": json.dumps({"classes": [{"name": "\x1b[2J", "thing": True}]})},
        {"taxonomy": json.dumps({"classes": [1, 2]})},
    ],
)
def test_a_malformed_header_is_named(path, header):
    rewrite(path, lambda _: None, header)
    for read in (load_checkpoint, read_header):
        with pytest.raises(CheckpointError, match=r"model\.safetensors.*header"):
            read(path)


def test_texts_of_a_header_do_not_steer_the_terminal(path):
    rewrite(path, lambda _: None, {"licence": "\x1b]0;mine\x07 ©\nBSD"})
    assert read_header(path)["licence"] == " ]0;mine  ©\nBSD"
    assert load_checkpoint(path).metadata["licence"] == " ]0;mine  ©\nBSD"


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_type_are_refused(path, kind):
    def change(tensors):
        tensors[KEY] = tensors[KEY].to(kind)

    rewrite(path, change)
    with pytest.raises(CheckpointError, match=rf"{KEY} {kind}.*one of torch\.float32"):
        load_checkpoint(path)


def test_weights_that_overflow_float32_are_refused(path):
    def change(tensors):
        tensors[KEY] = tensors[KEY].double() + 1e300

    rewrite(path, change)
    with pytest.raises(CheckpointError, match=rf"hold NaN or infinity: {KEY}"):
        load_checkpoint(path)


def test_pixels_that_are_no_number(path):
    rewrite(path, lambda _: None, {"pixels": "9" * 5000})
    with pytest.raises(CheckpointError, match="it must be a whole number"):
        load_checkpoint(path).pixels  # noqa: B018


def test_another_safetensors_file_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        CheckpointError, match=r"other\.safetensors: .* no model of this package; of"
    ):
        load_checkpoint(tmp_path / "other.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 3000, -1])
def test_a_truncated_file_is_named(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(path)


def test_a_header_that_claims_too_much_is_refused(path):
    data = bytearray(path.read_bytes())
    data[:8] = (2**62).to_bytes(8, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.onnx", "an ONNX graph, .* name the checkpoint"), ("a.engine", "an engine")],
)
def test_what_was_made_of_a_checkpoint_is_told_as_such(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"\x08\x0a" * 99)
    with pytest.raises(CheckpointError, match=f"{name}: {words}"):
        load_checkpoint(tmp_path / name)


def test_a_pickle_is_never_unpickled(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save(Malicious(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="convert-checkpoint"):
        load_checkpoint(tmp_path / "model.safetensors")
    assert not (tmp_path / "ran").exists()


def test_an_unknown_model_lists_the_shipped_ones(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere: no such file, nor a shipped model") as e:
        find_model("nowhere")
    for name in shipped_models():
        assert name in str(e.value)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)


def test_of_a_runs_folder_and_of_its_checkpoint_the_models_are_named(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"PK\3\4 and more")
    for name in (tmp_path, tmp_path / "last.ckpt"):
        with pytest.raises(CheckpointError, match=r"there is no \.safetensors there yet"):
            load_checkpoint(name)
    for name in ("final", "best"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    told = f"the models there are {tmp_path}/best.safetensors, {tmp_path}/final.safetensors"
    with pytest.raises(CheckpointError, match=f"{tmp_path}: a folder, no model; {told}"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=f"last.ckpt: what a training goes on from.*{told}"):
        load_checkpoint(tmp_path / "last.ckpt")
