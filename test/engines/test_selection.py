"""Which engine is chosen, and what is said where none is."""

import numpy as np
import pytest

from rt_panoptic_core.engines import hardware, select
from rt_panoptic_core.engines.select import missing_for, open_engine, select_engine
from rt_panoptic_core.engines.spec import EngineSpec, parse_size
from rt_panoptic_core.errors import ConfigError, EngineError, EngineMemoryError
from rt_panoptic_core.resources import cpu_threads


@pytest.fixture
def machine(monkeypatch):
    """A function that says what the machine has."""

    def has(*, tensorrt=False, torch_cuda=False, openvino=True, flags=("avx512f", "avx512_bf16")):
        def lack(there, words):
            return lambda: None if there else words

        monkeypatch.setattr(hardware, "missing_tensorrt", lack(tensorrt, "no TensorRT"))
        monkeypatch.setattr(hardware, "missing_torch_cuda", lack(torch_cuda, "no CUDA"))
        monkeypatch.setattr(hardware, "missing_openvino", lack(openvino, "no OpenVINO"))
        # What is installed here says nothing of a card that is not.
        monkeypatch.setattr(select, "_unfit_tensorrt", lambda _: None)
        monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags))
        monkeypatch.setattr(hardware, "cuda_device_names", lambda: ("A", "B") if torch_cuda else ())

    return has


def test_tensorrt_comes_first(machine):
    machine(tensorrt=True, torch_cuda=True)
    chosen = select_engine()
    assert (chosen.engine, chosen.precision, chosen.device) == ("tensorrt", "fp16", "cuda:0")


def test_then_pytorch_on_cuda(machine):
    machine(torch_cuda=True)
    chosen = select_engine()
    assert (chosen.engine, chosen.precision, chosen.device) == ("pytorch", "fp16", "cuda:0")
    assert "not tensorrt on cuda:0: no TensorRT" in chosen.reason


def test_then_openvino_in_what_the_cpu_has(machine):
    machine()
    chosen = select_engine()
    assert (chosen.engine, chosen.precision, chosen.device) == ("openvino", "bf16", "cpu")
    assert "AVX512-BF16" in chosen.reason
    machine(flags=("avx2",))
    assert select_engine().precision == "fp32"


def test_a_precision_that_the_cpu_lacks_is_not_called_by_its_name(machine):
    """OpenVINO would run fp32 and say bf16; PyTorch computes it, if slowly."""
    machine(flags=("avx2",))
    words = "openvino on cpu: the CPU has no bf16 instructions; use fp32 or int8"
    with pytest.raises(EngineError, match=words):
        select_engine("openvino", "bf16")
    chosen = select_engine("auto", "bf16", "cpu")
    assert (chosen.engine, chosen.precision) == ("pytorch", "bf16")
    assert words in chosen.reason
    with pytest.raises(EngineError, match="the CPU computes no fp16; use fp32 or int8"):
        select_engine("openvino", "fp16")
    machine()
    assert select_engine("openvino", "bf16").precision == "bf16"


def test_then_pytorch_on_the_cpu(machine):
    machine(openvino=False)
    chosen = select_engine()
    assert (chosen.engine, chosen.device) == ("pytorch", "cpu")
    assert "no OpenVINO" in chosen.reason


def test_what_is_named_is_taken_or_refused(machine):
    machine()
    assert select_engine("pytorch", "fp32", "cpu").reason.endswith("as asked")
    assert select_engine("pytorch").device == "cpu"
    with pytest.raises(EngineError, match="tensorrt on cuda:0: no TensorRT"):
        select_engine("tensorrt")
    with pytest.raises(EngineError, match=r"pytorch on cuda:1: no CUDA"):
        select_engine("pytorch", device="cuda:1")
    with pytest.raises(EngineError, match="computes no fp16; use bf16, fp32 or int8"):
        select_engine("openvino", "fp16")
    with pytest.raises(EngineError, match="PyTorch runs no int8"):
        select_engine("pytorch", "int8", "cpu")
    with pytest.raises(EngineError, match="TensorRT runs on CUDA devices only"):
        select_engine("tensorrt", device="cpu")


def test_a_named_device_has_its_own_order(machine):
    machine(tensorrt=True, torch_cuda=True)
    on_cpu = select_engine(device="cpu")
    assert (on_cpu.engine, on_cpu.device) == ("openvino", "cpu")
    on_cuda = select_engine(device="cuda")
    assert (on_cuda.engine, on_cuda.device) == ("tensorrt", "cuda:0")
    assert select_engine("pytorch", device="cuda:1").device == "cuda:1"
    machine(torch_cuda=True)
    chosen = select_engine(device="cuda:1")
    assert (chosen.engine, chosen.device) == ("pytorch", "cuda:1")
    machine()
    # A device that was asked for is never replaced by another one.
    with pytest.raises(
        EngineError, match=r"tensorrt on cuda:0: no TensorRT; pytorch on cuda:0: no CUDA"
    ):
        select_engine(device="cuda")


def test_a_device_that_is_not_there(machine):
    machine(torch_cuda=True)
    assert missing_for("pytorch", "cuda:1") is None
    assert "cuda:0 to cuda:1" in missing_for("pytorch", "cuda:7")


def test_a_card_without_bf16(machine, monkeypatch):
    machine(tensorrt=True, torch_cuda=True)
    monkeypatch.setattr(hardware, "cuda_capability", lambda index: ((7, 5), (8, 6))[index])
    for engine in ("tensorrt", "pytorch"):
        assert missing_for(engine, "cuda:0", "bf16") == "A computes no bf16; use fp16 or fp32"
        assert missing_for(engine, "cuda:0", "fp16") is None
        assert missing_for(engine, "cuda:1", "bf16") is None


