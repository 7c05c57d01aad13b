"""Each loss against a value worked out by hand, and its gradient against finite differences."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.inference.boxes import box_iou
from rt_panoptic_core.training.losses import (
    bootstrapped_cross_entropy,
    box_classification_loss,
    box_regression_loss,
    centerness_loss,
    levelness_loss,
    mask_loss,
)
from rt_panoptic_core.training.targets import BACKGROUND, IGNORED


def boxes(seed, count):
    """Random boxes within 0 … 20, at least 2 wide, no two edges equal."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 10
    size = 2 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * 8
    return torch.cat([corner, corner + size], 1)


class TestBoxRegression:
    # Target 4 wide and 4 high around the location, prediction 2 left, 2 up, 4 right, 2 down:
    # areas 16 and 24, intersection (2 + 2)·(2 + 2) = 16, union 24, smallest box around both 6·4 = 24.
    target = torch.tensor([[2.0, 2, 2, 2]])
    predicted = torch.tensor([[2.0, 2, 4, 2]])
    foreground = torch.tensor([True])

    def test_iou_is_minus_its_logarithm(self):
        loss = box_regression_loss(self.predicted, self.target, self.foreground)
        assert loss.total.item() == pytest.approx(-math.log(16 / 24))
        assert loss.count.item() == 1

    def test_linear(self):
        loss = box_regression_loss(self.predicted, self.target, self.foreground, "linear_iou")
        assert loss.total.item() == pytest.approx(1 - 16 / 24)

    def test_giou_adds_the_empty_part_of_the_hull(self):
        # Prediction l, t, r, b = 1, 1, 3, 3: areas 16 and 16, I = (1+2)² = 9, U = 23, C = (2+3)² = 25.
        predicted = torch.tensor([[1.0, 1, 3, 3]])
        loss = box_regression_loss(predicted, self.target, self.foreground, "giou")
        assert loss.total.item() == pytest.approx(1 - 9 / 23 + 2 / 25)

    def test_background_is_not_looked_at(self):
        predicted = torch.tensor([[2.0, 2, 4, 2], [float("nan")] * 4])
        target = torch.zeros(2, 4)
        target[0] = 2
        loss = box_regression_loss(predicted, target, torch.tensor([True, False]))
        assert loss.total.item() == pytest.approx(-math.log(16 / 24))

    def test_nothing_in_the_foreground_is_zero_with_a_gradient(self):
        predicted = self.predicted.clone().requires_grad_()
        loss = box_regression_loss(predicted, self.target, torch.tensor([False]))
        loss.total.backward()
        assert loss.total.item() == 0
        assert loss.count.item() == 0
        assert predicted.grad.tolist() == [[0, 0, 0, 0]]

    @pytest.mark.parametrize("kind", ["iou", "linear_iou", "giou"])
    def test_gradient(self, kind):
        generator = torch.Generator().manual_seed(1)
        predicted = 1 + 9 * torch.rand(5, 4, generator=generator, dtype=torch.float64)
        target = 1 + 9 * torch.rand(5, 4, generator=generator, dtype=torch.float64)
        foreground = torch.tensor([True, True, False, True, True])

        def total(x):
            return box_regression_loss(x, target, foreground, kind).total

        assert gradcheck(total, predicted.requires_grad_())

    def test_unknown_kind(self):
        with pytest.raises(ConfigError, match="ciou"):
            box_regression_loss(self.predicted, self.target, self.foreground, "ciou")


def test_centerness_by_hand():
    # Logit 0 is 0.5: ln 2 whatever the target. Logit ln 3 is 0.75: −0.25·ln 0.75 − 0.75·ln 0.25.
    logits = torch.tensor([0.0, math.log(3.0), 9.0])
    target = torch.tensor([0.9, 0.25, 0.0])
    loss = centerness_loss(logits, target, torch.tensor([True, True, False]))
    second = -0.25 * math.log(0.75) - 0.75 * math.log(0.25)
    assert loss.total.item() == pytest.approx(math.log(2) + second)
    assert loss.count.item() == 2


