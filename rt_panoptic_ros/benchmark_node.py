"""What the node adds to its engine: latency, behaviour under overload, memory.

A camera process publishes, the node answers in another, and this one receives semantic, instance and
instances and compares the moment it has all three with the stamp that the camera wrote before publishing.

    ros2 run rt_panoptic_ros benchmark_node                       # stand-in engine: the node alone
    ros2 run rt_panoptic_ros benchmark_node --engine auto         # the default model
    ros2 run rt_panoptic_ros benchmark_node --only overload --overload-seconds 60
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from rt_panoptic_core.allocator import keep_freed_memory
from rt_panoptic_core.engines.spec import ENGINES, parse_size
from rt_panoptic_core.errors import EngineError
from rt_panoptic_core.files import write_json
from rt_panoptic_ros.fastdds import use_profile
from rt_panoptic_ros.msg import PanopticInstanceArray
from rt_panoptic_ros.stamps import nanoseconds

_TOPICS = ("semantic", "instance", "instances")
_WARM_FRAMES = 1000
"""Until then the queues' buffers are touched for the first time, as the scheduler happens to fill them."""

_KIBIBYTES = 1024
_SCENARIOS = ("overhead", "overload", "memory")


@dataclass(frozen=True)
class Overhead:
    """Receipt minus publication minus inference at one size; milliseconds."""

    size: str
    frames: int
    total_p50: float
    inference_p50: float
    added_p50: float
    added_p95: float
    target: float | None


@dataclass(frozen=True)
class Overload:
    """Latency while images come twice as fast as they are answered; milliseconds."""

    size: str
    rate: float
    seconds: float
    frames: int
    first_p95: float
    rest_p95: float
    last_p95: float
    ratio: float


@dataclass(frozen=True)
class Memory:
    """Resident memory of the node before and after many frames; MiB.

    ``shared`` is what it has touched of the publishers' shared-memory segments, each of which has a fixed
    size; it is as large as the busiest moment made it.
    """

    size: str
    frames: int
    before: float
    after: float
    growth: float
    shared_before: float
    shared_after: float


