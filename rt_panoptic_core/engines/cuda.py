"""The few CUDA calls that an engine needs: memory, pinned memory, a stream, one captured graph.

Made with cuda.bindings (NVIDIA's cuda-python), so that TensorRT runs beside a PyTorch without CUDA.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import EngineError

CAPTURING = threading.Lock()
"""Held while a CUDA graph is captured: a device that somebody waits for meanwhile breaks the capture.

PyTorch waits for the whole device before each of its captures.
"""


class CudaDevice(NamedTuple):
    """A CUDA device: its name, and its compute capability (major, minor)."""

    name: str
    capability: tuple[int, int]


class CudaRuntime:
    """Device memory, pinned host memory and one stream of a CUDA device.

    :meth:`close`, or the end of the object, frees what is on the device. Pinned memory lives as long as an
    array that looks into it. Nothing here is for use by two threads at once.
    """

    def __init__(self, device: int, api: ModuleType | Any | None = None) -> None:
        """Take ``device``.

        Args:
            device: its index.
            api: stands for ``cuda.bindings.runtime``.

        Raises:
            EngineError: there is no such device, no driver, or cuda.bindings is not installed.
        """
        self._api = _runtime() if api is None else api
        self._device = device
        # (function, what it frees), in the order they were made; nothing in it refers to this object.
        self._held: list[tuple[Callable[[Any], Any], Any]] = []
        weakref.finalize(self, _free, self._held).atexit = False
        self.activate()
        self._stream = self._call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking)
        self._held.append((self._api.cudaStreamDestroy, self._stream))

    @staticmethod
    def devices() -> tuple[CudaDevice, ...]:
        """The CUDA devices by index.

        Raises:
            EngineError: no driver, one that is too old, or cuda.bindings is not installed.
        """
        api = _runtime()
        count = int(_checked(api, "cudaGetDeviceCount", api.cudaGetDeviceCount()))
        properties = [
            _checked(api, "cudaGetDeviceProperties", api.cudaGetDeviceProperties(index))
            for index in range(count)
        ]
        return tuple(
            CudaDevice(bytes(p.name).split(b"\0")[0].decode(), (int(p.major), int(p.minor)))
            for p in properties
        )

    @staticmethod
    def bus_id(device: int) -> str:
        """PCI bus id of the CUDA device with the index ``device``, such as ``0000:3b:00.0``.

        NVML knows the devices by it; its own indices are neither in CUDA's order nor limited by
        ``CUDA_VISIBLE_DEVICES``.

        Raises:
            EngineError: there is no such device, no driver, or cuda.bindings is not installed.
        """
        api = _runtime()
        text = _checked(api, "cudaDeviceGetPCIBusId", api.cudaDeviceGetPCIBusId(32, device))
        return bytes(text).split(b"\0")[0].decode()

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        return int(self._stream)

    def device_memory(self, size: int) -> int:
        """Address of ``size`` new bytes on the device.

        Raises:
            EngineError: the device's memory does not suffice.
        """
        address = int(self._call("cudaMalloc", max(size, 1)))
        self._held.append((self._api.cudaFree, address))
        return address

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """New array in page-locked host memory, which the device copies from and to by itself.

        It is freed with the last view of it: somebody may still read a result when its engine is closed.

        Raises:
            EngineError: the host's memory does not suffice.
        """
        kind = np.dtype(dtype)
        size = max(int(np.prod(shape)) * kind.itemsize, 1)
        address = int(self._call("cudaHostAlloc", size, self._api.cudaHostAllocDefault))
        memory = (ctypes.c_ubyte * size).from_address(address)
        weakref.finalize(memory, self._api.cudaFreeHost, address).atexit = False
        return np.ndarray(shape, dtype=kind, buffer=memoryview(memory))

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy of a pinned array to the device."""
        self._copy(address, array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice")

    def download(self, array: npt.NDArray[Any], address: int) -> None:
        """Queue a copy from the device to a pinned array."""
        self._copy(array.ctypes.data, address, array.nbytes, "cudaMemcpyDeviceToHost")

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        """What ``queue`` queues on the stream, recorded as one graph; the result queues the graph.

        Raises:
            EngineError: something in it cannot be captured.
        """
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with CAPTURING:
            self._call("cudaStreamBeginCapture", self._stream, mode)
            try:
                queue()
            except BaseException:
                # The capture has to end, or the stream stays unusable; what it caught is of no use.
                with contextlib.suppress(EngineError):
                    self._api.cudaGraphDestroy(self._call("cudaStreamEndCapture", self._stream))
                raise
            graph = self._call("cudaStreamEndCapture", self._stream)
        try:
            executable = self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._api.cudaGraphDestroy(graph)
        self._held.append((self._api.cudaGraphExecDestroy, executable))
        return lambda: self._call("cudaGraphLaunch", executable, self._stream)

    def synchronize(self) -> None:
        """Wait for all that was queued.

        Raises:
            EngineError: some of it failed on the device.
        """
        self._call("cudaStreamSynchronize", self._stream)

    def activate(self) -> None:
        """Make this device the calling thread's: engines of several devices may live in one process."""
        self._call("cudaSetDevice", self._device)

    def drain(self) -> None:
        """Wait until nothing runs on the stream any more, however it ends."""
        with contextlib.suppress(EngineError):
            self.activate()
            self.synchronize()

    def close(self) -> None:
        """Free everything. Errors are passed over: after a failed kernel every call reports it again."""
        _free(self._held)

    def _copy(self, target: int, source: int, size: int, kind: str) -> None:
        direction = getattr(self._api.cudaMemcpyKind, kind)
        self._call("cudaMemcpyAsync", target, source, size, direction, self._stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        return _checked(self._api, name, getattr(self._api, name)(*arguments))


def memory_in_use(index: int) -> int:
    """Bytes in use on device ``index``, by everyone.

    Raises:
        EngineError: there is no such device, no driver, or cuda.bindings is not installed.
    """
    use_device(index)
    api = _runtime()
    status, free, total = api.cudaMemGetInfo()
    _checked(api, "cudaMemGetInfo", (status,))
    return int(total) - int(free)


def use_device(index: int) -> None:
    """Make device ``index`` the calling thread's.

    Raises:
        EngineError: there is no such device, no driver, or cuda.bindings is not installed.
    """
    api = _runtime()
    _checked(api, "cudaSetDevice", api.cudaSetDevice(index))


def _free(held: list[tuple[Callable[[Any], Any], Any]]) -> None:
    """Free all that is in ``held``, the last made first."""
    while held:
        function, handle = held.pop()
        function(handle)


def _runtime() -> ModuleType:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError(
            "the module cuda.bindings is not installed (pip install cuda-bindings)"
        ) from error
    module: ModuleType = runtime
    return module


def _checked(api: Any, name: str, result: tuple[Any, ...]) -> Any:
    """Value of a CUDA call's ``(status, *values)``.

    Raises:
        EngineError: the status is not success; CUDA's words for it are given.
    """
    status, *values = result
    if int(status) != 0:
        _, text = api.cudaGetErrorString(status)
        words = text.decode() if isinstance(text, bytes) else str(text)
        raise EngineError(f"{name}: {words}")
    return values[0] if values else None
