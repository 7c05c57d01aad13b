"""What a training sample goes through before it is encoded.

Every choice is drawn from the generator that is passed in, so that a draw can be repeated exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample, present_ids
from rt_panoptic_core.errors import ConfigError
from rt_panoptic_core.taxonomy import UNLABELLED

Boxes = npt.NDArray[np.float32]
_Number = TypeVar("_Number", np.uint8, np.int32)


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of a training sample. The paper's presets use crop, scale, shortest and flip.

    Attributes:
        crop: (height, width) in pixels of the image, or empty for all of it. The window may stick out where
            the image is smaller; what is outside is void.
        scale: (lowest, highest) factor.
        scale_keeps_size: True takes the window ``crop / factor`` and resizes it to exactly ``crop``, so that
            samples fit a batch; False resizes the window ``crop`` by the factor, as the paper says.
        shortest: the shortest side is resized to one of these, drawn at random; empty for no resizing.
            Then there is no crop.
        longest: with ``shortest``, no side becomes longer.
        flip: probability of a horizontal flip.
        brightness, contrast, saturation: largest relative change, 0 for none.
        hue: largest shift in degrees.
        blur: probability of a slight Gaussian blur.
        noise: largest standard deviation of added Gaussian noise, in grey values.
        copy_paste: probability of pasting instances of a second sample.
        copy_paste_most: at most so many instances are pasted.
        focus: probability that the window is centred on a random instance rather than anywhere.
    """

    crop: tuple[int, ...] = ()
    scale: tuple[float, ...] = (1.0, 1.0)
    scale_keeps_size: bool = True
    shortest: tuple[int, ...] = ()
    longest: int = 1333
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    copy_paste: float = 0.0
    copy_paste_most: int = 5
    focus: float = 0.0

    def __post_init__(self) -> None:
        if len(self.crop) not in (0, 2) or any(c < 32 for c in self.crop):
            raise ConfigError(
                f"augmentation.crop {list(self.crop)}: it must be [height, width], each at least 32"
            )
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise ConfigError(
                f"augmentation.scale {list(self.scale)}: it must be [lowest, highest], above 0 and finite"
            )
        if any(side < 1 for side in self.shortest):
            raise ConfigError(
                f"augmentation.shortest {list(self.shortest)}: each must be at least 1 pixel"
            )
        for name in ("longest", "copy_paste_most"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"augmentation.{name} {getattr(self, name)}: it must be at least 1"
                )
        for name, most in (("hue", 180), ("noise", 255)):
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(
                    f"augmentation.{name} {getattr(self, name)}: it must be from 0 to {most}"
                )
        if self.shortest and self.crop:
            raise ConfigError("augmentation: give 'crop' or 'shortest', not both")
        for name in ("flip", "blur", "copy_paste", "focus"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"augmentation.{name} {getattr(self, name)}: a probability lies in 0 … 1"
                )
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"augmentation.{name} {getattr(self, name)}: it must be at least 0, below 1"
                )


def augment(
    sample: PanopticSample,
    config: AugmentationConfig,
    rng: np.random.Generator,
    boxes: Boxes | None = None,
    other: Callable[[np.random.Generator], PanopticSample] | None = None,
) -> tuple[PanopticSample, Boxes | None]:
    """A changed copy of ``sample``, and ``boxes`` moved and clipped along with it.

    Instances that leave the window are dropped from the annotations; so are their boxes.

    Args:
        boxes: float32 [len(sample.instances), 4] or None.
        other: gives a second sample for copy-paste.
    """
    if other is not None and config.copy_paste and rng.random() < config.copy_paste:
        sample = paste_instances(sample, other(rng), config.copy_paste_most, rng)
    sample, boxes = _crop_and_scale(sample, config, rng, boxes)
    if config.flip and rng.random() < config.flip:
        sample, boxes = _flip(sample, boxes)
    image = _photometric(sample.image, config, rng)
    return replace(sample, image=image), boxes


def resize_sample(sample: PanopticSample, size: tuple[int, int]) -> PanopticSample:
    """``sample`` at ``size`` (height, width): the image smoothly, ids by nearest neighbour, no depth.

    Instances that vanish are dropped from the annotations.
    """
    height, width = sample.semantic.shape
    return _resample(sample, (0, 0, height, width), size, None)[0]


