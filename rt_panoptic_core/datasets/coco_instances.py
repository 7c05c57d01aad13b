"""COCO's instances, as annotation tools export them: images, and one JSON with an outline for each object."""

from __future__ import annotations

import os
import re
import reprlib
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from rt_panoptic_core.datasets.augmentation import check_pixels, resize_to_pixels
from rt_panoptic_core.datasets.categories import check_categories
from rt_panoptic_core.datasets.files import (
    check_files,
    check_folder,
    first_folder,
    listed,
    read_labelled_rgb,
)
from rt_panoptic_core.datasets.json_images import (
    found_files,
    no_such_image,
    sample_name,
    written_names,
)
from rt_panoptic_core.datasets.outlines import Region, lies_outside, outlined_region
from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample, present_ids
from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.files import read_json
from rt_panoptic_core.inference.rgb_image import MAX_PIXELS
from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy
from rt_panoptic_core.wording import counted

BACKGROUND = "background"
"""Name of the class of what no outline covers, where nothing else is said."""

_HELD_OUT = 0.1

_OTHER_NAMES = {"val": ("valid",)}
"""What else tools call a split."""

_LONGEST_NAME = 255
"""Bytes of a file's or a folder's name, at most."""

_LONGEST_PATH = 4095

_SHORT = reprlib.Repr()
"""Values as errors name them: whatever a file holds, a line stays one that can be read."""
_SHORT.maxstring = _SHORT.maxother = 80


class _Picture(NamedTuple):
    """An image of the JSON and its annotations."""

    image_id: int | str
    file_name: str
    size: tuple[int, int]
    annotations: list[dict[str, Any]]


