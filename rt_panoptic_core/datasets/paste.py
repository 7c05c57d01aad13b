"""Exact instances in real texture: objects cut out of frames and pasted into others.

Data with semantic labels alone (CamVid) says nothing about where one car ends and the next begins. But a
blob that is surely one object can be cut out; pasted into another frame it is an instance with an exact
mask and box. In a frame with pasted objects ``has_instances`` is True: the pasted ones are the instances,
and the frame's own thing pixels keep instance 0, so that no loss on instances looks at them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.camvid import open_camvid
from rt_panoptic_core.datasets.sample import (
    InstanceAnnotation,
    PanopticDataset,
    PanopticSample,
    present_ids,
)
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.taxonomy import Taxonomy

Mask = npt.NDArray[np.bool_]

_DARK = 45.0
"""Mean grey value of a frame below which nothing is cut out of it."""


@dataclass(frozen=True)
class SureShape:
    """What a blob of a class must look like to be surely one object.

    Attributes:
        smallest: height in pixels.
        aspect: (lowest, highest) width over height.
        solidity: least share of its convex hull that lies under its upper outline: two objects side by side
            leave a notch between them.
        level: least share of its width whose lower edge is near its lowest row: in a row of cars the far
            ones stand higher.
        stands_on: names of the classes that must lie under it; a blob that ends at another is cut off.
    """

    smallest: int
    aspect: tuple[float, float]
    solidity: float
    level: float
    stands_on: tuple[str, ...]


SURE_SHAPES: Mapping[str, SureShape] = {
    "car": SureShape(20, (0.95, 1.75), 0.93, 0.9, ("road",)),
    "person": SureShape(34, (0.2, 0.43), 0.72, 0.4, ("road", "sidewalk")),
}
"""By class name. Longer cars would often be two, wider persons a couple. Bicyclists are not among them:
their blobs hold rider and bicycle in one."""


@dataclass(frozen=True)
class Cutout:
    """One object: its picture, its mask, and where it stood.

    Attributes:
        image: uint8 [h, w, 3]; mask: bool [h, w].
        class_id: in the taxonomy of the data set it comes from.
        bottom: row of its lowest pixel over the height of its frame, below which the next row starts.
        frame_height: of the frame it was cut from; it tells the scale.
        brightness: mean grey value of that frame.
        source: the frame's name.
    """

    image: npt.NDArray[np.uint8]
    mask: Mask
    class_id: int
    bottom: float
    frame_height: int
    brightness: float
    source: str


def cut_sure_objects(
    sample: PanopticSample, taxonomy: Taxonomy, shapes: Mapping[str, SureShape] = SURE_SHAPES
) -> list[Cutout]:
    """Blobs of ``sample`` that are surely one object, from left to right.

    A blob (8-connected) must fit its class' :class:`SureShape`, touch neither the picture's border nor
    another thing, and have no large hole.
    """
    height, width = sample.semantic.shape
    things = taxonomy.is_thing[sample.semantic]
    brightness = float(sample.image.mean())
    found: list[tuple[int, Cutout]] = []
    for name, shape in shapes.items():
        if name not in taxonomy.names:
            continue
        class_id = taxonomy.class_id(name)
        ground = _named(taxonomy, shape.stands_on)[sample.semantic]
        member = (sample.semantic == class_id).astype(np.uint8)
        count, blobs, stats, _ = cv2.connectedComponentsWithStats(member, connectivity=8)
        for blob in range(1, count):
            x, y, w, h, area = (int(v) for v in stats[blob])
            if h < shape.smallest or not shape.aspect[0] <= w / h <= shape.aspect[1]:
                continue
            if x < 2 or y < 2 or x + w > width - 2 or y + h > height - 2:
                continue
            window = (slice(y - 2, y + h + 2), slice(x - 2, x + w + 2))
            mask = blobs[window] == blob
            if not _is_solid(mask, area, shape.solidity):
                continue
            around = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
            if (things[window] & around & ~mask).any():
                continue
            # What lies under its lower edge is where it stands.
            edge = np.flatnonzero(mask.any(axis=0))
            lowest = mask.shape[0] - 1 - np.argmax(mask[::-1][:, edge], axis=0)
            low = lowest > mask.shape[0] - 3 - 0.27 * h
            under = ground[window][np.minimum(lowest + 2, mask.shape[0] - 1), edge]
            if low.sum() < shape.level * len(edge) or under[low].mean() < 0.8:
                continue
            cutout = Cutout(
                np.ascontiguousarray(sample.image[window]),
                mask,
                class_id,
                (y + h) / height,
                height,
                brightness,
                sample.name,
            )
            found.append((x, cutout))
    return [cutout for _, cutout in sorted(found, key=lambda item: item[0])]


def _is_solid(mask: Mask, area: int, solidity: float) -> bool:
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    outline = max(outlines, key=len)
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(outline), (1,))
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, [outline], -1, (1,), -1)
    if area < 0.97 * int(filled.sum()):
        return False
    # What is open below (between wheels, between legs) is no notch.
    above = np.cumsum(filled, axis=0) > 0
    return int((hull.astype(bool) & above).sum()) >= solidity * int(hull.sum())


def paste_cutouts(
    sample: PanopticSample,
    taxonomy: Taxonomy,
    cutouts: Sequence[Cutout],
    rng: np.random.Generator,
    *,
    scale: tuple[float, float] = (0.6, 1.5),
    horizon: float = 0.45,
    attempts: int = 12,
) -> PanopticSample:
    """``sample`` with ``cutouts`` standing where their kind stands; those that find no place are left out.

    A cutout is scaled about the horizon: one that comes nearer grows as perspective wants it. It may hide
    stuff, but a thing only when that stands further away. Its edge is blended over one pixel, and its
    brightness follows the frame's; masks and boxes are exact.

    Args:
        sample: any sample; where ``has_instances`` is False, its own things keep instance 0.
        scale: range of the factor on a cutout's size.
        horizon: row of the horizon over the height, of both frames.
        attempts: tries to find each a place.
    """
    image, semantic, instance = (
        sample.image.copy(),
        sample.semantic.copy(),
        sample.instance.copy(),
    )
    height, width = semantic.shape
    brightness = float(sample.image.mean())
    placed: list[tuple[int, int, Cutout, npt.NDArray[np.uint8], Mask]] = []
    grounds = {c.class_id: _ground(taxonomy, sample.semantic, c.class_id) for c in cutouts}
    lowest_thing = _lowest_thing(taxonomy, sample)
    for cutout in cutouts:
        for _ in range(attempts):
            factor = float(rng.uniform(*scale))
            bottom = horizon + (cutout.bottom - horizon) * factor
            size = factor * height / cutout.frame_height
            h, w = round(cutout.mask.shape[0] * size), round(cutout.mask.shape[1] * size)
            y = round(bottom * height) - h
            if y < 2 or y + h >= height - 1 or w >= width - 4 or h < 8 or w < 4:
                continue
            x = int(rng.integers(2, width - w - 2))
            mirrored = bool(rng.integers(2))
            mask = _resized(cutout.mask.astype(np.uint8) * 255, (h, w)) > 127
            if mirrored:
                mask = mask[:, ::-1]
            if not _fits(mask, x, y, grounds[cutout.class_id], lowest_thing):
                continue
            picture = _resized(cutout.image, (h, w))
            if mirrored:
                picture = picture[:, ::-1]
            gain = float(np.clip(brightness / max(cutout.brightness, 1.0), 0.6, 1.6)) ** 0.7
            gain *= float(rng.uniform(0.9, 1.1))
            picture = np.clip(picture * gain, 0, 255).astype(np.uint8)
            placed.append((x, y, cutout, picture, mask))
            break
    placed.sort(key=lambda item: item[1] + item[4].shape[0])
    next_id = max((a.id for a in sample.instances), default=0) + 1
    annotations = list(sample.instances)
    for x, y, cutout, picture, mask in placed:
        h, w = mask.shape
        window = (slice(y, y + h), slice(x, x + w))
        if cutout.class_id in (_id(taxonomy, "car"), _id(taxonomy, "truck"), _id(taxonomy, "bus")):
            _contact_shadow(image, x, y, mask)
        alpha = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0.7)[..., None]
        alpha = np.where(mask[..., None], np.maximum(alpha, 0.55), alpha * 0.8)
        image[window] = np.rint(picture * alpha + image[window] * (1 - alpha)).astype(np.uint8)
        semantic[window][mask] = cutout.class_id
        instance[window][mask] = next_id
        annotations.append(InstanceAnnotation(next_id, cutout.class_id))
        next_id += 1
    left = present_ids(instance)
    return replace(
        sample,
        image=image,
        semantic=semantic,
        instance=instance,
        instances=tuple(a for a in annotations if a.id in left),
        has_instances=True,
        depth=None,
    )


def _id(taxonomy: Taxonomy, name: str) -> int:
    return taxonomy.class_id(name) if name in taxonomy.names else -1


def _resized(array: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    method = cv2.INTER_AREA if size[0] < array.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(array, size[::-1], interpolation=method), dtype=np.uint8)


def _ground(taxonomy: Taxonomy, semantic: npt.NDArray[np.uint8], class_id: int) -> Mask:
    """Where a thing of the class may stand."""
    names = ("road", "sidewalk") if taxonomy[class_id].name in ("person", "rider") else ("road",)
    return _named(taxonomy, names)[semantic]


def _named(taxonomy: Taxonomy, names: Iterable[str]) -> Mask:
    """bool [256]: whether a class id is that of one of ``names``."""
    table = np.zeros(256, bool)
    table[[taxonomy.class_id(n) for n in names if n in taxonomy.names]] = True
    return table


def _lowest_thing(taxonomy: Taxonomy, sample: PanopticSample) -> npt.NDArray[np.int32]:
    """int32 [H, W]: the row at which the thing blob of a pixel ends; -1 where there is no thing."""
    things = taxonomy.is_thing[sample.semantic].astype(np.uint8)
    _, blobs, stats, _ = cv2.connectedComponentsWithStats(things, connectivity=8)
    ends = (stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT]).astype(np.int32)
    ends[0] = -1
    return np.asarray(ends[blobs], dtype=np.int32)


def _fits(mask: Mask, x: int, y: int, ground: Mask, lowest_thing: npt.NDArray[np.int32]) -> bool:
    """Whether it would stand on its ground and hide nothing that is nearer."""
    h, w = mask.shape
    bottom = y + h
    edge = np.flatnonzero(mask[int(h * 0.8) :].any(axis=0)) + x
    if not len(edge) or ground[bottom - 2 : bottom + 1, edge].mean() < 0.85:
        return False
    hidden = lowest_thing[y:bottom, x : x + w][mask]
    return bool((hidden < bottom - 3).all())


def _contact_shadow(image: npt.NDArray[np.uint8], x: int, y: int, mask: Mask) -> None:
    """Darken the ground under a vehicle."""
    h, w = mask.shape
    bottom = y + h
    deep = max(2, round(0.09 * h))
    y0, y1 = max(0, bottom - 2 * deep), min(image.shape[0], bottom + deep)
    x0, x1 = max(0, x - deep), min(image.shape[1], x + w + deep)
    shade: npt.NDArray[np.float32] = np.zeros((y1 - y0, x1 - x0), np.float32)
    center = (round(x + w / 2 - x0), round(bottom - 0.3 * deep - y0))
    cv2.ellipse(shade, center, (max(1, round(w * 0.49)), deep), 0, 0, 360, (0.55,), -1)
    shade = np.asarray(cv2.GaussianBlur(shade, (0, 0), deep * 0.45), np.float32)
    part = image[y0:y1, x0:x1]
    part[:] = np.rint(part * (1 - shade[..., None])).astype(np.uint8)


class PastedFrames:
    """Frames of a data set with objects of a bank pasted in: ``variants`` different samples of each frame.

    Sample ``i`` shows frame ``i % len(frames)``, and depends on (seed, i) alone.
    """

    def __init__(
        self,
        frames: PanopticDataset,
        bank: Iterable[Cutout],
        *,
        most: int = 6,
        variants: int = 16,
        seed: int = 0,
    ) -> None:
        """Hold frames and bank.

        Raises:
            DatasetError: the bank is empty, ``most`` or ``variants`` is below 1, or ``seed`` below 0.
        """
        self._frames = frames
        self._bank = tuple(bank)
        if not self._bank:
            raise DatasetError(
                "the frames have no object that surely stands alone, so there is nothing to paste"
            )
        if most < 1 or variants < 1:
            raise DatasetError(f"most {most}, variants {variants}: both must be at least 1")
        if seed < 0:
            raise DatasetError(f"seed {seed}: it must be at least 0")
        self._by_class = [
            [c for c in self._bank if c.class_id == class_id]
            for class_id in sorted({c.class_id for c in self._bank})
        ]
        self._most, self._variants, self._seed = most, variants, seed

    @property
    def taxonomy(self) -> Taxonomy:
        """That of the frames."""
        return self._frames.taxonomy

    @property
    def bank(self) -> tuple[Cutout, ...]:
        """The objects that are pasted."""
        return self._bank

    def __len__(self) -> int:
        return len(self._frames) * self._variants

    def __getitem__(self, index: int) -> PanopticSample:
        """Sample ``index``: has_instances True where something found its place."""
        frame = self._frames[index % len(self._frames)]
        rng = np.random.default_rng([self._seed, 3, index])
        count = int(rng.integers(1, self._most + 1))
        # Every class as often as another, however many of it were found.
        chosen = []
        for _ in range(count):
            kind = self._by_class[int(rng.integers(len(self._by_class)))]
            cutout = kind[int(rng.integers(len(kind)))]
            if cutout.source != frame.name:
                chosen.append(cutout)
        pasted = paste_cutouts(frame, self.taxonomy, chosen, rng)
        if not frame.has_instances and not pasted.instances:
            return frame
        return replace(pasted, name=f"{frame.name}_pasted{index // len(self._frames)}")


def open_camvid_pasted(
    root: str | os.PathLike[str] | None,
    split: str = "train",
    taxonomy: Taxonomy | None = None,
    *,
    most: int = 6,
    variants: int = 16,
    seed: int = 0,
) -> PastedFrames:
    """CamVid's frames with cars and persons pasted in that were cut from frames of the same split.

    Args:
        root, split: as for :func:`~rt_panoptic_core.datasets.camvid.open_camvid`.
        taxonomy: Cityscapes' when None.
        most, variants, seed: as for :class:`PastedFrames`.

    Raises:
        DatasetError: files are missing or unreadable, or nothing can be cut out.
    """
    frames = open_camvid(root, split, taxonomy or Taxonomy.load("cityscapes"))
    bank: list[Cutout] = []
    for index in range(len(frames)):
        # Blobs of frames too dark to see are no use elsewhere.
        bank.extend(
            c
            for c in cut_sure_objects(frames[index], frames.taxonomy)
            if c.brightness > _DARK and c.image[c.mask].mean() > _DARK / 2
        )
    return PastedFrames(frames, bank, most=most, variants=variants, seed=seed)
