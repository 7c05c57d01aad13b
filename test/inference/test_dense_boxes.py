import torch

from rt_panoptic_core.inference.dense_boxes import dense_boxes


def constant(values, height, width):
    return torch.tensor(values, dtype=torch.float32).reshape(1, 4, 1, 1).expand(1, 4, height, width)


def test_each_location_takes_the_offsets_of_its_level():
    """A 2x2 grid at stride 4, locations 2 and 6; two levels with constant offsets."""
    offsets = [constant([1, 1, 1, 1], 1, 1), constant([10, 20, 30, 40], 1, 1)]
    levelness = torch.zeros(1, 3, 2, 2)
    levelness[0, 1, 0, 0] = 1  # fine
    levelness[0, 2, 0, 1] = 1  # coarse
    levelness[0, 1, 1, 0] = -1  # coarse again
    levelness[0, 1, 1, 1] = 2  # fine
    boxes = dense_boxes(offsets, levelness, (2, 2))
    assert boxes.shape == (1, 1, 4, 4)
    assert boxes[0, 0].tolist() == [
        [1, 1, 3, 3],
        [6 - 10, 2 - 20, 6 + 30, 2 + 40],
        [2 - 10, 6 - 20, 2 + 30, 6 + 40],
        [5, 5, 7, 7],
    ]


def test_background_is_left_out_so_that_every_location_has_a_box():
    offsets = [constant([1, 1, 1, 1], 1, 1), constant([2, 2, 2, 2], 1, 1)]
    levelness = torch.tensor([100.0, 0.0, 0.5]).reshape(1, 3, 1, 1)
    assert dense_boxes(offsets, levelness, (1, 1))[0, 0].tolist() == [[0, 0, 4, 4]]


def test_offsets_are_resized_bilinearly():
    """From two places to four: weights 1, 3/4 | 1/4, 1/4 | 3/4, 1."""
    offsets = torch.zeros(1, 4, 1, 2)
    offsets[0, 0, 0] = torch.tensor([0.0, 8.0])
    boxes = dense_boxes([offsets], torch.zeros(1, 2, 1, 4), (1, 4))
    assert boxes[0, 0, :, 0].tolist() == [2 - 0, 6 - 2, 10 - 6, 14 - 8]


def test_offsets_are_resized_after_exp_not_before():
    """They come as pixels: halfway between 1 and 100 lies 50.5, not 10."""
    offsets = torch.ones(1, 4, 1, 2)
    offsets[..., 1] = 100
    boxes = dense_boxes([offsets], torch.zeros(1, 2, 1, 3), (1, 3))
    assert 6 - boxes[0, 0, 1, 0].item() == 50.5


def test_without_levelness_every_level_gives_a_box():
    offsets = [constant([1, 1, 1, 1], 2, 2), constant([3, 3, 3, 3], 1, 1)]
    boxes = dense_boxes(offsets, None, (1, 1))
    assert boxes[0].tolist() == [[[1, 1, 3, 3]], [[-1, -1, 5, 5]]]


def test_boxes_are_not_clipped_and_stay_float32():
    boxes = dense_boxes([constant([500.5] * 4, 1, 1).bfloat16()], None, (1, 1))
    assert boxes.dtype == torch.float32
    assert (boxes[..., :2] < 0).all()


def test_a_batch_is_its_images():
    generator = torch.Generator().manual_seed(0)
    offsets = [torch.rand(2, 4, 4 >> k, 8 >> k, generator=generator) * 50 for k in range(3)]
    levelness = torch.randn(2, 4, 8, 16, generator=generator)
    both = dense_boxes(offsets, levelness, (8, 16))
    second = dense_boxes([o[1:] for o in offsets], levelness[1:], (8, 16))
    assert torch.equal(both[1:], second)
