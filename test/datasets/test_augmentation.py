"""Crops, scales, flips and pastes on pictures small enough to see through."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_panoptic_core.datasets.augmentation import AugmentationConfig, augment, paste_instances
from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample, present_ids
from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.panoptic_format import measure_segments

CAR = 13


def coded_sample(height=48, width=64):
    """Every pixel tells its place: red is x, green is y; instance 70000 is a box, 5 a crowd."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 2, y * 2, np.zeros_like(x)], -1).astype(np.uint8)
    semantic = np.zeros((height, width), np.uint8)
    instance = np.zeros((height, width), np.int32)
    semantic[8:24, 10:30] = CAR
    instance[8:24, 10:30] = 70_000
    semantic[40:44, 50:60] = CAR
    instance[40:44, 50:60] = 5
    annotations = (InstanceAnnotation(70_000, CAR), InstanceAnnotation(5, CAR, True))
    return PanopticSample("coded", image, semantic, instance, annotations)


def rng(seed=0):
    return np.random.default_rng(seed)


PLAIN = {"flip": 0.0}


def test_nothing_asked_for_nothing_done():
    sample = coded_sample()
    changed, _ = augment(sample, AugmentationConfig(**PLAIN), rng())
    assert np.array_equal(changed.image, sample.image)
    assert np.array_equal(changed.instance, sample.instance)


def test_flip_moves_everything_along():
    sample = coded_sample()
    boxes = np.array([[10, 8, 30, 24], [50, 40, 60, 44]], np.float32)
    changed, moved = augment(sample, AugmentationConfig(flip=1.0), rng(), boxes)
    assert np.array_equal(changed.image, sample.image[:, ::-1])
    assert np.array_equal(changed.semantic, sample.semantic[:, ::-1])
    assert moved.tolist() == [[34, 8, 54, 24], [4, 40, 14, 44]]


def test_crop_is_a_window_of_all_maps():
    config = AugmentationConfig(crop=(32, 40), **PLAIN)
    sample = coded_sample()
    for seed in range(10):
        changed, _ = augment(sample, config, rng(seed))
        left, top = changed.image[0, 0, 0] // 2, changed.image[0, 0, 1] // 2
        window = (slice(top, top + 32), slice(left, left + 40))
        assert np.array_equal(changed.image, sample.image[window])
        assert np.array_equal(changed.semantic, sample.semantic[window])
        assert np.array_equal(changed.instance, sample.instance[window])
        assert {a.id for a in changed.instances} == set(np.unique(changed.instance)) - {0}


def test_what_sticks_out_is_void():
    changed, _ = augment(coded_sample(), AugmentationConfig(crop=(64, 64), **PLAIN), rng())
    assert changed.semantic.shape == (64, 64)
    assert (changed.semantic == 255).sum() == 16 * 64
    assert (changed.instance[changed.semantic == 255] == 0).all()


def test_scale_as_in_the_paper_changes_the_size():
    config = AugmentationConfig(crop=(40, 40), scale=(0.5, 0.5), scale_keeps_size=False, **PLAIN)
    changed, _ = augment(coded_sample(), config, rng())
    assert changed.image.shape == (20, 20, 3)


def test_scale_that_keeps_the_size_takes_a_smaller_window():
    config = AugmentationConfig(crop=(32, 32), scale=(2.0, 2.0), **PLAIN)
    changed, boxes = augment(
        coded_sample(), config, rng(3), np.array([[0, 0, 64, 48], [0, 0, 64, 48]], np.float32)
    )
    assert changed.image.shape == (32, 32, 3)
    # 16 pixels of the picture over 32: the red channel rises by 2 a pixel there, by 1 here.
    assert int(changed.image[5, 31, 0]) - int(changed.image[5, 0, 0]) in range(29, 33)
    # A box around everything is the whole window, however it moved.
    assert all(box == [0, 0, 32, 32] for box in boxes.tolist())


def test_shortest_side_and_its_limit():
    config = AugmentationConfig(shortest=(96,), longest=120, **PLAIN)
    changed, _ = augment(coded_sample(), config, rng())
    assert changed.image.shape == (90, 120, 3)  # 48x64 by 120 / 64, not by 2
    config = AugmentationConfig(shortest=(96,), longest=200, **PLAIN)
    assert augment(coded_sample(), config, rng())[0].image.shape == (96, 128, 3)


def test_large_ids_survive_resizing():
    config = AugmentationConfig(shortest=(96,), **PLAIN)
    sample = coded_sample()
    wild = replace(
        sample,
        instance=np.where(sample.instance == 70_000, 0x7FC00001, sample.instance).astype(np.int32),
        instances=(InstanceAnnotation(0x7FC00001, CAR), sample.instances[1]),
    )
    changed, _ = augment(wild, config, rng())
    assert measure_segments(changed.instance).ids.tolist() == [5, 0x7FC00001]
    assert measure_segments(changed.instance).boxes.tolist()[1] == [20, 16, 60, 48]