def test_auto_takes_the_next_where_an_engine_cannot_be_opened(
    machine, monkeypatch, caplog, checkpoint
):
    machine(tensorrt=True, torch_cuda=True)
    refusal = EngineError("TensorRT refuses the graph")
    tried = []

    def open_(_checkpoint, spec, *_):
        tried.append((spec.engine, spec.device))
        if spec.device != "cpu":
            raise refusal
        return spec.engine

    monkeypatch.setattr(select, "_open", open_)
    assert open_engine(checkpoint, (64, 96)) == "openvino"
    assert tried == [("tensorrt", "cuda:0"), ("pytorch", "cuda:0"), ("openvino", "cpu")]
    assert "TensorRT refuses the graph; the next engine is tried" in caplog.text
    # What was asked for is never replaced, and the last word is that of all.
    with pytest.raises(EngineError, match=r"^TensorRT refuses the graph$"):
        open_engine(checkpoint, (64, 96), "tensorrt")
    with pytest.raises(EngineError, match="refuses the graph; TensorRT refuses the graph"):
        open_engine(checkpoint, (64, 96), device="cuda")
    # Where nothing follows, nothing is said to, and what others lack is not in the way.
    caplog.clear()
    with pytest.raises(EngineError, match=r"^TensorRT refuses the graph$"):
        open_engine(checkpoint, (64, 96), precision="int8", device="cuda")
    assert not caplog.text
    refusal = EngineMemoryError("out of memory")
    with pytest.raises(EngineMemoryError):
        open_engine(checkpoint, (64, 96))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("onnx",), "engine 'onnx': it must be one of auto, tensorrt"),
        (("auto", "fp8"), "precision 'fp8'"),
        (("auto", None, "gpu"), "device 'gpu'"),
        (("auto", None, 0), "device 0: it must be 'cpu', 'cuda' or 'cuda:N'"),
    ],
)
def test_names_that_do_not_exist(arguments, words):
    with pytest.raises(ConfigError, match=words):
        select_engine(*arguments)


def test_the_real_machine_says_what_it_lacks():
    """Without a driver every CUDA engine names the driver or the module; nothing raises on the way."""
    for missing in (hardware.missing_tensorrt(), hardware.missing_torch_cuda()):
        assert missing is None or any(word in missing for word in ("driver", "install", "CUDA"))
    assert cpu_threads() >= 1
    assert hardware.cpu_name()


@pytest.mark.parametrize("text", ["1024", "axb", "12x", "-1x4", "0x8", "9000x10", "1x2x3"])
def test_sizes_that_are_none(text):
    with pytest.raises(ConfigError, match="size"):
        parse_size(text)


def test_sizes():
    assert parse_size("1024x2048") == (1024, 2048)
    assert EngineSpec((64, 96), "openvino", "bf16").label == "openvino bf16 cpu 64x96"


@pytest.mark.parametrize(
    "changes",
    [
        *({"engine": "x"}, {"precision": "x"}, {"device": "cuda"}, {"mode": "x"}),
        *({"threads": 0}, {"threads": "2"}, {"threads": 1.5}),
        *({"image_size": 96}, {"image_size": (96.0, 192.0)}, {"image_size": (1, 2, 3)}),
    ],
)
def test_specs_out_of_range(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        EngineSpec(**{"image_size": (64, 96), "engine": "openvino", "precision": "bf16", **changes})


def test_a_size_out_of_range_is_refused_before_anything_is_built(checkpoint):
    with pytest.raises(ConfigError, match="image_size"):
        open_engine(checkpoint, (64, 100_000))


def test_whole_numbers_of_numpy_are_whole_numbers():
    for size in ([64, 96], np.array([64, 96]), (np.int64(64), np.uint16(96))):
        spec = EngineSpec(size, "openvino", "fp32", threads=np.int32(2))
        assert spec == EngineSpec((64, 96), "openvino", "fp32", threads=2)
        assert hash(spec) == hash(EngineSpec((64, 96), "openvino", "fp32", threads=2))
        assert {type(number) for number in (*spec.image_size, spec.threads)} == {int}


def test_a_calibration_that_nothing_would_look_at(checkpoint, tmp_path):
    with pytest.raises(ConfigError, match="it is for precision int8 and nothing else"):
        open_engine(checkpoint, (64, 96), "pytorch", "fp32", "cpu", calibration=tmp_path)


@pytest.mark.parametrize(
    ("place", "text", "expected"),
    [
        (0, "580.159.04\n", "580.159.04"),
        (
            1,
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\n"
            "GCC version:  gcc version 13.3.0\n",
            "580.159.04",
        ),
        (
            1,
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC\n",
            "535.183.01",
        ),
        (2, "# R36 (release), REVISION: 3.0\n# more", "# R36 (release), REVISION: 3.0"),
    ],
)
def test_the_drivers_version(tmp_path, monkeypatch, place, text, expected):
    file = tmp_path / "version"
    file.write_text(text)
    files = [(str(tmp_path / "none"), pattern) for _, pattern in hardware._DRIVER_FILES]
    files[place] = (str(file), files[place][1])
    monkeypatch.setattr(hardware, "_DRIVER_FILES", files)
    assert hardware.cuda_driver_version.__wrapped__() == expected
