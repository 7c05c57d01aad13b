"""The parts of generated streets: camera, painting order, occlusion, meshes, the road's course."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_panoptic_core.camera_intrinsics import CameraIntrinsics
from rt_panoptic_core.datasets.generated_streets import heavy_vehicles, people, vehicles
from rt_panoptic_core.datasets.generated_streets.camera import Camera, clip_near
from rt_panoptic_core.datasets.generated_streets.canvas import Canvas
from rt_panoptic_core.datasets.generated_streets.facades import facades
from rt_panoptic_core.datasets.generated_streets.layout import Course, Footprint, House
from rt_panoptic_core.datasets.generated_streets.mesh import Mesh, MeshBuilder
from rt_panoptic_core.datasets.generated_streets.ordering import painting_order
from rt_panoptic_core.datasets.generated_streets.visibility import Occlusion, as_rows, in_view

INTRINSICS = CameraIntrinsics(200, 100, 100.0, 100.0, 99.5, 49.5)


def level_camera() -> Camera:
    """At 1.5 m over the origin, looking along +x."""
    return Camera.looking(INTRINSICS, np.array([0.0, 0.0, 1.5]), 0.0, 0.0, 0.0)


def test_projection_by_hand() -> None:
    # 10 m ahead, 2 m to the left (+y), on the ground: X = -2, Y = 1.5, Z = 10.
    inside = level_camera().to_camera(np.array([[10.0, 2.0, 0.0]]))
    assert inside[0] == pytest.approx([-2.0, 1.5, 10.0])
    assert level_camera().pixels(inside)[0] == pytest.approx([99.5 - 20.0, 49.5 + 15.0])


def test_looking_down_raises_the_scene() -> None:
    camera = Camera.looking(INTRINSICS, np.array([0.0, 0.0, 1.5]), 0.0, math.atan2(1.5, 10.0), 0.0)
    pixel = camera.pixels(camera.to_camera(np.array([[10.0, 0.0, 0.0]])))
    assert pixel[0] == pytest.approx([99.5, 49.5])


def test_turning_left_moves_the_scene_right() -> None:
    camera = Camera.looking(INTRINSICS, np.zeros(3), math.radians(5), 0.0, 0.0)
    assert camera.pixels(camera.to_camera(np.array([[10.0, 0.0, 0.0]])))[0, 0] > 99.5


def test_intrinsics_matrix_and_scaling() -> None:
    assert INTRINSICS.matrix.tolist() == [[100, 0, 99.5], [0, 100, 49.5], [0, 0, 1]]
    double = INTRINSICS.scaled(2)
    # The picture's left edge is at -0.5 in both.
    assert (double.width, double.fx, double.cx) == (400, 200.0, 199.5)


@given(
    z=st.floats(1.0, 80.0),
    u=st.floats(0.0, 199.0),
    v=st.floats(0.0, 99.0),
    tilt=st.floats(-0.8, 0.8),
)
def test_plane_gives_inverse_depth(z: float, u: float, v: float, tilt: float) -> None:
    camera = level_camera()
    ray = np.array([(u - 99.5) / 100, (v - 49.5) / 100, 1.0])
    normal = np.array([math.sin(tilt), 0.1, -math.cos(tilt)])
    a, b, c = camera.plane(normal, float(normal @ (ray * z)))
    assert a * u + b * v + c == pytest.approx(1 / z, rel=1e-6)


def test_clip_near_by_hand() -> None:
    # A square in the plane x = 0 with half of it behind z = 1: a rectangle is left.
    square = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 1.0, 2.0], [0.0, 1.0, 0.0]])
    assert clip_near(square, 1.0).tolist() == [
        [0.0, 0.0, 1.0],
        [0.0, 0.0, 2.0],
        [0.0, 1.0, 2.0],
        [0.0, 1.0, 1.0],
    ]
    assert len(clip_near(square - np.array([0.0, 0.0, 5.0]), 1.0)) == 0
    ahead = square + np.array([0.0, 0.0, 5.0])
    assert np.array_equal(clip_near(ahead, 1.0), ahead)


@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 3), min_size=3, max_size=12))
def test_clip_near_leaves_nothing_behind(points: list[tuple[float, float, float]]) -> None:
    clipped = clip_near(np.array(points), 0.4)
    assert (clipped[:, 2] >= 0.4 - 1e-9).all()
    assert len(clipped) <= 2 * len(points)


def order(*boxes: tuple[float, float, float, float, float]) -> list[int]:
    """Painting order of (x, y, yaw, half length, half width) seen from the origin along +x."""
    array = np.array(boxes)
    return painting_order(
        array[:, :2], array[:, 2], array[:, 3:], np.zeros(2), np.array([1.0, 0.0])
    ).tolist()


def test_far_before_near() -> None:
    assert order((10, 0, 0, 1, 1), (30, 0, 0, 1, 1), (20, 0, 0, 1, 1)) == [1, 2, 0]


def test_a_person_before_a_long_facade() -> None:
    """The facade's middle is nearer than the person, who stands on its street side."""
    facade = (25.0, 12.0, 0.0, 15.0, 4.0)
    person = (30.0, 7.0, 0.0, 0.2, 0.2)
    assert order(person, facade) == [1, 0]
    # And one behind the building is painted first.
    assert order((30.0, 17.5, 0.0, 0.2, 0.2), facade) == [0, 1]


