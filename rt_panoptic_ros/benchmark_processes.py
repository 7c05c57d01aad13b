"""The processes of the benchmark besides the one that measures: a camera, and a node with a stand-in engine.

``python -m rt_panoptic_ros.benchmark_processes camera …`` publishes images at a rate; ``… node …`` is the
real node around an engine that takes a set time without using the processor: what remains is the node.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.engines.spec import parse_size
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.taxonomy import Taxonomy

_INSTANCES = 20
_DISCOVERY_SECONDS = 30.0


class StandInEngine:
    """What the node tells of the engine in use."""

    spec = SimpleNamespace(label="stand-in", device="none")
    library = "time.sleep"
    stages: ClassVar[dict[str, float]] = {}


class StandIn:
    """A segmenter that answers after ``seconds`` with a plausible result of the image's size."""

    def __init__(self, seconds: float) -> None:
        """Answer after ``seconds`` of sleep."""
        self.thresholds = InferenceConfig().thresholds
        self.taxonomy = Taxonomy.load("cityscapes")
        self.engine = StandInEngine()
        self._seconds = seconds

    def is_ready(self, _image_size: tuple[int, int]) -> bool:
        """True."""
        return True

    def prepare(self, image_size: tuple[int, int]) -> None:
        """Nothing to build."""

    def segment(self, image: npt.NDArray[np.uint8]) -> PanopticResult:
        """Road with a row of cars, in fresh arrays as a segmenter's are."""
        started = time.perf_counter()
        height, width = image.shape[:2]
        semantic = np.zeros((height, width), dtype=np.uint8)
        instance = np.zeros((height, width), dtype=np.uint16)
        segments = []
        car, side = self.taxonomy.class_id("car"), max(1, width // (2 * _INSTANCES))
        for number in range(1, _INSTANCES + 1):
            x = (number - 1) * 2 * side
            box = (slice(0, side), slice(x, x + side))
            semantic[box], instance[box] = car, number
            corners = (float(x), 0.0, float(x + side), float(side))
            segments.append(Segment(number, car, True, 0.9, side * side, corners))
        time.sleep(max(0.0, self._seconds - (time.perf_counter() - started)))
        return PanopticResult(semantic, instance, segments)

    def close(self) -> None:
        """Nothing to free."""


def _node(arguments: argparse.Namespace) -> int:
    from rt_panoptic_ros.panoptic_node import main as node_main

    def load(_values: Mapping[str, Any], _progress: Any) -> StandIn:
        return StandIn(arguments.milliseconds / 1e3)

    return node_main(arguments.ros, load)


def _camera(arguments: argparse.Namespace) -> int:
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    from rt_panoptic_core.allocator import keep_freed_memory
    from rt_panoptic_ros.fastdds import use_profile
    from rt_panoptic_ros.messages import to_image
    from rt_panoptic_ros.stamps import NANOSECONDS

    use_profile()
    keep_freed_memory()
    rclpy.init(args=arguments.ros)
    node = rclpy.create_node("benchmark_camera")
    publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
    height, width = parse_size(arguments.size)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    message = to_image(Image().header, pixels)
    message.header.frame_id = "camera"
    interval = 1.0 / arguments.rate
    discovered = time.monotonic() + _DISCOVERY_SECONDS
    while not publisher.get_subscription_count() and time.monotonic() < discovered:
        time.sleep(0.01)
    due = time.monotonic()
    end = due + arguments.seconds
    try:
        while rclpy.ok() and time.monotonic() < end:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + interval, time.monotonic() - interval)
            now = time.time_ns()
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, NANOSECONDS)
            publisher.publish(message)
    except (KeyboardInterrupt, RuntimeError):
        # Told to stop in mid-publish, rclpy says that its context is invalid.
        if rclpy.ok():
            raise
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the camera or the node: exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    camera = roles.add_parser("camera")
    camera.add_argument("--size", default="720x1280")
    camera.add_argument("--rate", type=float, default=10.0)
    camera.add_argument("--seconds", type=float, default=10.0)
    camera.set_defaults(run=_camera)
    node = roles.add_parser("node")
    node.add_argument("--milliseconds", type=float, default=30.0)
    node.set_defaults(run=_node)
    parsed, parsed_ros = parser.parse_known_args(arguments)
    parsed.ros = ["benchmark", *parsed_ros]
    return int(parsed.run(parsed))


if __name__ == "__main__":
    sys.exit(main())
