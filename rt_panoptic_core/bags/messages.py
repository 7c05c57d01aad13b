"""ROS messages without ROS: the types that bags hold, built from and read into numpy arrays."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from rt_panoptic_core.errors import BagError
from rt_panoptic_core.image_codec import (
    IS_BIGENDIAN,
    decode_compressed,
    decode_image,
    decode_plane,
    encode_array,
    encode_compressed,
)
from rt_panoptic_core.inference.result import PanopticResult, Segment, label_areas
from rt_panoptic_core.panoptic_format import measure_segments
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
INSTANCES = "rt_panoptic_ros/msg/PanopticInstanceArray"
LABEL_INFO = "vision_msgs/msg/LabelInfo"

IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)
"""Message types that hold a picture."""

Message: TypeAlias = Any
"""A message of the type store: a data class made from the message's definition."""

# The interfaces of this package and of vision_msgs 4, which rosbags does not know. The tests hold the
# first two to msg/*.msg: a bag's type hash must be the one that the node's interfaces have.
_DEFINITIONS = {
    "rt_panoptic_ros/msg/PanopticInstance": """
uint16 instance_id
uint8 class_id
string class_name
float32 score
sensor_msgs/RegionOfInterest box
uint32 area
""",
    INSTANCES: """
std_msgs/Header header
uint32 height
uint32 width
PanopticInstance[] instances
""",
    "vision_msgs/msg/VisionClass": """
uint16 class_id
string class_name
""",
    LABEL_INFO: """
std_msgs/Header header
vision_msgs/VisionClass[] class_map
float32 threshold
""",
}

_SECOND = 1_000_000_000


class Header(Protocol):
    """``std_msgs/Header`` as any type store makes it."""

    stamp: Any
    frame_id: str


@cache
def typestore() -> Typestore:
    """The types of ROS 2 Jazzy with this package's own and vision_msgs' label types."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in _DEFINITIONS.items():
        store.register(get_types_from_msg(text, name))
    return store


def deserialize(data: bytes | memoryview, message_type: str) -> Message:
    """Message of ``message_type`` from its CDR bytes; arrays are views of ``data``.

    Raises:
        BagError: the type is not known, or the bytes do not hold it.
    """
    try:
        return typestore().deserialize_cdr(memoryview(data), message_type)
    except KeyError:
        raise BagError(f"message type {message_type!r} is not known") from None
    # rosbags' generated code raises whatever the damaged bytes lead it into.
    except Exception as error:
        raise BagError(f"{len(data)} bytes do not hold a {message_type}: {error}") from error


def serialize(message: Message) -> memoryview:
    """CDR bytes of ``message``."""
    return typestore().serialize_cdr(message, message.__msgtype__)


def stamp_ns(header: Header) -> int:
    """Nanoseconds of a header's stamp."""
    return int(header.stamp.sec) * _SECOND + int(header.stamp.nanosec)