class TestClassification:
    def test_by_hand(self):
        # All logits 0, p = 0.5, modulation 0.25, ln 2. Class 1 of 2: 0.25 and 0.75 → Σα = 1.
        # Background: 0.75 twice. Ignored: nothing.
        logits = torch.zeros(1, 3, 2)
        labels = torch.tensor([[1, BACKGROUND, IGNORED]])
        loss = box_classification_loss(logits, labels)
        assert loss.total.item() == pytest.approx((1 + 1.5) * 0.25 * math.log(2))
        assert loss.count.item() == 2

    def test_confident_and_right_hardly_counts(self):
        # p = 0.9 for the true class: 0.25 · 0.1² · −ln 0.9.
        logits = torch.tensor([[[math.log(9.0)]]])
        loss = box_classification_loss(logits, torch.tensor([[0]]))
        assert loss.total.item() == pytest.approx(0.25 * 0.01 * -math.log(0.9), rel=1e-5)

    def test_mean_over_foreground(self):
        labels = torch.tensor([[1, BACKGROUND, IGNORED]])
        loss = box_classification_loss(torch.zeros(1, 3, 2), labels, normalisation="foreground")
        assert loss.count.item() == 1

    def test_ignored_locations_get_no_gradient(self):
        logits = torch.zeros(1, 2, 3, requires_grad=True)
        box_classification_loss(logits, torch.tensor([[IGNORED, 0]])).total.backward()
        assert logits.grad[0, 0].tolist() == [0, 0, 0]
        assert (logits.grad[0, 1] != 0).all()

    def test_huge_logits_stay_finite(self):
        logits = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
        loss = box_classification_loss(logits, torch.tensor([[1]]))
        loss.total.backward()
        assert torch.isfinite(loss.total)
        assert torch.isfinite(logits.grad).all()

    def test_gradient(self):
        generator = torch.Generator().manual_seed(2)
        logits = torch.randn(1, 6, 3, generator=generator, dtype=torch.float64)
        labels = torch.tensor([[0, 2, BACKGROUND, IGNORED, 1, BACKGROUND]])
        assert gradcheck(
            lambda x: box_classification_loss(x, labels).total, logits.requires_grad_()
        )


def test_levelness_by_hand():
    # Two locations with uniform logits over 3 channels: ln 3 each; the ignored one says nothing.
    logits = torch.zeros(1, 3, 1, 3)
    logits[0, :, 0, 2] = torch.tensor([5.0, -3, 1])
    target = torch.tensor([[[0, 2, IGNORED]]])
    loss = levelness_loss(logits, target)
    assert loss.total.item() == pytest.approx(2 * math.log(3))
    assert loss.count.item() == 2


