"""The service ~/segment: one image in, its result out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from rt_panoptic_core.errors import PanopticError
from rt_panoptic_ros import messages
from rt_panoptic_ros.frame_processor import FrameProcessor
from rt_panoptic_ros.image_conversion import to_rgb
from rt_panoptic_ros.srv import SegmentImage
from rt_panoptic_ros.worker import Worker


class _Request:
    """A request that waits for the inference thread."""

    def __init__(self, service: SegmentService, request: Any, response: Any) -> None:
        self._service = service
        self._request = request
        self._response = response
        self.answered: Future = Future()

    def __call__(self) -> None:
        self._service.answer(self._request, self._response)
        self._done()

    def refuse(self, reason: str) -> None:
        self._response.success, self._response.message = False, reason
        self._done()

    def _done(self) -> None:
        self.answered.set_result(self._response)
        executor = self._service.node.executor
        if executor is not None:
            executor.wake()


class SegmentService:
    """Answers on the inference thread, between two frames; the executor goes on meanwhile."""

    def __init__(
        self,
        node: Node,
        worker: Callable[[], Worker | None],
        processor: Callable[[], FrameProcessor | None],
    ) -> None:
        """Offer the service on ``node``.

        Args:
            node: its owner.
            worker: the inference thread now, None while unconfigured.
            processor: what answers frames now, None while unconfigured.
        """
        self.node = node
        self._worker = worker
        self._processor = processor
        node.create_service(
            SegmentImage, "~/segment", self._on_request, callback_group=ReentrantCallbackGroup()
        )

    async def _on_request(self, request: Any, response: Any) -> Any:
        worker = self._worker()
        waiting = _Request(self, request, response)
        if worker is None or not worker.inbox.put_request(waiting):
            waiting.refuse("the node is not configured: there is no engine yet")
        return await waiting.answered

    def answer(self, request: Any, response: Any) -> None:
        """Fill ``response`` with the result of ``request``, or with why there is none."""
        processor = self._processor()
        try:
            if processor is None:
                raise PanopticError("the node is not configured: there is no engine")
            limit = processor.values["input.max_megapixels"]
            image = to_rgb(request.image, max_megapixels=limit)
            result = processor.segment(image)
        # A failing engine is the caller's to know, whatever the library calls it.
        except Exception as error:  # noqa: BLE001
            known = isinstance(error, PanopticError)
            response.message = str(error) if known else f"{type(error).__name__}: {error}"
            response.success = False
            return
        header = request.image.header
        response.semantic = messages.to_image(header, result.semantic)
        response.instance = messages.to_image(header, result.instance)
        response.instances = messages.to_instances(header, result, processor.taxonomy)
        response.success = True
        response.message = f"{len(result.instances)} instances"

    def refuse_waiting(self, requests: Iterable[Any]) -> None:
        """Answer requests that nobody will work on any more."""
        for request in requests:
            if isinstance(request, _Request):
                request.refuse("the node was cleaned up meanwhile")
