"""Depth and a panoptic result to a labelled point cloud, and to boxes around the instances in 3D.

Coordinates are those of the camera's optical frame (REP 103): x right, y down, z forward, metres.
Pixel (u, v) is seen along ((u - cx) / fx, (v - cy) / fy, 1), u and v counted at pixel centres from 0, as in
camera_info; a cloud made by depth_image_proc has the same points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.inference.result import PanopticResult

POINT = np.dtype(
    [
        ("x", np.float32),
        ("y", np.float32),
        ("z", np.float32),
        ("rgb", np.uint32),  # 0x00RRGGBB; the message calls it a float32, as PCL does
        ("label", np.uint16),
        ("instance", np.uint16),
        ("score", np.float32),
    ]
)
"""One point, 24 bytes."""

_OUTLIER_DEVIATIONS = 4.0
"""Instance points farther in depth from the median than this many robust standard deviations are background
that the mask's rim took in."""

_LEAST_DEPTH_SPREAD = 0.02
"""Robust standard deviation is taken as at least this share of the median depth."""


class Pinhole(NamedTuple):
    """A camera without distortion: focal lengths and principal point in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float


class Cloud(NamedTuple):
    """Points of :data:`POINT`: [N], or [h, w] with NaN coordinates where there is none."""

    points: npt.NDArray[np.void]
    is_dense: bool


@dataclass(frozen=True)
class Box3D:
    """An instance in space, axis-aligned in the camera's frame; metres."""

    instance_id: int
    class_id: int
    score: float
    centroid: tuple[float, float, float]
    center: tuple[float, float, float]
    size: tuple[float, float, float]


def pinhole(k: npt.ArrayLike, p: npt.ArrayLike) -> Pinhole:
    """The camera of a camera_info: from P where it is filled (a rectified image), else from K.

    Args:
        k: 9 numbers, row-major.
        p: 12 numbers, row-major.

    Raises:
        ImageError: neither holds a positive focal length: the camera is not calibrated.
    """
    projection = np.asarray(p, dtype=np.float64).reshape(-1)
    intrinsics = np.asarray(k, dtype=np.float64).reshape(-1)
    for fx, fy, cx, cy in (
        (projection[0], projection[5], projection[2], projection[6]),
        (intrinsics[0], intrinsics[4], intrinsics[2], intrinsics[5]),
    ):
        if fx > 0 and fy > 0 and np.isfinite([fx, fy, cx, cy]).all():
            return Pinhole(float(fx), float(fy), float(cx), float(cy))
    raise ImageError("camera_info has no focal length in P or K: calibrate the camera")


