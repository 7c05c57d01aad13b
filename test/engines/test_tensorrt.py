"""TensorRT: the whole graph builds without a GPU; the runtime allocates once and launches one graph."""

import ctypes
import gc
import re
from types import SimpleNamespace

import numpy as np
import pytest

from rt_panoptic_core.engines import cuda, onnx_export, tensorrt_engine
from rt_panoptic_core.engines.base import INPUT_NAMES, OUTPUT_NAMES
from rt_panoptic_core.engines.cache import cached
from rt_panoptic_core.engines.cuda import CudaRuntime
from rt_panoptic_core.engines.engine_file import ANY
from rt_panoptic_core.engines.hardware import missing_cuda_driver
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.engines.tensorrt_engine import (
    TensorRtEngine,
    build_identity,
    build_plan,
    build_tensorrt,
    load_module,
    missing_for_device,
)
from rt_panoptic_core.errors import EngineError, EngineMemoryError
from rt_panoptic_core.inference.config import Thresholds

SIZE = (64, 96)
SPEC = EngineSpec(SIZE, "tensorrt", "fp16", "cuda:0")
THRESHOLDS = Thresholds(0.3, 0.3, 0.5, 0.0)
SHAPES = {
    "image": (1, *SIZE, 3),
    "thresholds": (4,),
    "semantic": (1, *SIZE),
    "instance": (1, *SIZE),
    "segments": (1, 20, 8),
    "confidence": (1, *SIZE),
}


@pytest.fixture(scope="module")
def trt():
    module = pytest.importorskip(
        "tensorrt_rtx", reason="tensorrt_rtx is not installed (pip install tensorrt-rtx)"
    )
    # It builds for the GPU that is there, if one is.
    if missing_cuda_driver() is None and (missing := missing_for_device(0)):
        pytest.skip(missing)
    return module


def test_the_whole_graph_builds(trt, checkpoint):
    """From the uint8 image to the id maps in one plan, in fp16 with what follows in fp32."""
    steps = []
    sections = build_tensorrt(checkpoint, SPEC, progress=lambda step, _: steps.append(step))
    assert len(sections["plan"]) > 1_000_000
    assert "export to ONNX" in steps
    assert any(step.startswith("build with TensorRT") for step in steps)
    if missing_cuda_driver() is not None:
        identity = build_identity(checkpoint, SPEC)
        assert identity["device"] == identity["driver"] == ANY
        assert identity["library"].startswith("TensorRT")
        with pytest.raises(EngineError, match=r"tensorrt fp16 cuda:0 64x96|cuda"):
            TensorRtEngine(sections, SPEC, THRESHOLDS)


def test_a_graph_that_is_none_is_refused_in_words(trt):
    with pytest.raises(EngineError, match="cannot parse the graph"):
        build_plan(b"not an ONNX graph")
    assert load_module().__name__ in ("tensorrt", "tensorrt_rtx")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_what_interrupts_a_build_arrives(trt, kind, capfd):
    """Through the library nothing is raised: it would print it and go on with an error of its own."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    tensors = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4, 4])
        for name in ("x", "y")
    ]
    node = onnx.helper.make_node("Softmax", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "small", tensors[:1], tensors[1:])
    opset = onnx.helper.make_opsetid("", 20)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)

    def interrupt(step, fraction):
        if fraction is not None:
            raise kind("enough")

    with pytest.raises(kind, match="enough"):
        build_plan(model.SerializeToString(), interrupt)
    assert capfd.readouterr().err == ""


def test_a_build_takes_the_device_that_it_is_for(checkpoint, monkeypatch):
    """Not the thread's, which may be another kind of card."""
    devices = []
    monkeypatch.setattr(tensorrt_engine.hardware, "missing_cuda_driver", lambda: None)
    monkeypatch.setattr(cuda, "_runtime", lambda: api)
    api = SimpleNamespace(cudaSetDevice=lambda index: (0, devices.append(index)))
    monkeypatch.setattr(
        onnx_export,
        "export_onnx",
        lambda *_: SimpleNamespace(SerializeToString=lambda: b"graph"),
    )
    monkeypatch.setattr(tensorrt_engine, "build_plan", lambda *_: b"plan on %d" % devices[-1])
    spec = EngineSpec(SIZE, "tensorrt", "fp16", "cuda:1")
    assert build_tensorrt(checkpoint, spec) == {"plan": b"plan on 1"}