def test_noise_is_gaussian_and_the_same_for_the_same_draw():
    grey = replace(coded_sample(256, 256), image=np.full((256, 256, 3), 128, np.uint8))
    config = AugmentationConfig(flip=0, noise=20)
    first, second = (augment(grey, config, rng(3))[0].image for _ in range(2))
    assert (first == second).all()
    # The standard deviation is the second number drawn, after the scale.
    generator = rng(3)
    generator.uniform(1, 1)
    sigma = generator.uniform(0, 20)
    assert first.std() == pytest.approx(sigma, rel=0.02)
    assert first.mean() == pytest.approx(128, abs=0.2)
    assert np.corrcoef(first[..., 0].ravel(), first[..., 1].ravel())[0, 1] == pytest.approx(
        0, abs=0.03
    )


@pytest.mark.parametrize("ids", [[[0, 0, 7], [7, 3, 3]], [[5]], [[2, 2], [2, 2]], [[-1, 70000]]])
def test_present_ids_are_all_that_occur(ids):
    instance = np.array(ids, np.int32)
    assert present_ids(instance) == set(np.unique(instance).tolist())


def test_focus_brings_an_instance_into_the_window():
    sample = coded_sample(400, 400)
    config = AugmentationConfig(crop=(64, 64), focus=1.0, **PLAIN)
    for seed in range(20):
        changed, _ = augment(sample, config, rng(seed))
        assert 70_000 in {a.id for a in changed.instances}


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_masks_and_annotations_always_agree(seed, keeps):
    config = AugmentationConfig(
        crop=(32, 48),
        scale=(0.4, 2.5),
        scale_keeps_size=keeps,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        hue=20,
        blur=0.5,
        noise=5,
    )
    sample = coded_sample()
    boxes = measure_segments(sample.instance).boxes[::-1].astype(np.float32)
    changed, moved = augment(sample, config, rng(seed), boxes)
    assert changed.image.dtype == np.uint8
    assert changed.image.shape[:2] == changed.semantic.shape == changed.instance.shape
    found = measure_segments(changed.instance)
    assert {a.id for a in changed.instances} == set(found.ids.tolist())
    assert len(moved) == len(changed.instances)
    assert (changed.semantic[changed.instance > 0] == CAR).all()
    # A box that was moved holds the mask that is left, up to the rounding of pixels.
    place = {int(i): box for i, box in zip(found.ids, found.boxes, strict=True)}
    for annotation, box in zip(changed.instances, moved, strict=True):
        own = place[annotation.id]
        assert (own[:2] >= box[:2] - 1.5).all()
        assert (own[2:] <= box[2:] + 1.5).all()
    again, _ = augment(sample, config, rng(seed), boxes)
    assert np.array_equal(again.image, changed.image)


def test_pasted_instances_are_new_and_exact():
    target = coded_sample()
    source = replace(
        target,
        image=np.full_like(target.image, 200),
        semantic=np.where(target.instance == 70_000, CAR, 0).astype(np.uint8),
        instance=np.roll(np.where(target.instance == 70_000, 3, 0), 5, axis=1).astype(np.int32),
        instances=(InstanceAnnotation(3, CAR),),
    )
    pasted = paste_instances(target, source, 5, rng())
    new = pasted.instance == 70_001
    assert np.array_equal(new, source.instance == 3)
    assert (pasted.image[new] == 200).all()
    assert [a.id for a in pasted.instances] == [70_000, 5, 70_001]
    assert (pasted.instance == 70_000).sum() == 16 * 5  # what the new one leaves of it


def test_an_instance_that_is_covered_entirely_is_gone():
    target = coded_sample()
    source = replace(
        target,
        instance=np.full_like(target.instance, 1),
        instances=(InstanceAnnotation(1, CAR),),
    )
    pasted = paste_instances(target, source, 1, rng())
    assert [a.id for a in pasted.instances] == [70_001]


def test_nothing_is_pasted_into_data_without_instances():
    target = replace(coded_sample(), has_instances=False)
    assert paste_instances(target, coded_sample(), 3, rng()) is target


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": (16, 64)}, "at least 32"),
        ({"scale": (0.0, 1.0)}, "above 0"),
        ({"flip": 1.5}, "probability"),
        ({"saturation": 1.0}, "below 1"),
        ({"crop": (64, 64), "shortest": (640,)}, "not both"),
    ],
)
def test_impossible_settings(values, message):
    with pytest.raises(ConfigError, match=message):
        AugmentationConfig(**values)