def check_pixels(data_set: str, pixels: int) -> None:
    """Accept what :func:`resize_to_pixels` can resize to.

    Raises:
        ConfigError: it is negative.
    """
    if pixels < 0:
        raise ConfigError(
            f"{data_set}: pixels {pixels}; it must be positive, or 0 for pictures as they are"
        )


def resize_to_pixels(sample: PanopticSample, pixels: int) -> PanopticSample:
    """``sample`` resized to about ``pixels``, as a model with that number in its header has images resized.

    It comes back as it is where it has about so many, where ``pixels`` is 0, and where its image and labels
    have two sizes, which is to be said by whoever checks that.
    """
    height, width = sample.semantic.shape
    share = height * width / pixels if pixels else 1.0
    if 0.8 <= share <= 1.25 or sample.image.shape[:2] != sample.semantic.shape:
        return sample
    scale = 1 / math.sqrt(share)
    return resize_sample(sample, (max(1, round(height * scale)), max(1, round(width * scale))))


def paste_instances(
    target: PanopticSample, source: PanopticSample, most: int, rng: np.random.Generator
) -> PanopticSample:
    """``target`` with 1 … ``most`` instances of ``source`` pasted where they were in ``source``.

    Occluded instances of the target keep what is left of them. Without instances on either side, or with
    images of different size, the target comes back as it is.
    """
    usable = [a for a in source.instances if not a.is_crowd]
    if not (target.has_instances and source.has_instances and usable):
        return target
    if target.image.shape != source.image.shape:
        return target
    count = min(len(usable), int(rng.integers(1, most + 1)))
    chosen = [usable[i] for i in rng.choice(len(usable), count, replace=False)]
    image, semantic = target.image.copy(), target.semantic.copy()
    instance = target.instance.copy()
    next_id = max((a.id for a in target.instances), default=0) + 1
    added = []
    for annotation in chosen:
        mask = source.instance == annotation.id
        image[mask] = source.image[mask]
        semantic[mask] = annotation.class_id
        instance[mask] = next_id
        added.append(InstanceAnnotation(next_id, annotation.class_id))
        next_id += 1
    left = present_ids(instance)
    instances = tuple(a for a in (*target.instances, *added) if a.id in left)
    return replace(
        target, image=image, semantic=semantic, instance=instance, instances=instances, depth=None
    )


def _crop_and_scale(
    sample: PanopticSample,
    config: AugmentationConfig,
    rng: np.random.Generator,
    boxes: Boxes | None,
) -> tuple[PanopticSample, Boxes | None]:
    height, width = sample.semantic.shape
    factor = float(rng.uniform(config.scale[0], config.scale[1]))
    if config.shortest:
        shortest = int(rng.choice(config.shortest))
        factor = min(shortest / min(height, width), config.longest / max(height, width))
    if not config.crop:
        window = (0, 0, height, width)
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
    else:
        crop_h, crop_w = config.crop
        if config.scale_keeps_size:
            span = (max(1, round(crop_h / factor)), max(1, round(crop_w / factor)))
            size = (crop_h, crop_w)
        else:
            span = (crop_h, crop_w)
            size = (max(1, round(crop_h * factor)), max(1, round(crop_w * factor)))
        top, left = _place(sample, span, config, rng)
        window = (top, left, *span)
    return _resample(sample, window, size, boxes)