class FakeCuda:
    """Stands for cuda.bindings.runtime: 'device' memory is host memory, and every call is noted."""

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaHostAllocDefault = 0  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self):
        self.calls = []
        self.buffers = {}
        self.captured = None
        self.graphs = 0
        self.fails = {}

    def __getattr__(self, name):
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments):
            self.calls.append(name)
            if name in self.fails:
                return (self.fails[name],)
            if name == "cudaGraphInstantiate":
                self.graphs += 1
            if name == "cudaStreamEndCapture":
                self.graphs += 1
            if name in ("cudaGraphDestroy", "cudaGraphExecDestroy"):
                self.graphs -= 1
            if name in ("cudaMalloc", "cudaHostAlloc"):
                buffer = ctypes.create_string_buffer(arguments[0])
                self.buffers[ctypes.addressof(buffer)] = buffer
                return 0, ctypes.addressof(buffer)
            if name in ("cudaFree", "cudaFreeHost"):
                del self.buffers[arguments[0]]
            if name == "cudaMemcpyAsync":
                self.queue(lambda: ctypes.memmove(arguments[0], arguments[1], arguments[2]))
            if name == "cudaStreamBeginCapture":
                self.captured = []
            if name == "cudaStreamEndCapture":
                graph, self.captured = self.captured, None
                return 0, graph
            if name == "cudaGraphInstantiate":
                return 0, arguments[0]
            if name == "cudaGraphLaunch":
                for work in arguments[0]:
                    work()
            if name == "cudaGetErrorString":
                return 0, b"out of memory" if arguments[0] == 2 else b"unspecified launch failure"
            return 0, 7

        return call

    def queue(self, work):
        if self.captured is None:
            work()
        else:
            self.captured.append(work)


class FakeTensorRt:
    """Stands for the module: its 'engine' says in ``semantic`` the image's red channel."""

    __name__ = "tensorrt"
    __version__ = "0"

    class ILogger:
        Severity = SimpleNamespace(ERROR=1)

        def __init__(self):
            pass

    float32, float16, uint8 = np.float32, np.float16, np.uint8

    def __init__(self, api, plan_is_good=True, *, capturable=None, **tensors):
        self.api = api
        self.good = plan_is_good
        self.capturable = capturable
        self.shapes = {**SHAPES, **tensors}
        self.dtypes = {
            name: np.float32 if name in ("thresholds", "segments") else np.uint8
            for name in self.shapes
        }
        self.takes_buffers = True
        self.executed = 0

    def Runtime(self, logger):  # noqa: N802
        def deserialize(plan):
            if not self.good:
                logger.log(1, "the plan is of another version")
                return None
            return self.engine()

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    @staticmethod
    def nptype(dtype):
        return dtype

    def engine(self):
        addresses = {}

        def execute(_):
            def work():
                self.executed += 1
                size = int(np.prod(SHAPES["image"]))
                image = (ctypes.c_ubyte * size).from_address(addresses["image"])
                red = bytes(image)[::3]
                ctypes.memmove(addresses["semantic"], red, len(red))

            self.api.queue(work)
            return True

        def set_address(name, address):
            addresses[name] = address
            return self.takes_buffers

        context = SimpleNamespace(set_tensor_address=set_address, execute_async_v3=execute)
        if self.capturable is not None:
            context.is_stream_capturable = lambda _: self.capturable
        return SimpleNamespace(
            create_execution_context=lambda: context,
            num_io_tensors=len(self.shapes),
            get_tensor_name=lambda index: list(self.shapes)[index],
            get_tensor_shape=self.shapes.__getitem__,
            get_tensor_dtype=self.dtypes.__getitem__,
        )


@pytest.fixture
def fakes():
    api = FakeCuda()
    return api, FakeTensorRt(api)


def open_fake(api, module):
    return TensorRtEngine(
        {"plan": b"x"}, SPEC, THRESHOLDS, module=module, runtime=CudaRuntime(0, api)
    )