def header(stamp: int, frame_id: str) -> Message:
    """``std_msgs/Header`` of a stamp in nanoseconds."""
    types = typestore().types
    time = types["builtin_interfaces/msg/Time"](sec=stamp // _SECOND, nanosec=stamp % _SECOND)
    return types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def read_picture(message: Message) -> npt.NDArray[np.uint8]:
    """RGB picture of an Image or CompressedImage: uint8 [H, W, 3], possibly a read-only view.

    Raises:
        ImageError: it cannot be decoded, see :mod:`rt_panoptic_core.image_codec`.
    """
    if message.__msgtype__ == COMPRESSED_IMAGE:
        return decode_compressed(message.format, message.data)
    return decode_image(
        message.encoding,
        message.height,
        message.width,
        message.step,
        message.is_bigendian,
        message.data,
    )


def read_plane(message: Message) -> npt.NDArray[np.generic]:
    """Values of a one-channel Image as they are: [H, W], see :func:`image_codec.decode_plane`.

    Raises:
        ImageError: it holds something else, or too few bytes.
    """
    return decode_plane(
        message.encoding,
        message.height,
        message.width,
        message.step,
        message.is_bigendian,
        message.data,
    )


def image_message(
    array: npt.NDArray[np.generic], head: Message, *, encoding: str | None = None
) -> Message:
    """``sensor_msgs/Image`` of an array; ``encoding`` overrides the name that its dtype gives.

    Raises:
        ImageError: the shape or dtype has no encoding.
    """
    name, step, data = encode_array(array)
    return typestore().types[IMAGE](
        header=head,
        height=array.shape[0],
        width=array.shape[1],
        encoding=encoding or name,
        is_bigendian=int(IS_BIGENDIAN),
        step=step,
        data=np.frombuffer(data, dtype=np.uint8),
    )


def compressed_message(
    image: npt.NDArray[np.uint8], head: Message, *, image_format: str = "jpeg", quality: int = 90
) -> Message:
    """``sensor_msgs/CompressedImage`` of an RGB or one-channel image.

    Raises:
        ImageError: the image or the format cannot be compressed.
    """
    name, content = encode_compressed(image, image_format, quality=quality)
    return typestore().types[COMPRESSED_IMAGE](
        header=head, format=name, data=np.frombuffer(content, dtype=np.uint8)
    )


def camera_info_message(
    size: tuple[int, int], focal: tuple[float, float], center: tuple[float, float], head: Message
) -> Message:
    """``sensor_msgs/CameraInfo`` of an undistorted pinhole camera.

    Args:
        size: (height, width) in pixels.
        focal: (fx, fy) in pixels.
        center: (cx, cy), the principal point in pixels.
        head: the image's header.
    """
    types = typestore().types
    fx, fy = focal
    cx, cy = center
    region = types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return types[CAMERA_INFO](
        header=head,
        height=size[0],
        width=size[1],
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], dtype=np.float64),
        r=np.eye(3).ravel(),
        p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], dtype=np.float64),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def instances_message(result: PanopticResult, taxonomy: Taxonomy, head: Message) -> Message:
    """``rt_panoptic_ros/PanopticInstanceArray`` of a result's instances, by falling score.

    Each has the smallest box around its pixels, as the node says it.
    """
    types = typestore().types
    entries = []
    table = measure_segments(result.instance)
    boxes = dict(zip(table.ids.tolist(), table.boxes.tolist(), strict=True))
    for segment in result.instances:
        x1, y1, x2, y2 = boxes.get(segment.id, (0, 0, 0, 0))
        box = types["sensor_msgs/msg/RegionOfInterest"](
            x_offset=x1, y_offset=y1, height=y2 - y1, width=x2 - x1, do_rectify=False
        )
        entries.append(
            types["rt_panoptic_ros/msg/PanopticInstance"](
                instance_id=segment.id,
                class_id=segment.class_id,
                class_name=taxonomy[segment.class_id].name,
                score=segment.score,
                box=box,
                area=segment.area,
            )
        )
    height, width = result.semantic.shape
    return types[INSTANCES](header=head, height=height, width=width, instances=entries)


def read_result(
    semantic: npt.NDArray[np.uint8],
    instance: npt.NDArray[np.uint16],
    instances: Message,
    taxonomy: Taxonomy,
) -> PanopticResult:
    """The result that a semantic image, an instance image and a PanopticInstanceArray tell of."""
    segments = [
        Segment(
            id=int(entry.instance_id),
            class_id=int(entry.class_id),
            is_thing=True,
            score=float(entry.score),
            area=int(entry.area),
            box=(
                float(entry.box.x_offset),
                float(entry.box.y_offset),
                float(entry.box.x_offset + entry.box.width),
                float(entry.box.y_offset + entry.box.height),
            ),
        )
        for entry in instances.instances
    ]
    areas = label_areas(semantic)
    segments += [
        Segment(id=0, class_id=class_id, is_thing=False, score=1.0, area=int(area), box=None)
        for class_id in taxonomy.stuff_ids
        if (area := areas[class_id])
    ]
    return PanopticResult(semantic=semantic, instance=instance, segments=segments)


def label_info_message(taxonomy: Taxonomy, head: Message, *, threshold: float = 0.0) -> Message:
    """``vision_msgs/LabelInfo``: the name of every class id, and of 255, ``unlabelled``."""
    types = typestore().types
    pairs: Iterable[tuple[int, str]] = [
        *((category.class_id, category.name) for category in taxonomy),
        (UNLABELLED, "unlabelled"),
    ]
    return types[LABEL_INFO](
        header=head,
        class_map=[
            types["vision_msgs/msg/VisionClass"](class_id=class_id, class_name=name)
            for class_id, name in pairs
        ],
        threshold=threshold,
    )


def read_label_info(message: Message) -> dict[int, str]:
    """Class names by id of a LabelInfo, without the unlabelled one."""
    return {
        int(entry.class_id): str(entry.class_name)
        for entry in message.class_map
        if entry.class_id not in (UNLABELLED, 65535)
    }
