"""A camera for those who have none at hand: a device, a video, a folder or a generated street as topics.

Publishes ``image`` (or ``image/compressed``), ``camera_info`` where the camera is known, and ``depth`` where
the source has it. Stamps are the moment a frame was there.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from rt_panoptic_core.bags.sources import FrameSource, SourceFrame, fitted, open_source
from rt_panoptic_core.engines.spec import parse_size
from rt_panoptic_core.errors import ConfigError, ImageError, PanopticError
from rt_panoptic_ros import calibration
from rt_panoptic_ros.camera_device import DeviceSource, is_device
from rt_panoptic_ros.messages import ImageWriter, to_jpeg
from rt_panoptic_ros.process import run
from rt_panoptic_ros.throttled_log import ThrottledLog
from rt_panoptic_ros.wait_for_subscriber import subscriber_came

_REOPEN_SECONDS = 2.0
_COMPLAIN_SECONDS = 60.0
_TELL_SECONDS = 1.0
_GENERATED_SIZE = (512, 1024)


class ImageSource(Node):
    """Publishes a source's frames at its pace."""

    def __init__(self, **options: Any) -> None:
        """Declare the parameters and offer the topics.

        Raises:
            ConfigError: a parameter is refused.
        """
        super().__init__("image_source", **options)
        self._source = self._text(
            "source",
            "generated",
            "generated (a street), a device (0, /dev/video0), a video, or a folder of images.",
        )
        self._rate = self._number("rate", 0.0, 0.0, 1000.0, "Images a second; 0: the source's own.")
        size = self._text(
            "size", "", "HEIGHTxWIDTH in pixels; empty: the source's own (512x1024 generated)."
        )
        self._size = parse_size(size) if size else None
        self._loop = self._flag("loop", True, "Begin again after the last image.")
        self._seed = int(self._number("seed", 0, 0, 2**31 - 1, "Of the generated street."))
        self._frame_id = self._text("frame_id", "camera_optical_frame", "frame_id of the headers.")
        self._compressed = self._flag(
            "compressed", False, "Publish image/compressed (jpeg) instead of image."
        )
        self._quality = int(self._number("jpeg_quality", 90, 1, 100, "Of image/compressed."))
        self._told = False
        self._published = 0
        self._skipped: set[str] = set()
        self._due = -math.inf
        self._ahead = int(
            self._number(
                "ahead",
                0,
                0,
                10_000,
                "Images made ready, without depth, before the first is published, which then waits "
                "for a subscriber: a generated street is not drawn on the cores that others need.",
            )
        )
        path = self._text(
            "calibration", "", "File of camera_calibration for camera_info; empty: the source's."
        )
        self._camera_info = calibration.from_yaml(path) if path else None
        # Reliable fits every subscriber; of a slow one only the newest few are kept.
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=2, reliability=ReliabilityPolicy.RELIABLE
        )
        if self._compressed:
            base = self.resolve_topic_name("image")
            self._images = self.create_publisher(CompressedImage, f"{base}/compressed", profile)
        else:
            self._images = self.create_publisher(Image, "image", profile)
        self._infos = self.create_publisher(CameraInfo, "camera_info", profile)
        self._depths = self.create_publisher(Image, "depth", profile)
        self._image_writer, self._depth_writer = ImageWriter(), ImageWriter()
        self._complain = ThrottledLog(self.get_logger().error, _COMPLAIN_SECONDS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def _text(self, name: str, default: str, description: str) -> str:
        descriptor = ParameterDescriptor(description=description, read_only=True)
        return str(self._declare(name, default, descriptor))

    def _flag(self, name: str, default: bool, description: str) -> bool:
        descriptor = ParameterDescriptor(description=description, read_only=True)
        return bool(self._declare(name, default, descriptor))

    def _number(
        self, name: str, default: float, low: float, high: float, description: str
    ) -> float:
        descriptor = ParameterDescriptor(description=description, read_only=True)
        if isinstance(default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
            # `rate: 10` in a file is an integer.
            descriptor.dynamic_typing = True
        value = self._declare(name, default, descriptor)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not low <= value <= high
        ):
            raise ConfigError(f"parameter {name}: {value!r}; it must be {low:g} to {high:g}")
        return value

    def _declare(self, name: str, default: Any, descriptor: ParameterDescriptor) -> Any:
        try:
            return self.declare_parameter(name, default, descriptor).value
        except Exception as error:
            given = self._parameter_overrides.get(name)
            raise ConfigError(
                f"parameter {name}: {given.value if given else default!r} is refused: {error}"
            ) from error

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Whether publishing ended within ``timeout`` seconds."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            published = self._published
            try:
                ended = self._publish_all(self._open())
            except PanopticError as error:
                # Else it would be told every few seconds of a source that breaks off each time.
                if self._published == published:
                    self._told = False
                self._complain(str(error), f"{error}; trying again every {_REOPEN_SECONDS:g} s")
                self._stop.wait(_REOPEN_SECONDS)
                continue
            # Publishing ends so when the process is told to stop; anything else is worth reading.
            except Exception as error:  # noqa: BLE001
                if self.context.ok():
                    self.get_logger().error(f"source failed: {type(error).__name__}: {error}")
                return
            if ended and not self._loop:
                self.get_logger().info("the source has ended")
                return

    def _open(self) -> FrameSource:
        if is_device(self._source):
            return DeviceSource(self._source, self._size, self._rate)
        size = self._size or _GENERATED_SIZE
        return open_source(
            self._source,
            size=size,
            seed=self._seed,
            fps=self._rate or 10.0,
            skipped=self._tell_skipped,
        )

    def _tell_skipped(self, reason: str) -> None:
        # A folder that begins again is read again.
        if reason not in self._skipped:
            self._skipped.add(reason)
            self.get_logger().warning(f"{reason}; skipped")

    def _publish_all(self, source: FrameSource) -> bool:
        """Whether the source came to its end."""
        paced = not isinstance(source, DeviceSource)
        interval = 1.0 / (self._rate or source.fps or 10.0)
        frames = self._made_ready(source.frames())
        empty = True
        for frame in frames:
            empty = False
            if paced and self._stop.wait(max(0.0, self._due - time.monotonic())):
                return False
            if self._stop.is_set() or not self.context.ok():
                return False
            # What is late by an interval or more is not caught up: the next is due an interval from now.
            # It outlasts the source: the first frame of the next round follows the last one at its pace.
            now = time.monotonic()
            self._due = (self._due if now < self._due + interval else now) + interval
            self._tell_publishing()
            self._publish(frame, source)
            self._published += 1
        if empty and not self._stop.is_set():
            raise ImageError(f"{self._source}: no frame can be read")
        return True

    def _tell_publishing(self) -> None:
        if not self._told:
            self._told = True
            self.get_logger().info(f"publishing {self._source} on {self._images.topic_name}")

    def _made_ready(self, frames: Iterator[SourceFrame]) -> Iterator[SourceFrame]:
        """``frames``; the first time, so many of them as are wanted ahead are made on the call."""
        count, self._ahead = self._ahead, 0
        if not count:
            return frames
        ready: deque[SourceFrame] = deque()
        told = time.monotonic()
        for frame in islice(frames, count):
            if self._stop.is_set():
                break
            ready.append(self._fitted(SourceFrame(frame.image)))
            if time.monotonic() > told + _TELL_SECONDS:
                told = time.monotonic()
                self.get_logger().info(f"{len(ready)} of {count} images are ready")
        self.get_logger().info(f"{len(ready)} images are ready")
        subscriber_came(self._images.get_subscription_count, self._stop, math.inf)
        return _emptied(ready, frames)

    def _fitted(self, frame: SourceFrame) -> SourceFrame:
        return frame if self._size is None else fitted(frame, self._size)

    def _publish(self, frame: SourceFrame, source: FrameSource) -> None:
        frame = self._fitted(frame)
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        info = self._info(source, frame.image.shape[:2])
        if info is not None:
            info.header = header
            self._infos.publish(info)
        if self._compressed:
            self._images.publish(to_jpeg(header, frame.image, self._quality))
        else:
            self._images.publish(self._image_writer.write(header, frame.image))
        if frame.depth is not None and self._depths.get_subscription_count():
            depth = np.asarray(frame.depth, dtype=np.float32)
            self._depths.publish(self._depth_writer.write(header, depth))

    def _info(self, source: FrameSource, size: tuple[int, ...]) -> CameraInfo | None:
        if self._camera_info is None:
            camera = source.intrinsics((size[0], size[1]))
            if camera is not None and (camera.height, camera.width) == tuple(size):
                self._camera_info = calibration.from_intrinsics(camera)
        return self._camera_info


def _emptied(ready: deque[SourceFrame], frames: Iterator[SourceFrame]) -> Iterator[SourceFrame]:
    """The frames of ``ready``, each forgotten once it is out, then ``frames``."""
    while ready:
        yield ready.popleft()
    yield from frames


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop: 0, or 2 where a parameter given at the start is refused."""
    return run(ImageSource, arguments)


if __name__ == "__main__":
    sys.exit(main())
