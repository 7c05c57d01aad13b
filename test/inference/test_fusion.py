import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_panoptic_core.inference.fusion import (
    Assignment,
    assign_instances,
    full_size_labels,
    stuff_to_drop,
)


def assign(rows, *, alive=None, sigma=0.3, overlap=0.5, order="probability"):
    probability = torch.tensor(rows)
    living = torch.ones(len(rows)) if alive is None else torch.tensor(alive, dtype=torch.float32)
    return assign_instances(probability, living, torch.tensor(sigma), torch.tensor(overlap), order)


def owners(assignment):
    """Row of each location's owner, None where there is none."""
    return [
        w if t else None
        for w, t in zip(assignment.winner.tolist(), assignment.taken.tolist(), strict=True)
    ]


def test_the_most_probable_mask_takes_a_location():
    found = assign([[0.9, 0.5, 0.2, 0.4], [0.1, 0.6, 0.25, 0.3]])
    assert owners(found) == [0, 1, None, 0]
    assert found.areas.tolist() == [2, 1]
    assert found.probability.tolist() == pytest.approx([0.9, 0.6, 0.25, 0.4])


def test_by_score_the_surest_detection_takes_a_location():
    """Rows come by falling score: row 0 takes all that its mask holds."""
    found = assign([[0.9, 0.5, 0.2, 0.4], [0.1, 0.6, 0.9, 0.8]], order="score", overlap=0.3)
    assert owners(found) == [0, 0, 1, 0]
    assert found.probability.tolist() == pytest.approx([0.9, 0.5, 0.9, 0.4])


def test_the_threshold_is_exclusive():
    assert owners(assign([[0.5, 0.5000001]], sigma=0.5)) == [None, 0]


def test_an_instance_that_keeps_too_little_is_dropped_and_the_next_in_line_takes_over():
    # Row 0 holds four locations and loses three to row 1: it keeps 1/4. Then row 2 gets the first.
    rows = [[0.6, 0.6, 0.6, 0.6], [0.1, 0.9, 0.9, 0.9], [0.5, 0.1, 0.1, 0.1]]
    found = assign(rows, overlap=0.2)
    assert owners(found) == [0, 1, 1, 1]
    # Row 2 held one location and lost it to row 0, so it goes by the same rule.
    found = assign(rows, overlap=0.5)
    assert owners(found) == [None, 1, 1, 1]
    found = assign([*rows[:2], [0.7, 0.1, 0.1, 0.1]], overlap=0.5)
    assert owners(found) == [2, 1, 1, 1]
    assert found.areas.tolist() == [0, 3, 1]


def test_exactly_the_overlap_threshold_is_enough():
    found = assign([[0.6, 0.6], [0.1, 0.9]], overlap=0.5)
    assert owners(found) == [0, 1]


def test_queries_that_are_not_alive_take_nothing_and_hide_nothing():
    found = assign([[0.9, 0.9], [0.5, 0.1]], alive=[0, 1])
    assert owners(found) == [1, None]
    assert found.areas.tolist() == [0, 1]


def test_nobody_alive():
    found = assign([[0.9, 0.9], [0.5, 0.1]], alive=[0, 0])
    assert owners(found) == [None, None]
    assert found.areas.tolist() == [0, 0]


def test_negative_probabilities_of_the_published_correlation_take_nothing():
    assert owners(assign([[-0.5, -0.1], [-0.9, 0.4]])) == [None, 1]


def test_small_stuff_is_dropped_things_are_not():
    semantic = torch.tensor([0, 0, 0, 1, 2, 2])
    free = torch.tensor([True, True, False, True, True, True])
    is_stuff = torch.tensor([True, True, False, True])
    dropped, areas = stuff_to_drop(semantic, free, is_stuff, torch.tensor(32.0), 16)
    # Class 0 has two free locations, 32 pixels: not below the limit.
    assert areas.tolist() == [32, 16, 32, 0]
    assert dropped.tolist() == [False, True, False, True]


def labels(winner, probability, *, classes, logits=None, sigma=0.3, dropped=(), image=None):
    """(semantic, instance) as lists at full size, from a grid [h][w]."""
    winner, probability = torch.tensor(winner), torch.tensor(probability)
    grid = tuple(winner.shape)
    padded = (4 * grid[0], 4 * grid[1])
    if logits is None:
        logits = torch.zeros(1, 4, *grid)
    assignment = Assignment(
        winner.flatten(),
        probability.flatten(),
        probability.flatten() > sigma,
        torch.zeros(len(classes)),
    )
    semantic, instance = full_size_labels(
        logits,
        assignment,
        torch.tensor(classes),
        torch.isin(torch.arange(4), torch.tensor(dropped)),
        torch.tensor(sigma),
        grid,
        padded,
        image or padded,
    )
    assert torch.equal(semantic, semantic.round())
    return semantic.to(torch.uint8), instance.to(torch.uint8)