def test_order_of_nothing() -> None:
    assert (
        painting_order(
            np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)), np.zeros(2), np.array([1.0, 0.0])
        ).tolist()
        == []
    )


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(-4, 4)), min_size=2, max_size=12, unique=True)
)
def test_painting_order_is_right_for_a_grid(cells: list[tuple[int, int]]) -> None:
    """Boxes in cells of a grid: none hides one that is painted after it."""
    boxes = [(6.0 + 4 * x, 4.0 * y, 0.0, 1.5, 1.5) for x, y in cells]
    rank = {index: place for place, index in enumerate(order(*boxes))}
    for ray in np.linspace(-1.2, 1.2, 97):
        hits = []
        for index, (x, y, _, half, _) in enumerate(boxes):
            # Depth x at which the ray (1, ray) enters the box, if it does.
            enter = x - half
            low, high = sorted(((y - half) / ray, (y + half) / ray)) if ray else (-1e9, 1e9)
            if ray == 0 and abs(y) > half:
                continue
            start, stop = max(enter, low), min(x + half, high)
            if start < stop - 1e-6:
                hits.append((start, index))
        for (near, a), (far, b) in zip(sorted(hits), sorted(hits)[1:], strict=False):
            assert near <= far
            assert rank[b] < rank[a]


def house(x: float, y: float, height: float, length: float = 20.0) -> House:
    """A house on the left of the road, its front towards it."""
    return House(x, y, 0.0, length, 8.0, height, facades("block")[0], 0.0, (90, 80, 80), 1.0)


def test_buildings_hide_what_is_behind_them() -> None:
    camera = level_camera()
    front = house(30.0, 12.0, 12.0, 30.0)
    occlusion = Occlusion([front], camera)
    assert occlusion.walls == [[0]] or occlusion.walls == [[0, 3]]
    behind = Footprint(40.0, 24.0, 0.0, 1.0, 1.0, 1.5, 2.0, 250.0)
    beside = Footprint(40.0, 2.0, 0.0, 1.0, 1.0, 1.5, 2.0, 250.0)
    before = Footprint(16.0, 4.0, 0.0, 1.0, 1.0, 1.5, 2.0, 250.0)
    tower = Footprint(40.0, 24.0, 0.0, 1.0, 1.0, 1.5, 60.0, 250.0)
    rows = as_rows([behind, beside, before, tower])
    assert occlusion.hidden(rows).tolist() == [False, False, False, False] or (
        occlusion.hidden(rows).tolist() == [True, False, False, False]
    )
    # Right behind the front's far half it is surely hidden.
    deep = Footprint(60.0, 14.0, 0.0, 0.2, 0.2, 0.3, 2.0, 250.0)
    assert Occlusion([house(30.0, 12.0, 12.0, 30.0)], camera).hidden(as_rows([deep])).tolist() == [
        True
    ]


def test_view_and_reach() -> None:
    rows = as_rows(
        [
            Footprint(20.0, 0.0, 0.0, 1, 1, 1.5, 2.0, 250.0),  # ahead
            Footprint(-20.0, 0.0, 0.0, 1, 1, 1.5, 2.0, 250.0),  # behind
            Footprint(20.0, 60.0, 0.0, 1, 1, 1.5, 2.0, 250.0),  # aside
            Footprint(90.0, 0.0, 0.0, 1, 1, 1.5, 2.0, 50.0),  # too far to matter
        ]
    )
    assert in_view(rows, level_camera()).tolist() == [True, False, False, False]


