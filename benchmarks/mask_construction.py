"""What it costs to make a panoptic map from 100 queries, and what each way of enlarging it loses.

    python benchmarks/mask_construction.py --size 1024x2048 --json construction.json

Everything after query selection: P_loc, P_sem, their product, the assignment, the label maps at full size.
The ways to full size that are compared:

- ``grid``: argmax on the stride-4 grid, enlarged by the nearest neighbour;
- ``edges``: semantics as the argmax of the logits enlarged bilinearly; an instance's edge where its mask
  probability, enlarged bilinearly, crosses the threshold; between two instances the grid. This is what the
  package does where shapes have to be static;
- ``sparse``: the same labels, but masks only where things may be, pixels only where neighbouring locations
  differ. This is what the package does on a CPU;
- ``full``: every mask enlarged bilinearly, one after the other, and the best taken at every pixel;
- ``kernels``: ``edges`` in the kernels for CUDA devices (``--device cuda:0``), with boxes and confidence.

The inputs are what a network that makes no mistake would say of generated streets: class frequencies of each
cell as semantic probabilities, the true boxes as dense boxes and as queries. So the panoptic quality against
the truth is what is lost by the grid and by the way back from it, and by nothing else.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rt_panoptic_core.datasets.generated_streets import GeneratedStreets
from rt_panoptic_core.datasets.sample import PanopticSample
from rt_panoptic_core.engines import hardware
from rt_panoptic_core.engines.spec import parse_size
from rt_panoptic_core.evaluation.boundary_quality import BoundaryQuality
from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.evaluation.panoptic_quality import PanopticQuality
from rt_panoptic_core.files import write_json
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.fusion import (
    Assignment,
    assign_instances,
    construct_instances,
    full_size_labels,
)
from rt_panoptic_core.inference.mask_construction import mask_probability, semantic_probability
from rt_panoptic_core.inference.query_selection import Detected
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.inference.upsampling import upsample, upsampled_argmax
from rt_panoptic_core.network.locations import grid_locations
from rt_panoptic_core.network.panoptic_head import LEVELNESS_STRIDE, NetworkOutput
from rt_panoptic_core.resources import cpu_threads
from rt_panoptic_core.taxonomy import Taxonomy

QUERIES = 100
WAYS = ("grid", "edges", "sparse", "full")
STATIC = ("grid", "edges", "kernels")
"""Ways whose shapes do not depend on the picture: on a CUDA device they are one captured graph."""


class Construction(nn.Module):
    """(query boxes [Q, 4], their things [Q], dense boxes [1, P, 4], logits [1, C, h, w]) to label maps."""

    def __init__(
        self, way: str, size: tuple[int, int], taxonomy: Taxonomy, sigma: float, correlation: str
    ) -> None:
        super().__init__()
        self.way, self.size = way, size
        self.config = InferenceConfig(correlation=correlation)
        self.classes = len(taxonomy)
        self.register_buffer("thing_ids", torch.tensor(taxonomy.thing_ids))
        self.grid = (size[0] // LEVELNESS_STRIDE, size[1] // LEVELNESS_STRIDE)
        self.register_buffer("sigma", torch.tensor(sigma))
        self.register_buffer("overlap", torch.tensor(0.5))

    def forward(
        self, boxes: Tensor, things: Tensor, dense: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        classes = self.thing_ids.index_select(0, things)
        probability = semantic_probability(logits, self.grid)[0].flatten(1)
        of_things = probability.index_select(0, self.thing_ids)
        alive = torch.ones(len(boxes), device=boxes.device)
        if self.way == "full":
            masks = mask_probability(boxes, things, dense, of_things, self.config.correlation)
            order = self.config.fusion_order
            assignment = assign_instances(masks, alive, self.sigma, self.overlap, order)
            return self._every_mask(masks, assignment, classes, logits)
        sparse = self.way == "sparse"
        assignment = construct_instances(
            boxes,
            things,
            alive,
            dense,
            of_things,
            self.sigma,
            self.overlap,
            self.config,
            self.grid,
            sparse,
        )
        if self.way in ("edges", "sparse"):
            dropped = torch.zeros(self.classes, dtype=torch.bool, device=boxes.device)
            return full_size_labels(
                logits,
                assignment,
                classes,
                dropped,
                self.sigma,
                self.grid,
                self.size,
                self.size,
                sparse,
            )
        stuff = probability.argmax(dim=0)
        zero = torch.zeros_like(stuff)
        semantic = torch.where(assignment.taken, classes[assignment.winner], stuff)
        instance = torch.where(assignment.taken, assignment.winner + 1, zero)
        maps = torch.stack((semantic, instance)).float().reshape(2, 1, *self.grid)
        enlarged = F.interpolate(maps, size=self.size)
        return enlarged[0, 0], enlarged[1, 0]

    def _every_mask(
        self, masks: Tensor, assignment: Assignment, classes: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        kept = torch.zeros(len(masks), device=masks.device)
        kept[assignment.winner[assignment.taken]] = 1
        best = torch.zeros(self.size, device=masks.device)
        row = torch.zeros(self.size, dtype=torch.int64, device=masks.device)
        for index in torch.nonzero(kept).flatten().tolist():
            mask = upsample(masks[index].reshape(1, *self.grid), LEVELNESS_STRIDE)[0]
            row = torch.where(mask > best, index + 1, row)
            best = torch.maximum(best, mask)
        row = torch.where(best > self.sigma, row, torch.zeros_like(row))
        stuff = upsampled_argmax(logits[0], self.size[0] // logits.shape[-2])
        semantic = torch.where(row > 0, classes[(row - 1).clamp(min=0)], stuff)
        return semantic.float(), row.float()


class KernelConstruction(nn.Module):
    """The same as :class:`Construction`, in the kernels for CUDA devices."""

    def __init__(
        self, size: tuple[int, int], taxonomy: Taxonomy, sigma: float, correlation: str
    ) -> None:
        """Keep what is fixed for one size."""
        super().__init__()
        from rt_panoptic_core.inference.fused.labels import LabelSettings, make_labels, thing_rows

        self.make_labels = make_labels
        self.grid = (size[0] // LEVELNESS_STRIDE, size[1] // LEVELNESS_STRIDE)
        self.register_buffer("thing_ids", torch.tensor(taxonomy.thing_ids))
        self.register_buffer(
            "points", grid_locations(*self.grid, LEVELNESS_STRIDE, torch.device("cpu"))
        )
        self.register_buffer("rows", thing_rows(taxonomy))
        # One level as fine as the grid: its boxes are the dense boxes.
        self.register_buffer("levels", torch.tensor([[0, *self.grid]], dtype=torch.int32))
        self.register_buffer("thresholds", torch.tensor([0.0, sigma, 0.5, 0.0]))
        config = InferenceConfig(correlation=correlation)
        self.settings = lambda: LabelSettings(
            self.grid, size, config, self.levels, self.rows, self.thing_ids
        )

    def forward(
        self, boxes: Tensor, things: Tensor, dense: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        corners = dense.reshape(*self.grid, 4)
        offsets = torch.cat(
            (self.points - corners[..., :2], corners[..., 2:] - self.points), dim=-1
        )
        offsets = offsets.permute(2, 0, 1).unsqueeze(0)
        levelness = torch.zeros((1, 2, *self.grid), device=boxes.device)
        output = NetworkOutput([], [offsets], [], levelness, logits)
        queries = Detected(boxes, things, torch.ones(len(boxes), device=boxes.device))
        labels = self.make_labels(output, queries, self.thresholds, self.settings())
        return labels.semantic[0], labels.instance[0]


def oracle(
    sample: PanopticSample, taxonomy: Taxonomy, stride: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs of :class:`Construction` from the truth of ``sample``, padded to :data:`QUERIES` queries."""
    height, width = sample.semantic.shape
    one_hot = F.one_hot(torch.from_numpy(sample.semantic).long().clamp(max=len(taxonomy)))
    one_hot = F.pad(one_hot, (0, len(taxonomy) + 1 - one_hot.shape[-1]))[..., : len(taxonomy)]
    share = F.avg_pool2d(one_hot.permute(2, 0, 1).float().unsqueeze(0), stride)
    logits = share.clamp(min=1e-3).log()
    grid = (height // LEVELNESS_STRIDE, width // LEVELNESS_STRIDE)
    half = LEVELNESS_STRIDE // 2
    ids = torch.from_numpy(sample.instance)[half::LEVELNESS_STRIDE, half::LEVELNESS_STRIDE]
    dense = torch.tensor([-100.0, -100.0, -99.0, -99.0]).repeat(*grid, 1)
    boxes, things = [], []
    for annotation in sample.instances:
        rows, columns = np.nonzero(sample.instance == annotation.id)
        if len(rows) == 0 or annotation.is_crowd or len(boxes) == QUERIES:
            continue
        box = torch.tensor(
            [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=torch.float32
        )
        dense[ids == annotation.id] = box
        boxes.append(box)
        things.append(taxonomy.thing_ids.index(annotation.class_id))
    for index in range(QUERIES - len(boxes)):
        # Padding: boxes that no dense box overlaps, so that the work is that of 100 queries.
        boxes.append(torch.tensor([-9.0, -9.0, -8.0, -8.0]) - index)
        things.append(0)
    return torch.stack(boxes), torch.tensor(things), dense.reshape(1, -1, 4), logits


def as_result(semantic: Tensor, instance: Tensor, classes: Tensor) -> PanopticResult:
    """The label maps as a result."""
    rows = instance.numpy().astype(np.uint16)
    found = [int(row) for row in np.unique(rows) if row]
    segments = [Segment(row, int(classes[row - 1]), True, 1.0, 0, None) for row in found]
    return PanopticResult(semantic.numpy().astype(np.uint8), rows, segments)


def openvino_times(
    module: Construction, inputs: tuple[Tensor, ...], repeats: int
) -> dict[str, float] | None:
    """Milliseconds through OpenVINO in fp32: median of the wall clock, and of processor time by threads."""
    if hardware.missing_openvino() is not None:
        return None
    from rt_panoptic_core.engines.onnx_export import TRANSLATIONS
    from rt_panoptic_core.engines.openvino_engine import the_core
    from rt_panoptic_core.engines.telemetry import without_telemetry

    with without_telemetry():
        import openvino as ov

    program = torch.onnx.export(
        module,
        inputs,
        dynamo=True,
        opset_version=20,
        verbose=False,
        custom_translation_table=TRANSLATIONS,
    )
    assert program is not None
    core = the_core()
    compiled = core.compile_model(
        core.read_model(program.model_proto.SerializeToString()),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
    )
    request = compiled.create_infer_request()
    for index, tensor in enumerate(inputs):
        request.set_input_tensor(index, ov.Tensor(tensor.numpy()))
    return timed(request.infer, repeats)


def timed(work: Any, repeats: int) -> dict[str, float]:
    """Milliseconds: median of the wall clock, least, and median of processor time divided by the cores."""
    work()
    wall, processor = [], []
    for _ in range(repeats):
        cpu, start = time.process_time(), time.perf_counter()
        work()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - cpu)
    return {
        "median_ms": round(float(np.median(wall)) * 1000, 1),
        "least_ms": round(min(wall) * 1000, 1),
        "cpu_ms_per_core": round(
            float(np.median(processor)) * 1000 / min(cpu_threads(), torch.get_num_threads()),
            1,
        ),
    }


def torch_times(
    module: nn.Module, inputs: tuple[Tensor, ...], device: str, static: bool, repeats: int
) -> dict[str, float]:
    """Milliseconds in PyTorch on ``device``; ``static`` ones are a captured graph on a CUDA device."""
    if device == "cpu" or not static:

        def work() -> None:
            with torch.inference_mode():
                module(*inputs)
            if device != "cpu":
                torch.cuda.synchronize()

        return timed(work, max(2, repeats // 3))
    stream = torch.cuda.Stream()
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(3):
            module(*inputs)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph, stream=stream):
        module(*inputs)
    times = []
    for _ in range(10 * repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(stream):
            start.record()
            graph.replay()
            end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return {"median_ms": round(float(np.median(times)), 3), "least_ms": round(min(times), 3)}


def main() -> int:
    """Measure the ways, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1024x2048", metavar="HxW")
    parser.add_argument(
        "--frames", type=int, default=4, metavar="N", help="streets for the quality"
    )
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="timed runs")
    parser.add_argument("--stride", type=int, default=4, choices=(4, 8), help="of the semantics")
    parser.add_argument("--correlation", default="iou", choices=("iou", "giou"))
    parser.add_argument("--device", default="cpu", help="cpu, or for example cuda:0")
    parser.add_argument("--sigma", type=float, default=0.3)
    parser.add_argument("--json", type=Path, metavar="F")
    args = parser.parse_args()
    size = parse_size(args.size)
    if args.device != "cpu":
        torch.cuda.set_device(args.device)
    streets = GeneratedStreets(length=args.frames, size=size, seed=3)
    taxonomy = streets.taxonomy
    samples = [streets[index] for index in range(args.frames)]
    cases = [
        tuple(part.to(args.device) for part in oracle(sample, taxonomy, args.stride))
        for sample in samples
    ]
    ways = WAYS if args.device == "cpu" else (*WAYS, "kernels")
    rows = []
    print("| way | OpenVINO ms (per core) | PyTorch ms | PQ | boundary PQ | memory MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for way in ways:
        module: nn.Module
        if way == "kernels":
            module = KernelConstruction(size, taxonomy, args.sigma, args.correlation)
        else:
            module = Construction(way, size, taxonomy, args.sigma, args.correlation)
        module = module.eval().to(args.device)
        quality = PanopticQuality.for_taxonomy(taxonomy)
        boundary = BoundaryQuality(taxonomy)
        for sample, case in zip(samples, cases, strict=True):
            with torch.inference_mode():
                semantic, instance = module(*case)
            frame = Frame.of(
                sample,
                as_result(semantic.cpu(), instance.cpu(), module.thing_ids[case[1]].cpu()),
                taxonomy,
            )
            quality.add(frame.matches, frame.truth, frame.predicted)
            boundary.update(frame)
        # The loop over the kept queries is no static graph.
        through_openvino = (
            openvino_times(module, cases[0], args.repeats)
            if way != "full" and args.device == "cpu"
            else None
        )
        row = {
            "way": way,
            "openvino": through_openvino,
            "torch": torch_times(module, cases[0], args.device, way in STATIC, args.repeats),
            "pq": round(100 * float(quality.result().all.pq), 2),
            "boundary_pq": round(100 * float(boundary.result().all.pq), 2),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }
        rows.append(row)
        times = (
            "-"
            if through_openvino is None
            else f"{through_openvino['median_ms']} ({through_openvino['cpu_ms_per_core']})"
        )
        print(
            f"| {way} | {times} | {row['torch']['median_ms']} | {row['pq']} | {row['boundary_pq']} "
            f"| {row['peak_mb']} |",
            flush=True,
        )
    if args.json:
        write_json(
            args.json,
            {
                "size": size,
                "queries": QUERIES,
                "stride": args.stride,
                "correlation": args.correlation,
                "cpu": hardware.cpu_name(),
                "device": args.device,
                "cuda": hardware.cuda_device_names(),
                "threads": cpu_threads(),
                "rows": rows,
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
