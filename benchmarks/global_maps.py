"""Levelness and semantics over all pyramid levels: without the concatenation beside the plain form.

    python benchmarks/global_maps.py --size 384x768 --classes 19 133

The plain form resizes every level to the output's grid, concatenates and convolves; the package's
(:func:`rt_panoptic_core.network.panoptic_head.global_convolution`) gives the same maps. Timed are OpenVINO in
float32, PyTorch, and PyTorch forward and backward as in training, one picture each, PyTorch with channels
last as in its engine. The forms take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rt_panoptic_core.engines import hardware
from rt_panoptic_core.engines.spec import parse_size
from rt_panoptic_core.network.panoptic_head import concatenated_convolution, global_convolution

FORMS: dict[str, Callable[[list[Tensor], nn.Conv2d, tuple[int, int]], Tensor]] = {
    "concatenation": concatenated_convolution,
    "ours": global_convolution,
}


class Maps(nn.Module):
    """Global maps of one form, from pyramid levels."""

    def __init__(self, form: str, conv: nn.Conv2d, size: tuple[int, int]) -> None:
        super().__init__()
        self.form, self.conv, self.size = FORMS[form], conv, size

    def forward(self, *features: Tensor) -> Tensor:
        return self.form(list(features), self.conv, self.size)


def openvino(module: Maps, features: list[Tensor]) -> Callable[[], object]:
    """What computes ``module`` once in OpenVINO, fp32."""
    from rt_panoptic_core.engines.openvino_engine import the_core
    from rt_panoptic_core.engines.telemetry import without_telemetry

    with without_telemetry():
        import openvino as ov

    program = torch.onnx.export(
        module, tuple(features), dynamo=True, opset_version=20, verbose=False
    )
    assert program is not None
    core = the_core()
    model = core.read_model(program.model_proto.SerializeToString())
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    for index, feature in enumerate(features):
        request.set_input_tensor(index, ov.Tensor(feature.numpy()))
    return request.infer


def forward(module: Maps, features: list[Tensor]) -> Callable[[], object]:
    """What computes ``module`` once in PyTorch."""
    features = [feature.contiguous(memory_format=torch.channels_last) for feature in features]

    def work() -> object:
        with torch.inference_mode():
            return module(*features)

    return work


def training(module: Maps, features: list[Tensor]) -> Callable[[], object]:
    """What computes ``module`` and its gradients once."""
    last = torch.channels_last
    leaves = [feature.clone(memory_format=last).requires_grad_() for feature in features]

    def work() -> object:
        module(*leaves).sum().backward()
        return None

    return work


def medians(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 2):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", default="384x768", metavar="HxW", help="of the picture")
    parser.add_argument("--stride", type=int, default=4, choices=(4, 8), help="of the maps")
    parser.add_argument("--channels", type=int, default=96, help="of a level")
    parser.add_argument("--classes", type=int, nargs="+", default=[19, 133])
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    height, width = parse_size(args.size)
    features = [
        torch.randn(1, args.channels, max(1, height // stride), max(1, width // stride))
        for stride in (8, 16, 32, 64, 128)
    ]
    ways = {"PyTorch": forward, "PyTorch, with gradients": training}
    if hardware.missing_openvino() is None:
        ways = {"OpenVINO fp32": openvino, **ways}
    print(f"{args.size}, maps at stride {args.stride}, {args.channels} channels a level\n")
    print(
        "| classes | computed by | concatenation | ours | times as fast |\n|---:|---|---:|---:|---:|"
    )
    for classes in args.classes:
        conv = nn.Conv2d(args.channels * len(features), classes, 3, 1, 1)
        modules = {
            form: Maps(form, conv, (height // args.stride, width // args.stride)).eval()
            for form in FORMS
        }
        for way, make in ways.items():
            works = {form: make(module, features) for form, module in modules.items()}
            found = medians(works, args.repeats)
            ratio = found["concatenation"] / found["ours"]
            print(
                f"| {classes} | {way} | {found['concatenation']:.1f} ms | {found['ours']:.1f} ms | "
                f"{ratio:.1f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
