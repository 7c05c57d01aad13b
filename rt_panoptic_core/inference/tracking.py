"""Instance ids that stay with their objects from frame to frame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.inference.assignment import best_pairs
from rt_panoptic_core.inference.camera_motion import CameraMotion
from rt_panoptic_core.inference.result import PanopticResult, Segment

MAX_ID = 65_535
"""The largest instance id: the instance map is uint16."""

FRAME_INTERVAL = 0.1
"""Seconds between frames whose times are not given."""

_DISORDER = 0.2
"""Seconds by which a frame may be older than the one before: frames that overtake each other, a clock put
right. A recording that begins again goes back by more."""

_LONGEST_GAP = 2.0
"""Seconds between two frames after which nothing is continued, however short the memory."""

_MOST_TRACKS = 1000
"""Objects out of sight are remembered up to this number of tracks; the longest unseen go first. It bounds the
cost, and leaves ids enough."""

_SAMPLES = 100_000
"""Pixels, about, at which the masks of two frames are compared."""

_BOX_MARGINS = (0.3, 1.0)
"""Boxes are widened by these shares of their mean side on each side before they are compared, so that a small
or fast object, whose boxes in two frames do not meet, is still found (cascaded buffered IoU). The second
is tried with what the first leaves over."""

_VELOCITY_GAIN = 0.5
"""Weight of the newest displacement in the running estimate of a velocity."""

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class _Tracks:
    """Objects seen before, one a row, by age; ``boxes`` and ``velocities`` are those of the last sighting.

    ``shown`` is the object's number in the frame before, from 1, and 0 where it was not seen there.
    """

    def __init__(self) -> None:
        self.ids = np.zeros(0, dtype=np.int64)
        self.classes = np.zeros(0, dtype=np.int64)
        self.boxes = np.zeros((0, 4))
        self.velocities = np.zeros((0, 4))
        self.times = np.zeros(0)
        self.sightings = np.zeros(0, dtype=np.int64)
        self.shown = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, rows: npt.NDArray[np.bool_] | Indices) -> None:
        for name, values in vars(self).items():
            setattr(self, name, values[rows])

    def append(self, ids: Indices, classes: Indices, boxes: Array, time: float) -> None:
        count = len(ids)
        new = {
            "ids": ids,
            "classes": classes,
            "boxes": boxes,
            "velocities": np.zeros((count, 4)),
            "times": np.full(count, time),
            "sightings": np.ones(count, dtype=np.int64),
            "shown": np.zeros(count, dtype=np.int64),
        }
        for name, values in vars(self).items():
            setattr(self, name, np.concatenate((values, new[name])))

    def boxes_at(self, time: float) -> Array:
        """Where the boxes should be at ``time``, moving on as they did."""
        moved: Array = self.boxes + self.velocities * (time - self.times)[:, None]
        # A box that was shrinking must not turn inside out while it is out of sight.
        flat = (moved[:, 2] <= moved[:, 0]) | (moved[:, 3] <= moved[:, 1])
        moved[flat] = self.boxes[flat]
        return moved

    def see(self, rows: Indices, boxes: Array, time: float) -> None:
        """Move ``rows`` to ``boxes``, where they are seen at ``time``."""
        passed = time - self.times[rows]
        # Two frames of one moment tell nothing of velocities.
        moving = passed > 0
        moved, passed = rows[moving], passed[moving]
        velocity = (boxes[moving] - self.boxes[moved]) / passed[:, None]
        gain = np.where(self.sightings[moved] == 1, 1.0, _VELOCITY_GAIN)[:, None]
        self.velocities[moved] += gain * (velocity - self.velocities[moved])
        self.sightings[moved] += 1
        self.boxes[rows] = boxes
        self.times[rows] = time


class InstanceTracker:
    """Gives the instances of successive frames ids that stay the same for the same object.

    An instance continues a track of its own class whose mask in the frame before, or whose box, moved on
    with its velocity, overlaps it; of all ways to pair instances with tracks, the one with the largest sum
    of overlaps. What was seen once is moved on as the camera moved. Instances that no track claims get new
    ids; a track that no instance continues is remembered for a while and then ends. The same frames always
    give the same ids. Ids count up from 1 and begin anew after 65535, leaving out those in use.
    """

    def __init__(
        self, *, min_box_overlap: float = 0.3, min_mask_overlap: float = 0.3, memory: float = 1.0
    ) -> None:
        """Start without tracks.

        Args:
            min_box_overlap: IoU of widened boxes above which an instance may continue a track.
            min_mask_overlap: the same for masks; one of the two suffices.
            memory: seconds for which an object that is out of sight keeps its id.

        Raises:
            ConfigError: an overlap is not in (0, 1], or memory is negative.
        """
        if not 0.0 < min_box_overlap <= 1.0 or not 0.0 < min_mask_overlap <= 1.0:
            raise ConfigError(
                f"overlaps {min_box_overlap}, {min_mask_overlap}: they must be in (0, 1]"
            )
        self._min_box = min_box_overlap
        self._min_mask = min_mask_overlap
        self._next_id = 1
        self.memory = memory
        self.forget()

    @property
    def memory(self) -> float:
        """Seconds for which an object that is out of sight keeps its id; may be set at any time."""
        return self._memory

    @memory.setter
    def memory(self, seconds: float) -> None:
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ConfigError(f"memory {seconds}: it must be 0 or more seconds")
        self._memory = seconds

    def forget(self) -> None:
        """Begin a new scene: no object is continued into it. Ids go on, so that none means two objects."""
        self._tracks = _Tracks()
        self._time = 0.0
        self._size: tuple[int, int] | None = None
        self._camera = CameraMotion()
        self._grid: npt.NDArray[np.uint16] = np.zeros((0, 0), dtype=np.uint16)

    def reset(self) -> None:
        """Forget all objects; ids begin at 1 again."""
        self.forget()
        self._next_id = 1

    def update(self, result: PanopticResult, time: float | None = None) -> PanopticResult:
        """``result`` with the ids of its objects, in its ``instance`` map and its ``segments``.

        Args:
            result: of the next frame; not changed.
            time: of the frame in seconds; frames count as :data:`FRAME_INTERVAL` apart when None. Time
                that goes back, a gap of seconds, or another image size begins a new scene.

        Raises:
            ConfigError: time is not finite.
        """
        if time is not None and not math.isfinite(time):
            raise ConfigError(f"time {time}: it must be a finite number of seconds")
        now = self._time + FRAME_INTERVAL if time is None else time
        gap = now - self._time
        if self._size is not None and (
            result.instance.shape != self._size
            or not -_DISORDER <= gap <= max(_LONGEST_GAP, self._memory)
        ):
            self.forget()
        height, width = result.instance.shape
        self._time, self._size = now, (height, width)
        self._end_tracks(now)

        instances = result.instances
        boxes = np.array([_box(segment) for segment in instances]).reshape(-1, 4)
        classes = np.array([segment.class_id for segment in instances], dtype=np.int64)
        numbers = [segment.id for segment in instances]
        # Pixels may hold ids that no segment has: they are of no instance.
        size = max([int(result.instance.max(initial=0)), *numbers]) + 1
        grid = self._sample(result.instance, numbers, size)
        found = self._match(grid, boxes, classes, now)

        tracks = self._tracks
        old = found >= 0
        self._see(found[old], boxes[old], now)
        new = np.flatnonzero(~old)
        found[new] = len(tracks) + np.arange(len(new))
        tracks.append(self._new_ids(len(new)), classes[new], boxes[new], now)
        tracks.shown[:] = 0
        tracks.shown[found] = np.arange(1, len(found) + 1)
        self._grid = grid

        ids = tracks.ids[found].tolist()
        instance = _renamed(result.instance, numbers, ids, size)
        renamed = iter(ids)
        segments = [
            _with_id(segment, next(renamed)) if segment.is_thing else segment
            for segment in result.segments
        ]
        return replace(result, instance=instance, segments=segments)

    def _see(self, rows: Indices, boxes: Array, now: float) -> None:
        """Move the tracks of ``rows`` to ``boxes``, and learn from it how the camera moved."""
        tracks = self._tracks
        assert self._size is not None
        seconds = now - tracks.times[rows]
        followed = (tracks.shown[rows] > 0) & (seconds > 0)
        before = tracks.boxes[rows[followed]]
        self._camera.observe(before, boxes[followed], seconds[followed], self._size)
        tracks.see(rows, boxes, now)

    def _end_tracks(self, now: float) -> None:
        """Let go of what was out of sight for too long."""
        tracks = self._tracks
        # What was in the frame before may be in this one, however long that took.
        live = (tracks.shown > 0) | (now - tracks.times <= self._memory)
        if not live.all():
            tracks.keep(live)
        if len(tracks) > _MOST_TRACKS:
            newest = np.argsort(-tracks.times, kind="stable")[:_MOST_TRACKS]
            tracks.keep(np.sort(newest))

    def _new_ids(self, count: int) -> Indices:
        used = set(self._tracks.ids.tolist())
        taken: list[int] = []
        while len(taken) < count:
            if self._next_id not in used:
                taken.append(self._next_id)
            self._next_id = self._next_id % MAX_ID + 1
        return np.array(taken, dtype=np.int64)

    def _sample(
        self, instance: npt.NDArray[np.uint16], numbers: list[int], size: int
    ) -> npt.NDArray[np.uint16]:
        """The instance map on a coarse grid, instances numbered from 1 in their order."""
        step = max(1, round(math.sqrt(instance.size / _SAMPLES)))
        coarse = np.ascontiguousarray(instance[::step, ::step])
        return _renamed(coarse, numbers, range(1, len(numbers) + 1), size)

    def _match(
        self, grid: npt.NDArray[np.uint16], boxes: Array, classes: Indices, now: float
    ) -> Indices:
        """For every instance the row of the track that it continues, or -1."""
        tracks = self._tracks
        found = np.full(len(boxes), -1, dtype=np.int64)
        if not len(boxes) or not len(tracks):
            return found
        assert self._size is not None
        # Who was seen once has no velocity of its own yet.
        young = np.flatnonzero(tracks.sightings == 1)
        tracks.velocities[young] = self._camera.velocities(tracks.boxes[young], self._size)
        predicted = tracks.boxes_at(now)
        mask_overlap = self._mask_overlap(grid, len(boxes))
        same_class = tracks.classes[:, None] == classes[None, :]
        overlaps = [_iou(_widen(predicted, by), _widen(boxes, by)) for by in _BOX_MARGINS]
        # Objects seen in the last frame choose first: one that comes back must not rob them.
        for asked in (tracks.shown > 0, tracks.shown == 0):
            for box_overlap in overlaps:
                possible = (box_overlap >= self._min_box) | (mask_overlap >= self._min_mask)
                possible &= same_class & asked[:, None] & (found < 0)[None, :]
                rows, columns = np.nonzero(possible)
                gains = (box_overlap + mask_overlap)[rows, columns]
                pairs = best_pairs(rows.tolist(), columns.tolist(), gains.tolist())
                for row, column in pairs.items():
                    found[column] = row
                    asked[row] = False
        return found

    def _mask_overlap(self, grid: npt.NDArray[np.uint16], count: int) -> Array:
        """IoU [tracks, instances] of the masks of the last frame and this one, on the coarse grid."""
        shown = self._tracks.shown
        height, width = int(shown.max(initial=0)) + 1, count + 1
        overlap = np.zeros((len(shown), count))
        if height == 1:
            return overlap
        joint = (self._grid.astype(np.int32) * width + grid).ravel()
        # Neighbours mostly show the same pair: runs are counted in less than half of the time of pixels.
        ends = np.append(np.flatnonzero(joint[1:] != joint[:-1]), joint.size - 1)
        pairs = np.bincount(
            joint[ends], weights=np.diff(ends, prepend=-1), minlength=height * width
        ).reshape(-1, width)
        intersection = pairs[1:, 1:]
        union = pairs.sum(axis=1)[1:, None] + pairs.sum(axis=0)[None, 1:] - intersection
        iou = np.zeros(intersection.shape)
        np.divide(intersection, union, out=iou, where=union > 0)
        rows = np.flatnonzero(shown)
        overlap[rows] = iou[shown[rows] - 1]
        return overlap


def _renamed(
    instance: npt.NDArray[np.uint16], numbers: list[int], names: Iterable[int], size: int
) -> npt.NDArray[np.uint16]:
    """``instance`` with ``names`` in place of ``numbers``; values without a name become 0."""
    if size == 1:
        return instance
    table = np.zeros(max(size, 256), dtype=np.uint16)
    table[numbers] = list(names)
    if size <= 256:
        # Four times as fast as indexing; engines number from 1, so that nearly all maps pass here.
        return np.asarray(cv2.LUT(instance.astype(np.uint8), table[:256]), dtype=np.uint16)
    return np.take(table, instance, mode="clip")


def _with_id(segment: Segment, number: int) -> Segment:
    # replace() of a frozen dataclass takes four times as long.
    return Segment(
        number,
        segment.class_id,
        segment.is_thing,
        segment.score,
        segment.area,
        segment.box,
    )


def _box(segment: Segment) -> tuple[float, float, float, float]:
    # An instance without a box is found again by its mask alone.
    return segment.box if segment.box is not None else (0.0, 0.0, 0.0, 0.0)


def _widen(boxes: Array, margin: float) -> Array:
    # By the mean side: how far something moves has to do with how near it is, not with how slim.
    by = margin * np.sqrt((boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1))[:, None]
    return np.concatenate((boxes[:, :2] - by, boxes[:, 2:] + by), axis=1)


def _iou(a: Array, b: Array) -> Array:
    """IoU [N, M] of boxes ``a`` [N, 4] and ``b`` [M, 4]; 0 where both are empty."""
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    intersection = width.clip(min=0) * height.clip(min=0)
    areas_a = (a[:, 2:] - a[:, :2]).prod(axis=1)
    areas_b = (b[:, 2:] - b[:, :2]).prod(axis=1)
    union = areas_a[:, None] + areas_b[None, :] - intersection
    result = np.zeros_like(union)
    np.divide(intersection, union, out=result, where=union > 0)
    return result
