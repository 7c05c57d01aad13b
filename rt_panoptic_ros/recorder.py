"""Records what the node shows: its overlay as a video, how late it came, and what it dropped.

``python -m rt_panoptic_ros.recorder --ros-args -p output:=drive.mp4 -p seconds:=20.0``
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from rt_panoptic_core.errors import ConfigError, PanopticError
from rt_panoptic_core.files import write_bytes
from rt_panoptic_core.image_codec import decode_image
from rt_panoptic_core.pipeline import Behind
from rt_panoptic_core.visualization.video import VideoWriter
from rt_panoptic_ros.diagnostics import statuses_of
from rt_panoptic_ros.msg import PanopticInstanceArray
from rt_panoptic_ros.panoptic_node import NODE_NAME
from rt_panoptic_ros.process import run
from rt_panoptic_ros.stamps import NANOSECONDS, nanoseconds
from rt_panoptic_ros.steady_timer import create_steady_timer

# Name -> (default, description). All are read once, at the start.
_PARAMETERS: dict[str, tuple[Any, str]] = {
    "node": (f"/{NODE_NAME}", "Full name of the panoptic node to record."),
    "output": ("overlay.mp4", "The video; the still stands beside it as .png."),
    "seconds": (0.0, "How long to record from the first result on; 0: until told to stop."),
    "fps": (30.0, "Frames per second of the video. It keeps real time: frames are repeated."),
}

_BEHIND = 30
_MOST_SKIPPED = 5
_PAUSE = NANOSECONDS  # A longer gap between stamps is cut to this much in the video.


@dataclass
class NodeReport:
    """What the node says of itself in /diagnostics.

    Attributes:
        state: of its life cycle.
        engine: what it runs on.
        engine_status: what the engine is, what is being built, or what failed.
        failed: the engine's status is an error.
        images: images that arrived.
        dropped: of those, how many got no result.
    """

    state: str = ""
    engine: str = ""
    engine_status: str = ""
    failed: bool = False
    images: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class Summary:
    """A finished recording. Times in seconds.

    Attributes:
        frames: results that came.
        seconds: from the first to the last.
        latencies: from an image's stamp until its overlay was here, one per frame.
        images: images that the node received meanwhile.
        dropped: of those, how many got no result.
        instances: mean number of instances in a frame.
        engine: what the node ran on, in its words.
    """

    frames: int
    seconds: float
    latencies: tuple[float, ...]
    images: int
    dropped: int
    instances: float
    engine: str

    def __str__(self) -> str:
        """One line."""
        if not self.frames:
            return "no frame was recorded"
        rate = (self.frames - 1) / self.seconds if self.seconds > 0 else 0.0
        p50, p95 = np.percentile(self.latencies, (50, 95)) * 1e3
        return (
            f"{self.frames} frames in {self.seconds:.1f} s ({rate:.1f} fps), "
            f"latency p50 {p50:.0f} ms p95 {p95:.0f} ms, "
            f"{self.dropped} of {self.images} images dropped, "
            f"{self.instances:.1f} instances a frame, {self.engine}"
        )


class Recorder(Node):
    """Subscribes a panoptic node's overlay, instances and diagnostics, and writes them down."""

    def __init__(self, **options: Any) -> None:
        """Open the video and subscribe.

        Raises:
            ConfigError: a parameter is refused.
        """
        super().__init__("recorder", **options)
        values = {name: self._declare(name) for name in _PARAMETERS}
        self.report = NodeReport()
        self.finished = Event()
        self.failed = False
        self._node_name = values["node"]
        self._seconds: float = values["seconds"]
        self._fps: float = values["fps"]
        self._path = Path(values["output"])
        self._video = VideoWriter(self._path, self._fps)
        self._writing: Behind[tuple[int, npt.NDArray[np.uint8]]] = Behind(self._write, _BEHIND)
        self._closed = False
        self._begin: int | None = None
        self._skipped = 0
        self._first: NodeReport | None = None
        self._frames: list[tuple[float, float]] = []
        self._instances: list[int] = []
        self._still: npt.NDArray[np.uint8] | None = None
        self._still_instances = -1
        self._newest: tuple[int, npt.NDArray[np.uint8]] | None = None
        self._video_time = 0
        self._last_stamp: int | None = None
        self._last_picture: npt.NDArray[np.uint8] | None = None
        every = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE
        )
        name = self._node_name
        self.create_subscription(Image, f"{name}/overlay", self._on_overlay, every)
        self.create_subscription(
            PanopticInstanceArray, f"{name}/instances", self._on_instances, every
        )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._video.__enter__()

    @property
    def frames(self) -> int:
        """Results received so far."""
        return len(self._frames)

    @property
    def seconds(self) -> float:
        """From the first result to the last."""
        return self._frames[-1][0] - self._frames[0][0] if self._frames else 0.0

    def start(self) -> None:
        """End the process once ``seconds`` are recorded."""

        def end_when_finished() -> None:
            if self.finished.is_set():
                rclpy.try_shutdown(context=self.context)

        create_steady_timer(self, 0.1, end_when_finished)

    def stop(self, timeout: float) -> bool:  # noqa: ARG002 - encoding what came must not be cut off
        """Finish the files and say in one line what was recorded."""
        try:
            summary = self.finish()
        except (PanopticError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            self.failed = True
        else:
            print(f"{summary}: {self._path}")
        return True

    def discard(self) -> None:
        """Leave no unfinished file behind, if the recording is not finished."""
        if self._closed:
            return
        self._closed = True
        with suppress(Exception):
            self._writing.close()
        error = InterruptedError()
        self._video.__exit__(type(error), error, None)

    def finish(self) -> Summary:
        """Finish video and still, and return what was recorded.

        Raises:
            ImageError: no frame came.
            OSError: the files could not be written.
        """
        self._closed = True
        try:
            self._writing.close()
        except BaseException as error:
            self._video.__exit__(type(error), error, error.__traceback__)
            raise
        self._video.__exit__(None, None, None)
        if self._still is not None:
            bgr = cv2.cvtColor(self._still, cv2.COLOR_RGB2BGR)
            write_bytes(self._path.with_suffix(".png"), cv2.imencode(".png", bgr)[1].tobytes())
        first = self._first or self.report
        return Summary(
            frames=self.frames,
            seconds=self.seconds,
            latencies=tuple(latency for _, latency in self._frames),
            images=self.report.images - first.images,
            dropped=self.report.dropped - first.dropped,
            instances=float(np.mean(self._instances)) if self._instances else 0.0,
            engine=self.report.engine,
        )

    def _on_overlay(self, message: Image) -> None:
        now = time.monotonic()
        if self.finished.is_set():
            return
        stamp = nanoseconds(message.header.stamp)
        clock = self.get_clock().now().nanoseconds
        # The images that waited while the engine was built say nothing about how it runs: recording
        # begins with those stamped after the first result came.
        if self._begin is None:
            self._begin = clock
        if stamp < self._begin and not self._frames and self._skipped < _MOST_SKIPPED:
            self._skipped += 1
            return
        latency = (clock - stamp) / NANOSECONDS
        self._frames.append((now, latency))
        image = decode_image(
            message.encoding,
            message.height,
            message.width,
            message.step,
            message.is_bigendian,
            message.data,
        )
        self._newest = (stamp, image)
        self._writing.put((stamp, image))
        if self._seconds and self.seconds >= self._seconds:
            self.finished.set()

    def _on_instances(self, message: PanopticInstanceArray) -> None:
        if self.finished.is_set():
            return
        count = len(message.instances)
        self._instances.append(count)
        # The still is the richest frame; overlay and instances of one image come in either order,
        # and a neighbouring frame shows the same.
        if self._newest is not None and count > self._still_instances:
            self._still_instances, self._still = count, self._newest[1]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        """Read the node's own counts; those of other nodes on the topic are passed over."""
        for part, status in statuses_of(message, self._node_name).items():
            values = {pair.key: pair.value for pair in status.values}
            if part == "input":
                self.report.images = int(values.get("images", 0))
                self.report.dropped = sum(
                    int(value) for key, value in values.items() if key.startswith("dropped: ")
                )
            elif part == "engine":
                self.report.state = values.get("state", "")
                self.report.engine = values.get("engine", "")
                self.report.engine_status = status.message
                self.report.failed = status.level == DiagnosticStatus.ERROR
        if self._frames and self._first is None:
            self._first = NodeReport(images=self.report.images, dropped=self.report.dropped)

    def _write(self, item: tuple[int, npt.NDArray[np.uint8]]) -> None:
        """Append a frame, after repeats of the one before for the time that passed between them."""
        stamp, image = item
        if self._last_stamp is not None and self._last_picture is not None:
            # A looping source may go back in time; the video goes on by one frame then.
            passed = min(max(stamp - self._last_stamp, 0), _PAUSE)
            self._video_time += passed
            while (self._video.frames + 0.5) / self._fps * NANOSECONDS < self._video_time:
                self._video.write(self._last_picture)
        self._video.write(image)
        self._last_stamp, self._last_picture = stamp, image

    def _declare(self, name: str) -> Any:
        default, description = _PARAMETERS[name]
        descriptor = ParameterDescriptor(description=description, read_only=True)
        descriptor.dynamic_typing = isinstance(default, float)
        try:
            value = self.declare_parameter(name, default, descriptor).value
            if not isinstance(default, float):
                return str(value)
            number = float(value)  # type: ignore[arg-type]
        except Exception as error:
            raise ConfigError(f"parameter {name} is refused: {error}") from error
        if number < 0 or (name == "fps" and number == 0):
            raise ConfigError(f"parameter {name}: {number:g}; it must be above 0")
        return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Record until told to stop: 0, or 2 where a parameter is refused."""
    return run(Recorder, arguments)


if __name__ == "__main__":
    sys.exit(main())
