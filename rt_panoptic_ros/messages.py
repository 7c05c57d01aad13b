"""Results to messages. The big arrays are copied once, into buffers that live as long as the node."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from rt_panoptic_core.image_codec import IS_BIGENDIAN, encode_array, encode_compressed
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.panoptic_format import measure_segments
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy
from rt_panoptic_ros.msg import PanopticInstance, PanopticInstanceArray

try:  # not everywhere installed; the node says so once and goes on without
    from vision_msgs.msg import (
        Detection2D,
        Detection2DArray,
        LabelInfo,
        ObjectHypothesisWithPose,
        VisionClass,
    )

    HAVE_VISION_MSGS = True
except ImportError:
    HAVE_VISION_MSGS = False


class ImageWriter:
    """Makes image messages of one topic; the message and its buffer are used again and again.

    Assigning an ndarray to ``Image.data`` builds an array.array number by number (141 ms at 1280x720), and
    a fresh buffer a frame costs its page faults; so the pixels are copied into one array.array that is
    only replaced when the size changes. A message is therefore to be published before the next is made.
    """

    def __init__(self) -> None:
        """A writer without a buffer yet."""
        self._message = Image(is_bigendian=int(IS_BIGENDIAN))
        self._pixels = np.empty(0, dtype=np.uint8)

    def write(self, header: Header, values: npt.NDArray[np.generic]) -> Image:
        """``values`` as a message: uint8 [H, W, 3] rgb8, [H, W] uint8 mono8, uint16 mono16, int32 32SC1.

        Raises:
            ImageError: another shape or dtype, or no pixels.
        """
        encoding, step, content = encode_array(values)
        message = self._message
        if len(content) != self._pixels.size:
            message.data = array("B", bytes(len(content)))
            self._pixels = np.frombuffer(message.data, dtype=np.uint8)
        self._pixels[:] = np.frombuffer(content, dtype=np.uint8)
        message.header = header
        message.height, message.width = values.shape[:2]
        message.encoding, message.step = encoding, step
        return message


def to_image(header: Header, values: npt.NDArray[np.generic]) -> Image:
    """``values`` as a message of its own, see :meth:`ImageWriter.write`."""
    return ImageWriter().write(header, values)


def to_jpeg(header: Header, image: npt.NDArray[np.uint8], quality: int) -> CompressedImage:
    """uint8 [H, W, 3] RGB as a JPEG message of ``quality`` 1 to 100."""
    kind, content = encode_compressed(image, "jpeg", quality=quality)
    message = CompressedImage(header=header, format=kind)
    data = array("B")
    data.frombytes(content)
    message.data = data
    return message


def packed_panoptic(result: PanopticResult) -> npt.NDArray[np.int32]:
    """int32 [H, W], class << 16 | instance: what ``~/panoptic`` holds; 255 << 16 where unlabelled."""
    packed = result.semantic.astype(np.int32)
    packed <<= 16
    packed |= result.instance
    return packed


def to_instances(
    header: Header, result: PanopticResult, taxonomy: Taxonomy
) -> PanopticInstanceArray:
    """The instances by falling score, each with the smallest box around its pixels in the instance map.

    (``Segment.box`` is the detection's, which goes on behind what hides the instance.)
    """
    height, width = result.semantic.shape
    boxes = _visible_boxes(result)
    return PanopticInstanceArray(
        header=header,
        height=height,
        width=width,
        instances=[
            PanopticInstance(
                instance_id=segment.id,
                class_id=segment.class_id,
                class_name=_name(taxonomy, segment.class_id),
                score=float(segment.score),
                box=boxes.get(segment.id, RegionOfInterest()),
                area=segment.area,
            )
            for segment in result.instances
        ],
    )


def to_detections(header: Header, result: PanopticResult, taxonomy: Taxonomy) -> Any:
    """vision_msgs/Detection2DArray of the instances; ``id`` is the instance's id, class_id its name.

    The boxes are the detections', in fractions of pixels.
    """
    message = Detection2DArray(header=header)
    for segment in result.instances:
        if segment.box is None:
            continue
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = _name(taxonomy, segment.class_id)
        hypothesis.hypothesis.score = float(segment.score)
        detection = Detection2D(header=header, results=[hypothesis], id=str(segment.id))
        x1, y1, x2, y2 = segment.box
        detection.bbox.center.position.x = (x1 + x2) / 2
        detection.bbox.center.position.y = (y1 + y2) / 2
        detection.bbox.size_x = float(x2 - x1)
        detection.bbox.size_y = float(y2 - y1)
        message.detections.append(detection)
    return message


def to_label_info(header: Header, taxonomy: Taxonomy, threshold: float) -> Any:
    """vision_msgs/LabelInfo of all classes, and 255 'unlabelled'; ``threshold`` is the score's."""
    classes = [VisionClass(class_id=c.class_id, class_name=c.name) for c in taxonomy]
    classes.append(VisionClass(class_id=UNLABELLED, class_name="unlabelled"))
    return LabelInfo(header=header, class_map=classes, threshold=float(threshold))


def _name(taxonomy: Taxonomy, class_id: int) -> str:
    return taxonomy[class_id].name if 0 <= class_id < len(taxonomy) else str(class_id)


def _visible_boxes(result: PanopticResult) -> dict[int, RegionOfInterest]:
    """The smallest box around the pixels of each instance, by its id."""
    # The pass over the map takes most of the message's time: an empty road is spared it.
    if not result.instances:
        return {}
    table = measure_segments(result.instance)
    return {
        number: RegionOfInterest(x_offset=x1, y_offset=y1, width=x2 - x1, height=y2 - y1)
        for number, (x1, y1, x2, y2) in zip(table.ids.tolist(), table.boxes.tolist(), strict=True)
    }
