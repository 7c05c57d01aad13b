"""One graph, several engines, the same answers."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
import torch

from rt_panoptic_core.checkpoint import load_checkpoint
from rt_panoptic_core.engines.base import INPUT_NAMES, OUTPUT_NAMES
from rt_panoptic_core.engines.graph import build_graph, fold_batch_norm
from rt_panoptic_core.engines.measurement import BOUNDARY, measure_together
from rt_panoptic_core.engines.onnx_export import OPSET, PIXELS, export_onnx, network_outputs
from rt_panoptic_core.engines.select import missing_for, open_engine
from rt_panoptic_core.errors import EngineError, ImageError
from rt_panoptic_core.evaluation.agreement import agreement
from rt_panoptic_core.inference.config import Thresholds
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.resources import cpu_threads
from rt_panoptic_core.segmenter import Segmenter
from rt_panoptic_core.taxonomy import Taxonomy

SIZE = (64, 96)
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def graph_onnx(checkpoint):
    return export_onnx(checkpoint, SIZE)


@pytest.fixture(scope="module")
def reference(checkpoint):
    return open_engine(checkpoint, SIZE, "pytorch", "fp32", "cpu")


@pytest.fixture(scope="module")
def exported_once(checkpoint, needs_openvino):
    """Engines of this module are built from the one export: it takes most of a build's time."""
    from rt_panoptic_core.engines import onnx_export

    sparse_onnx = export_onnx(checkpoint, SIZE, sparse=True)

    def exported(*_, sparse):
        assert sparse
        return sparse_onnx

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "export_onnx", exported)
        yield


@pytest.fixture(scope="module")
def openvino(checkpoint, exported_once):
    return open_engine(checkpoint, SIZE, "openvino", "fp32")


def same(outputs, expected):
    """Labels equal but for pixels where two classes tie up to rounding; scores and boxes close."""
    for name in ("semantic", "instance"):
        assert (getattr(outputs, name) != getattr(expected, name)).mean() < 0.002, name
    difference = outputs.confidence.astype(int) - expected.confidence.astype(int)
    assert np.abs(difference).max() <= 1
    valid = expected.segments[:, 0] > 0
    np.testing.assert_allclose(
        outputs.segments[valid][:, [1, 2, 4, 5, 6, 7]],
        expected.segments[valid][:, [1, 2, 4, 5, 6, 7]],
        atol=1e-3,
        rtol=1e-4,
    )


def test_folding_batch_norm_changes_nothing():
    """Statistics away from 0 and 1, so that a wrong fold shows; ResNet (frozen) and MobileNet."""
    torch.manual_seed(0)
    for backbone, frozen in (("resnet18", True), ("resnet50", False), ("mobilenet_v2", True)):
        config = NetworkConfig.preset(
            "paper", backbone=backbone, frozen_batch_norm=frozen, pyramid_channels=8,
            semantic_tower_channels=8, box_tower_channels=8, tower_depth=1,
        )  # fmt: skip
        trunk = PanopticNetwork(config, Taxonomy.load("cityscapes")).eval().backbone
        for name, value in trunk.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(std=0.1)
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
        image = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            before = trunk(image)
            norms = sum(name.endswith("running_var") for name in trunk.state_dict())
            assert fold_batch_norm(trunk) == norms
            for old, new in zip(before, trunk(image), strict=True):
                torch.testing.assert_close(new, old, atol=1e-3, rtol=1e-3)


def test_building_a_graph_leaves_the_checkpoint_alone(checkpoint):
    before = {k: v.clone() for k, v in checkpoint.network.state_dict().items()}
    build_graph(checkpoint, SIZE, "bf16")
    after = checkpoint.network.state_dict()
    assert list(before) == list(after)
    assert all(
        torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before
    )


def test_the_onnx_graph_is_named_static_and_checked(checkpoint, graph_onnx):
    onnx.checker.check_model(graph_onnx, full_check=True)
    assert graph_onnx.opset_import[0].version >= 18
    assert OPSET >= 18
    assert tuple(value.name for value in graph_onnx.graph.input) == INPUT_NAMES
    assert tuple(value.name for value in graph_onnx.graph.output) == OUTPUT_NAMES
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph_onnx.graph.input, *graph_onnx.graph.output)
    }
    assert shapes == {
        "image": [1, 64, 96, 3],
        "thresholds": [4],
        "semantic": [1, 64, 96],
        "instance": [1, 64, 96],
        "segments": [1, 20, 8],
        "confidence": [1, 64, 96],
    }
    tensors = {name for node in graph_onnx.graph.node for name in node.output}
    assert {PIXELS, *network_outputs(checkpoint.config)} <= tensors
    told = {entry.key: entry.value for entry in graph_onnx.metadata_props}
    assert json.loads(told["classes"]) == list(checkpoint.taxonomy.names)
    default = checkpoint.inference.thresholds.as_tuple()
    assert tuple(float(value) for value in told["thresholds"].split(",")) == default


