"""Depth and labels to points, by hand-made numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_ros.labelled_cloud import Pinhole, instance_boxes, labelled_cloud, pinhole

CAMERA = Pinhole(fx=2.0, fy=4.0, cx=1.0, cy=0.0)


def result(semantic, instance=None, segments=()):
    semantic = np.asarray(semantic, np.uint8)
    instance = np.zeros_like(semantic) if instance is None else np.asarray(instance)
    return PanopticResult(semantic, instance.astype(np.uint16), list(segments))


def car(number, score=0.75):
    return Segment(number, 13, True, score, 1, (0.0, 0.0, 1.0, 1.0))


def test_points_by_hand():
    depth = np.array([[2.0, np.nan, 4.0], [8.0, 0.0, np.inf]], np.float32)
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    labels = result([[0, 1, 13], [255, 2, 3]], [[0, 0, 7], [0, 0, 0]], [car(7)])
    cloud = labelled_cloud(depth, image, labels, CAMERA)
    assert cloud.is_dense
    # x = (u - 1) / 2 z, y = v / 4 z for the pixels (0, 0), (2, 0) and (0, 1).
    assert cloud.points["x"].tolist() == [-1.0, 2.0, -4.0]
    assert cloud.points["y"].tolist() == [0.0, 0.0, 2.0]
    assert cloud.points["z"].tolist() == [2.0, 4.0, 8.0]
    assert cloud.points["rgb"].tolist() == [0x000102, 0x060708, 0x090A0B]
    assert cloud.points["label"].tolist() == [0, 13, 255]
    assert cloud.points["instance"].tolist() == [0, 7, 0]
    assert cloud.points["score"].tolist() == [1.0, 0.75, 1.0]


def test_an_organized_cloud_keeps_the_images_shape():
    depth = np.array([[2.0, np.nan], [-1.0, 4.0]], np.float32)
    labels = result([[0, 1], [2, 3]])
    cloud = labelled_cloud(depth, np.zeros((2, 2, 3), np.uint8), labels, CAMERA, organized=True)
    assert cloud.points.shape == (2, 2)
    assert not cloud.is_dense
    assert np.isnan(cloud.points["z"]).tolist() == [[False, True], [True, False]]
    assert np.isnan(cloud.points["x"]).tolist() == [[False, True], [True, False]]
    assert cloud.points["label"].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(("low", "high", "kept"), [(2.0, 4.0, [2.0, 3.0, 4.0]), (2.5, 3.5, [3.0])])
def test_the_range_includes_its_ends(low, high, kept):
    depth = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)
    cloud = labelled_cloud(
        depth,
        np.zeros((1, 5, 3), np.uint8),
        result([[0] * 5]),
        CAMERA,
        min_range=low,
        max_range=high,
    )
    assert cloud.points["z"].tolist() == kept


def test_a_stride_takes_every_nth_row_and_column_with_its_own_ray():
    depth = np.full((3, 5), 2.0, np.float32)
    semantic = np.arange(15).reshape(3, 5)
    cloud = labelled_cloud(depth, np.zeros((3, 5, 3), np.uint8), result(semantic), CAMERA, stride=2)
    assert cloud.points["label"].tolist() == [0, 2, 4, 10, 12, 14]
    assert cloud.points["x"].tolist() == [-1.0, 1.0, 3.0, -1.0, 1.0, 3.0]
    assert cloud.points["y"].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


@given(
    depth=arrays.arrays(
        np.float32, (4, 6), elements=st.floats(-2, 100, width=32) | st.just(np.float32(np.nan))
    ),
    stride=st.integers(1, 5),
)
def test_organized_and_not_hold_the_same_points(depth, stride):
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    labels = result(np.arange(24).reshape(4, 6), np.arange(24).reshape(4, 6) % 5)
    options = {"min_range": 0.5, "max_range": 50.0, "stride": stride}
    flat = labelled_cloud(depth, image, labels, CAMERA, **options).points
    grid = labelled_cloud(depth, image, labels, CAMERA, organized=True, **options).points
    kept = grid.reshape(-1)[np.isfinite(grid["z"].reshape(-1))]
    assert kept.tobytes() == flat.tobytes()


def test_points_project_back_to_their_pixels():
    camera = Pinhole(500.0, 510.0, 320.3, 239.7)
    depth = np.random.default_rng(1).uniform(1, 80, (480, 640)).astype(np.float32)
    labels = result(np.zeros((480, 640)))
    points = labelled_cloud(
        depth, np.zeros((480, 640, 3), np.uint8), labels, camera, organized=True
    ).points
    u = points["x"] / points["z"] * camera.fx + camera.cx
    v = points["y"] / points["z"] * camera.fy + camera.cy
    assert np.allclose(u, np.arange(640)[None], atol=1e-3)
    assert np.allclose(v, np.arange(480)[:, None], atol=1e-3)


def test_depth_of_another_size_is_refused():
    with pytest.raises(ImageError, match="depth of 3x2 with an image of 2x2: they must fit"):
        labelled_cloud(
            np.ones((2, 3), np.float32),
            np.zeros((2, 2, 3), np.uint8),
            result(np.zeros((2, 2))),
            CAMERA,
        )


def test_a_box_leaves_out_the_background_in_the_masks_rim():
    depth = np.full((10, 10), 30.0, np.float32)
    instance = np.zeros((10, 10), int)
    instance[2:8, 2:8] = 1
    depth[2:8, 2:7] = 5.0  # the car; its mask's last column is the wall behind
    labels = result(np.full((10, 10), 13), instance, [car(1)])
    cloud = labelled_cloud(depth, np.zeros((10, 10, 3), np.uint8), labels, Pinhole(10, 10, 0, 0))
    (box,) = instance_boxes(cloud, labels)
    assert (box.instance_id, box.class_id, box.score) == (1, 13, 0.75)
    # Columns 2 … 6 and rows 2 … 7 at 5 m with focal length 10: 1 … 3 m and 1 … 3.5 m.
    assert box.size == pytest.approx((2.0, 2.5, 0.0), abs=1e-5)
    assert box.center == pytest.approx((2.0, 2.25, 5.0))
    assert box.centroid == pytest.approx((2.0, 2.25, 5.0))


def test_boxes_come_by_falling_score_and_only_of_instances_with_points():
    instance = np.repeat([[1] * 20, [2] * 20, [3] * 20], 2, axis=0)
    depth = np.full((6, 20), 10.0, np.float32)
    depth[2:4] = np.nan
    segments = [car(3, 0.9), car(2, 0.8), car(1, 0.7)]
    labels = result(np.full((6, 20), 13), instance, segments)
    cloud = labelled_cloud(depth, np.zeros((6, 20, 3), np.uint8), labels, CAMERA, organized=True)
    assert [box.instance_id for box in instance_boxes(cloud, labels)] == [3, 1]


def test_pinhole_prefers_the_rectified_projection():
    k = [1, 0, 2, 0, 3, 4, 0, 0, 1]
    assert pinhole(k, [5, 0, 6, 0, 0, 7, 8, 0, 0, 0, 1, 0]) == Pinhole(5, 7, 6, 8)
    assert pinhole(k, [0] * 12) == Pinhole(1, 3, 2, 4)
    with pytest.raises(ImageError, match="calibrate the camera"):
        pinhole([0] * 9, [0] * 12)
