"""Generated streets: what a sample and a drive promise."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from rt_panoptic_core.datasets.generated_streets import (
    STREET_KINDS,
    GeneratedStreets,
    StreetFrame,
    StreetSequence,
    open_generated_streets,
)
from rt_panoptic_core.datasets.sample import PanopticSample
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy

SIZE = (96, 192)


def digest(sample: PanopticSample | StreetFrame) -> str:
    """Of all that a sample holds."""
    state = hashlib.sha256()
    for array in (sample.image, sample.semantic, sample.instance, sample.depth):
        assert array is not None
        state.update(np.ascontiguousarray(array).tobytes())
    state.update(repr(sample.instances).encode())
    return state.hexdigest()


@pytest.fixture(scope="module")
def samples() -> list[PanopticSample]:
    streets = GeneratedStreets(40, SIZE, seed=5)
    return [streets[index] for index in range(len(streets))]


def test_shapes_and_dtypes(samples: list[PanopticSample]) -> None:
    for sample in samples:
        assert sample.image.shape == (*SIZE, 3)
        assert sample.image.dtype == np.uint8
        assert sample.semantic.shape == sample.instance.shape == SIZE
        assert sample.semantic.dtype == np.uint8
        assert sample.instance.dtype == np.int32
        assert sample.depth is not None
        assert sample.depth.dtype == np.float32
        assert sample.has_instances
        for array in (sample.image, sample.semantic, sample.instance, sample.depth):
            assert array.flags.c_contiguous
            assert array.flags.writeable


def test_every_class_appears(samples: list[PanopticSample]) -> None:
    more = GeneratedStreets(60, SIZE, seed=6, depth=False)
    seen: set[int] = set()
    for sample in (*samples, *(more[index] for index in range(len(more)))):
        seen.update(np.unique(sample.semantic).tolist())
    assert seen - {UNLABELLED} == set(range(19))


def test_things_are_instances_and_nothing_else_is(samples: list[PanopticSample]) -> None:
    for sample in samples:
        things = Taxonomy.load("cityscapes").is_thing[sample.semantic]
        assert np.array_equal(things, sample.instance > 0), sample.name
        ids = [a.id for a in sample.instances]
        assert sorted(ids) == sorted(set(np.unique(sample.instance).tolist()) - {0})
        for annotation in sample.instances:
            assert not annotation.is_crowd
            classes = sample.semantic[sample.instance == annotation.id]
            assert (classes == annotation.class_id).all(), (sample.name, annotation)


def test_depth_is_infinite_in_the_sky_alone(samples: list[PanopticSample]) -> None:
    sky = Taxonomy.load("cityscapes").class_id("sky")
    for sample in samples:
        assert sample.depth is not None
        assert np.array_equal(np.isinf(sample.depth), sample.semantic == sky)
        assert sample.depth.min() > 0.3


def test_ground_has_the_depth_of_its_plane() -> None:
    """On z = 0 a ray r in world axes meets the ground at depth -height / r_z."""
    road = Taxonomy.load("cityscapes").class_id("road")
    checked = 0
    for seed in range(6):
        frame = next(iter(StreetSequence(seed, SIZE)))
        k = frame.intrinsics
        v, u = np.mgrid[: SIZE[0], : SIZE[1]]
        rays = np.stack([(u - k.cx) / k.fx, (v - k.cy) / k.fy, np.ones(SIZE)], axis=-1)
        world = rays @ frame.camera_to_world[:3, :3].T
        height = frame.camera_to_world[2, 3]
        with np.errstate(divide="ignore"):
            expected = -height / world[..., 2]
        on_road = (frame.semantic == road) & (world[..., 2] < -0.02)
        checked += int(on_road.sum())
        assert np.allclose(frame.depth[on_road], expected[on_road], rtol=1e-3)
    assert checked > 6 * 1000


def test_points_of_one_car_fit_into_a_car(samples: list[PanopticSample]) -> None:
    """Unprojected with the intrinsics, the pixels of an instance lie within the size of its class."""
    car = Taxonomy.load("cityscapes").class_id("car")
    checked = 0
    for seed in range(10):
        frame = next(iter(StreetSequence(seed, SIZE)))
        k = frame.intrinsics
        for annotation in frame.instances:
            ys, xs = np.nonzero(frame.instance == annotation.id)
            if annotation.class_id != car or len(ys) < 60:
                continue
            z = frame.depth[ys, xs].astype(np.float64)
            points = np.stack([(xs - k.cx) / k.fx * z, (ys - k.cy) / k.fy * z, z], axis=1)
            # Across the diagonal of a van, with a little for pixels that touch an edge.
            assert np.ptp(points, axis=0).max() < 6.2, (seed, annotation)
            world = points @ frame.camera_to_world[:3, :3].T + frame.camera_to_world[:3, 3]
            assert world[:, 2].min() > -0.2
            assert world[:, 2].max() < 2.5
            checked += 1
    assert checked > 15


def test_same_seed_same_bytes_and_any_order() -> None:
    first = GeneratedStreets(8, SIZE, seed=3)
    second = GeneratedStreets(8, SIZE, seed=3)
    forwards = [digest(first[index]) for index in range(8)]
    backwards = [digest(second[index]) for index in reversed(range(8))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 8


def test_same_bytes_in_another_process() -> None:
    here = [digest(GeneratedStreets(4, SIZE, seed=9)[index]) for index in (0, 3)]
    here.append(digest(next(islice(StreetSequence(4, SIZE), 3, None))))
    code = """