def test_an_instance_has_its_row_plus_one_and_its_class():
    semantic, instance = labels([[1]], [[0.9]], classes=[2, 3])
    assert (semantic == 3).all()
    assert (instance == 2).all()


def test_free_pixels_have_the_class_of_the_semantics():
    logits = torch.zeros(1, 4, 1, 2)
    logits[0, 1, 0, 0] = logits[0, 2, 0, 1] = 5
    semantic, instance = labels([[0, 0]], [[0.1, 0.1]], classes=[3], logits=logits)
    assert semantic[0].tolist() == [1] * 4 + [2] * 4
    assert not instance.any()
    semantic, _ = labels([[0, 0]], [[0.1, 0.1]], classes=[3], logits=logits, dropped=[2])
    assert semantic[0].tolist() == [1] * 4 + [255] * 4


def test_a_thing_without_an_instance_keeps_its_class():
    logits = torch.zeros(1, 4, 1, 1)
    logits[0, 3] = 5
    semantic, instance = labels([[0]], [[0.1]], classes=[3], logits=logits)
    assert (semantic == 3).all()
    assert not instance.any()


def test_the_edge_of_a_mask_is_where_the_interpolated_probability_crosses_sigma():
    """0.8 and 0 in two cells of 4: bilinear 0.8, 0.8, 0.7, 0.5 | 0.3, 0.1, 0, 0."""
    _, instance = labels([[0, 0]], [[0.8, 0.0]], classes=[3], sigma=0.25)
    assert instance[0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    _, instance = labels([[0, 0]], [[0.8, 0.0]], classes=[3], sigma=0.6)
    assert instance[0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_beyond_the_edge_of_its_grid_a_mask_is_still_its_own():
    """The cell on the right is nobody's; its arg max is some other query, which must not show."""
    semantic, instance = labels([[2, 0]], [[0.8, 0.0]], classes=[1, 2, 3], sigma=0.25)
    assert instance[0].tolist() == [3, 3, 3, 3, 3, 0, 0, 0]
    assert semantic[0, :5].tolist() == [3] * 5


def test_touching_instances_are_parted_at_the_grid():
    _, instance = labels([[0, 1]], [[0.9, 0.5]], classes=[3, 3])
    assert instance[0].tolist() == [1] * 4 + [2] * 4


def test_padding_is_cut_off():
    semantic, instance = labels([[0, 1]], [[0.9, 0.9]], classes=[3, 3], image=(3, 6))
    assert semantic.shape == instance.shape == (3, 6)
    assert instance[0].tolist() == [1] * 4 + [2] * 2


def test_semantics_at_stride_8_are_resized_in_one_step():
    """Logits 0 and 1 against 0.4: the class changes where the interpolation crosses 0.4."""
    logits = torch.zeros(1, 4, 1, 2)
    logits[0, 1, 0] = torch.tensor([0.0, 1.0])
    logits[0, 2, 0] = 0.4
    grid = torch.zeros(2, 4).tolist()
    semantic, _ = labels(
        torch.zeros(2, 4, dtype=torch.long).tolist(), grid, classes=[3], logits=logits
    )
    # Pixels 4 ... 11 lie at 1/16, 3/16, ... 15/16 between the two; 7/16 is the first above 0.4.
    assert semantic[0].tolist() == [2] * 7 + [1] * 9


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(2, 6), st.integers(2, 6))
def test_labels_follow_the_masks_at_full_size(seed, count, height, width):
    """Where the masks are far apart, the labels are those of each mask resized by itself."""
    generator = torch.Generator().manual_seed(seed)
    owner = torch.randint(0, count + 1, (height, width), generator=generator)
    strength = 0.4 + 0.6 * torch.rand(height, width, generator=generator)
    masks = torch.stack([(owner == row) * strength for row in range(count)])
    assignment = assign_instances(
        masks.flatten(1), torch.ones(count), torch.tensor(0.3), torch.tensor(0.0), "probability"
    )
    _, instance = full_size_labels(
        torch.zeros(1, 4, height, width),
        assignment,
        torch.full((count,), 3),
        torch.zeros(4, dtype=torch.bool),
        torch.tensor(0.3),
        (height, width),
        (4 * height, 4 * width),
        (4 * height, 4 * width),
    )
    full = F.interpolate(masks.unsqueeze(0), scale_factor=4, mode="bilinear")[0]
    for row in range(count):
        others = torch.cat((full[:row], full[row + 1 :]))
        alone = (full[row] > 0.3001) & (others < 1e-6).all(dim=0)
        assert (instance[alone] == row + 1).all()
        # And nobody is where his mask has nothing at all.
        assert (instance[full[row] == 0] != row + 1).all()
