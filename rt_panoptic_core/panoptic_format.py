"""COCO panoptic files and Cityscapes ids: a PNG whose colours are segment ids, and a JSON beside it.

A pixel's id is ``R + 256 G + 65536 B``; 0 is void. The JSON holds ``categories``, ``images`` and, for
every image, an annotation ``{image_id, file_name, segments_info}`` with one entry a segment:
``{id, category_id, area, bbox: [x, y, width, height], iscrowd}``.
"""

from __future__ import annotations

import operator
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.errors import DatasetError, TaxonomyError
from rt_panoptic_core.files import HeldFolder, read_json, write_json
from rt_panoptic_core.id_maps import map_ids
from rt_panoptic_core.inference.result import PanopticResult, label_areas
from rt_panoptic_core.own_pngs import OwnPngs
from rt_panoptic_core.panoptic_png import (
    MAX_ID,
    Ids,
    encode_ids,
    ids_to_rgb,
    read_ids,
    rgb_to_ids,
    write_ids,
)

if TYPE_CHECKING:
    from rt_panoptic_core.taxonomy import Taxonomy

__all__ = [
    "CITYSCAPES_INSTANCES",
    "MAX_ID",
    "VOID",
    "Ids",
    "PanopticAnnotations",
    "PanopticWriter",
    "SegmentTable",
    "coco_categories",
    "encode_ids",
    "ids_to_rgb",
    "measure_segments",
    "own_ids",
    "panoptic_ids",
    "read_annotations",
    "read_ids",
    "rgb_to_ids",
    "split_cityscapes_ids",
    "taxonomy_of_categories",
    "write_ids",
]

_FORM = "segment_ids"
"""Key in ``info`` of the JSONs that are written here: the form of the ids. Nobody else's have it."""

VOID = 0
"""Id of a pixel that belongs to no segment."""

CITYSCAPES_INSTANCES = 1000
"""Cityscapes instance ids are ``labelId * 1000 + k``; ids below it are labels: stuff and groups."""


class SegmentTable(NamedTuple):
    """The segments of an id map, by rising id.

    Attributes:
        ids: int64 [K].
        areas: int64 [K], pixels.
        boxes: int64 [K, 4], (x1, y1, x2, y2), x2 and y2 exclusive.
    """

    ids: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]


def measure_segments(ids: npt.NDArray[np.integer[Any]], void: int | None = VOID) -> SegmentTable:
    """Ids, areas and boxes of all segments of an id map in one pass over its runs.

    Args:
        ids: integers [H, W].
        void: the id that is no segment; None to keep all.
    """
    height, width = ids.shape
    if not ids.size:
        empty = np.zeros(0, dtype=np.int64)
        return SegmentTable(empty, empty, np.zeros((0, 4), dtype=np.int64))
    starts_here = np.ones((height, width), dtype=bool)
    np.not_equal(ids[:, 1:], ids[:, :-1], out=starts_here[:, 1:])
    starts = np.flatnonzero(starts_here)
    lengths = np.diff(starts, append=ids.size)
    values, group = np.unique(ids.reshape(-1)[starts], return_inverse=True)
    rows, left = np.divmod(starts, width)
    areas = np.zeros(len(values), dtype=np.int64)
    np.add.at(areas, group, lengths)
    boxes = np.empty((len(values), 4), dtype=np.int64)
    boxes[:, :2] = max(width, height)
    boxes[:, 2:] = 0
    np.minimum.at(boxes[:, 0], group, left)
    np.minimum.at(boxes[:, 1], group, rows)
    np.maximum.at(boxes[:, 2], group, left + lengths)
    np.maximum.at(boxes[:, 3], group, rows + 1)
    keep = slice(None) if void is None else values != void
    return SegmentTable(values.astype(np.int64)[keep], areas[keep], boxes[keep])