@lru_cache(maxsize=4)
def _rays(
    camera: Pinhole, height: int, width: int, stride: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """x and y at depth 1 of every ``stride``-th column, [1, w], and row, [h, 1]."""
    x = ((np.arange(0, width, stride) - camera.cx) / camera.fx).astype(np.float32)
    y = ((np.arange(0, height, stride) - camera.cy) / camera.fy).astype(np.float32)
    return x[None, :], y[:, None]


def labelled_cloud(
    depth: npt.NDArray[np.float32],
    image: npt.NDArray[np.uint8],
    result: PanopticResult,
    camera: Pinhole,
    *,
    min_range: float = 0.0,
    max_range: float = np.inf,
    stride: int = 1,
    organized: bool = False,
) -> Cloud:
    """Every pixel with a depth in [min_range, max_range] as a point with colour, class, instance and score.

    ``score`` is the instance's, and 1 where there is none. ``label`` is the class, 255 where unlabelled.

    Args:
        depth: float32 [H, W] metres along the optical axis; NaN, infinite or not positive: no point.
        image: uint8 [H, W, 3] RGB.
        result: of the same size.
        camera: of that size too.
        min_range: metres.
        max_range: metres.
        stride: every n-th row and column is used.
        organized: keep the image's shape, with NaN for pixels without a point.

    Raises:
        ImageError: depth and result differ in size.
    """
    height, width = result.semantic.shape
    _check_size(depth, height, width)
    x, y = _rays(camera, height, width, stride)
    z = depth[::stride, ::stride]
    valid = _in_range(z, min_range, max_range)
    scores = _scores(result)
    if organized:
        # Written field by field into the message's own layout: no array of points in between.
        points = np.zeros(z.shape, dtype=POINT)
        z = np.where(valid, z, np.float32(np.nan))
        np.multiply(x, z, out=points["x"])
        np.multiply(y, z, out=points["y"])
        points["z"] = z
        points["rgb"] = _packed_color(image[::stride, ::stride])
        points["label"] = result.semantic[::stride, ::stride]
        points["instance"] = result.instance[::stride, ::stride]
        points["score"] = scores[points["instance"]]
        return Cloud(points, bool(valid.all()))
    rows, columns = np.nonzero(valid)
    z = z[rows, columns]
    points = np.empty(z.size, dtype=POINT)
    np.multiply(x[0, columns], z, out=points["x"])
    np.multiply(y[rows, 0], z, out=points["y"])
    points["z"] = z
    flat = rows * stride * width + columns * stride
    points["rgb"] = _packed_color(np.take(image.reshape(-1, 3), flat, axis=0))
    points["label"] = np.take(result.semantic, flat)
    instance = np.take(result.instance, flat)
    points["instance"] = instance
    points["score"] = scores[instance]
    return Cloud(points, True)


def instance_boxes(cloud: Cloud, result: PanopticResult, *, min_points: int = 10) -> list[Box3D]:
    """Boxes and centroids of the instances that have at least ``min_points`` points, by falling score.

    An instance's points are those within a few robust standard deviations (1.4826 times the median absolute
    deviation) of its median depth: a mask's rim always takes in some of the background, which would
    stretch the box by metres.
    """
    points = cloud.points.reshape(-1)
    points = points[(points["instance"] > 0) & np.isfinite(points["z"])]
    if not points.size:
        return []
    # Stable sorting of uint16 is a radix sort: one pass groups all instances.
    points = points[np.argsort(points["instance"], kind="stable")]
    ids, starts = np.unique(points["instance"], return_index=True)
    by_id = {int(i): part for i, part in zip(ids, np.split(points, starts[1:]), strict=True)}
    boxes = []
    for segment in result.instances:
        part = by_id.get(segment.id)
        if part is None:
            continue
        z = part["z"]
        middle = float(np.median(z))
        spread = 1.4826 * float(np.median(np.abs(z - middle)))
        reach = _OUTLIER_DEVIATIONS * max(spread, _LEAST_DEPTH_SPREAD * middle)
        part = part[np.abs(z - middle) <= reach]
        if part.size < min_points:
            continue
        xyz = np.stack([part["x"], part["y"], part["z"]])
        low, high = xyz.min(axis=1), xyz.max(axis=1)
        boxes.append(
            Box3D(
                instance_id=segment.id,
                class_id=segment.class_id,
                score=segment.score,
                centroid=_triple(xyz.mean(axis=1, dtype=np.float64)),
                center=_triple((low + high) / 2),
                size=_triple(high - low),
            )
        )
    return boxes


def _check_size(depth: npt.NDArray[np.float32], height: int, width: int) -> None:
    if depth.shape != (height, width):
        raise ImageError(
            f"depth of {depth.shape[1]}x{depth.shape[0]} with an image of {width}x{height}: they must fit "
            "pixel for pixel; register the depth to the image's camera"
        )


def _in_range(z: npt.NDArray[np.float32], least: float, most: float) -> npt.NDArray[np.bool_]:
    # NaN compares false; infinite depth is above every finite limit, and none is a point.
    smallest = max(least, float(np.finfo(np.float32).tiny))
    largest = min(most, float(np.finfo(np.float32).max))
    return (z >= np.float32(smallest)) & (z <= np.float32(largest))


def _scores(result: PanopticResult) -> npt.NDArray[np.float32]:
    """float32 [65536], score by instance id; 1 for no instance."""
    table = np.ones(65536, dtype=np.float32)
    for segment in result.instances:
        table[segment.id] = segment.score
    return table


def _packed_color(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    packed = pixels[..., 0].astype(np.uint32)
    packed <<= 8
    packed |= pixels[..., 1]
    packed <<= 8
    packed |= pixels[..., 2]
    return packed


def _triple(values: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
