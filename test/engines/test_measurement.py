"""Counters of energy and memory: the right device's, and None where nobody tells."""

import os
import sys
from types import SimpleNamespace

import pytest

from rt_panoptic_core.engines import measurement
from rt_panoptic_core.engines.cuda import CudaRuntime
from rt_panoptic_core.engines.measurement import energy_counter
from rt_panoptic_core.errors import EngineError


@pytest.fixture
def boards(monkeypatch):
    """NVML with two boards in an order of its own."""
    joules = {b"0000:01:00.0": 1000, b"0000:02:00.0": 2000}
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByPciBusId=lambda bus: bus,
        nvmlDeviceGetTotalEnergyConsumption=joules.__getitem__,
        nvmlDeviceGetComputeRunningProcesses=lambda board: [
            SimpleNamespace(pid=1, usedGpuMemory=2**30),
            SimpleNamespace(pid=os.getpid(), usedGpuMemory=joules[board] * 2**20),
        ],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    order = ["0000:02:00.0", "0000:01:00.0"]
    monkeypatch.setattr(CudaRuntime, "bus_id", staticmethod(lambda index: order[index]))


def test_a_cuda_device_is_found_by_its_bus(boards):
    assert energy_counter("cuda:0") == 2.0
    assert energy_counter("cuda:1") == 1.0
    assert measurement._device_mb("cuda:0") == 2000.0


def test_no_counter_is_no_error(boards, monkeypatch, tmp_path):
    def no_driver(index):
        raise EngineError(f"no device {index}")

    monkeypatch.setattr(CudaRuntime, "bus_id", staticmethod(no_driver))
    assert energy_counter("cuda:0") is None
    assert measurement._device_mb("cuda:0") is None
    monkeypatch.setattr(measurement, "_RAPL", tmp_path)
    assert energy_counter("cpu") is None


def test_the_packages_of_a_cpu_are_added(monkeypatch, tmp_path):
    for name, microjoules in (("intel-rapl:0", 1_500_000), ("intel-rapl:1", 500_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{microjoules}\n")
    monkeypatch.setattr(measurement, "_RAPL", tmp_path)
    assert energy_counter("cpu") == 2.0
