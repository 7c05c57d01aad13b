"""Cutting sure objects out and pasting them as exact instances."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rt_panoptic_core.datasets.paste import (
    Cutout,
    PastedFrames,
    cut_sure_objects,
    open_camvid_pasted,
    paste_cutouts,
)
from rt_panoptic_core.datasets.sample import PanopticSample
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.taxonomy import Taxonomy

TAXONOMY = Taxonomy.load("cityscapes")
ROAD, SKY, CAR, PERSON = (TAXONOMY.class_id(n) for n in ("road", "sky", "car", "person"))
HORIZON = 54  # row, of 120


def frame(*blobs: tuple[int, int, int, int, int], name: str = "frame") -> PanopticSample:
    """Sky over road, 120 x 200, with blobs (class, x, y, width, height) and no instances."""
    semantic = np.full((120, 200), SKY, np.uint8)
    semantic[HORIZON:] = ROAD
    image = np.full((120, 200, 3), 100, np.uint8)
    for class_id, x, y, width, height in blobs:
        semantic[y : y + height, x : x + width] = class_id
        image[y : y + height, x : x + width] = (200, 30, 30)
    return PanopticSample(
        name, image, semantic, np.zeros(semantic.shape, np.int32), has_instances=False
    )


def test_a_blob_that_stands_alone_is_cut() -> None:
    (cutout,) = cut_sure_objects(frame((CAR, 60, 50, 40, 30)), TAXONOMY)
    assert cutout.class_id == CAR
    # The blob with a margin of two pixels.
    assert cutout.mask.shape == (34, 44)
    assert cutout.mask.sum() == 40 * 30
    assert cutout.mask[2:-2, 2:-2].all()
    assert (cutout.image[cutout.mask] == (200, 30, 30)).all()
    assert cutout.bottom == pytest.approx(80 / 120)


@pytest.mark.parametrize(
    ("blobs", "why"),
    [
        ([(CAR, 60, 70, 14, 10)], "too small"),
        ([(CAR, 60, 50, 90, 30)], "as wide as two"),
        ([(CAR, 60, 40, 20, 40)], "too narrow for a car"),
        ([(CAR, 0, 50, 40, 30)], "cut by the border"),
        ([(CAR, 60, 20, 40, 30)], "stands on nothing"),
        ([(CAR, 60, 50, 24, 30), (CAR, 84, 66, 22, 14)], "two heights: a notch"),
        ([(CAR, 60, 50, 40, 30), (PERSON, 100, 46, 9, 36)], "touches another thing"),
        ([(CAR, 60, 50, 40, 30), (SKY, 70, 56, 16, 14)], "a hole"),
    ],
)
def test_doubtful_blobs_are_left(blobs: list[tuple[int, int, int, int, int]], why: str) -> None:
    cutouts = cut_sure_objects(frame(*blobs), TAXONOMY)
    assert [c for c in cutouts if c.class_id == CAR] == [], why


def test_persons_are_cut_and_couples_are_not() -> None:
    assert len(cut_sure_objects(frame((PERSON, 60, 40, 14, 40)), TAXONOMY)) == 1
    assert cut_sure_objects(frame((PERSON, 60, 40, 26, 40)), TAXONOMY) == []


def car_cutout(source: str = "other") -> Cutout:
    image = np.full((20, 30, 3), 150, np.uint8)
    image[:, :15] = (250, 0, 0)
    return Cutout(image, np.ones((20, 30), np.bool_), CAR, 80 / 120, 120, 100.0, source)


def test_pasted_pixels_are_exact_instances() -> None:
    target = frame((CAR, 4, 50, 20, 14))
    pasted = paste_cutouts(
        target, TAXONOMY, [car_cutout()], np.random.default_rng(0), scale=(1.0, 1.0)
    )
    (annotation,) = pasted.instances
    assert pasted.has_instances
    assert annotation.class_id == CAR
    mask = pasted.instance == annotation.id
    assert mask.sum() == 20 * 30
    assert (pasted.semantic[mask] == CAR).all()
    # It stands where its row says: the lowest pixel in the row before 80.
    assert np.flatnonzero(mask.any(axis=1)).tolist() == list(range(60, 80))
    # The frame's own car keeps instance 0; elsewhere nothing changed.
    assert (pasted.instance[target.semantic == CAR] == 0).all()
    assert np.array_equal(pasted.semantic[~mask], target.semantic[~mask])
    # The frame that was given is as it was.
    assert not target.instance.any()
    assert (target.image[HORIZON + 20 :] == 100).all()


def test_nearer_is_larger() -> None:
    """Scaled about the horizon: at factor 1.5 it is half as large again and stands lower."""
    pasted = paste_cutouts(
        frame(), TAXONOMY, [car_cutout()], np.random.default_rng(0), scale=(1.5, 1.5)
    )
    rows = np.flatnonzero((pasted.instance > 0).any(axis=1))
    columns = np.flatnonzero((pasted.instance > 0).any(axis=0))
    assert (len(rows), len(columns)) == (30, 45)
    assert rows[-1] + 1 == round(HORIZON + 1.5 * (80 - HORIZON))


def test_nothing_nearer_is_hidden() -> None:
    """A wall of persons stands before every place, so nothing finds one."""
    crowd = frame((PERSON, 0, 60, 200, 40))
    pasted = paste_cutouts(
        crowd, TAXONOMY, [car_cutout()] * 5, np.random.default_rng(1), scale=(1.0, 1.0)
    )
    assert pasted.instances == ()
    assert np.array_equal(pasted.image, crowd.image)


def test_a_car_does_not_stand_in_the_sky() -> None:
    sky = frame()
    sky.semantic[:] = SKY
    pasted = paste_cutouts(sky, TAXONOMY, [car_cutout()] * 5, np.random.default_rng(1))
    assert pasted.instances == ()


class Frames:
    """Two frames."""

    taxonomy = TAXONOMY

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> PanopticSample:
        return frame(name=f"frame{index}")


def test_variants_repeat_exactly_and_differ() -> None:
    bank = [car_cutout("frame0"), car_cutout("elsewhere")]
    first, second = (PastedFrames(Frames(), bank, variants=3, seed=5) for _ in range(2))
    assert len(first) == 6
    for index in range(6):
        assert np.array_equal(first[index].image, second[index].image)
        assert np.array_equal(first[index].instance, second[index].instance)
    assert first[1].name == "frame1_pasted0"
    assert first[5].name == "frame1_pasted2"
    assert len({first[index].instance.tobytes() for index in (1, 3, 5)}) == 3
    other = PastedFrames(Frames(), bank, variants=3, seed=6)
    assert not np.array_equal(first[1].instance, other[1].instance)


def test_a_frame_without_a_paste_stays_semantic() -> None:
    """An object is never pasted into the frame it was cut from."""
    own = PastedFrames(Frames(), [car_cutout("frame0")])
    assert not own[0].has_instances
    assert own[1].has_instances


def test_refusals() -> None:
    with pytest.raises(DatasetError, match="nothing to paste"):
        PastedFrames(Frames(), [])
    with pytest.raises(DatasetError, match="most 0"):
        PastedFrames(Frames(), [car_cutout()], most=0)
    with pytest.raises(DatasetError, match="seed -1: it must be at least 0"):
        PastedFrames(Frames(), [car_cutout()], seed=-1)


def test_opening_camvid(tmp_path: Path) -> None:
    """Two frames on disk, one with a car that stands alone: it is pasted into the other."""
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    for name, car in (("a", True), ("b", False)):
        labels = np.zeros((120, 200), np.uint8)  # sky
        labels[HORIZON:] = 3  # road
        image = np.full((120, 200, 3), 110, np.uint8)
        if car:
            labels[50:80, 60:100] = 8
            image[50:80, 60:100] = (20, 20, 190)
        cv2.imwrite(str(tmp_path / "train" / "images" / f"{name}.png"), image)
        cv2.imwrite(str(tmp_path / "train" / "labels" / f"{name}.png"), labels)
    frames = open_camvid_pasted(tmp_path, variants=2)
    assert len(frames) == 4
    assert len(frames.bank) == 1
    pasted = frames[1]
    assert pasted.has_instances
    assert {a.class_id for a in pasted.instances} == {CAR}