def _place(
    sample: PanopticSample,
    span: tuple[int, int],
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Top and left of the window: inside the image, or around it where the window is larger."""
    height, width = sample.semantic.shape
    limits = [sorted((0, full - part)) for full, part in zip((height, width), span, strict=True)]
    top, left = (int(rng.integers(low, high + 1)) for low, high in limits)
    things = [a for a in sample.instances if not a.is_crowd]
    if config.focus and things and rng.random() < config.focus:
        chosen = things[int(rng.integers(len(things)))]
        ys, xs = np.nonzero(sample.instance == chosen.id)
        if len(ys):
            centre = (int(ys.mean()), int(xs.mean()))
            jitter = [int(rng.integers(-part // 4, part // 4 + 1)) for part in span]
            top, left = (
                min(max(c - part // 2 + j, low), high)
                for c, part, j, (low, high) in zip(centre, span, jitter, limits, strict=True)
            )
    return top, left


def _resample(
    sample: PanopticSample,
    window: tuple[int, int, int, int],
    size: tuple[int, int],
    boxes: Boxes | None,
) -> tuple[PanopticSample, Boxes | None]:
    top, left, span_h, span_w = window
    image = _cut(sample.image, window, 0)
    semantic = _cut(sample.semantic, window, UNLABELLED)
    instance = _cut(sample.instance, window, 0)
    if (span_h, span_w) != size:
        down = size[0] < span_h * 0.75
        method = cv2.INTER_AREA if down else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, size[::-1], interpolation=method), np.uint8)
        semantic = np.asarray(
            cv2.resize(semantic, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8
        )
        instance = _resize_ids(instance, size)
    present = present_ids(instance)
    kept = [n for n, a in enumerate(sample.instances) if a.id in present]
    moved = None
    if boxes is not None:
        moved = boxes[kept] - np.array([left, top, left, top], np.float32)
        moved *= np.array([size[1] / span_w, size[0] / span_h] * 2, np.float32)
        moved = moved.clip(0, np.array([size[1], size[0]] * 2, np.float32)).astype(np.float32)
    changed = replace(
        sample,
        image=image,
        semantic=semantic,
        instance=instance,
        instances=tuple(sample.instances[n] for n in kept),
        depth=None,
        unlabelled_things=None,
    )
    return changed, moved


def _resize_ids(instance: npt.NDArray[np.int32], size: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Nearest-neighbour resize of any int32 ids: the same bits as float32, which OpenCV can resize."""
    bits = np.ascontiguousarray(instance).view(np.float32)
    resized = cv2.resize(bits, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized).view(np.int32)


def _cut(
    array: npt.NDArray[_Number], window: tuple[int, int, int, int], fill: int
) -> npt.NDArray[_Number]:
    """The window of an array, ``fill`` where it sticks out."""
    top, left, span_h, span_w = window
    height, width = array.shape[:2]
    y1, x1 = max(top, 0), max(left, 0)
    y2, x2 = min(top + span_h, height), min(left + span_w, width)
    part = array[y1:y2, x1:x2]
    if part.shape[:2] == (span_h, span_w):
        return np.ascontiguousarray(part)
    full = np.full((span_h, span_w, *array.shape[2:]), fill, array.dtype)
    full[y1 - top : y2 - top, x1 - left : x2 - left] = part
    return full


def _flip(sample: PanopticSample, boxes: Boxes | None) -> tuple[PanopticSample, Boxes | None]:
    width = sample.semantic.shape[1]
    if boxes is not None:
        boxes = np.stack(
            [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1
        ).astype(np.float32)
    changed = replace(
        sample,
        image=np.ascontiguousarray(sample.image[:, ::-1]),
        semantic=np.ascontiguousarray(sample.semantic[:, ::-1]),
        instance=np.ascontiguousarray(sample.instance[:, ::-1]),
        unlabelled_things=None,
    )
    return changed, boxes


def _photometric(
    image: npt.NDArray[np.uint8], config: AugmentationConfig, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Brightness, contrast, hue, saturation, blur and noise, each only where it is asked for."""
    if config.brightness or config.contrast:
        gain = 1 + rng.uniform(-config.contrast, config.contrast)
        shift = 255 * rng.uniform(-config.brightness, config.brightness)
        middle = 127.5
        table = (np.arange(256) - middle) * gain + middle + shift
        image = np.asarray(cv2.LUT(image, table.clip(0, 255).astype(np.uint8)), np.uint8)
    if config.saturation or config.hue:
        hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
        turn = round(rng.uniform(-config.hue, config.hue) / 2)  # OpenCV counts half degrees
        factor = 1 + rng.uniform(-config.saturation, config.saturation)
        counts = np.arange(256)
        tables = np.stack(
            [(counts + turn) % 180, (counts * factor).clip(0, 255), counts], axis=-1
        ).astype(np.uint8)
        hsv = cv2.LUT(hsv, tables[None])
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    if config.blur and rng.random() < config.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.2))), np.uint8)
    if config.noise:
        image = _noisy(image, float(rng.uniform(0, config.noise)), int(rng.integers(2**31)))
    return image


def _noisy(image: npt.NDArray[np.uint8], sigma: float, seed: int) -> npt.NDArray[np.uint8]:
    """``image`` with Gaussian noise in whole grey values: OpenCV draws it several times as fast as NumPy."""
    noise = np.empty(image.shape, np.int16)
    cv2.setRNGSeed(seed)
    cv2.randn(noise, np.zeros(3), np.full(3, sigma))
    return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)
