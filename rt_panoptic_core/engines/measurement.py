"""Timing an engine: what is timed is one ``run``, from uint8 in host memory to id maps in host memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.engines.base import Engine
from rt_panoptic_core.resources import cpu_threads, resident_memory

BOUNDARY = "uint8 image in host memory to id maps in host memory"
"""What every time stands for."""

_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Measurement:
    """Times of one engine.

    Attributes:
        boundary: :data:`BOUNDARY`.
        engine, precision, device, library: what ran.
        size: (height, width).
        threads: CPU threads that it was given; where none were named, all that the process may use.
        frames: timed runs.
        p50_ms, p95_ms, p99_ms: percentiles of one run, milliseconds of wall clock.
        cpu_ms: processor time of this process per run, all threads together: what other load on the
            machine changes least.
        frames_per_second: timed runs by the time they took together.
        stages_ms: median milliseconds by stage.
        resident_mb: resident memory of the process after the last run.
        peak_mb: the most the process ever had, the build included if the engine was built here.
        device_mb: device memory in use by the process's CUDA contexts, None on the CPU.
        energy_j: joules per run by the device's own counter, None where it has none or it is closed.
    """

    boundary: str
    engine: str
    precision: str
    device: str
    library: str
    size: tuple[int, int]
    threads: int
    frames: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: float
    frames_per_second: float
    stages_ms: dict[str, float]
    resident_mb: float
    peak_mb: float
    device_mb: float | None
    energy_j: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def measure(
    engine: Engine,
    images: Sequence[npt.NDArray[np.uint8]],
    *,
    frames: int = 30,
    warm_up: int = 3,
) -> Measurement:
    """Time ``frames`` runs of ``engine`` over ``images`` in turn, after ``warm_up`` untimed ones."""
    return measure_together([engine], images, frames=frames, warm_up=warm_up)[0]


def measure_together(
    engines: Sequence[Engine],
    images: Sequence[npt.NDArray[np.uint8]],
    *,
    frames: int = 30,
    warm_up: int = 3,
) -> list[Measurement]:
    """Time several engines frame by frame in turn, so that load on the machine falls on all of them."""
    for engine in engines:
        for index in range(warm_up):
            engine.run(images[index % len(images)])
    wall: list[list[float]] = [[] for _ in engines]
    processor: list[list[float]] = [[] for _ in engines]
    stages: list[list[dict[str, float]]] = [[] for _ in engines]
    energy: list[float | None] = [0.0 for _ in engines]
    for index in range(frames):
        image = images[index % len(images)]
        for place, engine in enumerate(engines):
            before = energy_counter(engine.spec.device)
            cpu, start = time.process_time(), time.perf_counter()
            engine.run(image)
            wall[place].append(time.perf_counter() - start)
            processor[place].append(time.process_time() - cpu)
            after, so_far = energy_counter(engine.spec.device), energy[place]
            if before is None or after is None or after < before or so_far is None:
                energy[place] = None
            else:
                energy[place] = so_far + after - before
            stages[place].append(engine.stages)
    results = []
    for place, engine in enumerate(engines):
        milliseconds = np.array(wall[place]) * 1000
        used = energy[place]
        results.append(
            Measurement(
                boundary=BOUNDARY,
                engine=engine.spec.engine,
                precision=engine.spec.precision,
                device=engine.spec.device,
                library=engine.library,
                size=engine.spec.image_size,
                threads=engine.spec.threads or cpu_threads(),
                frames=frames,
                p50_ms=_percentile(milliseconds, 50),
                p95_ms=_percentile(milliseconds, 95),
                p99_ms=_percentile(milliseconds, 99),
                cpu_ms=round(float(np.median(processor[place])) * 1000, 3),
                frames_per_second=round(frames / float(np.sum(wall[place])), 3),
                stages_ms={
                    name: round(float(np.median([s[name] for s in stages[place]])) * 1000, 3)
                    for name in stages[place][0]
                },
                resident_mb=resident_mb(),
                peak_mb=peak_mb(),
                device_mb=_device_mb(engine.spec.device),
                energy_j=None if used is None else round(used / frames, 3),
            )
        )
    return results


def resident_mb() -> float:
    """Resident memory of this process in MiB."""
    resident = resident_memory()
    return peak_mb() if resident is None else round(resident / 2**20, 1)


def peak_mb() -> float:
    """The most resident memory that this process ever had, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def energy_counter(device: str) -> float | None:
    """Joules that a device has used so far, by its own counter; None where it tells nobody, or not us.

    ``cpu`` is the sum over the CPU packages (RAPL), ``cuda:N`` the board (NVML).
    """
    if device != "cpu":
        return _board_energy(int(device.split(":")[1]))
    counters = sorted(_RAPL.glob("*-rapl:[0-9]/energy_uj"))
    try:
        readings = [int(counter.read_text(encoding="ascii")) for counter in counters]
    except (OSError, ValueError):
        return None
    return sum(readings) / 1e6 if readings else None


def _board_energy(index: int) -> float | None:
    try:
        import pynvml

        board = _board(index)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(board)) / 1000
    except Exception:  # noqa: BLE001 - an optional module with errors of its own, and only a number is lost
        return None


def _device_mb(device: str) -> float | None:
    if device == "cpu":
        return None
    try:
        import pynvml

        board = _board(int(device.split(":")[1]))
        mine = [
            process.usedGpuMemory
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(board)
            if process.pid == os.getpid()
        ]
        return round(mine[0] / 2**20, 1) if mine and mine[0] else None
    except Exception:  # noqa: BLE001 - as above
        return None


def _board(index: int) -> Any:
    """NVML's handle of the CUDA device ``index``."""
    import pynvml

    from rt_panoptic_core.engines.cuda import CudaRuntime

    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByPciBusId(CudaRuntime.bus_id(index).encode())


def _percentile(values: npt.NDArray[np.float64], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 3)