class _Receiver:
    """Subscribes the results; for each stamp, the moment all of them were here."""

    def __init__(self) -> None:
        use_profile()
        keep_freed_memory()
        rclpy.init(args=[])
        self._node = rclpy.create_node("benchmark_receiver")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._seen: dict[int, int] = {}
        self.latencies: list[tuple[float, float]] = []
        self.diagnostics: dict[str, str] = {}
        for topic in _TOPICS:
            kind = PanopticInstanceArray if topic == "instances" else Image
            self._node.create_subscription(
                kind, f"/rt_panoptic/{topic}", self._take, qos_profile_sensor_data
            )
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10)

    def _take(self, message: Any) -> None:
        now = time.time_ns()
        stamp = nanoseconds(message.header.stamp)
        count = self._seen.get(stamp, 0) + 1
        self._seen[stamp] = count
        if count == len(_TOPICS):
            del self._seen[stamp]
            self.latencies.append((stamp / 1e9, (now - stamp) / 1e9))
        # Of a frame that lost a part nothing is measured, and nothing kept.
        while len(self._seen) > 50:
            self._seen.pop(next(iter(self._seen)))

    def _diagnose(self, message: DiagnosticArray) -> None:
        for status in message.status:
            for value in status.values:
                self.diagnostics[value.key] = value.value

    def forget(self) -> None:
        self._seen.clear()
        self.latencies.clear()
        self.diagnostics.clear()

    def spin_until(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            if time.monotonic() > deadline:
                raise EngineError(f"benchmark: {what} did not happen within {timeout:g} s")
            self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()


class _Benchmark:
    """Starts node and camera, and measures."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self._options = options
        self._stack = stack
        self._receiver = _Receiver()
        stack.callback(self._receiver.close)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL)
        self._stack.callback(_stop, process)
        return process

    def _node(self, milliseconds: float, size: str) -> subprocess.Popen[bytes]:
        self._receiver.forget()
        ros = ["--ros-args", "-r", "image:=/benchmark/image", "--log-level", "warn"]
        ros += ["-p", "diagnostics.period:=0.25", "-p", "diagnostics.latency_limit:=3600.0"]
        ros += ["-p", f"tracking.enabled:={str(self._options.tracking).lower()}"]
        if self._options.engine == "stand-in":
            process = self._start(
                "rt_panoptic_ros.benchmark_processes",
                "node",
                "--milliseconds",
                str(milliseconds),
                *ros,
            )
        else:
            ros += ["-p", f"engine:={self._options.engine}", "-p", f"image_size:={size}"]
            if self._options.model:
                ros += ["-p", f"model:={self._options.model}"]
            process = self._start("rt_panoptic_ros.panoptic_node", *ros)
        self._receiver.spin_until(
            lambda: self._receiver.diagnostics.get("state") == "active", 900, "activation"
        )
        everything = ", ".join(sorted(_TOPICS))
        self._receiver.spin_until(
            lambda: self._receiver.diagnostics.get("subscribed") == everything, 30, "discovery"
        )
        return process

    def _camera(self, size: str, rate: float, seconds: float) -> subprocess.Popen[bytes]:
        ros = ["--ros-args", "-r", "image:=/benchmark/image"]
        return self._start(
            "rt_panoptic_ros.benchmark_processes",
            "camera",
            *("--size", size, "--rate", str(rate), "--seconds", str(seconds)),
            *ros,
        )

    def _run_camera(self, size: str, rate: float, seconds: float) -> None:
        camera = self._camera(size, rate, seconds)
        self._receiver.spin_until(
            lambda: camera.poll() is not None, seconds + 60, "the camera's end"
        )

    def _measured_inference(self) -> float:
        """p50 seconds of inference that the node reports after this moment."""
        self._receiver.diagnostics.pop("inference p50 (ms)", None)
        self._receiver.spin_until(
            lambda: "inference p50 (ms)" in self._receiver.diagnostics, 10, "a diagnostics message"
        )
        return float(self._receiver.diagnostics["inference p50 (ms)"]) / 1e3

    def overhead(self, size: str, target: float | None) -> Overhead:
        """Latency at a rate that the node keeps up with."""
        node = self._node(self._options.milliseconds, size)
        seconds = self._options.seconds
        rate = self._comfortable_rate(size)
        self._receiver.latencies.clear()
        self._run_camera(size, rate, seconds)
        # In the first second all is warming up.
        measured = self._after(1.0)
        inference = self._measured_inference()
        _stop(node)
        added = measured - inference
        return Overhead(
            size,
            len(measured),
            _ms(np.percentile(measured, 50)),
            _ms(inference),
            _ms(np.percentile(added, 50)),
            _ms(np.percentile(added, 95)),
            target,
        )

    def _comfortable_rate(self, size: str) -> float:
        """Half of what the engine can do, at most 15 Hz."""
        if self._options.engine == "stand-in":
            inference = self._options.milliseconds / 1e3
        else:
            self._run_camera(size, 2.0, 6.0)
            inference = self._measured_inference()
        return min(15.0, 0.5 / inference)

    def _after(self, seconds: float) -> Any:
        """float64 latencies of the frames whose stamp is so long after the first one's."""
        if not self._receiver.latencies:
            raise EngineError("benchmark: no result arrived; is another Fast DDS profile set?")
        start = self._receiver.latencies[0][0]
        kept = [latency for stamp, latency in self._receiver.latencies if stamp - start >= seconds]
        return np.asarray(kept or [latency for _, latency in self._receiver.latencies])

    def overload(self, size: str) -> Overload:
        """Latency at twice the rate that the engine can answer."""
        node = self._node(self._options.milliseconds, size)
        if self._options.engine == "stand-in":
            inference = self._options.milliseconds / 1e3
        else:
            self._run_camera(size, 2.0, 6.0)
            inference = self._measured_inference()
        rate, seconds = 2.0 / inference, self._options.overload_seconds
        self._receiver.latencies.clear()
        self._run_camera(size, rate, seconds + 1.0)
        _stop(node)
        taken = np.asarray(self._receiver.latencies)
        ages = taken[:, 0] - taken[0, 0]
        steady = ages >= 1.0
        ages, latencies = ages[steady] - 1.0, taken[steady, 1]
        first, rest = latencies[ages < 10.0], latencies[ages >= 10.0]
        last = latencies[ages >= seconds - 10.0]
        return Overload(
            size,
            round(rate, 1),
            seconds,
            len(latencies),
            *(_ms(np.percentile(part, 95)) for part in (first, rest, last)),
            ratio=round(float(np.percentile(rest, 95) / np.percentile(first, 95)), 3),
        )

    def memory(self, size: str) -> Memory:
        """Resident memory once every buffer has been used, and after many more frames."""
        warm = min(_WARM_FRAMES, self._options.frames)
        node = self._node(1.0, size)
        camera = self._camera(size, self._options.memory_rate, 3600.0)
        self._answered(warm)
        before, shared_before = _resident(node.pid)
        self._answered(warm + self._options.frames)
        after, shared_after = _resident(node.pid)
        frames = int(self._receiver.diagnostics["results"]) - warm
        _stop(camera)
        _stop(node)
        return Memory(
            size,
            frames,
            round(before, 2),
            round(after, 2),
            round(after - before, 2),
            round(shared_before, 2),
            round(shared_after, 2),
        )

    def _answered(self, frames: int) -> None:
        self._receiver.spin_until(
            lambda: int(self._receiver.diagnostics.get("results", 0)) >= frames,
            60 + frames / 5,
            f"{frames} results",
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _resident(pid: int) -> tuple[float, float]:
    """MiB of a process that are in memory: its own and its files', and shared memory."""
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.startswith("Rss"):
            fields[key] = int(value.split()[0]) / _KIBIBYTES
    return fields["RssAnon"] + fields["RssFile"], fields["RssShmem"]


def _ms(seconds: float) -> float:
    return round(float(seconds) * 1e3, 2)


def _print(results: list[Any], engine: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for kind, title in (
        (Overhead, "What the node adds (ms): publication to receipt of all three, minus inference"),
        (Overload, "Images at twice the rate that can be answered (ms)"),
        (Memory, "Resident memory of the node (MiB), and what it maps of shared memory"),
    ):
        rows = [asdict(result) for result in results if isinstance(result, kind)]
        if not rows:
            continue
        table = Table(title=f"{title}; engine: {engine}", title_justify="left")
        for name in rows[0]:
            table.add_column(name.replace("_", " "), justify="right")
        for row in rows:
            table.add_row(*("-" if value is None else str(value) for value in row.values()))
        console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print: 0, or 1 where something did not happen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=_SCENARIOS, action="append", help="measure just this")
    parser.add_argument("--engine", choices=("stand-in", "auto", *ENGINES), default="stand-in")
    parser.add_argument("--model", default="", help="checkpoint, with a real engine")
    parser.add_argument("--milliseconds", type=float, default=30.0, help="of the stand-in")
    parser.add_argument(
        "--size", action="append", help="HEIGHTxWIDTH; default 720x1280 and 1080x1920"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each overhead run")
    parser.add_argument(
        "--no-tracking", dest="tracking", action="store_false", help="what the node adds without it"
    )
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    parser.add_argument("--frames", type=int, default=5000, help="of the memory run")
    parser.add_argument("--memory-rate", type=float, default=100.0, help="images a second in it")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options, _ros = parser.parse_known_args(arguments)
    sizes = options.size or ["720x1280", "1080x1920"]
    targets = {"720x1280": 10.0, "1080x1920": 20.0}
    for size in sizes:
        parse_size(size)
    scenarios = options.only or _SCENARIOS
    results: list[Any] = []
    try:
        with ExitStack() as stack:
            benchmark = _Benchmark(options, stack)
            if "overhead" in scenarios:
                results += [benchmark.overhead(size, targets.get(size)) for size in sizes]
            if "overload" in scenarios:
                results.append(benchmark.overload(sizes[0]))
            if "memory" in scenarios:
                results.append(benchmark.memory(sizes[0]))
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    _print(results, options.engine)
    if options.json:
        by_scenario: dict[str, list[dict[str, Any]]] = {}
        for result in results:
            by_scenario.setdefault(type(result).__name__.lower(), []).append(asdict(result))
        write_json(options.json, by_scenario)
        print(json.dumps({"written": str(options.json)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
