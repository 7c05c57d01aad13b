"""TensorRT: the whole graph builds without a GPU; the runtime allocates once and launches one graph."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

from rt_panoptic_core.engines.base import INPUT_NAMES, OUTPUT_NAMES
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
)
from rt_panoptic_core.errors import EngineError
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
    return pytest.importorskip(
        "tensorrt_rtx", reason="tensorrt_rtx is not installed (pip install tensorrt-rtx)"
    )


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
        self.fails = {}

    def __getattr__(self, name):
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments):
            self.calls.append(name)
            if name in self.fails:
                return (self.fails[name],)
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

    def __init__(self, api, plan_is_good=True):
        self.api = api
        self.good = plan_is_good
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

        context = SimpleNamespace(
            set_tensor_address=addresses.__setitem__, execute_async_v3=execute
        )
        return SimpleNamespace(
            create_execution_context=lambda: context,
            get_tensor_shape=lambda name: SHAPES[name],
            get_tensor_dtype=lambda name: (
                np.float32 if name in ("thresholds", "segments") else np.uint8
            ),
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
    assert api.calls.count("cudaStreamDestroy") == 1
    with pytest.raises(EngineError, match="is closed"):
        engine.run(picture(1))


def test_a_device_without_memory(fakes):
    """One clear error, everything freed, and the next engine opens."""
    api, module = fakes
    other = open_fake(api, module)
    held = len(api.buffers)
    api.fails["cudaMalloc"] = 2
    with pytest.raises(EngineError, match="cudaMalloc: out of memory; use a smaller size or fp16"):
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
    assert api.calls[-1] == "cudaStreamEndCapture"


def test_the_real_runtime_without_a_driver():
    pytest.importorskip("cuda.bindings.runtime", reason="cuda.bindings is not installed")
    if missing_cuda_driver() is None:
        pytest.skip("there is an NVIDIA driver here")
    with pytest.raises(EngineError, match="driver"):
        CudaRuntime(0)