class CocoInstances:
    """A JSON of outlines with its images.

    Outlines of things are instances, those of stuff its area. Where outlines overlap, things lie above stuff,
    and the smaller ones above the larger. A picture without any outline is one of the background alone.
    """

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images: Sequence[str | os.PathLike[str]],
        taxonomy: Taxonomy | None = None,
        *,
        background: str | None = None,
        split: str = "train",
        held_out: float = 0.0,
        pixels: int = 0,
    ) -> None:
        """Read the JSON and check it and the images' files.

        Args:
            annotations: the JSON: ``images``, ``annotations`` with ``segmentation``, ``categories``.
            images: folders that the images may be in; they are in the first that has one of them. Absolute
                names are taken as they are.
            taxonomy: label set whose source ids are the JSON's category ids; for None all of the JSON's
                categories as things but for the background, which is added where it is none of them.
            background: stuff class of what no outline covers; None for :data:`BACKGROUND` where the taxonomy
                has that, "" where such pixels are to be void.
            split, held_out: of all pictures this share, by their names' hashes, is ``val``, the rest
                ``train``; at least one of each where there are two. 0 for all, whatever the split.
            pixels: see :func:`resize_to_pixels`.

        Raises:
            DatasetError: files are missing or no images (all are named), or the JSON is malformed.
            ConfigError: ``pixels`` is negative.
        """
        path = Path(annotations)
        self._title = str(path)
        check_pixels(self._title, pixels)
        self._pixels = pixels
        content = _read(path)
        categories = {item["id"]: item for item in content["categories"]}
        used = {item["category_id"] for item in content["annotations"]}
        self.taxonomy = taxonomy or _taxonomy(
            _without_doubles(content["categories"], used), background, path.stem
        )
        check_categories(self._title, categories, used, self.taxonomy)
        self._background = self._class_of(background)
        self._pictures = _part(_pictures(content), split, held_out, self._title)
        self.picture_files = _picture_files(
            self._pictures, [Path(each) for each in images], self._title
        )
        check_files(self.picture_files, self._title)
        self.notes = _notes(self._pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> PanopticSample:
        picture = self._pictures[index]
        semantic = np.full(picture.size, self._background, np.uint8)
        instance = np.zeros(picture.size, np.int32)
        instances = []
        for number, (region, class_id, crowd) in enumerate(self._painted(picture), start=1):
            is_thing = self.taxonomy[class_id].is_thing
            region.of(semantic)[region.mask] = class_id
            region.of(instance)[region.mask] = number if is_thing else 0
            if is_thing:
                instances.append(InstanceAnnotation(number, class_id, crowd))
        seen = present_ids(instance)
        sample = PanopticSample(
            sample_name(picture.file_name),
            read_labelled_rgb(self.picture_files[index], picture.size, self._title),
            semantic,
            instance,
            tuple(annotation for annotation in instances if annotation.id in seen),
            image_id=picture.image_id,
        )
        return resize_to_pixels(sample, self._pixels)

    def _painted(self, picture: _Picture) -> list[tuple[Region, int, bool]]:
        """(region, class id, crowd) of all annotations, what is painted last above all else."""
        found = []
        for item in picture.annotations:
            try:
                region = outlined_region(item.get("segmentation"), picture.size)
            except DatasetError as error:
                raise DatasetError(
                    f"{self._title}: annotation {_SHORT.repr(item.get('id'))} of {picture.file_name}: "
                    f"{error}"
                ) from error
            class_id = self.taxonomy.class_id_by_source[item["category_id"]]
            is_thing = self.taxonomy[class_id].is_thing
            crowd = bool(item.get("iscrowd", 0)) and is_thing
            rank = (is_thing, not crowd, -np.count_nonzero(region.mask))
            found.append((rank, (region, class_id, crowd)))
        # The sort keeps the file's order among equals.
        return [painted for _, painted in sorted(found, key=lambda each: each[0])]

    def _class_of(self, background: str | None) -> int:
        """Class id of what no outline covers."""
        name = BACKGROUND if background is None else background
        if name not in self.taxonomy.names:
            if background is None and not self.taxonomy.stuff_ids:
                free = max(self.taxonomy.class_id_by_source, default=0) + 1
                raise DatasetError(
                    f"{self._title}: taxonomy {self.taxonomy.name!r} has things alone, so nothing would "
                    f"teach what is none; add the class {{name: {BACKGROUND}, thing: false, source_id: "
                    f"{free}}} for what no outline covers"
                )
            if background:
                raise DatasetError(
                    f"{self._title}: the background is to be {name!r}, which taxonomy "
                    f"{self.taxonomy.name!r} has not; it has {', '.join(self.taxonomy.names)}"
                )
            return UNLABELLED
        class_id = self.taxonomy.names.index(name)
        if self.taxonomy[class_id].is_thing:
            raise DatasetError(
                f"{self._title}: the background is to be {name!r}, which is a thing in taxonomy "
                f"{self.taxonomy.name!r}; it must be stuff"
            )
        return class_id


def open_coco_instances(
    root: str | os.PathLike[str],
    split: str,
    taxonomy: Taxonomy | None = None,
    *,
    annotations: str = "",
    images: str = "",
    background: str | None = None,
    held_out: float | None = None,
    pixels: int = 0,
) -> CocoInstances:
    """A folder as COCO has it, or as CVAT, Label Studio or Roboflow export it.

    A JSON for each split is looked for first; where there is only one for all pictures, a tenth of them are
    the split ``val``, the others ``train``, told apart by a hash of their names. For ``val`` every place is
    looked at as ``valid`` too.

    Args:
        root: holds ``instances_SPLIT.json`` (with ``2017`` too) or ``instances_default.json``, directly or in
            ``annotations``, or ``SPLIT/_annotations.coco.json``, or ``result.json``; and the images in
            ``images/SPLIT``, ``SPLIT`` or ``images``.
        split: its name.
        annotations, images: where they are instead, relative to ``root``; ``{split}`` in them stands for the
            split. All pictures of a JSON that is named are taken.
        background: see :class:`CocoInstances`.
        held_out: share of a JSON's pictures that is ``val``, from 0 (all of them are whatever split it is)
            to below 1, where something else is wanted.
        pixels: see :class:`CocoInstances`.

    Raises:
        DatasetError: as :class:`CocoInstances`, and where one JSON is to be split into anything but ``train``
            and ``val``.
    """
    base = Path(root)
    own, whole = _json_files(base, split)
    if annotations:
        own, whole = [base / annotations.replace("{split}", split)], []
    json_file = next((file for file in [*own, *whole] if file.is_file()), None)
    if json_file is None:
        looked = ", ".join(os.path.relpath(file, base) for file in [*own, *whole])
        raise DatasetError(
            f"{base}: no JSON of outlines; looked for {looked}. Name it with the option 'annotations'"
        )
    if held_out is None:
        held_out = _HELD_OUT if json_file in whole else 0.0
    named = [base / images.replace("{split}", split)] if images else []
    return CocoInstances(
        json_file,
        named or _image_folders(base, split),
        taxonomy,
        background=background,
        split=split,
        held_out=held_out,
        pixels=pixels,
    )


def _json_files(base: Path, split: str) -> tuple[list[Path], list[Path]]:
    """Where the JSON of ``split`` may be, and where one of all pictures; first what is taken first."""
    places = (base, base / "annotations")
    own: list[Path] = []
    for name in (split, *_OTHER_NAMES.get(split, ())):
        files = (f"instances_{name}.json", f"instances_{name}2017.json")
        own += [place / file for place in places for file in files]
        own.append(base / name / "_annotations.coco.json")
    whole = [place / "instances_default.json" for place in places]
    return own, [*whole, base / "_annotations.coco.json", base / "result.json"]


def _image_folders(base: Path, split: str) -> list[Path]:
    """Where the images of ``split`` may be, first what is taken first."""
    folders: list[Path] = []
    for name in (split, *_OTHER_NAMES.get(split, ())):
        folders += [base / "images" / name, base / name, base / f"{name}2017"]
    return [*folders, base / "images" / "default", base / "images", base]


def _part(pictures: list[_Picture], split: str, held_out: float, title: str) -> list[_Picture]:
    """The ``pictures`` of ``split`` where the share ``held_out`` of them is ``val``."""
    if not 0 <= held_out < 1:
        raise DatasetError(f"{title}: held_out {held_out}: it must be from 0 to below 1")
    if held_out == 0:
        return pictures
    if split not in ("train", "val"):
        raise DatasetError(
            f"{title}: it is split into train and val, so there is no {split!r} in it"
        )
    if len(pictures) < 2:
        raise DatasetError(
            f"{title}: a single picture cannot be split into train and val (held_out {held_out:g}): label "
            "more, or set the option held_out to 0, which takes all pictures for either"
        )
    ranked = sorted(pictures, key=lambda picture: (_place(picture.file_name), picture.file_name))
    count = sum(_place(picture.file_name) < held_out for picture in ranked)
    # Of a few pictures the hashes may all lie on one side.
    held = {picture.image_id for picture in ranked[: min(max(count, 1), len(ranked) - 1)]}
    return [picture for picture in pictures if (picture.image_id in held) == (split == "val")]


def _place(file_name: str) -> float:
    """A hash of a name, in [0, 1): the same wherever and however often it is computed."""
    return zlib.crc32(PurePosixPath(written_names(file_name)[-1]).name.encode()) / 2**32


def _picture_files(pictures: Sequence[_Picture], folders: Sequence[Path], title: str) -> list[Path]:
    """The pictures' files, in the first of ``folders`` that has one of them, else in the first that exists.

    Raises:
        DatasetError: none of the folders exists.
    """
    files = found_files([written_names(picture.file_name) for picture in pictures], folders)
    if files is not None:
        return files
    folder = first_folder(folders)
    check_folder(folder, title, "the images")
    return [folder / picture.file_name for picture in pictures]


def _notes(pictures: Sequence[_Picture]) -> list[str]:
    """What is no error and yet may not be meant: pictures without outlines, outlines that nobody sees."""
    notes = []
    bare = sum(not picture.annotations for picture in pictures)
    if bare:
        notes.append(f"{counted(bare, 'picture')} without any outline")
    outside = [
        f"annotation {_SHORT.repr(item.get('id'))} of {picture.file_name}"
        for picture in pictures
        for item in picture.annotations
        if lies_outside(item.get("segmentation"), picture.size)
    ]
    if outside:
        notes.append(
            f"{counted(len(outside), 'outline')} wholly outside of the picture, left out:{listed(outside)}"
        )
    return notes


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The JSON, with every key checked that anything here relies on but for the outlines themselves.

    Raises:
        DatasetError: missing, no JSON, or of another structure; the places are named.
    """
    content = read_json(path, DatasetError)
    found: dict[str, list[dict[str, Any]]] = {}
    problems: list[str] = []
    for name in _KEYS:
        items = content.get(name) if isinstance(content, dict) else None
        if not isinstance(items, list):
            raise DatasetError(f"{path}: COCO's instances hold a list {name!r}; this one does not")
        found[name] = items
        for place, item in enumerate(items):
            problems += [f"{name}[{place}]: {problem}" for problem in _entry_problems(name, item)]
    if not found["images"]:
        raise DatasetError(f"{path}: it has no images")
    if not problems:
        known: dict[int | str, int] = {}
        for place, item in enumerate(found["images"]):
            first = known.setdefault(item["id"], place)
            if first != place:
                problems.append(
                    f"images[{place}]: its id {_SHORT.repr(item['id'])} is that of images[{first}] too; give "
                    "each an id of its own"
                )
        problems += [
            f"annotations[{place}]: {no_such_image(item['image_id'], known)}"
            for place, item in enumerate(found["annotations"])
            if item["image_id"] not in known
        ]
    if problems:
        raise DatasetError(
            f"{path}: {counted(len(problems), 'entry', 'entries')} cannot be used:{listed(problems)}"
        )
    return found


def _entry_problems(kind: str, item: Any) -> list[str]:
    """What is wrong with an entry of the list ``kind``."""
    values = item if isinstance(item, dict) else {}
    problems = [
        f"{key!r} is {_SHORT.repr(values.get(key))}"
        for key, is_right in _KEYS[kind].items()
        if not is_right(values.get(key, _WHERE_ABSENT.get(key)))
    ]
    if kind == "images" and not problems and values["width"] * values["height"] > MAX_PIXELS:
        size = f"{_SHORT.repr(values['width'])}x{_SHORT.repr(values['height'])}"
        problems.append(f"{size} pixels; at most {MAX_PIXELS // 2**20} megapixels are taken")
    return problems


def _is_whole(value: Any) -> bool:
    return type(value) is int  # true and false are ints to Python


def _is_id(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, str)


def _is_length(value: Any) -> bool:
    return _is_whole(value) and value >= 1


def _is_flag(value: Any) -> bool:
    return value in (0, 1)


def _is_text(value: Any) -> bool:
    """Whether it is a text that can be written: JSON may hold halves of characters."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_file_name(value: Any) -> bool:
    """Whether a file can have this name, which may hold folders."""
    if not _is_text(value) or not value or "\0" in value:
        return False
    if len(value.encode()) > _LONGEST_PATH:
        return False
    return all(len(part.encode()) <= _LONGEST_NAME for part in re.split(r"[/\\]", value))


# The keys that are relied on, and what each must be.
_KEYS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "images": {
        "id": _is_id,
        "file_name": _is_file_name,
        "width": _is_length,
        "height": _is_length,
    },
    "categories": {"id": _is_whole, "name": _is_text},
    "annotations": {"image_id": _is_id, "category_id": _is_whole, "iscrowd": _is_flag},
}
_WHERE_ABSENT = {"iscrowd": 0}