class TestSemantics:
    def test_only_the_worst_pixels_count(self):
        # Two classes, true class 0 with logit z against 0: loss ln(1 + e^−z).
        z = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
        logits = torch.stack([z, torch.zeros(10)]).view(1, 2, 1, 10)
        semantic = torch.zeros(1, 1, 10, dtype=torch.uint8)
        loss = bootstrapped_cross_entropy(logits, semantic, 0.3)
        worst = [math.log(1 + math.exp(-value)) for value in (0, 1, 2)]
        assert loss.total.item() == pytest.approx(sum(worst))
        assert loss.count.item() == 3

    def test_void_is_neither_bad_nor_counted(self):
        logits = torch.zeros(1, 2, 1, 4)
        logits[0, 1, 0, 0] = 100
        semantic = torch.tensor([[[255, 0, 0, 0]]], dtype=torch.uint8)
        loss = bootstrapped_cross_entropy(logits, semantic, 1.0)
        assert loss.total.item() == pytest.approx(3 * math.log(2))
        assert loss.count.item() == 3

    def test_each_image_gives_its_own_share(self):
        # The second image is far worse; the first still gives its worst pixel.
        logits = torch.zeros(2, 2, 1, 2)
        logits[1, 1] = 50
        semantic = torch.zeros(2, 1, 2, dtype=torch.uint8)
        loss = bootstrapped_cross_entropy(logits, semantic, 0.5)
        assert loss.total.item() == pytest.approx(math.log(2) + 50, rel=1e-5)
        assert loss.count.item() == 2

    def test_ties_share_the_last_places(self):
        # All equal: half of four pixels, and every pixel gets half a pixel's gradient.
        logits = torch.zeros(1, 2, 1, 4, requires_grad=True)
        loss = bootstrapped_cross_entropy(logits, torch.zeros(1, 1, 4, dtype=torch.uint8), 0.5)
        loss.total.backward()
        assert loss.total.item() == pytest.approx(2 * math.log(2))
        assert torch.allclose(logits.grad[0, 0], torch.full((1, 4), -0.25))

    def test_all_void_is_zero(self):
        logits = torch.zeros(1, 2, 2, 2, requires_grad=True)
        loss = bootstrapped_cross_entropy(logits, torch.full((1, 4, 4), 255, dtype=torch.uint8))
        loss.total.backward()
        assert loss.total.item() == 0
        assert loss.count.item() == 0

    def test_gradient_through_the_resize(self):
        generator = torch.Generator().manual_seed(3)
        logits = torch.randn(1, 3, 2, 3, generator=generator, dtype=torch.float64)
        semantic = torch.randint(0, 3, (1, 4, 6), generator=generator).to(torch.uint8)
        semantic[0, 0, 0] = 255
        assert gradcheck(
            lambda x: bootstrapped_cross_entropy(x, semantic, 0.3).total, logits.requires_grad_()
        )