def test_onnxruntime_agrees_with_pytorch(graph_onnx, reference, checkpoint, picture):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(graph_onnx.SerializeToString())
    for seed in SEEDS:
        image = picture(seed)
        thresholds = np.array(checkpoint.inference.thresholds.as_tuple(), np.float32)
        arrays = session.run(None, {"image": image[None], "thresholds": thresholds})
        expected = reference.run(image)
        same(type(expected)(*(array[0] for array in arrays)), expected)


def test_what_the_sparse_graph_leaves_out_changes_nothing(
    openvino, graph_onnx, picture, checkpoint
):
    """Pictures and thresholds in turn: the shapes inside follow each frame, down to no location at all."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    static = runtime.InferenceSession(graph_onnx.SerializeToString())
    taken = []
    for seed, sigma in ((1, 0.01), (2, 1.0), (3, 0.3), (1, 0.999), (2, 0.0), (3, 0.3)):
        image = picture(seed)
        thresholds = replace(checkpoint.inference.thresholds, mask=sigma)
        values = np.array(thresholds.as_tuple(), np.float32)
        arrays = static.run(None, {"image": image[None], "thresholds": values})
        outputs = openvino.run(image, thresholds)
        same(outputs, type(outputs)(*(array[0] for array in arrays)))
        taken.append((outputs.instance > 0).mean())
    assert taken[1] == 0
    assert max(taken) > 0.1


def test_openvino_agrees_with_pytorch(openvino, reference, picture):
    for seed in SEEDS:
        same(openvino.run(picture(seed)), reference.run(picture(seed)))


def test_bf16_stays_close(checkpoint, exported_once, picture):
    """Panoptic quality of bf16 on the CPU with fp32 as the truth.

    The weights are random, so classes nearly tie all over the picture: a trained model is far closer.
    """
    # Of PyTorch where the CPU has no such instructions: it computes bf16 all the same.
    with_bf16 = "pytorch" if missing_for("openvino", "cpu", "bf16") else "openvino"
    results = []
    for engine, precision in (("pytorch", "fp32"), (with_bf16, "bf16"), ("openvino", "fp32")):
        segmenter = Segmenter(
            checkpoint, engine=engine, precision=precision, device="cpu", size=SIZE
        )
        results.append([segmenter.segment(picture(seed)) for seed in SEEDS])
    truth, bf16, fp32 = results
    taxonomy = checkpoint.taxonomy
    assert agreement(zip(truth, truth, strict=True), taxonomy).all.pq == 1
    assert agreement(zip(truth, fp32, strict=True), taxonomy).all.pq > 0.98
    assert agreement(zip(truth, bf16, strict=True), taxonomy).all.pq > 0.6


def test_thresholds_change_without_a_new_engine(openvino, reference, picture):
    image = picture(1)
    assert openvino.run(image).instance.any()
    none = Thresholds(score=1.0, mask=0.05, overlap=0.5, stuff_area=0.0)
    assert not openvino.run(image, none).instance.any()
    assert not reference.run(image, none).instance.any()
    everything_small = Thresholds(score=1.0, mask=0.05, overlap=0.5, stuff_area=1e9)
    labels = openvino.run(image, everything_small).semantic
    is_thing = Taxonomy.load("cityscapes").is_thing
    assert ((labels == 255) | is_thing[labels]).all()
    assert openvino.run(image).instance.any()


def test_outputs_are_compared_by_their_maps(openvino, picture):
    """``==`` of arrays has no one answer; an output is equal to itself, and fits a set."""
    output = openvino.run(picture(1))
    assert output != output.copy()
    assert output in {output}


def test_outputs_are_views_until_copied(openvino, picture):
    first = openvino.run(picture(1))
    kept = first.copy()
    openvino.run(picture(2))
    assert not np.array_equal(first.semantic, kept.semantic)
    again = openvino.run(picture(1))
    assert np.array_equal(again.semantic, kept.semantic)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 97, 3), np.uint8),
        np.zeros((64, 96), np.uint8),
        np.zeros((64, 96, 3), np.float32),
        "picture.png",
    ],
)
def test_images_that_do_not_fit_are_named(openvino, reference, image):
    for engine in (openvino, reference):
        with pytest.raises(ImageError, match=r"this engine takes uint8 \[64, 96, 3\]"):
            engine.run(image)


def test_an_image_that_is_not_contiguous(openvino, reference, picture):
    flipped = picture(1)[:, ::-1]
    same(openvino.run(flipped), reference.run(flipped))


def test_a_size_that_is_no_multiple_of_the_stride(checkpoint, picture):
    """Padded inside the graph; the maps have the image's own size."""
    engine = open_engine(checkpoint, (50, 70), "pytorch", "fp32", "cpu")
    output = engine.run(picture(1)[:50, :70])
    assert output.semantic.shape == output.instance.shape == output.confidence.shape == (50, 70)
    assert output.segments[:, 6].max() <= 70


