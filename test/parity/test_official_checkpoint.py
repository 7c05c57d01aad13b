import math
import os
import pickle

import pytest
import torch

from rt_panoptic_core.cli.main import main
from rt_panoptic_core.errors import CheckpointError, TaxonomyError
from rt_panoptic_core.network.official_checkpoint import (
    convert_state_dict,
    load_official,
    official_key,
    own_key,
    read_state_dict,
)
from rt_panoptic_core.taxonomy import Taxonomy


@pytest.fixture
def save(tmp_path):
    def write(value, name="weights.pth", **options):
        torch.save(value, tmp_path / name, **options)
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def network(official_file):
    return load_official(official_file)


def same_weights(network, other):
    theirs = other.state_dict()
    return all(torch.equal(v, theirs[k]) for k, v in network.state_dict().items())


def test_the_file_has_328_tensors_of_30_7_million_numbers(official_state):
    assert len(official_state) == 328
    assert sum(v.numel() for v in official_state.values()) == 30_730_347


def test_every_number_arrives(official_state, network):
    own = network.state_dict()
    assert sum(v.numel() for v in own.values()) == 30_730_347
    for key, value in official_state.items():
        if ".scales." not in key:
            assert torch.equal(own[own_key(key)], value), key
            assert official_key(own_key(key)) == key
    scales = [official_state[f"panoptic_head.scales.{level}.scale"] for level in range(5)]
    assert torch.equal(own["head.offset_scales"], torch.cat(scales))


def test_configuration_is_the_published_one(network):
    assert network.config.backbone == "resnet50"
    assert network.config.batch_norm_eps == 0
    assert network.config.semantic_stride == 8
    assert network.config.bgr
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.model."])
def test_a_prefix_before_all_keys_is_accepted(official_state, network, save, prefix):
    path = save({prefix + key: value for key, value in official_state.items()})
    assert same_weights(network, load_official(path))


def test_the_pyramid_of_a_later_torchvision_is_accepted(official_state, network, save):
    renamed = {
        key.replace(".weight", ".0.weight").replace(".bias", ".0.bias")
        if "_blocks.0" in key or "_blocks.1" in key or "_blocks.2" in key
        else key: value
        for key, value in official_state.items()
    }
    assert "backbone.fpn.inner_blocks.1.0.weight" in renamed
    assert "backbone.fpn.layer_blocks.2.0.bias" in renamed
    assert same_weights(network, load_official(save(renamed)))


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_training_checkpoint_is_unwrapped(official_state, network, save, wrapper):
    path = save({wrapper: official_state, "epoch": 3})
    assert same_weights(network, load_official(path))


def test_the_file_format_of_2020_is_read(official_state, network, save):
    path = save(official_state, _use_new_zipfile_serialization=False)
    assert same_weights(network, load_official(path))


def test_counters_of_batch_norm_are_ignored(official_state, network, save):
    counter = {"backbone.body.bn1.num_batches_tracked": torch.tensor(7)}
    assert same_weights(network, load_official(save({**official_state, **counter})))


def test_half_precision_is_read_as_float32(official_state, network):
    half = {key: value.half() for key, value in official_state.items()}
    converted = convert_state_dict(half, network, "half")
    assert {v.dtype for v in converted.values()} == {torch.float32}


def test_every_missing_key_is_named(official_state, network):
    gone = [
        "backbone.body.layer3.4.bn2.running_var",
        "backbone.fpn.layer_blocks.2.bias",
        "panoptic_head.cls_tower.3.weight",
        "panoptic_head.bbox_tower.10.bias",
        "panoptic_head.scales.3.scale",
    ]
    state = {k: v for k, v in official_state.items() if k not in gone}
    with pytest.raises(CheckpointError, match=r"broken\.pth.*5 missing") as caught:
        convert_state_dict(state, network, "broken.pth")
    assert all(key in str(caught.value) for key in gone)
    assert "unknown" not in str(caught.value)


def test_a_missing_key_is_named_with_the_prefix_of_the_file(official_state, network):
    state = {"module." + k: v for k, v in official_state.items()}
    del state["module.panoptic_head.levelness.bias"]
    with pytest.raises(
        CheckpointError, match=r"1 missing: module\.panoptic_head\.levelness\.bias$"
    ):
        convert_state_dict(state, network, "broken.pth")


def test_every_unknown_key_is_named(official_state, network):
    extra = [
        "panoptic_head.mask_head.weight",
        "panoptic_head.scales.5.scale",
        "backbone.body.layer5.0.conv1.weight",
        "optimizer",
    ]
    state = {**official_state, **dict.fromkeys(extra, torch.zeros(1))}
    with pytest.raises(CheckpointError, match="4 unknown") as caught:
        convert_state_dict(state, network, "broken.pth")
    assert all(key in str(caught.value) for key in extra)


def test_a_key_outside_the_prefix_is_unknown(official_state, network):
    state = {"module." + k: v for k, v in official_state.items()}
    state["panoptic_head.levelness.bias"] = torch.zeros(6)
    with pytest.raises(CheckpointError, match=r"1 unknown: panoptic_head\.levelness\.bias"):
        convert_state_dict(state, network, "broken.pth")


def test_every_wrong_shape_is_named_with_both_shapes(official_state, network):
    state = dict(official_state)
    state["panoptic_head.levelness.weight"] = torch.zeros(6, 1280, 1, 1)
    state["panoptic_head.scales.0.scale"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match="2 of another shape") as caught:
        convert_state_dict(state, network, "broken.pth")
    message = str(caught.value)
    assert "levelness.weight [6, 1280, 1, 1] instead of [6, 1280, 3, 3]" in message
    assert "scales.0.scale [2] instead of [1]" in message
    assert "missing" not in message


