import math

import pytest
import torch

from rt_panoptic_core.inference.mask_construction import (
    location_probability,
    locations_in_reach,
    mask_probability,
    semantic_probability,
)


def test_softmax_runs_over_all_classes_things_and_stuff():
    logits = torch.tensor([math.log(1), math.log(2), math.log(5)]).reshape(1, 3, 1, 1)
    probability = semantic_probability(logits, (1, 1)).flatten().tolist()
    assert probability == pytest.approx([1 / 8, 2 / 8, 5 / 8])


def test_logits_are_resized_before_the_softmax():
    """Logits 0 and 4 against 0: halfway the logit is 2; halfway the probabilities it would be other."""
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 1, 0, 1] = 4
    middle = semantic_probability(logits, (1, 3))[0, 1, 0, 1].item()
    assert middle == pytest.approx(1 / (1 + math.exp(-2)))
    assert semantic_probability(logits.bfloat16(), (1, 3)).dtype == torch.float32


def test_a_worked_example_of_eq_5():
    """Two queries, two locations.

    The dense box of location 0 is query 0 itself; that of location 1 is its left half (IoU 1/2). Query 1
    overlaps both by a quarter of its own: 25 / 175 with the whole, 0 with the half.
    """
    queries = torch.tensor([[0.0, 0, 10, 10], [5, 5, 15, 15]])
    dense = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 5, 10]]])
    probability = torch.tensor([[0.1, 0.2], [0.9, 0.4], [0.5, 0.6]])
    classes = torch.tensor([1, 2])
    masks = mask_probability(queries, classes, dense, probability, "iou")
    expected = torch.tensor([[1 * 0.9, 0.5 * 0.4], [25 / 175 * 0.5, 0]])
    torch.testing.assert_close(masks, expected)
    masks = mask_probability(queries, classes, dense, probability, "giou")
    # Query 1 and the half: I 0, U 150, C 225.
    expected = torch.tensor(
        [
            [1 * 0.9, 51 / 101 * 0.4],
            [(26 / 176 - 50 / 225) * 0.5, (1 / 151 - 75 / 225) * 0.6],
        ]
    )
    torch.testing.assert_close(masks, expected)


def test_without_levelness_the_best_level_counts():
    queries = torch.tensor([[0.0, 0, 10, 10]])
    dense = torch.tensor([[[0.0, 0, 5, 10], [0, 0, 1, 1]], [[0.0, 0, 2, 10], [0, 0, 8, 10]]])
    result = location_probability(queries, dense, "iou")
    torch.testing.assert_close(result, torch.tensor([[0.5, 0.8]]))


def test_a_pixel_outside_the_query_box_may_belong_to_the_mask():
    """Only the dense box is compared, not the place: eq. 6."""
    queries = torch.tensor([[0.0, 0, 10, 10]])
    # This dense box belongs to a location at (12, 2), outside of the query.
    dense = torch.tensor([[[0.0, 0, 12, 10]]])
    mask = mask_probability(queries, torch.tensor([0]), dense, torch.tensor([[0.9]]), "iou")
    assert mask.item() == pytest.approx(0.9 * 100 / 120)


def reached(probabilities, sigma):
    """Places in reach on a grid [h][w] of one thing's probability beside one of nothing."""
    grid = torch.tensor(probabilities)
    things = torch.stack((torch.zeros_like(grid), grid)).flatten(1)
    return locations_in_reach(things, torch.tensor(sigma), tuple(grid.shape)).tolist()


def test_a_thing_reaches_its_location_and_the_eight_around_it():
    grid = torch.zeros(4, 5)
    grid[1, 1] = 0.5
    assert reached(grid.tolist(), 0.4) == [0, 1, 2, 5, 6, 7, 10, 11, 12]
    assert reached(grid.tolist(), 0.6) == []
    # At a corner there are three around it.
    grid[1, 1], grid[3, 4] = 0.0, 0.41
    assert reached(grid.tolist(), 0.4) == [13, 14, 18, 19]


def test_rounding_keeps_no_location_out_of_reach():
    assert reached([[1.0]], 1.0) == [0]
    assert reached([[0.3]], 0.3) == [0]
    assert reached([[0.299]], 0.3) == []


def test_a_number_that_is_none_takes_nothing_from_its_neighbours():
    assert reached([[0.9, float("nan"), 0.0, 0.0]], 0.3) == [0, 1]