import sys
from itertools import islice
sys.path.insert(0, sys.argv[1])
from test_generated_streets import SIZE, digest
from rt_panoptic_core.datasets.generated_streets import GeneratedStreets, StreetSequence
print(digest(GeneratedStreets(4, SIZE, seed=9)[0]))
print(digest(GeneratedStreets(4, SIZE, seed=9)[3]))
print(digest(next(islice(StreetSequence(4, SIZE), 3, None))))
"""
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )
    assert done.stdout.split() == here


def test_size_does_not_change_the_street() -> None:
    """The same street in twice the size shows the same things in the same places."""
    small = GeneratedStreets(1, (96, 192), seed=11)[0]
    large = GeneratedStreets(1, (192, 384), seed=11)[0]
    agree = (small.semantic == large.semantic[::2, ::2]).mean()
    assert agree > 0.93


def test_seeds_and_splits_share_no_street() -> None:
    pictures = {
        digest(open_generated_streets(None, split, length=2, size=SIZE, seed=seed, depth=True)[i])
        for split in ("train", "val", "test")
        for seed in (0, 1)
        for i in (0, 1)
    }
    assert len(pictures) == 12


@pytest.mark.parametrize("kind", STREET_KINDS)
def test_kinds(kind: str) -> None:
    sample = GeneratedStreets(1, SIZE, seed=2, kind=kind, depth=False)[0]
    names = {Taxonomy.load("cityscapes").names[c] for c in np.unique(sample.semantic) if c < 19}
    assert "road" in names
    if kind == "highway":
        assert "sidewalk" not in names
    if kind == "canyon":
        assert "building" in names
    assert sample.depth is None


@pytest.mark.parametrize("size", [(32, 32), (64, 400), (300, 64), (97, 131), (720, 1280)])
def test_any_size(size: tuple[int, int]) -> None:
    sample = GeneratedStreets(1, size, seed=1)[0]
    assert sample.image.shape == (*size, 3)
    assert sample.image.std() > 10


def test_index() -> None:
    streets = GeneratedStreets(3, SIZE)
    assert digest(streets[-1]) == digest(streets[2])
    for index in (3, -4):
        with pytest.raises(IndexError):
            streets[index]
    assert len(list(streets)) == 3


def test_pictures_differ_in_light() -> None:
    means = [GeneratedStreets(20, (48, 96), seed=1)[i].image.mean() for i in range(20)]
    assert np.std(means) > 12


# -- drives ------------------------------------------------------------------------------------------


def test_ids_stay_with_their_objects() -> None:
    """An instance keeps its id: where it was, it (or what hides it) is one frame later."""
    frames = list(StreetSequence(21, (128, 256), fps=30.0, kind="shops").frames(12))
    followed = overlapping = 0
    for before, after in pairwise(frames):
        for annotation in before.instances:
            mask = before.instance == annotation.id
            if mask.sum() < 60:
                continue
            followed += 1
            overlapping += bool((after.instance[mask] == annotation.id).any())
        classes = {a.id: a.class_id for a in before.instances}
        for annotation in after.instances:
            assert classes.get(annotation.id, annotation.class_id) == annotation.class_id
    assert followed > 40
    assert overlapping >= 0.97 * followed


def test_ids_count_up_from_one_without_gaps() -> None:
    seen: set[int] = set()
    for frame in StreetSequence(3, SIZE, fps=5.0).frames(10):
        seen.update(a.id for a in frame.instances)
    assert seen == set(range(1, len(seen) + 1))


def test_the_camera_moves_along_the_street() -> None:
    sequence = StreetSequence(2, SIZE, fps=10.0, speed=10.0)
    poses = [frame.camera_to_world for frame in sequence.frames(11)]
    steps = [np.linalg.norm(b[:3, 3] - a[:3, 3]) for a, b in pairwise(poses)]
    assert np.allclose(steps, 1.0, atol=0.12)
    for pose in poses:
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
        assert pose[2, 2] == pytest.approx(0.0, abs=0.2)  # looks ahead
        assert pose[2, 1] < -0.9  # image down is world down


def test_iterating_again_starts_again() -> None:
    sequence = StreetSequence(8, SIZE)
    once = [digest(frame) for frame in sequence.frames(3)]
    again = [digest(frame) for frame in sequence.frames(3)]
    assert once == again
    assert len(set(once)) == 3


def test_standing_camera_sees_others_move() -> None:
    frames = list(StreetSequence(5, SIZE, fps=2.0, speed=0.0, kind="shops").frames(2))
    assert np.allclose(frames[0].camera_to_world, frames[1].camera_to_world)
    assert not np.array_equal(frames[0].image, frames[1].image)


def test_a_long_drive_goes_on() -> None:
    """Far beyond what is first furnished there still is a street, and what is behind is forgotten."""
    sequence = StreetSequence(1, (48, 96), fps=0.1, speed=15.0)
    frames = list(sequence.frames(30))  # 4.5 km
    for frame in frames:
        assert {0, 10} <= set(np.unique(frame.semantic).tolist())


def test_supersampling_keeps_labels_pure() -> None:
    plain = next(iter(StreetSequence(6, SIZE)))
    smooth = next(iter(StreetSequence(6, SIZE, supersampling=2)))
    assert smooth.image.shape == plain.image.shape
    assert (smooth.semantic == plain.semantic).mean() > 0.93
    assert smooth.depth.shape == SIZE
    assert {a.id for a in smooth.instances} == set(np.unique(smooth.instance).tolist()) - {0}


# -- arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"length": 0}, "length: 0"),
        ({"length": True}, "length: True"),
        ({"length": 3, "size": (31, 64)}, r"size: \(31, 64\)"),
        ({"length": 3, "size": (64, 9000)}, "size"),
        ({"length": 3, "size": (64.5, 64)}, "size"),
        ({"length": 3, "size": 64}, "size: 64"),
        ({"length": 3, "seed": -1}, "seed: -1"),
        ({"length": 3, "kind": "moon"}, "canyon, shops"),
    ],
)
def test_bad_arguments_of_the_data_set(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(DatasetError, match=named):
        GeneratedStreets(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 1, "fps": 0.0}, "fps: 0.0"),
        ({"seed": 1, "fps": float("nan")}, "fps: nan"),
        ({"seed": 1, "speed": -1.0}, "speed"),
        ({"seed": 1, "kind": "sea"}, "kind: 'sea'"),
        ({"seed": 1, "supersampling": 5}, "supersampling: 5"),
    ],
)
def test_bad_arguments_of_the_drive(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(DatasetError, match=named):
        StreetSequence(**arguments)  # type: ignore[arg-type]


def test_opening_in_another_label_set() -> None:
    own = Taxonomy.from_dict(
        {
            "name": "own",
            "classes": [
                {"name": "car", "thing": True},
                {"name": "road", "thing": False},
                {"name": "cloud", "thing": False},
            ],
        }
    )
    cityscapes = GeneratedStreets(20, SIZE, seed=0, depth=False)
    relabelled = open_generated_streets(None, "train", own, length=20, size=SIZE, seed=0)
    assert relabelled.taxonomy == own
    (note,) = relabelled.notes
    assert "the others are void, neither learnt nor measured: sidewalk, " in note
    for index in range(3):
        sample, original = relabelled[index], cityscapes[index]
        assert np.array_equal(sample.image, original.image)
        assert np.array_equal(sample.semantic == 0, original.semantic == 13)
        assert np.array_equal(sample.semantic == 1, original.semantic == 0)
        assert set(np.unique(sample.semantic).tolist()) <= {0, 1, UNLABELLED}
        assert np.array_equal(sample.instance > 0, sample.semantic == 0)
        assert {a.class_id for a in sample.instances} <= {0}


def test_opening_refuses() -> None:
    with pytest.raises(DatasetError, match="split 'night': one of train, val, test"):
        open_generated_streets(None, "night")
    with pytest.raises(DatasetError, match="size"):
        open_generated_streets(None, size=[1, 2, 3])
    other = Taxonomy.from_dict({"name": "fruit", "classes": [{"name": "apple", "thing": True}]})
    with pytest.raises(DatasetError, match="'fruit' shares no class name"):
        open_generated_streets(None, taxonomy=other)