def test_a_closed_engine_says_so(checkpoint, picture):
    engine = open_engine(checkpoint, SIZE, "pytorch", "fp32", "cpu")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.run(picture(1))


def throughput_engine(checkpoint):
    engine = open_engine(checkpoint, SIZE, "openvino", "fp32", mode="throughput", threads=2)
    assert engine.streams == 2
    return engine


def test_in_throughput_mode_threads_share_an_engine(checkpoint, exported_once, reference, picture):
    engine = throughput_engine(checkpoint)
    images = [picture(seed) for seed in range(12)]
    # More threads than streams: some wait for one.
    with ThreadPoolExecutor(5) as pool:
        outputs = list(pool.map(engine.run, images))
    for image, output in zip(images, outputs, strict=True):
        same(output, reference.run(image))
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.run(images[0])


def test_a_failure_in_throughput_mode_frees_those_who_wait_for_a_stream(
    checkpoint, exported_once, picture
):
    engine = throughput_engine(checkpoint)
    waiting = threading.Event()

    class Broken:
        def run(self, *_):
            assert waiting.wait(60)
            raise RuntimeError("where\nstd::bad_alloc")

    assert engine._free.get()
    assert engine._free.get()
    engine._free.put(Broken())
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(engine.run, picture(seed)) for seed in range(3)]
        time.sleep(0.2)
        waiting.set()
        words = sorted(str(future.exception(60)) for future in futures)
    assert all(isinstance(future.exception(), EngineError) for future in futures)
    # One failed, and says of what; the others never ran.
    assert "OpenVINO failed: std::bad_alloc; use a smaller" in words[0]
    assert all("the engine is closed; open it again" in each for each in words[1:])
    with pytest.raises(EngineError, match="is closed"):
        engine.run(picture(1))


def test_a_frame_that_runs_while_its_engine_is_closed_ends(checkpoint, exported_once, picture):
    engine = throughput_engine(checkpoint)
    begun, closed = threading.Event(), threading.Event()
    lane = engine._free.get()

    class Slow:
        def run(self, *given):
            begun.set()
            assert closed.wait(60)
            return lane.run(*given)

    assert engine._free.get()
    engine._free.put(Slow())
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(engine.run, picture(1))
        assert begun.wait(60)
        engine.close()
        closed.set()
        assert future.result(60).semantic.shape == SIZE
    # Only the word for whoever waits is left: nothing holds the compiled models.
    assert engine._free.get_nowait() is None
    assert engine._free.empty()