def panoptic_ids(
    result: PanopticResult, taxonomy: Taxonomy, *, ids: str = "coco"
) -> tuple[Ids, list[dict[str, Any]]]:
    """Id map int32 [H, W] and ``segments_info`` of a result, as the panoptic files hold them.

    A thing pixel without an instance is void, as is an unlabelled one. ``category_id`` is the
    taxonomy's ``source_id``; areas and boxes are the maps'. An instance carries its ``score`` besides.

    Args:
        result: what a segmenter returned.
        taxonomy: the label set of its classes.
        ids: ``coco``: ``(class_id + 1) * 65536 + instance``, any id is as good as another there.
            ``cityscapes``: ``labelId`` for stuff and ``labelId * 1000 + k`` for things, k from 0 by
            falling score within the class.

    Raises:
        DatasetError: unknown form, or over 1000 instances of a class in the Cityscapes form.
        TaxonomyError: the taxonomy lacks a class of the result, or a thing of the one is stuff in the other.
    """
    if ids not in ("coco", "cityscapes"):
        raise DatasetError(f"segment ids {ids!r}: unknown form; one of coco, cityscapes")
    _check_classes(result, taxonomy)
    own = own_ids(result.semantic, result.instance, taxonomy)
    table = measure_segments(own)
    scores = {segment.id: segment.score for segment in result.segments if segment.is_thing}
    class_ids = (table.ids >> 16) - 1
    instances = table.ids & 0xFFFF
    file_ids = table.ids.copy()
    if ids == "cityscapes":
        next_number: dict[int, int] = {}
        order = sorted(range(len(instances)), key=lambda i: -scores.get(int(instances[i]), 0.0))
        for row in order:
            category = taxonomy[int(class_ids[row])]
            file_ids[row] = category.source_id
            if category.is_thing:
                number = next_number.get(category.class_id, 0)
                next_number[category.class_id] = number + 1
                if number >= CITYSCAPES_INSTANCES:
                    raise DatasetError(
                        f"more than {CITYSCAPES_INSTANCES} instances of {category.name!r} in an "
                        "image: Cityscapes' ids cannot hold them; use the form 'coco'"
                    )
                file_ids[row] = category.source_id * CITYSCAPES_INSTANCES + number
        own = map_ids(own, table.ids, file_ids.astype(np.int32), VOID)
    segments_info = []
    for row, file_id in enumerate(file_ids):
        category = taxonomy[int(class_ids[row])]
        x1, y1, x2, y2 = (int(v) for v in table.boxes[row])
        info: dict[str, Any] = {
            "id": int(file_id),
            "category_id": category.source_id,
            "area": int(table.areas[row]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": 0,
        }
        if int(instances[row]) in scores:
            info["score"] = round(float(scores[int(instances[row])]), 6)
        segments_info.append(info)
    return own, segments_info


def _check_classes(result: PanopticResult, taxonomy: Taxonomy) -> None:
    """Refuse a result of another label set, as far as its class ids tell."""
    from rt_panoptic_core.taxonomy import UNLABELLED

    way_out = "it is of another label set; name that of its model (segmenter.taxonomy)"
    present = np.flatnonzero(label_areas(result.semantic)[:UNLABELLED]).tolist()
    for class_id in (*(segment.class_id for segment in result.segments), *present):
        if not 0 <= class_id < len(taxonomy):
            raise TaxonomyError(
                f"a result with class id {class_id}: the taxonomy {taxonomy.name!r} has 0 to "
                f"{len(taxonomy) - 1}; {way_out}"
            )
    for segment in result.segments:
        category = taxonomy[segment.class_id]
        if segment.is_thing != category.is_thing:
            here, there = ("a thing", "stuff") if segment.is_thing else ("stuff", "a thing")
            raise TaxonomyError(
                f"a result with class id {segment.class_id} as {here}: in the taxonomy {taxonomy.name!r} "
                f"that is {category.name!r}, {there}; {way_out}"
            )


def own_ids(
    semantic: npt.NDArray[np.uint8], instance: npt.NDArray[np.integer[Any]], taxonomy: Taxonomy
) -> Ids:
    """``(class_id + 1) << 16 | instance``, int32 [H, W]; 0 where unlabelled or a thing without instance.

    Args:
        semantic: uint8 [H, W], class ids; 255 is unlabelled.
        instance: integers [H, W] in 0 … 65535; what stands at stuff is ignored.
        taxonomy: the label set of ``semantic``.
    """
    has_class = np.zeros(256, dtype=bool)
    has_class[: len(taxonomy)] = True
    base = np.where(has_class, (np.arange(256) + 1) << 16, 0).astype(np.int32)
    is_thing = taxonomy.is_thing[semantic]
    ids: Ids = base[semantic]
    np.bitwise_or(ids, instance, out=ids, where=is_thing, casting="unsafe")
    ids[is_thing & (instance == 0)] = VOID
    return ids


def coco_categories(taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """``categories`` of a panoptic JSON."""
    return [
        {
            "id": category.source_id,
            "name": category.name,
            "supercategory": category.name,
            "color": list(category.color),
            "isthing": int(category.is_thing),
        }
        for category in taxonomy
    ]


def taxonomy_of_categories(categories: Sequence[Mapping[str, Any]], name: str) -> Taxonomy:
    """Label set of the ``categories`` of a panoptic JSON, things before stuff, else in their order.

    Raises:
        TaxonomyError: more than 255 categories, or a malformed one.
    """
    ordered = sorted(categories, key=lambda category: not category["isthing"])
    classes = []
    for category in ordered:
        item = {
            "name": category["name"],
            "thing": bool(category["isthing"]),
            "source_id": category["id"],
        }
        if "color" in category:
            item["color"] = category["color"]
        classes.append(item)
    from rt_panoptic_core.taxonomy import Taxonomy

    return Taxonomy.from_dict({"name": name, "classes": classes}, name)


class PanopticAnnotations(NamedTuple):
    """A panoptic JSON, checked.

    Attributes:
        path: where it was read.
        categories: ``{id, name, isthing, …}`` by category id, in the file's order.
        annotations: ``{image_id, file_name, segments_info}``, in the file's order.
        images: ``{id, file_name, …}`` by image id; empty where the file has none.
        info: what the file says of itself; empty where it says nothing.
    """

    path: Path
    categories: dict[int, dict[str, Any]]
    annotations: list[dict[str, Any]]
    images: dict[Any, dict[str, Any]]
    info: dict[str, Any]


def read_annotations(
    path: str | os.PathLike[str], *, categories_required: bool = True
) -> PanopticAnnotations:
    """A panoptic JSON's content, with every key checked that anything here relies on.

    Ids may be written as floats, 3.0 for 3.

    Args:
        path: the JSON.
        categories_required: False for predictions, which may come without ``categories``.

    Raises:
        DatasetError: missing, no JSON, or of another structure; file and place are named.
    """
    name = os.fspath(path)
    content = read_json(path, DatasetError)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise DatasetError(f"{name}: a panoptic JSON holds a list 'annotations'; this one does not")
    for key in ("categories", "images"):
        if not isinstance(content.get(key) or [], list):
            raise DatasetError(f"{name}: '{key}' is {content[key]!r}; it must be a list")
    listed = content.get("categories") or []
    if categories_required and not listed:
        raise DatasetError(f"{name}: it holds no 'categories'")
    categories: dict[int, dict[str, Any]] = {}
    for place, category in enumerate(listed):
        _make_whole(category, "id")
        _check_keys(category, {"id": int, "name": str}, f"{name}: categories[{place}]")
        if category.get("isthing") not in (0, 1):
            raise DatasetError(
                f"{name}: categories[{place}] ({category['name']!r}): 'isthing' is "
                f"{category.get('isthing')!r}; it must be 0 or 1"
            )
        if category["id"] in categories:
            raise DatasetError(f"{name}: category id {category['id']} is used twice")
        categories[category["id"]] = category
    for place, annotation in enumerate(content["annotations"]):
        where = f"{name}: annotations[{place}]"
        _check_keys(annotation, {"file_name": str, "segments_info": list}, where)
        _make_whole(annotation, "image_id")
        if not isinstance(annotation.get("image_id"), int | str):
            raise DatasetError(f"{where}: 'image_id' is missing or neither a number nor a text")
        for number, segment in enumerate(annotation["segments_info"]):
            # The words for an error are made where there is one: a file has thousands of segments.
            if not _is_segment(segment):
                _make_whole(segment, "id", "category_id")
                _check_keys(
                    segment, {"id": int, "category_id": int}, f"{where}: segments_info[{number}]"
                )
    images: dict[int | str, dict[str, Any]] = {}
    for place, image in enumerate(content.get("images") or []):
        _make_whole(image, "id")
        if not isinstance(image, dict) or not isinstance(image.get("id"), int | str):
            raise DatasetError(f"{name}: images[{place}]: 'id' is missing")
        known = images.setdefault(image["id"], image)
        # Annotations would belong to either; the same picture listed again does no harm.
        if known.get("file_name") != image.get("file_name"):
            raise DatasetError(
                f"{name}: images[{place}] ({image.get('file_name')!r}): its id {image['id']!r} is that of "
                f"{known.get('file_name')!r} too; give each an id of its own"
            )
    info = content.get("info")
    return PanopticAnnotations(
        Path(path),
        categories,
        content["annotations"],
        images,
        info if isinstance(info, dict) else {},
    )


def image_name(annotation: Mapping[str, Any]) -> str:
    """What an annotation's image is called in evaluations: its id where that is a text, else its PNG's path.

    The path is without suffix, with the folders that it has below that of the PNGs: unique, as the ids are.
    """
    image_id = annotation["image_id"]
    if isinstance(image_id, str):
        return image_id
    return posixpath.splitext(posixpath.normpath(annotation["file_name"]))[0]


def file_stem(image_id: int | str) -> str:
    """Name without suffix of the PNG that :class:`PanopticWriter` makes of an image."""
    return image_id if isinstance(image_id, str) else f"{image_id:012d}"


class PanopticWriter:
    """Writes results as COCO panoptic files: ``FOLDER/*.png`` as they come, ``FOLDER.json`` at the end.

    As a context manager it writes the JSON when the block ends without error, so a JSON is there only
    for a complete set of PNGs::

        with PanopticWriter("predictions", taxonomy) as writer:
            for image_id, image in images:
                writer.add(image_id, segmenter.segment(image))

    A PNG that is there and was not made by an earlier writer is never replaced. Its own are those that the
    JSON names, and, after an interruption, ``FOLDER.json.partial``. While a process has a writer of a folder,
    no other one gets one.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        taxonomy: Taxonomy,
        *,
        ids: str = "coco",
        add_to: bool = False,
    ) -> None:
        """Write into ``folder``, and the JSON beside it.

        Args:
            folder: of the PNGs; made here.
            taxonomy: the label set of the results.
            ids: form of the ids, see :func:`panoptic_ids`.
            add_to: keep what a JSON that is there says of other images, whose PNGs are there too; False
                to begin anew.

        Raises:
            DatasetError: the JSON that is there is damaged or no writer's, or, with ``add_to``, has other
                categories or ids of another form; or another process writes into the folder.
            OSError: the folder cannot be made.
        """
        self.folder = Path(folder)
        self.json_path = self.folder.with_name(self.folder.name + ".json")
        self._taxonomy = taxonomy
        self._form = ids
        self._annotations: dict[int | str, dict[str, Any]] = {}
        self._images: dict[int | str, dict[str, Any]] = {}
        self._by_file: dict[str, int | str] = {}
        self._add_to = add_to
        # Before anything is read that another process may be about to write.
        self._hold: HeldFolder | None = HeldFolder.of(self.folder)
        if self._hold is None:
            raise DatasetError(
                f"{self.folder}: another process is writing into it; wait for its end, or write into another "
                "folder"
            )
        named: list[str] = []
        if self.json_path.is_file():
            there = read_annotations(self.json_path)
            if _FORM not in there.info:
                raise DatasetError(
                    f"{self.json_path}: it is somebody else's, perhaps ground truth, and is not replaced; "
                    "write into another folder"
                )
            if add_to:
                self._take_over(there)
            named = [annotation["file_name"] for annotation in there.annotations]
        journal = self.json_path.with_name(self.json_path.name + ".partial")
        self._own = OwnPngs(self.folder, journal, named)

    @property
    def begun(self) -> bool:
        """Whether there was an image to write, so that the JSON is to follow."""
        return self._own.begun

    def add(
        self, image_id: int | str, result: PanopticResult, *, image_file: str | None = None
    ) -> None:
        """Write the PNG of one image.

        Args:
            image_id: what the ground truth calls the image; also the PNG's name.
            result: the image's result.
            image_file: the picture's file name for ``images``.

        Raises:
            DatasetError: the id leads out of the folder, to the PNG of another one, or to one that was
                there before and is no writer's.
            TaxonomyError: the result has classes that are not those of the taxonomy.
            OSError: the PNG cannot be written.
        """
        if self._hold is None:
            raise DatasetError(f"{self.folder}: its writer is closed; open another one")
        if not isinstance(image_id, str):
            # NumPy's whole numbers are none for JSON.
            image_id = operator.index(image_id)
        stem = file_stem(image_id)
        suffix = "_panoptic.png" if self._form == "cityscapes" else ".png"
        file_name = f"{stem}{suffix}"
        path = PurePosixPath(file_name)
        if path.is_absolute() or ".." in path.parts:
            raise DatasetError(f"image {image_id!r}: its PNG would be outside of {self.folder}")
        if self._by_file.setdefault(_plain(file_name), image_id) != image_id:
            raise DatasetError(
                f"image {image_id!r}: {self.folder / file_name} is that of image "
                f"{self._by_file[_plain(file_name)]!r}; give it another id"
            )
        ids, segments_info = panoptic_ids(result, self._taxonomy, ids=self._form)
        first = not self._own.begun
        self._own.claim(file_name)
        if first and not self._add_to:
            # It would name PNGs that are not its own any more: it goes before the first of them.
            self.json_path.unlink(missing_ok=True)
        write_ids(self.folder / file_name, ids)
        self._annotations[image_id] = {
            "image_id": image_id,
            "file_name": file_name,
            "segments_info": segments_info,
        }
        height, width = ids.shape
        self._images[image_id] = {
            "id": image_id,
            "file_name": image_file or f"{stem}.jpg",
            "height": height,
            "width": width,
        }

    def drop(self, image_id: int | str) -> bool:
        """Leave out an image that an earlier JSON brought, its PNG too; whether there was one."""
        annotation = self._annotations.pop(image_id, None)
        if annotation is None:
            return False
        del self._images[image_id], self._by_file[_plain(annotation["file_name"])]
        self._own.remove(annotation["file_name"])
        return True

    def close(self) -> None:
        """Write the JSON, and let go; of the writer's own PNGs those that it does not name are removed.

        With ``add_to`` they stay: an interrupted run made them, and the next one may replace them. A second
        time does nothing.
        """
        if self._hold is None:
            return
        write_json(
            self.json_path,
            {
                "info": {_FORM: self._form},
                "images": list(self._images.values()),
                "annotations": list(self._annotations.values()),
                "categories": coco_categories(self._taxonomy),
            },
        )
        named = [annotation["file_name"] for annotation in self._annotations.values()]
        self._own.settle(named, keep_rest=self._add_to)
        self.let_go()

    def let_go(self) -> None:
        """Leave the folder to other processes, without a JSON; nothing can be added after that."""
        self._hold = None

    def _take_over(self, there: PanopticAnnotations) -> None:
        """Keep the annotations that ``there`` has of images whose PNGs are still there."""
        if list(there.categories.values()) != coco_categories(self._taxonomy):
            raise DatasetError(
                f"{there.path}: it holds results with other classes than those of the taxonomy "
                f"{self._taxonomy.name!r}; write into another folder"
            )
        if there.info[_FORM] != self._form:
            raise DatasetError(
                f"{there.path}: it holds ids of the form {there.info[_FORM]!r}, not "
                f"{self._form!r}; write into another folder"
            )
        for annotation in there.annotations:
            image_id = annotation["image_id"]
            if image_id in there.images and (self.folder / annotation["file_name"]).is_file():
                self._annotations[image_id] = annotation
                self._images[image_id] = there.images[image_id]
                self._by_file[_plain(annotation["file_name"])] = image_id

    def __enter__(self) -> PanopticWriter:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is None:
            self.close()
        self.let_go()


def split_cityscapes_ids(
    ids: npt.NDArray[np.integer[Any]], thing_labels: Iterable[int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Label ids, instance ids and crowd mask, each in the shape of ``ids``, of Cityscapes' instance ids.

    ``26001`` is label 26 with instance 26001; ``26`` alone, where 26 is a thing, is a group of things
    that nobody told apart: label 26, instance 26, crowd. Stuff has instance 0.

    Args:
        ids: integers of any shape, from ``*_gtFine_instanceIds.png`` or of a Cityscapes panoptic PNG.
        thing_labels: label ids of the things.
    """
    values = ids.astype(np.int32)
    numbered = values >= CITYSCAPES_INSTANCES
    labels = np.where(numbered, values // CITYSCAPES_INSTANCES, values)
    crowd = ~numbered & np.isin(labels, list(thing_labels))
    return labels, np.where(numbered | crowd, values, 0), crowd


def _plain(file_name: str) -> str:
    """``file_name`` as it is compared: two ids may lead to one file in two ways."""
    return posixpath.normpath(file_name)


def _is_segment(value: Any) -> bool:
    return (
        type(value) is dict
        and type(value.get("id")) is int
        and type(value.get("category_id")) is int
    )


def _make_whole(value: Any, *keys: str) -> None:
    """Make whole numbers of what stands as 3.0 at ``keys``: tables that hold a gap know no others."""
    if isinstance(value, dict):
        for key in keys:
            number = value.get(key)
            if type(number) is float and number.is_integer():
                value[key] = int(number)


def _check_keys(value: Any, keys: dict[str, type], where: str) -> None:
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: {value!r}; it must be an object")
    for key, kind in keys.items():
        if not isinstance(value.get(key), kind) or isinstance(value.get(key), bool):
            raise DatasetError(
                f"{where}: {key!r} is {value.get(key, 'missing')!r}; it must be of type "
                f"{ {int: 'whole number', str: 'text', list: 'list'}[kind] }"
            )
