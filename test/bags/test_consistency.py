"""Steadiness of labels along the optical flow."""

import cv2
import numpy as np
import pytest

from rt_panoptic_core.bags.consistency import TemporalConsistency

HEIGHT, WIDTH = 120, 160


def texture():
    noise = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH + 40, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def labels():
    plane = np.zeros((HEIGHT, WIDTH + 40), dtype=np.uint8)
    plane[:, 60:110] = 1
    plane[80:] = 2
    return plane


def view(plane, shift):
    return np.ascontiguousarray(plane[:, shift : shift + WIDTH])


def test_a_still_camera_with_steady_labels_does_not_flicker():
    measure = TemporalConsistency(3)
    assert measure.update(view(texture(), 0), view(labels(), 0)) is None
    assert measure.update(view(texture(), 0), view(labels(), 0)) == 0.0
    assert (measure.flicker, measure.mean_iou) == (0.0, 1.0)


def test_flicker_is_the_share_of_changed_pixels():
    measure = TemporalConsistency(3)
    changed = view(labels(), 0)
    measure.update(view(texture(), 0), changed)
    changed = changed.copy()
    # 12 of 120 rows: a tenth of the pixels, all of class 2 or none, become class 0.
    changed[90:102] = 0
    assert measure.update(view(texture(), 0), changed) == pytest.approx(0.1)
    # IoU: class 0 grew by 1920 pixels, class 1 is whole, class 2 lost 1920 of 40 * 160.
    zero = int((view(labels(), 0) == 0).sum())
    expected = (zero / (zero + 1920) + 1 + (6400 - 1920) / 6400) / 3
    assert measure.mean_iou == pytest.approx(expected)


def test_motion_is_taken_out():
    moving, fixed = TemporalConsistency(3), TemporalConsistency(3)
    for shift in range(0, 30, 5):
        moving.update(view(texture(), shift), view(labels(), shift))
        # Labels that stay where they are while the scene moves are wrong.
        fixed.update(view(texture(), shift), view(labels(), 0))
    assert moving.flicker < 0.01
    assert fixed.flicker > 0.04


def test_what_cannot_be_compared_is_not():
    measure = TemporalConsistency(3)
    measure.update(view(texture(), 0), view(labels(), 0))
    unlabelled = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    assert measure.update(view(texture(), 0), unlabelled) is None
    small = cv2.resize(view(texture(), 0), (80, 60))
    assert measure.update(small, cv2.resize(view(labels(), 0), (80, 60))) is None
    measure.skip()
    assert measure.update(small, cv2.resize(view(labels(), 0), (80, 60))) is None
    assert (measure.flicker, measure.mean_iou) == (None, None)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (16, 200), (2000, 30)])
def test_any_size_of_picture(size):
    measure = TemporalConsistency(2)
    image = np.zeros((*size, 3), dtype=np.uint8)
    for _ in range(2):
        measure.update(image, np.ones(size, dtype=np.uint8))
    assert measure.flicker == 0.0
