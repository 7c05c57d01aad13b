"""PyTorch on CUDA with its CUDA calls stood in for: what is written where, what an error leaves."""

import contextlib
import gc
import os
import sys
import types
import weakref

import numpy as np
import pytest
import torch

from rt_panoptic_core.engines import pytorch_engine
from rt_panoptic_core.engines.base import lacks_memory
from rt_panoptic_core.engines.cuda import CAPTURING
from rt_panoptic_core.engines.pytorch_engine import PyTorchCpuEngine, PyTorchCudaEngine, check_cuda
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.errors import EngineError, EngineMemoryError

SIZE = (64, 96)
# The stand-in's device is the CPU: tensors are real, only streams, events and graphs are not.
SPEC = EngineSpec(SIZE, "pytorch", "fp32", "cpu")


class Graph:
    """A captured graph: ``work`` is what is replayed."""

    def __init__(self):
        self.work = None

    def replay(self):
        self.work()


class Event:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        pass

    def synchronize(self):
        pass

    def elapsed_time(self, _):
        return 1.0


@pytest.fixture
def modes(monkeypatch):
    """Stand-ins for CUDA; returns what captures were asked for."""
    asked = []

    class Stream:
        def __init__(self, *_):
            pass

        def wait_stream(self, other):
            pass

        def synchronize(self):
            pass

    @contextlib.contextmanager
    def capture(graph, stream, capture_error_mode="global"):
        convolutions = getattr(torch.backends.cudnn, "conv", None)
        precision = getattr(convolutions, "fp32_precision", None)
        asked.append((capture_error_mode, precision, CAPTURING.locked()))
        yield

    empty = torch.empty
    monkeypatch.setattr(pytorch_engine, "check_cuda", lambda _: None)
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **{**k, "pin_memory": False}))
    for name, value in {
        "device": lambda _: contextlib.nullcontext(),
        "stream": lambda _: contextlib.nullcontext(),
        "current_stream": Stream,
        "Stream": Stream,
        "CUDAGraph": Graph,
        "graph": capture,
        "Event": Event,
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return asked


def replayed(engine):
    """``engine`` with a graph that does again what was captured, into the same outputs."""
    held = engine._resources

    def work():
        with torch.inference_mode():
            for kept, new in zip(
                held["outputs"], held["model"](held["image"], held["thresholds"]), strict=True
            ):
                kept.copy_(new)

    held["graph"].work = work
    return engine


def test_frames_go_through_the_buffers(checkpoint, modes, picture):
    """Frame after frame, with the answers of the CPU's engine."""
    engine = replayed(PyTorchCudaEngine(checkpoint, SPEC))
    reference = PyTorchCpuEngine(checkpoint, SPEC)
    for seed in (1, 2):
        output, expected = engine.run(picture(seed)), reference.run(picture(seed))
        assert (output.semantic != expected.semantic).mean() < 0.002
        assert np.unique(output.semantic).size > 1
        np.testing.assert_allclose(output.segments, expected.segments, atol=1e-2, rtol=1e-3)
    assert list(engine.stages) == ["upload", "graph", "download"]


def test_a_capture_leaves_other_threads_alone_and_float32_exact(checkpoint, modes):
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("PyTorch before 2.9 has no switch for each kind of layer")
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    try:
        PyTorchCudaEngine(checkpoint, SPEC)
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    assert modes == [("thread_local", "ieee", True)]
    assert not CAPTURING.locked()


def let_fusing_fail(monkeypatch, words):
    """Triton and the fused graph as stand-ins; building that ends with an error of these ``words``."""

    class Fused:
        unfit = staticmethod(lambda _: None)

        def __init__(self, graph):
            graph.network.backbone = None
            raise RuntimeError(words)

    module = types.ModuleType("fused")
    module.FusedEndToEnd = Fused
    monkeypatch.setitem(sys.modules, "triton", types.ModuleType("triton"))
    monkeypatch.setitem(sys.modules, "rt_panoptic_core.inference.fused.end_to_end", module)


def test_without_kernels_the_plain_graph_runs(checkpoint, modes, picture, monkeypatch, caplog):
    """Triton finds no C compiler: it is said once, and the engine answers all the same."""
    let_fusing_fail(monkeypatch, "Failed to find C compiler.\nSpecify it by CC")
    engine = replayed(PyTorchCudaEngine(checkpoint, SPEC))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot be fused: Failed to find C compiler." in caplog.text
    assert "Triton" not in engine.library
    expected = PyTorchCpuEngine(checkpoint, SPEC).run(picture(1))
    assert (engine.run(picture(1)).semantic != expected.semantic).mean() < 0.002


def test_memory_that_runs_out_is_no_reason_for_the_plain_graph(checkpoint, modes, monkeypatch):
    let_fusing_fail(monkeypatch, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
    with pytest.raises(EngineMemoryError, match="CUDNN_STATUS_ALLOC_FAILED"):
        PyTorchCudaEngine(checkpoint, SPEC)
    assert modes == []


def test_memory_that_runs_out_is_seen_behind_what_fails_after_it():
    after = RuntimeError("capture ended with unjoined work")
    assert not lacks_memory(after)
    after.__context__ = RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
    assert lacks_memory(after)
    assert lacks_memory(RuntimeError("Failed to allocate 1298445152 bytes of memory"))


def test_compiled_kernels_are_kept_where_that_is_possible(tmp_path, monkeypatch):
    monkeypatch.setenv("RT_PANOPTIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRITON_CACHE_DIR", "put back afterwards")
    monkeypatch.delenv("TRITON_CACHE_DIR")
    pytorch_engine._choose_kernel_cache()
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "cache" / "triton")
    (tmp_path / "file").touch()
    monkeypatch.setenv("RT_PANOPTIC_CACHE", str(tmp_path / "file"))
    pytorch_engine._choose_kernel_cache()
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "cache" / "triton")
    monkeypatch.delenv("TRITON_CACHE_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pytorch_engine._choose_kernel_cache()
    assert os.environ["TRITON_CACHE_DIR"].startswith(str(tmp_path / "triton-"))


def test_a_process_that_rounds_float32_gets_exact_engines_and_keeps_its_switch(checkpoint, modes):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytorch_engine._exact_float32():
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
        PyTorchCudaEngine(checkpoint, SPEC)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_device_that_failed_for_good_still_closes(checkpoint, modes, picture, monkeypatch):
    def sticky():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    engine = PyTorchCudaEngine(checkpoint, SPEC)
    engine._resources["graph"].work = sticky
    monkeypatch.setattr(torch.cuda, "empty_cache", sticky)
    with pytest.raises(EngineError, match="illegal memory access"):
        engine.run(picture(1))
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.run(picture(1))


def test_the_engine_of_the_cpu_casts_nothing_but_what_it_was_built_with(checkpoint, picture):
    engine = PyTorchCpuEngine(checkpoint, SPEC)
    plain = engine.run(picture(1)).copy()
    with torch.autocast("cpu", torch.bfloat16):
        cast = engine.run(picture(1))
    np.testing.assert_array_equal(plain.confidence, cast.confidence)
    np.testing.assert_array_equal(plain.segments, cast.segments)


def test_out_of_memory_keeps_nothing_alive(checkpoint, modes, picture, monkeypatch):
    """Though somebody keeps the error: its traceback must not hold the weights and buffers."""
    engine = replayed(PyTorchCudaEngine(checkpoint, SPEC))
    weights = weakref.ref(engine._resources["model"])

    def fail():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    engine._resources["graph"].work = fail
    with pytest.raises(
        EngineMemoryError, match=r"out of memory. Tried to allocate 2 GiB; use"
    ) as e:
        engine.run(picture(1))
    gc.collect()
    assert weights() is None
    assert e.value is not None
    with pytest.raises(EngineError, match="is closed"):
        engine.run(picture(1))


def test_an_engine_that_does_not_open_keeps_nothing_alive(checkpoint, modes, monkeypatch):
    built = []
    build = pytorch_engine.build_graph

    def kept(*arguments):
        graph = build(*arguments)
        built.append(weakref.ref(graph))
        return graph

    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(pytorch_engine, "build_graph", kept)
    monkeypatch.setattr(torch.cuda, "graph", fail)
    with pytest.raises(EngineMemoryError, match="out of memory") as e:
        PyTorchCudaEngine(checkpoint, SPEC)
    gc.collect()
    assert built[0]() is None
    assert e.value is not None


def test_emulated_bf16_is_none(monkeypatch):
    """PyTorch emulates it on older cards, slower than fp32."""
    asked = []
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "device": lambda index: asked.append(index) or contextlib.nullcontext(),
        "is_bf16_supported": lambda including_emulation=True: including_emulation,
        "get_device_name": lambda index: f"card {index}",
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    with pytest.raises(EngineError, match="card 1 has no bf16; use fp16"):
        check_cuda(EngineSpec(SIZE, "pytorch", "bf16", "cuda:1"))
    assert asked == [1]
    check_cuda(EngineSpec(SIZE, "pytorch", "fp16", "cuda:1"))
