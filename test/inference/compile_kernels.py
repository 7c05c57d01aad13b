"""Compiles every kernel of the fused graph for a GPU that need not be there; started by a test.

    python compile_kernels.py 87          # compute capability 8.7
    python compile_kernels.py 75 80 87    # several, one after the other

The graph runs on the CPU with nothing behind its launches but a note of their arguments: their types and
constants are what a kernel is compiled for.
"""

import sys

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from rt_panoptic_core.engines.graph import fold_batch_norm
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.end_to_end import EndToEnd
from rt_panoptic_core.inference.fused.end_to_end import FusedEndToEnd
from rt_panoptic_core.network.config import NetworkConfig
from rt_panoptic_core.network.panoptic_network import PanopticNetwork
from rt_panoptic_core.taxonomy import Taxonomy

SIZE = (256, 512)
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.uint8: "*u8",
}


def kind(value):
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    return {int: "i32", float: "fp32"}[type(value)]


def noted_launches():
    """(kernel, types of its arguments, its constants, warps), once for all that differ in sizes alone."""
    launches = {}

    def note(self, *args, grid, warmup, num_warps=4, **kwargs):
        values = {**dict(zip(self.arg_names, args, strict=False)), **kwargs}
        constants = {p.name: values[p.name] for p in self.params if p.is_constexpr}
        types = {
            name: "constexpr" if name in constants else kind(values[name])
            for name in self.arg_names
        }
        # Of the constants, those that say what is computed; the others are numbers of channels, tiles.
        kinds = [v for name, v in constants.items() if isinstance(v, bool) or name == "STRIDE"]
        key = (self.fn.__name__, *types.values(), *kinds)
        launches.setdefault(key, (self, types, constants, num_warps))

    JITFunction.run = note
    for backbone in ("resnet18", "mobilenet_v2_expanded"):
        config = NetworkConfig.preset("published", backbone=backbone, batch_norm_eps=1e-5)
        network = PanopticNetwork(config, Taxonomy.load("cityscapes")).eval()
        fold_batch_norm(network)
        inference = InferenceConfig.preset("published")
        graph = FusedEndToEnd(EndToEnd(network, inference, SIZE, torch.float16))
        with torch.inference_mode():
            thresholds = torch.tensor(inference.thresholds.as_tuple())
            graph(torch.zeros((1, *SIZE, 3), dtype=torch.uint8), thresholds)
    return launches


def main():
    launches = noted_launches()
    for capability in sys.argv[1:]:
        target = GPUTarget("cuda", int(capability), 32)
        for kernel, types, constants, warps in launches.values():
            places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
            compiled = triton.compile(
                ASTSource(kernel, types, places), target=target, options={"num_warps": warps}
            )
            assert len(compiled.asm["cubin"]) > 1000, kernel.fn.__name__
    print(*sorted({name for name, *_ in launches}))


if __name__ == "__main__":
    main()
