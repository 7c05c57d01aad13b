"""int8: what is left out, what it is calibrated on, and that it runs."""

import sys

import cv2
import numpy as np
import pytest

from rt_panoptic_core.engines import quantization
from rt_panoptic_core.engines.base import INPUT_NAMES, OUTPUT_NAMES
from rt_panoptic_core.engines.calibration_images import calibration_images
from rt_panoptic_core.engines.onnx_export import export_onnx
from rt_panoptic_core.engines.quantization import quantize_onnx
from rt_panoptic_core.engines.spec import EngineSpec
from rt_panoptic_core.errors import EngineError

build_openvino = pytest.importorskip(
    "rt_panoptic_core.engines.openvino_engine",
    reason="openvino is not installed",
    exc_type=ImportError,
).build_openvino

SIZE = (64, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, picture):
    path = tmp_path_factory.mktemp("calibration")
    for seed in range(3):
        cv2.imwrite(str(path / f"{seed}.png"), picture(seed)[:, :, ::-1])
    return path


def test_images_are_read_as_rgb_in_the_engines_size(folder, picture):
    images = calibration_images(folder, SIZE)
    assert len(images) == 3
    assert np.array_equal(images[1][0], picture(1))
    assert calibration_images(folder, (32, 48))[0].shape == (1, 32, 48, 3)


def test_folders_that_do_not_serve(tmp_path):
    with pytest.raises(EngineError, match=r"missing: there is no such folder; name a folder of"):
        calibration_images(tmp_path / "missing", SIZE)
    (tmp_path / "v.mp4").touch()
    with pytest.raises(EngineError, match=r"v\.mp4: it is no folder; name a folder of images"):
        calibration_images(tmp_path / "v.mp4", SIZE)
    with pytest.raises(EngineError, match="holds no image"):
        calibration_images(tmp_path, SIZE)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(EngineError, match=r"broken\.png: damaged"):
        calibration_images(tmp_path, SIZE)


def test_a_missing_nncf_is_told_before_anything_is_exported(checkpoint, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    told = []
    # Before images are asked for, too: nobody need look for some to learn that they do not help.
    for images in (folder, None):
        with pytest.raises(EngineError, match=r"pip install nncf.*int8\.txt.*\[int8\]"):
            build_openvino(
                checkpoint,
                EngineSpec(SIZE, "openvino", "int8"),
                images,
                lambda step, _: told.append(step),
            )
    assert not told


def test_images_are_asked_for_where_they_are_needed(monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda _: True)
    with pytest.raises(EngineError, match=r"--calibration FOLDER\)\. 'rt-panoptic export' with it"):
        quantization.images_for_int8(None, SIZE)


def test_quantised_graph(checkpoint, folder, picture):
    """Q/DQ inside the network only, symmetric, heads left out; onnxruntime runs it."""
    pytest.importorskip("nncf", reason="nncf is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    plain = export_onnx(checkpoint, SIZE)
    quantised = quantize_onnx(plain, checkpoint.config, calibration_images(folder, SIZE))
    pairs = [node for node in quantised.graph.node if node.op_type == "DequantizeLinear"]
    assert len(pairs) > 20
    produced = {name: node for node in quantised.graph.node for name in node.output}
    floating = [
        node.name
        for node in quantised.graph.node
        if node.op_type == "Conv"
        and produced.get(node.input[0], node).op_type != "DequantizeLinear"
    ]
    whole = [node for node in quantised.graph.node if node.op_type == "Conv"]
    # The first, on each of 5 levels three heads and two global ones, and the upsampling filters.
    assert 1 + 5 * 3 < len(floating) < len(whole)
    assert tuple(value.name for value in quantised.graph.output) == OUTPUT_NAMES
    session = runtime.InferenceSession(quantised.SerializeToString())
    thresholds = np.array(checkpoint.inference.thresholds.as_tuple(), np.float32)
    feed = dict(zip(INPUT_NAMES, (picture(1)[None], thresholds), strict=True))
    semantic = session.run(None, feed)[0]
    reference = runtime.InferenceSession(plain.SerializeToString()).run(None, feed)[0]
    assert (semantic == reference).mean() > 0.5