def test_a_frame_is_one_launch_and_no_allocation(fakes, picture):
    api, module = fakes
    engine = open_fake(api, module)
    assert api.calls.count("cudaMalloc") == len(INPUT_NAMES) + len(OUTPUT_NAMES)
    assert api.calls.count("cudaStreamBeginCapture") == 1
    for seed in (1, 2):
        api.calls.clear()
        before = module.executed
        output = engine.run(picture(seed))
        assert np.array_equal(output.semantic, picture(seed)[:, :, 0])
        assert module.executed == before + 1
        assert api.calls == ["cudaSetDevice", "cudaGraphLaunch", "cudaStreamSynchronize"]
    assert list(engine.stages) == ["copy to pinned memory", "upload, graph, download"]


def test_closing_frees_everything(fakes, picture):
    api, module = fakes
    engine = open_fake(api, module)
    assert api.buffers
    engine.close()
    engine.close()
    assert not api.buffers
    assert api.graphs == 0
    assert api.calls.count("cudaStreamDestroy") == 1
    with pytest.raises(EngineError, match="is closed"):
        engine.run(picture(1))


def test_an_engine_that_nobody_closes_frees_everything(fakes, picture):
    api, module = fakes
    engine = open_fake(api, module)
    engine.run(picture(1))
    del engine
    gc.collect()
    assert not api.buffers
    assert api.graphs == 0
    assert api.calls.count("cudaStreamDestroy") == 1


def test_an_output_outlives_its_engine(fakes, picture):
    """Its pinned memory is freed when nobody looks into it any more, not under a reader."""
    api, module = fakes
    engine = open_fake(api, module)
    output = engine.run(picture(1))
    engine.close()
    assert np.array_equal(output.semantic, picture(1)[:, :, 0])
    del output
    assert not api.buffers


def test_nothing_runs_any_more_when_the_buffers_go(fakes, picture):
    api, module = fakes
    engine = open_fake(api, module)
    engine.run(picture(1))
    api.calls.clear()
    engine.close()
    assert api.calls[:2] == ["cudaSetDevice", "cudaStreamSynchronize"]
    assert "cudaFree" in api.calls[2:]


def test_a_context_that_no_graph_can_hold_runs_without(fakes, picture):
    api, _ = fakes
    engine = open_fake(api, FakeTensorRt(api, capturable=False))
    assert "cudaStreamBeginCapture" not in api.calls
    api.calls.clear()
    assert np.array_equal(engine.run(picture(1)).semantic, picture(1)[:, :, 0])
    copies = ["cudaMemcpyAsync"] * (len(INPUT_NAMES) + len(OUTPUT_NAMES))
    assert api.calls == ["cudaSetDevice", *copies, "cudaStreamSynchronize"]
    open_fake(api, FakeTensorRt(api, capturable=True))
    assert "cudaStreamBeginCapture" in api.calls


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"image": (1, 64, 97, 3)}, r"image is .*uint8.* \[1, 64, 97, 3\]; it must be .*uint8"),
        ({"semantic": (1, 32, 48)}, r"semantic is .* \[1, 32, 48\]; it must be .* \[1, 64, 96\]"),
        ({"segments": (1, 20, 6)}, r"segments is .* \[1, 20, 6\]; it must be .* \[1, 20, 8\]"),
        ({"boxes": (1, 4)}, "the engine has the tensors boxes, confidence, image"),
    ],
)
def test_a_plan_of_another_graph(fakes, tensors, words):
    api, _ = fakes
    with pytest.raises(EngineError, match=words):
        open_fake(api, FakeTensorRt(api, **tensors))
    assert not api.buffers


def test_a_plan_whose_outputs_have_another_type(fakes):
    api, module = fakes
    module.dtypes["segments"] = np.float16
    with pytest.raises(EngineError, match=r"segments is .*float16.*; it must be .*float32"):
        open_fake(api, module)


def test_a_buffer_that_is_not_taken(fakes):
    api, module = fakes
    module.takes_buffers = False
    with pytest.raises(EngineError, match="takes no buffer for image"):
        open_fake(api, module)
    assert not api.buffers


def test_a_file_is_not_built_again_for_lack_of_memory(fakes, tmp_path):
    """That takes minutes, and would end the same way."""
    api, module = fakes
    built = []

    def build():
        built.append(1)
        return {"plan": b"x"}

    def load(sections):
        return TensorRtEngine(
            sections, SPEC, THRESHOLDS, module=module, runtime=CudaRuntime(0, api)
        )

    path = tmp_path / "a.engine"
    cached(path, {"library": "1"}, build, load).close()
    before = path.read_bytes()
    api.fails["cudaMalloc"] = 2
    with pytest.raises(EngineMemoryError, match="out of memory; use a smaller size"):
        cached(path, {"library": "1"}, build, load)
    assert built == [1]
    assert path.read_bytes() == before