def _pictures(content: dict[str, list[dict[str, Any]]]) -> list[_Picture]:
    by_image = defaultdict(list)
    for item in content["annotations"]:
        by_image[item["image_id"]].append(item)
    return [
        _Picture(
            item["id"], item["file_name"], (item["height"], item["width"]), by_image[item["id"]]
        )
        for item in content["images"]
    ]


def _without_doubles(
    categories: list[dict[str, Any]], used: Collection[int]
) -> list[dict[str, Any]]:
    """``categories`` without the unused ones whose name another has that is used, or comes later.

    Roboflow lists a category 0 that nothing belongs to, and its name may be that of a class.
    """
    taken = {c["name"] for c in categories if c["id"] in used}
    last = {c["name"]: place for place, c in enumerate(categories)}
    return [
        c
        for place, c in enumerate(categories)
        if c["id"] in used or (c["name"] not in taken and last[c["name"]] == place)
    ]


def _taxonomy(categories: list[dict[str, Any]], background: str | None, name: str) -> Taxonomy:
    """All categories as things but for the background, which is added where it is none of them."""
    stuff = BACKGROUND if background is None else background
    classes = [
        {"name": c["name"], "thing": c["name"] != stuff, "source_id": c["id"]} for c in categories
    ]
    if stuff and stuff not in {c["name"] for c in categories}:
        free = max((c["id"] for c in categories), default=0) + 1
        classes.append({"name": stuff, "thing": False, "source_id": free})
    return Taxonomy.from_dict({"name": name, "classes": classes}, name)