def test_canvas_counts_what_is_left_to_see() -> None:
    canvas = Canvas(8, 4)
    canvas.announce([10], [0], np.zeros((1, 3)), furthest=np.array([np.inf]))
    wall = canvas.announce([2], [0], np.array([[0.0, 0.0, 0.1]]))
    car = canvas.announce([13], [1], np.array([[0.0, 0.0, 0.25]]))
    canvas.announce([13], [2], np.array([[0.0, 0.0, 0.25]]))
    square = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 3.0], [0.0, 3.0]])
    canvas.fill(square, (9, 9, 9), wall)
    canvas.fill(square / 3, (5, 5, 5), car)
    assert canvas.class_map()[0].tolist() == [13, 13, 2, 2, 10, 10, 10, 10]
    assert canvas.visible_instances().tolist() == [1]  # the other car is not painted
    ids = np.array([0, 7, 8], dtype=np.int32)
    assert canvas.instance_map(ids)[1].tolist() == [7, 7, 0, 0, 0, 0, 0, 0]
    assert canvas.depth_map()[0].tolist() == [4, 4, 10, 10, math.inf, math.inf, math.inf, math.inf]


def prototypes() -> list[Mesh]:
    meshes = [vehicles.car(kind) for kind in vehicles.CAR_SHAPES]
    meshes += [heavy_vehicles.truck(kind) for kind in ("box", "tipper", "semi")]
    meshes += [heavy_vehicles.bus(False), heavy_vehicles.bus(True), heavy_vehicles.tram()]
    meshes += [people.person(phase) for phase in range(people.WALK_PHASES)]
    meshes += [people.cyclist(2, True), people.motorcyclist(True), people.bicycle()]
    return meshes


@pytest.mark.parametrize("mesh", prototypes())
def test_prototypes_stand_on_the_ground(mesh: Mesh) -> None:
    low = min(
        float(mesh.vertices[:, 2].min()) if len(mesh.vertices) else 9.0,
        float((mesh.limbs[:, [2, 5]] - mesh.limbs[:, [6, 7]]).min()) if len(mesh.limbs) else 9.0,
    )
    assert -0.06 < low < 0.3  # a tram hangs low, but hangs
    if len(mesh.faces):
        assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("kind", list(vehicles.CAR_SHAPES))
def test_cars_are_symmetric_and_face_outwards(kind: str) -> None:
    mesh = vehicles.car(kind)
    vertices = mesh.vertices.astype(np.float64)
    mirrored = {tuple(np.round(p * [1, -1, 1], 3) + 0.0) for p in vertices}
    assert mirrored == {tuple(np.round(p, 3) + 0.0) for p in vertices}
    corner = mesh.vertices[mesh.faces].mean(axis=1)
    # The mirrors have sides that face the car.
    body = (mesh.slots == 0) & (np.abs(corner[:, 1]) < mesh.size[1] / 2 - 0.2)
    outwards = ((corner - [0, 0, 0.7]) * mesh.normals).sum(axis=1)
    assert (outwards[body] > -0.15).all()


def test_coarse_meshes_keep_every_part() -> None:
    for mesh in prototypes():
        assert len(mesh.coarse.faces) + len(mesh.coarse.limbs) <= len(mesh.faces) + len(mesh.limbs)
        parts = {*mesh.coarse.parts.tolist(), *mesh.coarse.limb_parts.tolist()}
        assert parts == set(range(len(mesh.part_labels)))


def test_newell_normal_of_a_box() -> None:
    build = MeshBuilder(0)
    build.box((0, 0, 0), (1, 2, 3), (9, 9, 9), bottom=True)
    mesh = build.build()
    centers = mesh.vertices[mesh.faces[:, :4]].mean(axis=1)
    assert ((centers - [0.5, 1.0, 1.5]) * mesh.normals).sum(axis=1).tolist() == pytest.approx(
        [0.5, 0.5, 1.0, 1.0, 1.5, 1.5]
    )


def test_course_is_smooth_and_agrees_with_itself() -> None:
    course = Course(random.Random(1), 1 / 120)
    s = np.linspace(-50, 3000, 40000)
    points = course.position(s)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert np.allclose(steps, s[1] - s[0], rtol=1e-3)
    for at in (0.0, 12.5, 777.7, 2999.0):
        assert course.point(at, 3.0) == pytest.approx(course.position(np.array([at]), 3.0)[0])


def test_course_does_not_depend_on_how_far_it_was_asked() -> None:
    near, far = Course(random.Random(4), 1 / 100), Course(random.Random(4), 1 / 100)
    far.position(np.array([9000.0]))
    assert near.point(123.0, -2.0) == far.point(123.0, -2.0)