def test_a_device_without_memory(fakes):
    """One clear error, everything freed, and the next engine opens."""
    api, module = fakes
    other = open_fake(api, module)
    held = len(api.buffers)
    api.fails["cudaMalloc"] = 2
    with pytest.raises(
        EngineMemoryError, match="cudaMalloc: out of memory; use a smaller size or fp16"
    ):
        open_fake(api, module)
    assert len(api.buffers) == held
    api.fails.clear()
    open_fake(api, module).close()
    other.run(np.zeros((*SIZE, 3), np.uint8))


def test_a_failure_in_a_frame_closes_this_engine_only(fakes, picture):
    api, module = fakes
    broken, other = open_fake(api, module), open_fake(api, module)
    api.fails["cudaStreamSynchronize"] = 719
    with pytest.raises(
        EngineError, match="tensorrt fp16 cuda:0 64x96: cudaStreamSynchronize: unsp"
    ):
        broken.run(picture(1))
    api.fails.clear()
    with pytest.raises(EngineError, match="is closed"):
        broken.run(picture(1))
    assert np.array_equal(other.run(picture(1)).semantic, picture(1)[:, :, 0])


def test_a_plan_that_is_refused(fakes):
    api, _ = fakes
    with pytest.raises(EngineError, match="refuses the engine: the plan is of another version"):
        open_fake(api, FakeTensorRt(api, plan_is_good=False))
    assert not api.buffers


def test_a_capture_that_fails_is_ended(fakes):
    api, _ = fakes
    runtime = CudaRuntime(0, api)

    def queue():
        raise EngineError("not capturable")

    with pytest.raises(EngineError, match="not capturable"):
        runtime.capture(queue)
    assert api.calls[-2:] == ["cudaStreamEndCapture", "cudaGraphDestroy"]


def test_a_graph_that_cannot_be_instantiated_is_destroyed(fakes):
    api, module = fakes
    api.fails["cudaGraphInstantiate"] = 719
    with pytest.raises(EngineError, match="cudaGraphInstantiate"):
        open_fake(api, module)
    assert api.graphs == 0
    assert not api.buffers


def test_an_illegal_access_is_no_lack_of_memory(fakes, picture, monkeypatch):
    api, module = fakes
    engine = open_fake(api, module)
    api.fails["cudaStreamSynchronize"] = 700
    monkeypatch.setattr(
        FakeCuda,
        "cudaGetErrorString",
        lambda *_: (0, b"an illegal memory access was encountered"),
        raising=False,
    )
    with pytest.raises(EngineError, match=r"illegal memory access was encountered$") as caught:
        engine.run(picture(1))
    assert not isinstance(caught.value, EngineMemoryError)


def test_the_real_runtime_without_a_driver():
    pytest.importorskip("cuda.bindings.runtime", reason="cuda.bindings is not installed")
    if missing_cuda_driver() is None:
        pytest.skip("there is an NVIDIA driver here")
    with pytest.raises(EngineError, match="driver"):
        CudaRuntime(0)


def test_cards_that_tensorrt_rtx_has_no_kernels_for(monkeypatch):
    module = SimpleNamespace(
        __name__="tensorrt_rtx",
        __version__="1.7",
        ComputeCapability=SimpleNamespace(SM89=1, SM120=2),
    )
    monkeypatch.setattr(tensorrt_engine, "load_module", lambda: module)
    hardware = tensorrt_engine.hardware
    monkeypatch.setattr(hardware, "cuda_device_names", lambda: ("card",))
    for capability, fits in (((8, 9), True), ((9, 0), False), ((12, 0), True), (None, True)):
        monkeypatch.setattr(hardware, "cuda_capability", lambda _, c=capability: c)
        assert (missing_for_device(0) is None) == fits
    monkeypatch.setattr(hardware, "cuda_capability", lambda _: (9, 0))
    words = r"TensorRT-RTX 1.7 has no kernels for card \(compute capability 9.0\)"
    assert re.match(words, missing_for_device(0))
    # The whole TensorRT tells no list.
    del module.ComputeCapability
    assert missing_for_device(0) is None
