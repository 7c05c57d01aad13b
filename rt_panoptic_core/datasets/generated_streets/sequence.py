"""A drive through a generated street, frame by frame."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.camera_intrinsics import CameraIntrinsics
from rt_panoptic_core.datasets.generated_streets import labels
from rt_panoptic_core.datasets.generated_streets.camera import Camera
from rt_panoptic_core.datasets.generated_streets.canvas import Canvas
from rt_panoptic_core.datasets.generated_streets.layout import STREET_KINDS, Key, Street
from rt_panoptic_core.datasets.generated_streets.light import random_light
from rt_panoptic_core.datasets.generated_streets.renderer import Painted, Scene, paint
from rt_panoptic_core.datasets.generated_streets.sensor import develop
from rt_panoptic_core.datasets.generated_streets.surroundings import Surroundings
from rt_panoptic_core.datasets.generated_streets.traffic import Traffic
from rt_panoptic_core.datasets.sample import InstanceAnnotation, present_ids
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.taxonomy import Taxonomy

_SMALLEST_SIDE = 32
_VIEW = 230.0  # metres ahead that are furnished
_VIEW_IN_TOWN = 165.0


@dataclass(frozen=True)
class StreetFrame:
    """One frame of a drive, with all that is known about it.

    Attributes:
        index: number of the frame from 0; ``time`` its seconds since the start.
        image: uint8 [H, W, 3], RGB.
        semantic: uint8 [H, W], Cityscapes' class ids; 255 is void.
        instance: int32 [H, W], instance id from 1, stable over the drive; 0 for stuff and void.
        instances: the instances that are visible here.
        intrinsics: of every frame alike.
        camera_to_world: float64 [4, 4], pose of the optical frame (x right, y down, z forward) in a world
            with z up and the ground at z = 0, metres.
    """

    index: int
    time: float
    image: npt.NDArray[np.uint8]
    semantic: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32]
    instances: tuple[InstanceAnnotation, ...]
    intrinsics: CameraIntrinsics
    camera_to_world: npt.NDArray[np.float64] = field(repr=False)
    measure_depth: Callable[[], npt.NDArray[np.float32]] = field(repr=False)

    @cached_property
    def depth(self) -> npt.NDArray[np.float32]:
        """float32 [H, W], metres along the optical axis; inf for the sky. Computed when first asked for."""
        return self.measure_depth()


@dataclass(frozen=True)
class _Mount:
    """How the camera sits in its car."""

    height: float
    pitch: float
    yaw: float
    roll: float
    field_of_view: float  # horizontal, radians
    horizon: float  # row of the optical axis over the picture's height
    lane_offset: float


class StreetSequence:
    """A drive through an endless street: iterate it, or take :meth:`frames`.

    The same arguments give the same bytes, in any process. Iterating again starts the drive again.
    """

    def __init__(
        self,
        seed: int,
        size: tuple[int, int] = (512, 1024),
        fps: float = 15.0,
        *,
        kind: str | None = None,
        speed: float | None = None,
        supersampling: int = 1,
    ) -> None:
        """Set out in street ``seed``.

        Args:
            seed: any whole number from 0.
            size: (height, width) of the frames, each at least 32.
            fps: frames per second of the drive.
            kind: surroundings, one of ``STREET_KINDS``; drawn from the seed when None.
            speed: of the camera, m/s, from 0; drawn when None.
            supersampling: paint at this many times the size (1 to 4) and shrink the picture: smooth edges
                for show, at a cost that grows with its square. Labels are sampled, never mixed.

        Raises:
            DatasetError: an argument is out of range; it is named.
        """
        self.size = _checked_size(size)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise DatasetError(f"seed: {seed!r}; it must be a whole number from 0")
        if not (math.isfinite(fps) and fps > 0):
            raise DatasetError(f"fps: {fps!r}; it must be greater than 0")
        if speed is not None and not (math.isfinite(speed) and speed >= 0):
            raise DatasetError(f"speed: {speed!r}; it must be 0 or more metres per second")
        if kind is not None and kind not in STREET_KINDS:
            raise DatasetError(f"kind: {kind!r}; one of {', '.join(STREET_KINDS)}")
        if supersampling not in (1, 2, 3, 4):
            raise DatasetError(f"supersampling: {supersampling!r}; it must be 1, 2, 3 or 4")
        self.seed, self.fps, self.supersampling = seed, float(fps), supersampling
        rng = random.Random(f"drive/{seed}")
        self._street = Street(str(seed), kind)
        self.kind = self._street.kind
        self._light = random_light(rng)
        self._mount = _random_mount(rng)
        usual = {"highway": (22.0, 31.0), "country": (13.0, 21.0)}.get(self.kind, (6.0, 12.5))
        drawn = rng.uniform(*usual)
        self.speed = drawn if speed is None else float(speed)
        self._lane = rng.randrange(self._street.own_lanes)
        self._start = rng.uniform(20, 20 + 3 * self._street.spacing)
        self.intrinsics = _intrinsics(self._mount, self.size)

    @property
    def taxonomy(self) -> Taxonomy:
        """Cityscapes' 19 classes."""
        return labels.TAXONOMY

    def __iter__(self) -> Iterator[StreetFrame]:
        """Frames without end."""
        traffic = Traffic(self._street, self._lane, self.speed, self._start, self._light.lamps)
        surroundings = Surroundings(self._street, self._light.lamps)
        numbers: dict[Key, int] = {}
        index = 0
        while True:
            yield self._frame(index, traffic, surroundings, numbers)
            index += 1

    def frames(self, count: int) -> Iterator[StreetFrame]:
        """The first ``count`` frames."""
        return islice(iter(self), count)

    def _camera(self, time: float) -> tuple[Camera, float]:
        street, mount = self._street, self._mount
        s = self._start + self.speed * time
        d = (
            street.drive_sign * (street.median / 2 + (self._lane + 0.5) * street.lane)
            + mount.lane_offset
        )
        d += 0.12 * math.sin(0.23 * time * min(self.speed, 8.0) / 8.0)
        x, y = street.course.point(s, d)
        # The body nods and sways a little while it drives.
        moving = min(self.speed / 8.0, 1.0)
        nod = moving * (0.0018 * math.sin(7.1 * time) + 0.0011 * math.sin(11.3 * time + 1.0))
        sway = moving * 0.0014 * math.sin(4.3 * time + 0.5)
        heave = moving * 0.012 * math.sin(7.1 * time + 0.8)
        yaw = street.course.heading(s + 3.0) + mount.yaw
        camera = Camera.looking(
            self.intrinsics.scaled(self.supersampling),
            np.array([x, y, mount.height + heave]),
            yaw,
            mount.pitch + nod,
            mount.roll + sway,
        )
        return camera, s

    def _frame(
        self, index: int, traffic: Traffic, surroundings: Surroundings, numbers: dict[Key, int]
    ) -> StreetFrame:
        time = index / self.fps
        camera, s = self._camera(time)
        painted = self._paint(camera, s, time, traffic, surroundings)
        canvas = painted.canvas
        factor = self.supersampling
        shown = canvas.visible_instances()
        ids = np.zeros(len(painted.keys), dtype=np.int32)
        for position in shown.tolist():
            key = painted.keys[position]
            assert key is not None
            ids[position] = numbers.setdefault(key, len(numbers) + 1)
        semantic = canvas.class_map()
        instance = canvas.instance_map(ids)
        color: npt.NDArray[np.uint8] = canvas.color
        if factor > 1:
            height, width = self.size
            color = np.asarray(
                cv2.resize(color, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
            middle = factor // 2
            semantic = np.ascontiguousarray(semantic[middle::factor, middle::factor])
            instance = np.ascontiguousarray(instance[middle::factor, middle::factor])
            present = present_ids(instance)
        else:
            present = {int(ids[position]) for position in shown.tolist()}
        annotations = tuple(
            sorted(
                (
                    InstanceAnnotation(int(ids[position]), painted.key_classes[position])
                    for position in shown.tolist()
                    if int(ids[position]) in present
                ),
                key=lambda a: a.id,
            )
        )
        pose = np.eye(4)
        pose[:3, :3] = camera.rotation.T
        pose[:3, 3] = camera.position
        return StreetFrame(
            index=index,
            time=time,
            image=develop(color, self._light, (self.seed * 1000003 + index) % (1 << 63)),
            semantic=semantic,
            instance=instance,
            instances=annotations,
            measure_depth=partial(_depth_of, canvas, factor),
            intrinsics=self.intrinsics,
            camera_to_world=pose,
        )

    def _paint(
        self, camera: Camera, s: float, time: float, traffic: Traffic, surroundings: Surroundings
    ) -> Painted:
        scene = Scene(self._street, self._light, camera, s)
        view = s + (_VIEW_IN_TOWN if self._street.urban else _VIEW)
        for section in surroundings.between(s - 15, view):
            scene.solids.extend(section.solids)
            scene.plants.extend(section.plants)
            scene.houses.extend(section.houses)
        scene.solids.extend(traffic.between(s - 12, view, time))
        return paint(scene)


def _depth_of(canvas: Canvas, factor: int) -> npt.NDArray[np.float32]:
    middle = factor // 2
    return np.ascontiguousarray(canvas.depth_map()[middle::factor, middle::factor])


def _random_mount(rng: random.Random) -> _Mount:
    return _Mount(
        height=rng.uniform(1.2, 2.2) if rng.random() < 0.35 else rng.uniform(1.2, 1.6),
        pitch=rng.gauss(0.0, 0.02),
        yaw=rng.gauss(0.0, 0.025),
        roll=rng.gauss(0.0, 0.008),
        field_of_view=math.radians(rng.uniform(46, 80)),
        horizon=rng.uniform(0.38, 0.56),
        lane_offset=rng.gauss(0.0, 0.2),
    )


def _intrinsics(mount: _Mount, size: tuple[int, int]) -> CameraIntrinsics:
    height, width = size
    # A wide frame shows more to its sides; a tall one more above and below.
    focal = (
        math.sqrt(width * height * 1.9) / 2 / math.tan(mount.field_of_view / 2)
        if width < 1.9 * height
        else width / 2 / math.tan(mount.field_of_view / 2)
    )
    return CameraIntrinsics(
        width, height, focal, focal, (width - 1) / 2, height * mount.horizon - 0.5
    )


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = (int(v) for v in size)
        whole = height == size[0] and width == size[1]
    except (TypeError, ValueError):
        whole, height, width = False, 0, 0
    if not whole or min(height, width) < _SMALLEST_SIDE or max(height, width) > 8192:
        raise DatasetError(
            f"size: {size!r}; it must be (height, width) in whole pixels, each {_SMALLEST_SIDE} to 8192"
        )
    return height, width
