"""The correlation of every dense box with every query, as OpenVINO fuses it into one pass."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from rt_panoptic_core.inference.mask_construction import mask_probability

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)
pytest.importorskip("onnxscript", reason="onnxscript is not installed, which the export needs")

RUN = """
import sys
import numpy as np
from rt_panoptic_core.engines.telemetry import without_telemetry

with without_telemetry():
    import openvino as ov

model, inputs, output = sys.argv[1:]
compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
with np.load(inputs) as arrays:
    results = compiled([arrays[name] for name in ("queries", "dense", "probability")])
np.save(output, results[0])
"""


class Construction(nn.Module):
    def __init__(self, correlation):
        super().__init__()
        self.correlation = correlation

    def forward(self, queries, dense, probability):
        classes = torch.tensor([1, 0, 1])
        return mask_probability(queries, classes, dense, probability, self.correlation)


@pytest.mark.parametrize("correlation", ["iou", "giou"])
def test_sixteen_vector_registers_are_enough(correlation, tmp_path):
    """Most computers have AVX2 at best; a graph that needs more registers is refused there."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 500, (1, 640, 2))
    dense = np.concatenate((corners, corners + rng.uniform(1, 300, (1, 640, 2))), -1)
    inputs = {
        "queries": dense[0, :3].astype(np.float32),
        "dense": dense.astype(np.float32),
        "probability": rng.uniform(size=(2, 640)).astype(np.float32),
    }
    module = Construction(correlation).eval()
    tensors = tuple(torch.from_numpy(array) for array in inputs.values())
    program = torch.onnx.export(module, tensors, dynamo=True, opset_version=20, verbose=False)
    program.save(tmp_path / "model.onnx")
    np.savez(tmp_path / "inputs.npz", **inputs)
    files = [str(tmp_path / name) for name in ("model.onnx", "inputs.npz", "output.npy")]
    # In a process of its own, held to what such a computer can do.
    finished = subprocess.run(
        [sys.executable, "-c", RUN, *files],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    np.testing.assert_allclose(np.load(files[2]), module(*tensors).numpy(), atol=2e-6)
