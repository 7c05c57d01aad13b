"""The benchmark node runs, prints its figures and writes them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)


def test_it_measures_and_prints(tmp_path):
    target = tmp_path / "figures.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "rt_panoptic_ros.benchmark_node"),
            *("--size", "48x64", "--seconds", "2", "--milliseconds", "20"),
            *("--frames", "100", "--only", "overhead"),
            *("--only", "memory", "--json", str(target)),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(target.read_text())
    (overhead,), (memory,) = figures["overhead"], figures["memory"]
    assert overhead["inference_p50"] == pytest.approx(20, abs=8)
    assert overhead["total_p50"] > overhead["inference_p50"]
    assert overhead["frames"] > 3
    assert memory["frames"] >= 100
    assert "What the node adds" in done.stdout
    assert "48x64" in done.stdout
