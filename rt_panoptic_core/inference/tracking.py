"""Instance ids that stay with their objects from frame to frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.inference.result import PanopticResult, Segment

MAX_ID = 65_535
"""The largest instance id: the instance map is uint16."""

_SAMPLES = 100_000
"""Pixels, about, at which the masks of two frames are compared."""

_BOX_MARGINS = (0.3, 1.0)
"""Boxes are widened by these shares of their size to each side before they are compared, so that a small
or fast object, whose boxes in two frames do not meet, is still found (cascaded buffered IoU). The second
is tried with what the first leaves over."""

_VELOCITY_GAIN = 0.5
"""Weight of the newest displacement in the running estimate of a velocity."""

Boxes = npt.NDArray[np.float64]


@dataclass
class _Track:
    """An object seen before: ``box`` and ``velocity`` are those of its last sighting at ``time``."""

    id: int
    class_id: int
    box: Boxes
    velocity: Boxes
    time: float
    sightings: int = 1
    missed: int = 0

    def box_at(self, time: float) -> Boxes:
        """Where its box should be at ``time``, moving on as it did."""
        moved: Boxes = self.box + self.velocity * (time - self.time)
        # A box that was shrinking must not turn inside out while it is out of sight.
        if moved[2] <= moved[0] or moved[3] <= moved[1]:
            return self.box
        return moved

    def see(self, box: Boxes, time: float) -> None:
        """Move it to ``box``, where it is seen at ``time``."""
        velocity = (box - self.box) / (time - self.time)
        gain = 1.0 if self.sightings == 1 else _VELOCITY_GAIN
        self.velocity = self.velocity + gain * (velocity - self.velocity)
        self.box = box
        self.time = time
        self.sightings += 1
        self.missed = 0


class InstanceTracker:
    """Gives the instances of successive frames ids that stay the same for the same object.

    An instance continues the track of its own class whose mask in the frame before, and whose box, moved
    on with its velocity, overlap it most. Instances that no track claims get new ids; a track that no
    instance continues is remembered for ``memory`` frames and then ends. The same frames always give the
    same ids. Ids count up from 1 and begin anew after 65535, leaving out those in use.
    """

    def __init__(
        self, *, min_box_overlap: float = 0.3, min_mask_overlap: float = 0.3, memory: int = 10
    ) -> None:
        """Start without tracks.

        Args:
            min_box_overlap: IoU of widened boxes above which an instance may continue a track.
            min_mask_overlap: the same for masks; one of the two suffices.
            memory: frames for which an object that is out of sight keeps its id.

        Raises:
            ValueError: an overlap is not in (0, 1], or memory is negative.
        """
        if not 0.0 < min_box_overlap <= 1.0 or not 0.0 < min_mask_overlap <= 1.0:
            raise ValueError(
                f"overlaps {min_box_overlap}, {min_mask_overlap}: they must be in (0, 1]"
            )
        if memory < 0:
            raise ValueError(f"memory {memory}: it must not be negative")
        self._min_box = min_box_overlap
        self._min_mask = min_mask_overlap
        self._memory = memory
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._time = 0.0
        self._last: npt.NDArray[np.uint16] | None = None

    def reset(self) -> None:
        """Forget all objects; ids begin at 1 again."""
        self._forget()
        self._next_id = 1

    def update(self, result: PanopticResult, time: float | None = None) -> PanopticResult:
        """``result`` with the ids of its objects, in its ``instance`` map and its ``segments``.

        Args:
            result: of the next frame; not changed.
            time: of the frame in seconds; frames count as evenly spaced when None. Time that does not
                rise, or another image size, begins a new scene: no object is continued into it.
        """
        now = self._time + 1.0 if time is None else time
        same_size = self._last is None or self._last.shape == result.instance.shape
        if (self._tracks and not now > self._time) or not same_size:
            self._forget()
        self._time = now

        instances = result.instances
        boxes = np.array([_box(segment) for segment in instances]).reshape(-1, 4)
        tracks = self._match(result.instance, instances, boxes, now)
        ids = np.zeros(int(result.instance.max(initial=0)) + 1, dtype=np.uint16)
        renamed: dict[int, int] = {}
        for row, (segment, track) in enumerate(zip(instances, tracks, strict=True)):
            if track is None:
                track = _Track(self._new_id(), segment.class_id, boxes[row], np.zeros(4), now)
                self._tracks.append(track)
            else:
                track.see(boxes[row], now)
            renamed[segment.id] = track.id
            if segment.id < len(ids):
                ids[segment.id] = track.id
        for track in self._tracks:
            if track.time != now:
                track.missed += 1
        self._tracks = [track for track in self._tracks if track.missed <= self._memory]

        instance = ids[result.instance]
        self._last = instance
        segments = [
            replace(segment, id=renamed[segment.id]) if segment.is_thing else segment
            for segment in result.segments
        ]
        return replace(result, instance=instance, segments=segments)

    def _forget(self) -> None:
        self._tracks = []
        self._last = None
        self._time = 0.0

    def _new_id(self) -> int:
        used = {track.id for track in self._tracks}
        while self._next_id in used:
            self._next_id = self._next_id % MAX_ID + 1
        taken = self._next_id
        self._next_id = taken % MAX_ID + 1
        return taken

    def _match(
        self,
        instance: npt.NDArray[np.uint16],
        instances: list[Segment],
        boxes: Boxes,
        now: float,
    ) -> list[_Track | None]:
        """For every instance the track that it continues, or None."""
        found: list[_Track | None] = [None] * len(instances)
        if not instances or not self._tracks:
            return found
        predicted = np.array([track.box_at(now) for track in self._tracks])
        mask_overlap = self._mask_overlap(instance, instances)
        track_class = np.array([track.class_id for track in self._tracks])
        instance_class = np.array([segment.class_id for segment in instances])
        same_class = track_class[:, None] == instance_class[None, :]
        # Objects seen in the last frame choose first: one that comes back must not rob them.
        seen_last = np.array([track.missed == 0 for track in self._tracks])
        free = np.ones(len(self._tracks), dtype=bool)
        near, far = _BOX_MARGINS
        for seen, margin in ((True, near), (True, far), (False, near), (False, far)):
            box_overlap = _iou(_widen(predicted, margin), _widen(boxes, margin))
            possible = (box_overlap >= self._min_box) | (mask_overlap >= self._min_mask)
            possible &= same_class & (seen_last == seen)[:, None]
            similarity = box_overlap + mask_overlap
            rows, columns = np.nonzero(possible)
            # Ties go to the older track and the surer instance, so that runs can be repeated.
            order = np.lexsort((columns, rows, -similarity[rows, columns]))
            for row, column in zip(rows[order], columns[order], strict=True):
                if free[row] and found[column] is None:
                    free[row] = False
                    found[column] = self._tracks[row]
        return found

    def _mask_overlap(
        self, instance: npt.NDArray[np.uint16], instances: list[Segment]
    ) -> npt.NDArray[np.float64]:
        """IoU [tracks, instances] of the masks of the last frame and this one, on a coarse grid."""
        overlap = np.zeros((len(self._tracks), len(instances)))
        if self._last is None:
            return overlap
        step = max(1, round(math.sqrt(instance.size / _SAMPLES)))
        before, after = self._last[::step, ::step], instance[::step, ::step]
        row_of = np.zeros(MAX_ID + 1, dtype=np.intp)
        column_of = np.zeros(MAX_ID + 1, dtype=np.intp)
        for row, track in enumerate(self._tracks):
            row_of[track.id] = row + 1
        for column, segment in enumerate(instances):
            column_of[segment.id] = column + 1
        width = len(instances) + 1
        pairs = np.bincount(
            (row_of[before] * width + column_of[after]).ravel(),
            minlength=(len(self._tracks) + 1) * width,
        ).reshape(-1, width)
        intersection = pairs[1:, 1:]
        union = pairs.sum(axis=1)[1:, None] + pairs.sum(axis=0)[None, 1:] - intersection
        np.divide(intersection, union, out=overlap, where=union > 0)
        return overlap


def _box(segment: Segment) -> tuple[float, float, float, float]:
    # An instance without a box is found again by its mask alone.
    return segment.box if segment.box is not None else (0.0, 0.0, 0.0, 0.0)


def _widen(boxes: Boxes, margin: float) -> Boxes:
    by = margin * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate((boxes[:, :2] - by, boxes[:, 2:] + by), axis=1)


def _iou(a: Boxes, b: Boxes) -> npt.NDArray[np.float64]:
    """IoU [N, M] of boxes ``a`` [N, 4] and ``b`` [M, 4]; 0 where both are empty."""
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    intersection = size.clip(min=0).prod(axis=2)
    areas_a = (a[:, 2:] - a[:, :2]).prod(axis=1)
    areas_b = (b[:, 2:] - b[:, :2]).prod(axis=1)
    union = areas_a[:, None] + areas_b[None, :] - intersection
    result = np.zeros_like(union)
    np.divide(intersection, union, out=result, where=union > 0)
    return result