class TestMask:
    def test_by_hand(self):
        # Query (0, 0, 4, 4), truth (0, 0, 4, 8): β = 16/32. Instance 0 owns two of three pixels.
        # Boxes: the query itself (IoU 1), one half of it (0.5), and for a stranger a quarter (0.25).
        dense = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 2, 2]])
        owners = torch.tensor([0, 0, BACKGROUND])
        query = torch.tensor([[0.0, 0, 4, 4]])
        truth = torch.tensor([[0.0, 0, 4, 8]])
        loss = mask_loss(dense, owners, query, truth, torch.tensor([0]))
        false_positive, false_negative = 0.25, 0 + 0.5
        assert loss.total.item() == pytest.approx(0.5 / 2 * (false_positive + false_negative))
        assert loss.count.item() == 1

    @staticmethod
    def naive(dense, owners, queries, truth, rows):
        """Eq. 16-18 as written, with every pair of pixel and query in memory."""
        total = dense.new_zeros(())
        for query, target, row in zip(queries, truth, rows, strict=True):
            inside = owners == row
            if not inside.any():
                continue
            iou = box_iou(dense, query[None])[:, 0]
            beta = box_iou(query[None], target[None])[0, 0]
            total = total + beta / inside.sum() * (iou[~inside].sum() + (1 - iou[inside]).sum())
        return total

    def test_value_and_gradient_are_those_of_the_plain_form(self):
        dense = boxes(0, 40).requires_grad_()
        owners = torch.arange(40) % 5 - 1
        queries, truth, rows = boxes(1, 4), boxes(2, 4), torch.tensor([0, 1, 2, 3])
        loss = mask_loss(dense, owners, queries, truth, rows).total
        expected = self.naive(dense, owners, queries, truth, rows)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
        (own,) = torch.autograd.grad(loss, dense)
        (reference,) = torch.autograd.grad(expected, dense)
        assert torch.allclose(own, reference, atol=1e-12)

    def test_gradient_against_finite_differences(self):
        dense = boxes(3, 12)
        owners = torch.tensor([0, 0, 1, 1, 1, -1, -1, 2, 2, 0, -1, 1])
        queries, truth, rows = boxes(4, 3), boxes(5, 3), torch.tensor([0, 1, 2])

        def total(x):
            return mask_loss(x, owners, queries, truth, rows).total

        assert gradcheck(total, dense.requires_grad_())

    def test_chunks_change_nothing(self, monkeypatch):
        dense, owners = boxes(6, 50), torch.arange(50) % 8 - 1
        queries, truth, rows = boxes(7, 7), boxes(8, 7), torch.arange(7)
        whole = mask_loss(dense, owners, queries, truth, rows).total
        monkeypatch.setattr("rt_panoptic_core.training.losses.mask.CHUNK_PAIRS", 60)
        parts = mask_loss(dense, owners, queries, truth, rows).total
        assert whole.item() == pytest.approx(parts.item(), rel=1e-12)

    def test_several_images_are_the_sum_of_each(self):
        dense = boxes(19, 60).reshape(3, 20, 4).requires_grad_()
        owners = torch.arange(60).reshape(3, 20) % 7 - 1
        owners[1, 5:12] = IGNORED
        queries, truth = boxes(20, 12).reshape(3, 4, 4), boxes(21, 12).reshape(3, 4, 4)
        rows = torch.tensor([[0, 1, 2, 3], [4, -1, 0, -1], [-1, -1, -1, -1]])
        together = mask_loss(dense, owners, queries, truth, rows)
        each = []
        for n in range(3):
            taken, asked = owners[n] != IGNORED, rows[n] >= 0
            each.append(
                mask_loss(
                    *(dense[n][taken], owners[n][taken]),
                    *(queries[n][asked], truth[n][asked], rows[n][asked]),
                )
            )
        assert together.count.item() == sum(term.count.item() for term in each) == 6
        total = sum(term.total for term in each)
        assert together.total.item() == pytest.approx(total.item(), rel=1e-12)
        (own,) = torch.autograd.grad(together.total, dense)
        (expected,) = torch.autograd.grad(total, dense)
        assert torch.allclose(own, expected, atol=1e-14)
        assert own[1, 5:12].abs().sum() == 0

    def test_queries_and_their_quality_get_no_gradient(self):
        queries, truth = boxes(9, 2).requires_grad_(), boxes(9, 2).mul(0.9).requires_grad_()
        dense = boxes(11, 6).requires_grad_()
        mask_loss(
            dense, torch.tensor([0, 0, 1, 1, -1, -1]), queries, truth, torch.tensor([0, 1])
        ).total.backward()
        assert queries.grad is None
        assert truth.grad is None
        assert dense.grad.abs().sum() > 0

    def test_an_instance_without_a_location_adds_nothing(self):
        dense = boxes(12, 3).requires_grad_()
        loss = mask_loss(
            dense, torch.tensor([0, 0, -1]), boxes(13, 1), boxes(14, 1), torch.tensor([4])
        )
        loss.total.backward()
        assert loss.total.item() == 0
        assert dense.grad.abs().sum() == 0

    def test_no_query_is_zero(self):
        dense = boxes(15, 3).requires_grad_()
        empty = torch.zeros(0, 4, dtype=torch.float64)
        loss = mask_loss(
            dense, torch.tensor([0, 0, -1]), empty, empty, torch.zeros(0, dtype=torch.long)
        )
        loss.total.backward()
        assert loss.total.item() == 0
        assert loss.count.item() == 0

    def test_kept_memory_does_not_grow_with_the_queries(self):
        dense = boxes(16, 2000).requires_grad_()
        owners = torch.arange(2000) % 50
        held = []

        def pack(tensor):
            held.append(tensor.numel())
            return tensor

        for count in (1, 50):
            held.append(-1)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                mask_loss(dense, owners, boxes(17, count), boxes(18, count), torch.arange(count))
        first, second = held[1 : held.index(-1, 1)], held[held.index(-1, 1) + 1 :]
        assert sum(first) == sum(second) == 2000 * 4
