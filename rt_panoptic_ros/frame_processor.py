"""What happens to a frame on the inference thread, from message to published result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from rt_panoptic_core.errors import ConfigError, EngineError, ImageError, PanopticError
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_ros.depth_buffer import DepthBuffer
from rt_panoptic_ros.image_conversion import to_depth, to_rgb
from rt_panoptic_ros.labelled_cloud import pinhole
from rt_panoptic_ros.model import (
    BUILDING,
    Progress,
    Segments,
    UnfitEngineError,
    free,
    thresholds_of,
)
from rt_panoptic_ros.outputs import POINT_TOPICS, TOPICS_WITHOUT_IDS, Outputs
from rt_panoptic_ros.stamped_tracker import StampedTracker
from rt_panoptic_ros.stamps import NANOSECONDS, nanoseconds
from rt_panoptic_ros.statistics import Drop, Statistics, Trouble
from rt_panoptic_ros.throttled_log import ThrottledLog, kind_of
from rt_panoptic_ros.worker import Rate

_FIRST_RELOAD_PAUSE = 1.0
_LAST_RELOAD_PAUSE = 60.0


class Frame(NamedTuple):
    """An image that came.

    Attributes:
        message: Image or CompressedImage.
        topic: full name of its topic.
        received: monotonic seconds.
        age: seconds from its stamp until then by the node's clock; None where the stamp does not tell.
    """

    message: Any
    topic: str
    received: float
    age: float | None


class _Labelled(NamedTuple):
    """A frame that was answered and may yet meet its depth."""

    header: Header
    image: npt.NDArray[np.uint8]
    result: PanopticResult


class FrameProcessor:
    """Answers frames with one segmenter; survives bad frames and a failing engine."""

    def __init__(
        self,
        node: Node,
        values: Callable[[], Mapping[str, Any]],
        segmenter: Segments,
        outputs: Outputs,
        statistics: Statistics,
        tracker: StampedTracker,
        warn: ThrottledLog,
        reload: Callable[[], Segments],
        progress: Progress,
    ) -> None:
        """Hold what a frame needs.

        Args:
            node: for its clock, its log and its topics' names.
            values: the parameters' values now.
            segmenter: the engine.
            outputs: where results go.
            statistics: where all is counted.
            tracker: gives instances their ids.
            warn: throttled log.
            reload: makes the segmenter anew after failures.
            progress: told when an engine begins to be built, and with an empty step when that is over.
        """
        self._node = node
        self._current_values = values
        self._segmenter = segmenter
        self._own_thresholds = segmenter.thresholds
        self._outputs = outputs
        self._statistics = statistics
        self._tracker = tracker
        self._warn = warn
        self._reload = reload
        self._progress = progress
        self._given_up = ""
        self._engines: WeakSet[Any] = WeakSet()
        self._ready_since = 0.0
        self._note_engine()
        self._reload_pause = _FIRST_RELOAD_PAUSE
        self._reload_not_before = 0.0
        self._rate = Rate()
        self._depth: DepthBuffer[Image] = DepthBuffer()
        self._camera_info: CameraInfo | None = None
        self._waiting: _Labelled | None = None
        self._waiting_lock = threading.Lock()

    @property
    def values(self) -> Mapping[str, Any]:
        """The parameters' values now."""
        return self._current_values()

    # Frames: inference thread

    def process(self, frame: Frame) -> Segments:
        """Answer ``frame``; the segmenter now in use (another one after a reload)."""
        message, topic = frame.message, frame.topic
        values, wanted = self.values, self._outputs.wanted()
        if not wanted:
            self._statistics.drop(Drop.NO_SUBSCRIBER)
            return self._segmenter
        try:
            image = to_rgb(message, max_megapixels=values["input.max_megapixels"])
        except ImageError as error:
            self._refuse(topic, error)
            return self._segmenter
        started = time.perf_counter()
        try:
            result = self.segment(image)
        except ImageError as error:
            self._refuse(topic, error)
            return self._segmenter
        # Out of memory, a lost device, a defect: each library has its own exceptions for it.
        except Exception as error:  # noqa: BLE001
            self._engine_failed(error)
            return self._segmenter
        inference = time.perf_counter() - started
        self._reload_pause = _FIRST_RELOAD_PAUSE
        # Classes need no ids: they do not wait until the instances are recognised.
        self._outputs.publish_classes(wanted, message.header, result)
        stamp = nanoseconds(message.header.stamp)
        if not values["tracking.enabled"]:
            self._tracker.forget()
        elif not wanted <= TOPICS_WITHOUT_IDS:
            result = self._tracker.update(result, stamp, values["tracking.memory"])
        self._outputs.publish_instances(
            wanted, message.header, image, result, values, self._rate.tick()
        )
        # In real seconds from its receipt on: the clock of a bag or simulation may run at another pace.
        latency = None if frame.age is None else frame.age + time.monotonic() - frame.received
        # What waited for an engine to be built says nothing about how it runs.
        waited = frame.received < self._ready_since
        self._statistics.frame_answered(None if waited else latency, None if waited else inference)
        if not wanted.isdisjoint(POINT_TOPICS):
            with self._waiting_lock:
                if self._waiting is not None:
                    self._statistics.trouble(Trouble.NO_DEPTH)
                self._waiting = _Labelled(message.header, image, result)
            self.publish_waiting_points()
        return self._segmenter

    def segment(self, image: npt.NDArray[np.uint8]) -> PanopticResult:
        """The result of ``image`` uint8 [H, W, 3] RGB with the thresholds as they are set now, untracked.

        Raises:
            ImageError: the image is too large for the segmenter.
            EngineError: the engine was given up.
            Exception: the engine failed.
        """
        if self._given_up:
            raise EngineError(self._given_up)
        segmenter = self._segmenter
        segmenter.thresholds = thresholds_of(self._own_thresholds, self.values)
        if not segmenter.is_ready(image.shape[:2]):
            self._progress(BUILDING, None)
        try:
            return segmenter.segment(image)
        finally:
            self._progress("", None)
            self._note_engine()

    def _note_engine(self) -> None:
        """Remember since when there is the engine in use, if it was built or opened just now."""
        engine = self._segmenter.engine
        if engine is not None and engine not in self._engines:
            self._engines.add(engine)
            self._ready_since = time.monotonic()

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the results."""
        return self._segmenter.taxonomy

    def _refuse(self, topic: str, error: ImageError) -> None:
        self._statistics.drop(Drop.BAD_IMAGE, f"{topic}: {error}")
        self._warn((topic, kind_of(error)), f"{topic}: image refused: {error}")

    def _engine_failed(self, error: Exception) -> None:
        text = (
            str(error) if isinstance(error, PanopticError) else f"{type(error).__name__}: {error}"
        )
        self._statistics.drop(Drop.ENGINE_FAILED, text)
        self._warn(kind_of(error), f"the engine failed, the frame is dropped: {text}")
        if self._given_up:
            return
        limit = self.values["diagnostics.failures_before_reload"]
        now = time.monotonic()
        if not limit or self._statistics.failures_in_a_row < limit or now < self._reload_not_before:
            return
        # A wrong configuration is as wrong when it is loaded anew.
        if isinstance(error, (ConfigError, UnfitEngineError)):
            self._give_up(text)
            return
        self._node.get_logger().error(
            f"the engine failed {self._statistics.failures_in_a_row} times in a row; loading it anew"
        )
        try:
            free(self._segmenter)
            self._segmenter = self._reload()
            self._own_thresholds = self._segmenter.thresholds
            self._statistics.engine_renewed()
        except (ConfigError, UnfitEngineError) as failure:
            self._give_up(str(failure))
        except Exception as failure:  # noqa: BLE001 - as above
            self._node.get_logger().error(f"loading the engine anew failed: {failure}")
        self._note_engine()
        self._reload_not_before = time.monotonic() + self._reload_pause
        self._reload_pause = min(2 * self._reload_pause, _LAST_RELOAD_PAUSE)

    def _give_up(self, reason: str) -> None:
        self._given_up = f"{reason} (given up: correct it, clean up and configure the node anew)"
        self._node.get_logger().error(f"the engine is given up, no frame is answered: {reason}")

    # Depth: added on the executor's thread, used on the inference thread

    def take_camera_info(self, message: CameraInfo) -> None:
        """Keep the newest camera_info."""
        self._camera_info = message

    def take_depth(self, message: Image) -> bool:
        """Keep a depth image: whether a frame that was answered already waits for it."""
        stamp = nanoseconds(message.header.stamp)
        self._depth.add(stamp, message)
        with self._waiting_lock:
            waiting = self._waiting
        return (
            waiting is not None
            and abs(nanoseconds(waiting.header.stamp) - stamp) <= self._tolerance()
        )

    def forget_depth(self) -> None:
        """Forget depth images, after time went back."""
        self._depth.clear()

    def _tolerance(self) -> int:
        values = self.values
        if values["depth.sync"] == "exact":
            return 0
        return round(values["depth.tolerance"] * NANOSECONDS)

    def publish_waiting_points(self) -> None:
        """Cloud and markers of the last answered frame, if its depth is there by now."""
        with self._waiting_lock:
            waiting = self._waiting
            if waiting is None:
                return
            stamp = nanoseconds(waiting.header.stamp)
            depth = self._depth.find(stamp, self._tolerance())
            if depth is None:
                return
            self._waiting = None
        topic = self._node.resolve_topic_name("depth")
        wanted = self._outputs.wanted()
        try:
            camera = self._camera(waiting.result.semantic.shape)
            self._outputs.publish_points(
                wanted,
                waiting.header,
                to_depth(depth),
                waiting.image,
                waiting.result,
                camera,
                self.values,
            )
        except ImageError as error:
            self._statistics.trouble(Trouble.BAD_DEPTH, error=f"{topic}: {error}")
            self._warn((topic, kind_of(error)), f"{topic}: no points: {error}")

    def _camera(self, size: tuple[int, ...]) -> Any:
        info = self._camera_info
        topic = self._node.resolve_topic_name("camera_info")
        if info is None:
            raise ImageError(f"nothing came on {topic} yet")
        if (info.height, info.width) != tuple(size):
            raise ImageError(
                f"{topic} is of {info.width}x{info.height}, the image of {size[1]}x{size[0]}: publish the "
                "camera_info of the image that is subscribed"
            )
        return pinhole(info.k, info.p)