def test_threads_of_one_engine_are_not_those_of_the_process(checkpoint, picture, monkeypatch):
    before, seen = torch.get_num_threads(), []
    engine = open_engine(checkpoint, SIZE, "pytorch", "fp32", "cpu", threads=before + 1)
    prepare = engine._graph.prepare

    def watched(batch):
        seen.append(torch.get_num_threads())
        return prepare(batch)

    monkeypatch.setattr(engine._graph, "prepare", watched)
    engine.run(picture(1))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_a_failure_closes_one_engine_and_no_other(checkpoint, openvino, picture, monkeypatch):
    engine = open_engine(checkpoint, SIZE, "pytorch", "bf16", "cpu")

    def fail(_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nsome trace")

    monkeypatch.setattr(engine._graph, "predict", fail)
    with pytest.raises(
        EngineError, match="can't allocate memory; use a smaller size or fp16, or close other"
    ):
        engine.run(picture(1))
    with pytest.raises(EngineError, match="is closed"):
        engine.run(picture(1))
    assert openvino.run(picture(1)).instance.any()


def test_an_engine_file_of_another_model_is_rebuilt(
    model, exported_once, tmp_path, caplog, picture
):
    """The file that was named holds another checkpoint's engine."""
    from rt_panoptic_core.engines.openvino_engine import LIBRARY, open_openvino

    mine = load_checkpoint(model)
    spec = open_engine(mine, SIZE, "openvino", "fp32").spec
    from rt_panoptic_core.engines.cache import engine_identity, engine_path
    from rt_panoptic_core.engines.engine_file import read_engine_file, write_engine_file

    identity = engine_identity(mine, spec, LIBRARY)
    sections = read_engine_file(engine_path(mine, spec), identity)
    foreign = tmp_path / "foreign.engine"
    write_engine_file(foreign, {**identity, "checkpoint": "0" * 64}, sections)
    with caplog.at_level("WARNING"):
        engine = open_openvino(mine, spec, engine_file=foreign)
    assert "built for checkpoint 0000" in caplog.text
    assert engine.run(picture(1)).instance.any()


def test_measurement(openvino, reference, picture):
    first, second = measure_together([openvino, reference], [picture(1)], frames=5, warm_up=1)
    for result in (first, second):
        assert result.boundary == BOUNDARY
        assert 0 < result.p50_ms <= result.p95_ms <= result.p99_ms
        assert result.frames == 5
        assert result.resident_mb <= result.peak_mb
        assert result.stages_ms
        assert result.threads == cpu_threads()
    assert first.to_dict()["engine"] == "openvino"


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("engine", "precision", "least"),
    [
        ("pytorch", "fp32", 0.98),
        ("pytorch", "fp16", 0.6),
        ("tensorrt", "fp32", 0.95),
        ("tensorrt", "fp16", 0.6),
    ],
)
def test_cuda_engines_agree_with_the_cpu(checkpoint, picture, engine, precision, least):
    if missing := missing_for(engine, "cuda:0", precision):
        pytest.skip(missing)
    results = []
    for name, kind, device in (("pytorch", "fp32", "cpu"), (engine, precision, "cuda:0")):
        segmenter = Segmenter(checkpoint, engine=name, precision=kind, device=device, size=SIZE)
        results.append([segmenter.segment(picture(seed)) for seed in SEEDS])
    assert agreement(zip(*results, strict=True), checkpoint.taxonomy).all.pq > least


REPORTS_NOTHING = """
import sys
from rt_panoptic_core.checkpoint import load_checkpoint
from rt_panoptic_core.engines.select import open_engine

open_engine(load_checkpoint(sys.argv[1]), (64, 96), "openvino", "fp32")
if sys.argv[2:]:
    from rt_panoptic_core.engines.quantization import _nncf
    _nncf()
print(sorted(name for name in sys.modules if "telemetry" in name.split(".")[0]))
import openvino_telemetry
print("there for others")
"""


def test_no_library_tells_its_makers_that_it_is_used(model, openvino, tmp_path):
    """Neither a request from a forked process nor an id in the home directory."""
    arguments = [str(model), *(["int8"] if find_spec("nncf") else [])]
    # In CI OpenVINO is silent anyway.
    environment = {
        k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")
    }
    done = subprocess.run(
        [sys.executable, "-c", REPORTS_NOTHING, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment | {"HOME": str(tmp_path), "RT_PANOPTIC_CACHE": str(tmp_path / "cache")},
    )
    assert done.stdout == "[]\nthere for others\n", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


INTERRUPTED_AFTERWARDS = """
import os, signal, sys, threading
from rt_panoptic_core.checkpoint import load_checkpoint
from rt_panoptic_core.engines.select import open_engine

signal.signal(signal.SIGINT, signal.default_int_handler)
checkpoint = load_checkpoint(sys.argv[1])
engines = [open_engine(checkpoint, (64, 96), "openvino", "fp32") for _ in range(3)]

def let_go():
    engines.pop(0).close()

let_go()
let_go()
thread = threading.Thread(target=let_go)
thread.start()
thread.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_engines_were_closed_is_an_interrupt(model, openvino):
    """In the order in which they were opened, and on another thread."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AFTERWARDS, str(model)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
