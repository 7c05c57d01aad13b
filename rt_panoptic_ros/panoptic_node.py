"""The panoptic node: camera images in, classes and instances of every pixel out.

Threads: the executor's receives images into a slot of one and answers services; the inference thread takes
the newest frame, runs the engine and publishes; transitions have a third, since building an engine may take
minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from rt_panoptic_core.errors import PanopticError
from rt_panoptic_ros import messages, parameters
from rt_panoptic_ros.diagnostics import Diagnostics, Situation
from rt_panoptic_ros.frame_processor import Frame, FrameProcessor
from rt_panoptic_ros.inputs import Inputs, subscribed_topics
from rt_panoptic_ros.model import Load, Segments, describe, free, load_segmenter
from rt_panoptic_ros.outputs import Outputs, published_topics
from rt_panoptic_ros.process import run
from rt_panoptic_ros.qos import unused_overrides
from rt_panoptic_ros.releases import on_parameters_set
from rt_panoptic_ros.segment_service import SegmentService
from rt_panoptic_ros.stamp_check import StampCheck
from rt_panoptic_ros.stamped_tracker import StampedTracker
from rt_panoptic_ros.stamps import nanoseconds
from rt_panoptic_ros.statistics import Drop, Input, Statistics
from rt_panoptic_ros.steady_timer import create_steady_timer
from rt_panoptic_ros.throttled_log import ThrottledLog, kind_of
from rt_panoptic_ros.transitions import Transitions, on_executor
from rt_panoptic_ros.worker import Worker

NODE_NAME = "rt_panoptic"

CONFIGURATION_FAILED = "configuration failed: "
"""Begins the log line that tells why; who starts the node looks for it."""

_SUCCESS = TransitionCallbackReturn.SUCCESS
_FAILURE = TransitionCallbackReturn.FAILURE


class PanopticNode(LifecycleNode):
    """Lifecycle node around one segmenter."""

    def __init__(self, load: Load = load_segmenter, **options: Any) -> None:
        """An unconfigured node.

        Args:
            load: makes the segmenter.
            options: of rclpy's Node, such as ``namespace`` or ``parameter_overrides``.

        Raises:
            ConfigError: a parameter given at the start is refused.
        """
        options.setdefault("node_name", NODE_NAME)
        super().__init__(**options)
        self._load = load
        logger = self.get_logger()
        self._warn = ThrottledLog(logger.warning)
        self.values = parameters.declare(self)
        for reason in parameters.unknown_overrides(self._parameter_overrides):
            logger.warning(reason)
        on_parameters_set(self, self._check_parameters, self._take_parameters)

        self.statistics = Statistics()
        self._stamps = StampCheck(self.get_clock(), self.statistics, self._warn, self._forget_depth)
        self._tracker = StampedTracker()
        self._segmenter: Segments | None = None
        self._worker: Worker | None = None
        self._processor: FrameProcessor | None = None
        self._outputs: Outputs | None = None
        self._inputs: Inputs | None = None
        self._announced: Any = None
        self._progress = ""
        self._told_progress = ""
        self._failure = ""
        self._last_taken = 0.0
        self._told_namesake = False

        self._diagnostics = Diagnostics(self._warn)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        create_steady_timer(self, self.values["diagnostics.period"], self._publish_diagnostics)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self._segment_service = SegmentService(self, lambda: self._worker, lambda: self._processor)
        self._transitions = Transitions(self)

    # Lifecycle

    def start(self) -> None:
        """Configure and activate in the background, if the parameter ``autostart`` says so."""
        if not self.values["autostart"]:
            self.get_logger().info("autostart is false: waiting to be configured")
            return

        def configure_and_activate() -> None:
            if self.trigger_configure() == _SUCCESS:
                self.trigger_activate()

        self._transitions.run(configure_and_activate)

    def on_configure(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Load the segmenter and offer the result topics."""
        self._failure = ""
        values = dict(self.values)
        started = time.monotonic()
        given = (name for name in self._parameter_overrides if not self.has_parameter(name))
        for sentence in unused_overrides(
            given, subscribed_topics(self, values), published_topics(self, values)
        ):
            self.get_logger().warning(sentence)
        try:
            self._segmenter = self._load_segmenter(values)
            self._worker = Worker(self._process_frame, self._on_worker_error)
            self._outputs = on_executor(self, lambda: self._create_outputs(values))
            self._processor = FrameProcessor(
                self,
                lambda: self.values,
                self._segmenter,
                self._outputs,
                self.statistics,
                self._tracker,
                self._warn,
                lambda: self._load_segmenter(values),
                self._tell_progress,
            )
            # The camera_info was the last processor's.
            self.statistics.wait_anew(Input.CAMERA_INFO)
        # Whatever a library raises while it builds an engine, the node stays and can be configured anew.
        except Exception as error:  # noqa: BLE001
            self._fail(CONFIGURATION_FAILED, error)
            self._release()
            return _FAILURE
        engine, _, _ = describe(self._segmenter)
        self.get_logger().info(f"configured in {time.monotonic() - started:.1f} s: {engine}")
        return _SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe the camera."""
        assert self._outputs is not None
        assert self._segmenter is not None
        assert self._worker is not None
        self._failure = ""
        result = super().on_activate(state)
        # What was in view before a pause is not what is there after it. On the inference thread, before
        # the first frame: the tracker is that thread's.
        self._worker.inbox.put_request(self._tracker.forget)
        self.statistics.wait_anew(Input.IMAGE, Input.DEPTH)
        self._stamps.forget()
        try:
            self._inputs = on_executor(self, self._create_inputs)
        # As on_configure: the node stays, and tells why.
        except Exception as error:  # noqa: BLE001
            self._fail("activation failed: ", error)
            super().on_deactivate(state)
            return _FAILURE
        self._outputs.publish_label_info(
            Header(stamp=self.get_clock().now().to_msg()), self._segmenter.thresholds.score
        )
        if not messages.HAVE_VISION_MSGS:
            self.get_logger().info(
                "vision_msgs is not installed: no ~/detections and no ~/label_info"
            )
        self.get_logger().info(f"active on {self._inputs.image_topic}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; the frame in work is finished."""
        self._unsubscribe()
        if self._worker is not None:
            if self._worker.inbox.clear_frame():
                self.statistics.drop(Drop.STOPPED)
            self._worker.wait_idle(timeout=10.0)
        return super().on_deactivate(state)

    def on_cleanup(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Free the engine and take the result topics away."""
        self._failure = ""
        self._release()
        return _SUCCESS

    def on_shutdown(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        self._unsubscribe()
        self._release()
        return _SUCCESS

    def on_error(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node can be configured again."""
        self.get_logger().error("a transition failed unexpectedly; the node is unconfigured again")
        self._unsubscribe()
        self._release()
        return _SUCCESS

    def stop(self, timeout: float) -> bool:
        """Whether all threads ended within ``timeout`` seconds: for the end of the process."""
        deadline = time.monotonic() + timeout
        stopped = self._worker is None or self._worker.stop(timeout)
        return self._transitions.join(max(0.0, deadline - time.monotonic())) and stopped

    def _fail(self, what: str, error: Exception) -> None:
        """Tell in the log and in /diagnostics why a transition failed."""
        expected = isinstance(error, PanopticError)
        self._failure = str(error) if expected else f"{type(error).__name__}: {error}"
        self.get_logger().error(f"{what}{self._failure}")

    def _unsubscribe(self) -> None:
        inputs, self._inputs = self._inputs, None
        if inputs is not None:
            on_executor(self, inputs.destroy)

    def _release(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            self._segment_service.refuse_waiting(worker.inbox.close())
            worker.stop(timeout=10.0)
        self._processor = None
        outputs, self._outputs = self._outputs, None
        if outputs is not None:
            on_executor(self, outputs.destroy)
        segmenter, self._segmenter = self._segmenter, None
        if segmenter is not None:
            # An engine build may take minutes and cannot be stopped; the segmenter is the worker's till then.
            if worker is not None:
                worker.at_end(lambda: free(segmenter))
            else:
                free(segmenter)

    def _create_outputs(self, values: Mapping[str, Any]) -> Outputs:
        assert self._segmenter is not None
        return Outputs(self, self._segmenter.taxonomy, values, self.get_logger().warning)

    def _create_inputs(self) -> Inputs:
        return Inputs(
            self,
            self.values,
            on_image=self._on_image,
            on_depth=self._on_depth,
            on_camera_info=self._on_camera_info,
            on_lost=lambda count: self.statistics.drop(Drop.LOST, count=count),
            warn=self.get_logger().warning,
        )

    def _load_segmenter(self, values: Mapping[str, Any]) -> Segments:
        try:
            return self._load(values, self._tell_progress)
        finally:
            self._progress = ""

    def _tell_progress(self, step: str, fraction: float | None) -> None:
        text = step if fraction is None else f"{step}: {fraction:.0%}"
        self._progress = text
        # An engine that cannot be built is tried with every frame.
        if text and text != self._told_progress:
            self._told_progress = text
            self.get_logger().info(text)

    # Frames

    def _on_image(self, message: Any) -> None:
        """Executor's thread: put the newest frame into the slot, if it is to be answered at all."""
        now = time.monotonic()
        statistics, worker, outputs = self.statistics, self._worker, self._outputs
        statistics.frame_came(now)
        topic = self._topic()
        age = self._stamps.check(topic, nanoseconds(message.header.stamp))
        max_rate = self.values["input.max_rate"]
        if worker is None or outputs is None:
            statistics.drop(Drop.STOPPED)
        elif not self.values["enabled"]:
            statistics.drop(Drop.DISABLED)
        elif not outputs.wanted():
            statistics.drop(Drop.NO_SUBSCRIBER)
        elif max_rate > 0 and now - self._last_taken < 0.95 / max_rate:
            statistics.drop(Drop.RATE)
        else:
            self._last_taken = now
            if worker.inbox.put_frame(Frame(message, topic, now, age)):
                statistics.drop(Drop.REPLACED)

    def _forget_depth(self) -> None:
        if self._processor is not None:
            self._processor.forget_depth()

    def _on_depth(self, message: Image) -> None:
        processor, worker = self._processor, self._worker
        if processor is None or worker is None:
            return
        self.statistics.input_came(Input.DEPTH, time.monotonic())
        if processor.take_depth(message):
            worker.inbox.put_request(processor.publish_waiting_points)

    def _on_camera_info(self, message: CameraInfo) -> None:
        processor = self._processor
        if processor is not None:
            self.statistics.input_came(Input.CAMERA_INFO, time.monotonic())
            processor.take_camera_info(message)

    def _process_frame(self, frame: Frame) -> None:
        """Inference thread."""
        processor = self._processor
        if processor is not None and self.context.ok():
            segmenter = processor.process(frame)
            # Unless the node was cleaned up while this frame was in work.
            if self._processor is processor:
                self._segmenter = segmenter
                self._announce_engine()

    def _announce_engine(self) -> None:
        """Say once that the engine which the first image of a size had built is there."""
        engine = self._segmenter.engine if self._segmenter is not None else None
        if self._segmenter is None or engine is self._announced:
            return
        self._announced = engine
        if engine is not None:
            text, _, details = describe(self._segmenter)
            self.get_logger().info(f"engine ready: {text} ({details['library']})")

    def _topic(self) -> str:
        inputs = self._inputs
        return inputs.image_topic if inputs is not None else "image"

    def _on_worker_error(self, error: BaseException) -> None:
        if self.context.ok():
            self._warn(
                ("worker", kind_of(error)), f"a frame failed: {type(error).__name__}: {error}"
            )

    # Parameters, services, diagnostics

    def set_parameters_atomically(self, parameter_list: Sequence[Parameter]) -> SetParametersResult:
        """As rclpy does, which every way to set parameters from outside ends in; 1 is taken for 1.0.

        A parameter that there is not is refused as a value is, where rclpy raises without its name.
        """
        changes = [parameters.as_declared(change) for change in parameter_list]
        for change in changes:
            if not self.has_parameter(change.name):
                return SetParametersResult(
                    successful=False, reason=parameters.no_parameter(change.name)
                )
            spec = parameters.BY_NAME.get(change.name)
            reason = spec.wrong_type(change.value) if spec is not None else None
            if reason is not None:
                return SetParametersResult(successful=False, reason=reason)
        return super().set_parameters_atomically(changes)

    def _check_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        state = self._state_machine.current_state[1]
        reason = parameters.refusal({p.name: p.value for p in changes}, self.values, state=state)
        return SetParametersResult(successful=reason is None, reason=reason or "")

    def _take_parameters(self, changes: Sequence[Parameter]) -> None:
        # A new dict: the inference thread reads one consistent set while it works on a frame.
        known = {p.name: p.value for p in changes if p.name in parameters.BY_NAME}
        self.values = {**self.values, **known}

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        result = self.set_parameters([Parameter("enabled", value=request.data)])[0]
        response.success = result.successful
        response.message = result.reason or ("enabled" if request.data else "disabled")
        return response

    def _look_for_namesake(self) -> None:
        """Warn once of another node of the same full name, whichever of the two came first."""
        own = (self.get_name(), self.get_namespace())
        if self._told_namesake or self.get_node_names_and_namespaces().count(own) < 2:
            return
        self._told_namesake = True
        self.get_logger().warning(
            f"another node is named {self.get_fully_qualified_name()}, too: both answer on the same topics "
            "and services. Give one of them another name (-r __node:=NAME) or namespace (-r "
            "__ns:=/NAMESPACE). A node that was killed is still listed for some seconds"
        )

    def _publish_diagnostics(self) -> None:
        self._look_for_namesake()
        inputs, outputs, segmenter = self._inputs, self._outputs, self._segmenter
        engine, device, details = describe(segmenter) if segmenter is not None else ("", "", {})
        situation = Situation(
            name=self.get_fully_qualified_name().lstrip("/"),
            state=self._state_machine.current_state[1],
            enabled=bool(self.values["enabled"]),
            inputs=inputs.topics() if inputs is not None else {},
            unfit=inputs.unfit_publishers() if inputs is not None else (),
            wanted=sorted(outputs.wanted()) if outputs is not None else (),
            engine=engine,
            device=device,
            progress=self._progress,
            failure=self._failure,
            details=details,
            clock_missing=self._stamps.clock_missing,
        )
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics_publisher.publish(
            self._diagnostics.message(
                header, time.monotonic(), self.statistics.snapshot(), situation, self.values
            )
        )


def main(arguments: Sequence[str] | None = None, load: Load = load_segmenter) -> int:
    """Run the node until it is told to stop: 0, or 2 where a parameter given at the start is refused."""
    return run(lambda: PanopticNode(load), arguments)


if __name__ == "__main__":
    sys.exit(main())
