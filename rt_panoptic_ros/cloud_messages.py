"""Labelled clouds and boxes in space to PointCloud2 and MarkerArray."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_ros.labelled_cloud import POINT, Box3D, Cloud

_FIELD_TYPES = {
    "rgb": PointField.FLOAT32,
    "label": PointField.UINT16,
    "instance": PointField.UINT16,
}

FIELDS = [
    PointField(
        name=name,
        offset=POINT.fields[name][1],
        datatype=_FIELD_TYPES.get(name, PointField.FLOAT32),
        count=1,
    )
    for name in POINT.names
]
"""x, y, z, rgb, label, instance, score."""

_MARKER_LIFETIME = Duration(sec=1)
_CENTROID_DIAMETER = 0.25
_TEXT_HEIGHT = 0.4


def to_point_cloud(header: Header, cloud: Cloud) -> PointCloud2:
    """The points as a message; ``label`` and ``instance`` are uint16, the rest float32."""
    points = cloud.points
    height, width = points.shape if points.ndim == 2 else (1, points.size)
    data = array("B")
    data.frombytes(np.ascontiguousarray(points).view(np.uint8).reshape(-1).data)
    return PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=FIELDS,
        is_bigendian=sys.byteorder == "big",
        point_step=POINT.itemsize,
        row_step=POINT.itemsize * width,
        data=data,
        is_dense=cloud.is_dense,
    )


def to_markers(
    header: Header, boxes: Sequence[Box3D], taxonomy: Taxonomy, *, show_ids: bool = False
) -> MarkerArray:
    """Boxes, centroids and names of the instances, in the namespaces ``box``, ``centroid`` and ``name``.

    With ``show_ids`` the names end with the ids, as the overlay's do. The first marker deletes those of
    the frame before; a marker's id is its instance's id.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for box in boxes:
        name, color = _look(box, taxonomy)
        cube = _marker(header, "box", box, Marker.CUBE, box.center, _color(color, 0.35))
        # A box of no extent is an error to RViz: a wall seen head-on is one pixel thick.
        cube.scale.x, cube.scale.y, cube.scale.z = (max(side, 0.01) for side in box.size)
        dot = _marker(header, "centroid", box, Marker.SPHERE, box.centroid, _color(color, 1.0))
        dot.scale.x = dot.scale.y = dot.scale.z = _CENTROID_DIAMETER
        x, y, z = box.center
        above = (x, y - box.size[1] / 2 - _TEXT_HEIGHT, z)
        text = _marker(
            header,
            "name",
            box,
            Marker.TEXT_VIEW_FACING,
            above,
            ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
        )
        text.scale.z = _TEXT_HEIGHT
        text.text = f"{name} {box.score:.2f}"
        if show_ids:
            text.text += f" #{box.instance_id}"
        markers += [cube, dot, text]
    return MarkerArray(markers=markers)


def _look(box: Box3D, taxonomy: Taxonomy) -> tuple[str, tuple[int, int, int]]:
    if 0 <= box.class_id < len(taxonomy):
        category = taxonomy[box.class_id]
        return category.name, category.color
    return str(box.class_id), (255, 255, 255)


def _color(color: tuple[int, int, int], alpha: float) -> ColorRGBA:
    red, green, blue = (value / 255 for value in color)
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)


def _marker(
    header: Header,
    namespace: str,
    box: Box3D,
    kind: int,
    position: tuple[float, float, float],
    color: ColorRGBA,
) -> Marker:
    marker = Marker(
        header=header,
        ns=namespace,
        id=box.instance_id,
        type=kind,
        action=Marker.ADD,
        color=color,
        lifetime=_MARKER_LIFETIME,
    )
    x, y, z = position
    marker.pose.position = Point(x=x, y=y, z=z)
    marker.pose.orientation.w = 1.0
    return marker
