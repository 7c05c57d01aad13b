import numpy as np
import pytest

from rt_panoptic_core.inference.camera_motion import CameraMotion

SIZE = (200, 400)
HEIGHTS = np.array([20.0, 30.0, 40.0, 60.0, 25.0, 35.0, 50.0, 45.0])
CENTRES = np.array(
    [[50.0, 90], [120, 110], [300, 120], [350, 140], [210, 95], [260, 105], [80, 130], [150, 125]]
)


def boxes(centres, heights):
    half = np.stack([heights / 2, heights / 2], axis=1)
    return np.concatenate([centres - half, centres + half], axis=1)


def test_a_camera_at_rest_moves_nothing():
    still = boxes(CENTRES, HEIGHTS)
    motion = CameraMotion()
    assert not motion.velocities(still, SIZE).any()
    motion.observe(still, still, np.full(8, 0.1), SIZE)
    assert np.abs(motion.velocities(still, SIZE)).max() < 1e-6


def settled(centres_after, heights_after, seconds=0.1):
    motion = CameraMotion()
    before = boxes(CENTRES, HEIGHTS)
    for _ in range(60):
        motion.observe(before, boxes(centres_after, heights_after), np.full(8, seconds), SIZE)
    return motion


def test_a_turning_camera_moves_all_alike():
    motion = settled(np.add(CENTRES, (6.0, -2.0)), HEIGHTS)
    # 6 and -2 pixels in a tenth of a second, of a box that was not seen.
    found = motion.velocities(boxes(np.array([[200.0, 60.0]]), np.array([32.0])), SIZE)
    assert found[0] == pytest.approx([60, -20, 60, -20], abs=1.5)


def test_driving_on_moves_what_is_near_more_and_makes_it_grow():
    # Away from the middle (200, 100) by a fiftieth of the height's 20: 2 % of the distance at 20 high.
    growth = HEIGHTS / 1000
    motion = settled(CENTRES + growth[:, None] * (CENTRES - (200, 100)), HEIGHTS * (1 + growth))
    near, far = motion.velocities(
        boxes(np.array([[300.0, 100.0], [300.0, 100.0]]), np.array([50.0, 20.0])), SIZE
    )
    # In a second ten times 5 % of 100 pixels, and 2 %; 50 high becomes 25 higher, 20 four.
    assert (near[0] + near[2]) / 2 == pytest.approx(50, abs=2.5)
    assert (far[0] + far[2]) / 2 == pytest.approx(20, abs=2.5)
    assert near[3] - near[1] == pytest.approx(25, abs=2.5)
    assert far[3] - far[1] == pytest.approx(4, abs=1.5)


def test_who_moves_by_itself_does_not_count():
    after = np.add(CENTRES, (6.0, 0.0))
    after[2] -= (40.0, 0.0)
    found = settled(after, HEIGHTS).velocities(boxes(CENTRES[:1], HEIGHTS[:1]), SIZE)
    assert found[0, 0] == pytest.approx(60, abs=4)


def test_nobody_followed_teaches_nothing():
    motion = settled(np.add(CENTRES, (6.0, 0.0)), HEIGHTS)
    before = motion.velocities(boxes(CENTRES, HEIGHTS), SIZE)
    motion.observe(np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0), SIZE)
    assert np.array_equal(motion.velocities(boxes(CENTRES, HEIGHTS), SIZE), before)