def test_both_spellings_of_one_key_are_refused(official_state, network):
    key = "backbone.fpn.inner_blocks.1.0.bias"
    state = {**official_state, key: torch.zeros(256)}
    with pytest.raises(CheckpointError, match=r"1 given twice: backbone\.fpn\.inner_blocks\.1\.0"):
        convert_state_dict(state, network, "broken.pth")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(official_state, network, value):
    broken = official_state["panoptic_head.bbox_pred.bias"].clone()
    broken[2] = value
    state = {**official_state, "panoptic_head.bbox_pred.bias": broken}
    with pytest.raises(CheckpointError, match=r"NaN or infinity: panoptic_head\.bbox_pred\.bias"):
        convert_state_dict(state, network, "broken.pth")


class Malicious:
    """Unpickling it makes a folder: the proof that code ran."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_malicious_file_is_refused_and_not_run(tmp_path, save, official_state):
    path = save({**official_state, "extra": Malicious(tmp_path / "ran")})
    with pytest.raises(CheckpointError, match=r"weights\.pth: refused.*mkdir") as caught:
        read_state_dict(path)
    assert "Nothing of it was run" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_bare_malicious_pickle_is_refused_and_not_run(tmp_path):
    path = tmp_path / "bare.pth"
    path.write_bytes(pickle.dumps(Malicious(tmp_path / "ran"), protocol=2))
    with pytest.raises(CheckpointError, match=r"bare\.pth"):
        read_state_dict(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1, -1000])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_named(tmp_path, save, zipped, keep):
    whole = save({"a": torch.ones(2000)}, _use_new_zipfile_serialization=zipped).read_bytes()
    path = tmp_path / "short.pth"
    path.write_bytes(whole[:keep])
    with pytest.raises(CheckpointError, match=r"short\.pth"):
        read_state_dict(path)


@pytest.mark.parametrize(
    "content", [b"hello, this is text", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04", bytes(64)]
)
def test_another_kind_of_file_is_named(tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        read_state_dict(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "nowhere.pth", tmp_path):
        with pytest.raises(CheckpointError, match="no such file"):
            read_state_dict(path)


@pytest.mark.parametrize("value", [torch.ones(3), [1, 2], {"epoch": 3}, {}])
def test_a_file_without_named_tensors_is_refused(save, value):
    with pytest.raises(CheckpointError, match="no tensors by name"):
        read_state_dict(save(value))


def test_another_network_is_refused(save):
    path = save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(1000)})
    with pytest.raises(
        CheckpointError, match=r"not the authors' checkpoint.*conv1\.weight, fc\.bias"
    ):
        load_official(path)


def test_an_unknown_backbone_is_refused(official_state, save):
    state = {k: v for k, v in official_state.items() if ".layer3.5." not in k}
    with pytest.raises(CheckpointError, match="5 bottlenecks in layer3"):
        load_official(save(state))


def test_a_taxonomy_of_another_size_is_refused(official_file):
    with pytest.raises(TaxonomyError, match="its head has 19 classes, taxonomy 'coco' has 133"):
        load_official(official_file, Taxonomy.load("coco"))


def test_a_taxonomy_with_other_things_is_refused(official_file):
    cityscapes = Taxonomy.load("cityscapes").to_dict()
    cityscapes["classes"][10]["thing"] = True
    with pytest.raises(TaxonomyError, match="its head has 8 things, taxonomy 'cityscapes' has 9"):
        load_official(official_file, Taxonomy.from_dict(cityscapes))
    cityscapes["classes"][12]["thing"] = False
    with pytest.raises(TaxonomyError, match="they follow one another"):
        load_official(official_file, Taxonomy.from_dict(cityscapes))


def test_the_command_converts_and_refuses(official_file, tmp_path, capsys, network):
    from rt_panoptic_core.checkpoint import load_checkpoint

    target = tmp_path / "published.safetensors"
    assert main(["convert-checkpoint", str(official_file), str(target)]) == 0
    assert str(target) in capsys.readouterr().err
    checkpoint = load_checkpoint(target)
    assert same_weights(network, checkpoint.network)
    assert checkpoint.taxonomy == Taxonomy.load("cityscapes")
    assert checkpoint.inference.correlation == "giou"
    assert checkpoint.inference.mask_threshold == 0.4
    assert checkpoint.inference.candidate_threshold == 0.06
    assert "Cityscapes" in checkpoint.metadata["licence"]

    broken = tmp_path / "broken.pth"
    broken.write_bytes(official_file.read_bytes()[:100_000])
    other = tmp_path / "other.safetensors"
    assert main(["convert-checkpoint", str(broken), str(other)]) == 1
    assert "broken.pth" in capsys.readouterr().err
    assert not other.exists()


def test_the_command_halves_the_file_on_request(official_file, tmp_path):
    target = tmp_path / "half.safetensors"
    assert main(["convert-checkpoint", "--half", str(official_file), str(target)]) == 0
    assert target.stat().st_size < 63_000_000


def test_the_command_writes_safetensors_only(official_file, tmp_path, capsys):
    assert main(["convert-checkpoint", str(official_file), str(tmp_path / "out.pth")]) == 1
    assert ".safetensors" in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()
