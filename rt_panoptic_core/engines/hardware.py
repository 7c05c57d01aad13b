"""What this machine offers: CUDA devices, CPU instructions, engine libraries."""

from __future__ import annotations

import ctypes
import platform
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rt_panoptic_core.engines.cuda import CudaDevice

TENSORRT_MODULES = ("tensorrt", "tensorrt_rtx")
"""Modules with TensorRT's Python API, in order of preference."""

_NO_DRIVER = "no NVIDIA driver is loaded (nvidia-smi would say the same)"

# What says the driver's version, and where in it: the kernel module, twice; on a Jetson the release.
_DRIVER_FILES = (
    ("/sys/module/nvidia/version", r"(.+)"),
    ("/proc/driver/nvidia/version", r"Kernel Module(?: for \w+)?\s+(\d[\d.]+)"),
    ("/etc/nv_tegra_release", r"(.+)"),
)

# Windows' subsystem for Linux reaches the GPU through this; the driver is Windows' own.
_WSL_DEVICE = Path("/dev/dxg")


@cache
def cpu_name() -> str:
    """Model of the CPU, for example ``AMD EPYC 9R14``."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets that the CPU reports, in Linux's names; empty where it reports none."""
    for line in _cpuinfo():
        if line.startswith(("flags", "Features")):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def cpu_precision() -> tuple[str, str]:
    """(fastest precision that keeps the results, why) for a network on this CPU."""
    flags = cpu_flags()
    for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16"), ("bf16", "ARM BF16")):
        if flag in flags:
            return "bf16", f"the CPU multiplies bf16 ({name})"
    return "fp32", "the CPU has no bf16 instructions"


def missing_cpu_precision(precision: str | None) -> str | None:
    """What this CPU lacks to compute a network in ``precision`` natively, or None.

    OpenVINO would compute in fp32 all the same, and the times would be called those of bf16.
    """
    fastest, why = cpu_precision()
    if precision == "bf16" and fastest != "bf16":
        return f"{why}; use fp32 or int8"
    if precision == "fp16":
        others = ("bf16, " if fastest == "bf16" else "") + "fp32 or int8"
        return f"the CPU computes no fp16; use {others}"
    return None


def package_version(name: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def missing_openvino() -> str | None:
    """What OpenVINO lacks to run here, or None."""
    if find_spec("openvino") is None:
        return "the module openvino is not installed (pip install openvino)"
    return missing_export()


def missing_export() -> str | None:
    """What the export to ONNX lacks, which every engine but PyTorch is built from, or None."""
    lacking = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if lacking:
        return f"the export to ONNX needs {' and '.join(lacking)} (pip install {' '.join(lacking)})"
    return None


def tensorrt_module() -> str | None:
    """Name of the TensorRT module to use, or None."""
    return next((name for name in TENSORRT_MODULES if find_spec(name) is not None), None)


def missing_tensorrt_build() -> str | None:
    """What TensorRT lacks to build an engine here, or None. A build needs no GPU under tensorrt_rtx."""
    if tensorrt_module() is None:
        return (
            "neither module tensorrt nor tensorrt_rtx is installed "
            "(pip install tensorrt, or tensorrt-rtx for RTX cards)"
        )
    return missing_export()


def missing_tensorrt() -> str | None:
    """What TensorRT lacks to run an engine here, or None."""
    if missing := missing_tensorrt_build():
        return missing
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return "the module cuda.bindings is not installed (pip install cuda-bindings)"
    return missing_cuda_driver()


def missing_cuda_driver() -> str | None:
    """Why no CUDA device can be used, or None if one can."""
    if cuda_driver_version() is None:
        return _NO_DRIVER
    devices, reason = _cuda_devices()
    return None if devices else reason


def missing_torch_cuda() -> str | None:
    """What PyTorch lacks to use a CUDA device here, or None; it brings a CUDA of its own."""
    if cuda_driver_version() is None and not _WSL_DEVICE.exists():
        # Importing PyTorch takes a second.
        return _NO_DRIVER
    import torch

    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        reason = missing_cuda_driver()
        return "PyTorch finds no CUDA device that it can use" + (f" ({reason})" if reason else "")
    return None


@cache
def cuda_driver_version() -> str | None:
    """Version of the loaded NVIDIA driver, or None."""
    for path, pattern in _DRIVER_FILES:
        try:
            text = Path(path).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            continue
        if found := re.search(pattern, text):
            return found[1].strip()
    return _driver_library_version()


def _driver_library_version() -> str | None:
    # In some containers and virtual machines there is no file, but the driver's library (NVML).
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        if library.nvmlInit_v2() != 0:
            return None
    except (OSError, AttributeError):
        return None
    version = ctypes.create_string_buffer(96)
    failed = library.nvmlSystemGetDriverVersion(version, len(version)) != 0
    library.nvmlShutdown()
    return None if failed else version.value.decode("ascii", "replace") or None


def cuda_device_names() -> tuple[str, ...]:
    """Names of the CUDA devices, by index; empty without a driver or the module cuda.bindings."""
    return tuple(device.name for device in _cuda_devices()[0])


def cuda_capability(index: int) -> tuple[int, int] | None:
    """Compute capability (major, minor) of a CUDA device, or None where it is not known."""
    devices, _ = _cuda_devices()
    return devices[index].capability if index < len(devices) else None


def device_identity(device: str) -> dict[str, str]:
    """What an engine for ``device`` (``cuda:N``) depends on: its name and its driver."""
    names = cuda_device_names()
    index = int(device.split(":")[1])
    name = names[index] if index < len(names) else "none"
    return {"device": name, "driver": cuda_driver_version() or "none"}


@cache
def _cuda_devices() -> tuple[tuple[CudaDevice, ...], str]:
    """The CUDA devices, and why there are none."""
    if cuda_driver_version() is None:
        return (), _NO_DRIVER
    from rt_panoptic_core.engines.cuda import CudaRuntime
    from rt_panoptic_core.errors import EngineError

    try:
        return CudaRuntime.devices(), "the NVIDIA driver reports no device"
    except EngineError as error:
        return (), str(error)


@cache
def _cpuinfo() -> tuple[str, ...]:
    try:
        return tuple(Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines())
    except OSError:
        return ()
