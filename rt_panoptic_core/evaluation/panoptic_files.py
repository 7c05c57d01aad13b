"""Panoptic quality of prediction files against ground-truth files, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from rt_panoptic_core.errors import DatasetError, ImageError
from rt_panoptic_core.evaluation.matching import match_segments
from rt_panoptic_core.evaluation.overlaps import Overlaps, Segment, overlaps
from rt_panoptic_core.evaluation.panoptic_quality import PanopticQuality
from rt_panoptic_core.evaluation.record import (
    ClassRecord,
    EvaluationRecord,
    FrameRecord,
    panoptic_to_json,
)
from rt_panoptic_core.evaluation.semantic_iou import SemanticIoU
from rt_panoptic_core.evaluation.worker_processes import work_through
from rt_panoptic_core.panoptic_format import (
    VOID,
    Ids,
    PanopticAnnotations,
    image_name,
    read_annotations,
    read_ids,
)
from rt_panoptic_core.resources import cpu_threads
from rt_panoptic_core.wording import counted, shown

_LONGEST_SPAN = 32
# A process has this many of its share left when it takes one more.
_SPANS_AHEAD = 8
_SHOWN_PROBLEMS = 100
_SHOWN_IDS = 3


class PanopticFilesError(DatasetError):
    """Panoptic files that cannot be scored; ``problems`` holds every one that was found."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        lines = self.problems[:_SHOWN_PROBLEMS]
        if len(self.problems) > len(lines):
            lines.append(f"… and {len(self.problems) - len(lines)} more")
        count = counted(len(self.problems), "problem")
        super().__init__(f"{count}, nothing scored:\n  " + "\n  ".join(lines))


class PanopticPair(NamedTuple):
    """A true and a predicted annotation of one image, as their JSONs hold them."""

    truth: dict[str, Any]
    predicted: dict[str, Any]
    size: tuple[int, int] | None


@dataclass(frozen=True)
class PanopticFiles:
    """Ground truth and predictions that name each other; made by :func:`open_files`.

    ``by_name``: by the names of their files, for they have no image id in common.
    """

    truth: PanopticAnnotations
    truth_folder: Path
    predicted: PanopticAnnotations
    predicted_folder: Path
    pairs: list[PanopticPair]
    by_name: bool = False


@dataclass
class _Partial:
    """What one worker counted."""

    quality: PanopticQuality
    boundary: PanopticQuality | None
    semantic: SemanticIoU
    frames: dict[int, FrameRecord] = field(default_factory=dict)
    problems: dict[int, list[str]] = field(default_factory=dict)
    area_differences: int = 0


@dataclass(frozen=True)
class _Job:
    """What all workers need."""

    files: PanopticFiles
    class_ids: dict[int, int]
    boundary_ratio: float | None

    def new_total(self) -> _Partial:
        categories = list(self.files.truth.categories.values())
        names = [category["name"] for category in categories]
        is_thing = [bool(category["isthing"]) for category in categories]
        boundary = None if self.boundary_ratio is None else PanopticQuality(names, is_thing)
        return _Partial(PanopticQuality(names, is_thing), boundary, SemanticIoU(tuple(names)))

    def add(self, total: _Partial, span: range) -> None:
        for index in span:
            problems = _score_pair(self, index, total)
            if problems:
                total.problems[index] = problems

    def merge(self, total: _Partial, part: _Partial) -> None:
        total.quality.merge(part.quality)
        if total.boundary is not None and part.boundary is not None:
            total.boundary.merge(part.boundary)
        total.semantic.merge(part.semantic)
        total.frames.update(part.frames)
        total.problems.update(part.problems)
        total.area_differences += part.area_differences


def open_files(
    truth_json: str | os.PathLike[str],
    predicted_json: str | os.PathLike[str],
    truth_folder: str | os.PathLike[str] | None = None,
    predicted_folder: str | os.PathLike[str] | None = None,
) -> PanopticFiles:
    """Ground truth and predictions, every true image with its prediction; pictures are not read yet.

    Predictions for images that the truth lacks are left out, as panopticapi does. Where no image id is in
    both, images belong together whose files have one name, without folders and suffix: that of the image
    where the JSON tells it, else of its PNG.

    Args:
        truth_json: the ground truth's JSON.
        predicted_json: the predictions' JSON.
        truth_folder: folder of its PNGs; None for the JSON's path without ``.json``.
        predicted_folder: folder of its PNGs; None likewise.

    Raises:
        DatasetError: a file or folder is missing or malformed.
        PanopticFilesError: images without a prediction, or twice in a file; all are named. Or neither ids nor
            names belong together.
    """
    truth = read_annotations(truth_json)
    predicted = read_annotations(predicted_json, categories_required=False)
    folders = []
    for side, folder in ((truth, truth_folder), (predicted, predicted_folder)):
        path = side.path.with_suffix("") if folder is None else Path(folder)
        if not path.is_dir():
            raise DatasetError(f"{path}: there is no such folder (the PNGs of {side.path})")
        folders.append(path)
    problems = [
        f"{side.path}: image {image_id!r} has more than one annotation"
        for side in (truth, predicted)
        for image_id in _repeated(item["image_id"] for item in side.annotations)
    ]
    predicted_by_image = {item["image_id"]: item for item in predicted.annotations}
    true_ids = {item["image_id"] for item in truth.annotations}
    by_name = (
        bool(true_ids) and bool(predicted_by_image) and true_ids.isdisjoint(predicted_by_image)
    )
    if by_name and not problems:
        predicted_by_image = _paired_by_name(truth, predicted)
    pairs = []
    for item in truth.annotations:
        image_id = item["image_id"]
        if image_id not in predicted_by_image:
            called = f" ({_file_stem(item, truth)})" if by_name else ""
            problems.append(f"{predicted.path}: no prediction for image {image_id!r}{called}")
            continue
        image = truth.images.get(image_id, {})
        height, width = image.get("height"), image.get("width")
        size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        pairs.append(PanopticPair(item, predicted_by_image[image_id], size))
    if problems:
        raise PanopticFilesError(problems)
    if not pairs:
        raise DatasetError(f"{truth.path}: it holds no annotation")
    return PanopticFiles(truth, folders[0], predicted, folders[1], pairs, by_name)


def _paired_by_name(
    truth: PanopticAnnotations, predicted: PanopticAnnotations
) -> dict[Any, dict[str, Any]]:
    """The predicted annotation by the true image's id, where their files have one name.

    Raises:
        PanopticFilesError: there is none, or a name is used twice in one of the two.
    """
    named: list[dict[str, dict[str, Any]]] = []
    for side in (truth, predicted):
        named.append({_file_stem(item, side): item for item in side.annotations})
    true, guessed = named
    shared = true.keys() & guessed.keys()
    unique = len(true) == len(truth.annotations) and len(guessed) == len(predicted.annotations)
    if not shared or not unique:
        why = "are used twice" if shared else "have none in common either"
        told = [
            ", ".join(f"{item['image_id']!r} ({_file_stem(item, side)})" for item in first)
            + (", …" if len(side.annotations) > len(first) else "")
            for side in (truth, predicted)
            for first in [side.annotations[:_SHOWN_IDS]]
        ]
        raise PanopticFilesError(
            [
                f"{predicted.path}: its image ids are {told[1]}; {truth.path} has {told[0]}: none is in "
                f"both, and the files' names, which stand in brackets, {why}"
            ]
        )
    return {true[name]["image_id"]: guessed[name] for name in shared}


def _file_stem(annotation: Mapping[str, Any], side: PanopticAnnotations) -> str:
    """Name of an annotation's image without folders and suffix; of its PNG where the JSON has no such."""
    image_file = side.images.get(annotation["image_id"], {}).get("file_name")
    name = image_file if isinstance(image_file, str) else annotation["file_name"]
    return PurePosixPath(name).stem


def score_files(
    files: PanopticFiles,
    *,
    processes: int | None = None,
    boundary_ratio: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> EvaluationRecord:
    """Panoptic quality, semantic IoU and, if asked for, boundary PQ of ``files``.

    The same numbers as panopticapi's script; semantic IoU takes every segment's pixels for its
    category, crowd regions included. Any number of processes gives the same result to the last bit.

    Args:
        files: what :func:`open_files` returned.
        processes: worker processes; None for one a core, 1 for none besides this one.
        boundary_ratio: width of boundaries as a share of the diagonal; None for no boundary PQ.
        progress: called with the number of images that were done since the last call.

    Returns:
        Record with a frame for every image, in the truth's order. ``results["area_differences"]``
        counts true segments whose area in the JSON is not that of the PNG; the JSON's was used.

    Raises:
        PanopticFilesError: an id in a PNG and not in its JSON or the reverse, an unknown category, a
            missing, damaged or 16-bit picture, or two sizes; every case in all files is named.
    """
    categories = list(files.truth.categories.values())
    classes = _classes(categories, files.truth.path)
    job = _Job(files, {c["id"]: index for index, c in enumerate(categories)}, boundary_ratio)
    count = processes if processes is not None else cpu_threads()
    spans = _spans(len(files.pairs), count)
    total = work_through(job, spans, min(count, len(spans)), progress)
    if total.problems:
        raise PanopticFilesError(
            [text for _, told in sorted(total.problems.items()) for text in told]
        )
    results: dict[str, Any] = {"panoptic": panoptic_to_json(total.quality.result())}
    if total.boundary is not None:
        boundary = panoptic_to_json(total.boundary.result())
        results["boundary"] = {"ratio": boundary_ratio, **boundary}
    semantic = total.semantic.result()
    results["semantic"] = {
        "mean_iou": semantic.mean_iou,
        "pixel_accuracy": semantic.pixel_accuracy,
        "per_class": [float(iou) for iou in semantic.per_class],
        "confusion": semantic.confusion.tolist(),
    }
    results["area_differences"] = total.area_differences
    subject = {"ground_truth": str(files.truth.path), "predictions": str(files.predicted.path)}
    frames = tuple(frame for _, frame in sorted(total.frames.items()))
    return EvaluationRecord(subject, classes, results, frames)


def _spans(items: int, processes: int) -> list[range]:
    """The items in parts that get smaller towards the end, so that all processes end together."""
    spans = []
    start = 0
    while start < items:
        length = max(1, min(_LONGEST_SPAN, (items - start) // (_SPANS_AHEAD * processes)))
        spans.append(range(start, start + length))
        start += length
    return spans


def _score_pair(job: _Job, index: int, part: _Partial) -> list[str]:
    """Count one image into ``part``, or say what is wrong with it."""
    files, pair = job.files, job.files.pairs[index]
    truth_path = os.path.join(files.truth_folder, pair.truth["file_name"])  # noqa: PTH118
    predicted_path = os.path.join(files.predicted_folder, pair.predicted["file_name"])  # noqa: PTH118
    problems: list[str] = []
    maps: list[Ids] = []
    for path in (truth_path, predicted_path):
        try:
            maps.append(read_ids(path))
        except ImageError as error:
            problems.append(str(error))
    if problems:
        return problems
    truth_ids, predicted_ids = maps
    height, width = truth_ids.shape
    if pair.size is not None and pair.size != truth_ids.shape:
        problems.append(
            f"{truth_path}: {width}x{height} pixels, but {files.truth.path} says "
            f"{pair.size[1]}x{pair.size[0]}"
        )
    if predicted_ids.shape != truth_ids.shape:
        given_height, given_width = predicted_ids.shape
        problems.append(
            f"{predicted_path}: {given_width}x{given_height} pixels, the truth {truth_path} has "
            f"{width}x{height}"
        )
        return problems
    shared = overlaps(truth_ids, predicted_ids)
    truth_areas, predicted_areas = shared.truth_areas(), shared.predicted_areas()
    truth = _segments(
        pair.truth, truth_areas, job.class_ids, truth_path, files.truth.path, problems
    )
    predicted = _segments(
        pair.predicted,
        predicted_areas,
        job.class_ids,
        predicted_path,
        files.predicted.path,
        problems,
        area_from_json=False,
    )
    problems = problems or _impossible_areas(
        *(shared, truth, truth_areas),
        f"{files.truth.path}: image {pair.truth['image_id']!r}",
    )
    if problems:
        return problems
    part.area_differences += sum(
        segment.area != truth_areas[truth_id] for truth_id, segment in truth.items()
    )
    matches = match_segments(shared, truth, predicted)
    counts = part.quality.add(matches, truth, predicted)
    if part.boundary is not None and job.boundary_ratio is not None:
        from rt_panoptic_core.evaluation.boundary_regions import boundary_overlaps

        outline = boundary_overlaps(truth_ids, predicted_ids, job.boundary_ratio)
        by_boundary = match_segments(shared, truth, predicted, outline)
        part.boundary.add(by_boundary, truth, predicted)
    pixels = part.semantic.add_pairs(_class_pairs(shared, truth, predicted, len(job.class_ids)))
    part.frames[index] = FrameRecord(image_name(pair.truth), counts, pixels)
    return []


def _segments(
    annotation: Mapping[str, Any],
    areas: Mapping[int, int],
    class_ids: Mapping[int, int],
    picture: str,
    json_path: Path,
    problems: list[str],
    *,
    area_from_json: bool = True,
) -> dict[int, Segment]:
    """The segments of one side by id; what is wrong with them is added to ``problems``."""
    where = f"{json_path}: image {annotation['image_id']!r}"
    segments: dict[int, Segment] = {}
    for info in annotation["segments_info"]:
        segment_id, category_id = info["id"], info["category_id"]
        area = areas.get(segment_id)
        if segment_id in segments:
            problems.append(f"{where}: segment {segment_id} is listed twice")
        elif area is None or segment_id == VOID:
            reason = "0 is void" if segment_id == VOID else f"it is not in {picture}"
            problems.append(f"{where}: segment {segment_id} is listed, but {reason}")
            continue
        if category_id not in class_ids:
            problems.append(f"{where}: segment {segment_id} has the unknown category {category_id}")
            continue
        stated: Any = info.get("area", area) if area_from_json else area
        if not _is_area(stated):
            problems.append(
                f"{where}: segment {segment_id} has the area {stated!r}; it must be a whole number "
                "of pixels, at least 1"
            )
            continue
        crowd = area_from_json and info.get("iscrowd", 0) == 1
        segments[segment_id] = Segment(class_ids[category_id], int(stated), crowd)
    if len(segments) + (VOID in areas) == len(areas):
        return segments
    listed = {info["id"] for info in annotation["segments_info"]}
    problems += [
        f"{picture}: segment {segment_id} ({area} pixels) is not listed in {json_path}, "
        f"image {annotation['image_id']!r}"
        for segment_id, area in areas.items()
        if segment_id != VOID and segment_id not in listed
    ]
    return segments


def _is_area(value: Any) -> bool:
    """Whether ``value`` is a whole number of pixels, at least 1; true and infinity are none."""
    kind = type(value)
    return (kind is int or (kind is float and value.is_integer())) and value > 0


def _impossible_areas(
    shared: Overlaps,
    truth: Mapping[int, Segment],
    areas: Mapping[int, int],
    where: str,
) -> list[str]:
    """What is wrong with areas in the truth's JSON that are smaller than what a prediction covers of them.

    Their IoU would be above 1; other areas that differ from the PNG's are taken, as panopticapi does.
    """
    smaller = {number for number, segment in truth.items() if segment.area < areas[number]}
    if not smaller:
        return []
    covered: dict[int, int] = {}
    for (truth_id, _), pixels in shared.as_dict().items():
        if truth_id in smaller:
            covered[truth_id] = max(covered.get(truth_id, 0), pixels)
    return [
        f"{where}: segment {number} has the area {truth[number].area}, but {areas[number]} pixels in the "
        f"PNG, {pixels} of them under one prediction; correct its area"
        for number, pixels in covered.items()
        if pixels > truth[number].area
    ]


def _class_pairs(
    shared: Overlaps,
    truth: Mapping[int, Segment],
    predicted: Mapping[int, Segment],
    unlabelled: int,
) -> dict[tuple[int, int], int]:
    """Pixels by true class and predicted class, ``unlabelled`` for void in the prediction."""
    pairs: dict[tuple[int, int], int] = {}
    for (truth_id, predicted_id), pixels in shared.as_dict().items():
        if truth_id != VOID:
            guess = predicted.get(predicted_id)
            key = (truth[truth_id].class_id, unlabelled if guess is None else guess.class_id)
            pairs[key] = pairs.get(key, 0) + pixels
    return pairs


def _classes(categories: Sequence[Mapping[str, Any]], origin: Path) -> tuple[ClassRecord, ...]:
    classes = []
    for category in categories:
        color = category.get("color", (128, 128, 128))
        try:
            red, green, blue = (int(part) for part in color)
        except (TypeError, ValueError, OverflowError):
            raise DatasetError(
                f"{origin}: category {category['name']!r}: color {shown(color)}; it must be [r, g, b]"
            ) from None
        classes.append(ClassRecord(category["name"], bool(category["isthing"]), (red, green, blue)))
    return tuple(classes)


def _repeated(values: Iterator[Any]) -> list[Any]:
    seen: set[Any] = set()
    repeated: dict[Any, None] = {}
    for value in values:
        if value in seen:
            repeated[value] = None
        seen.add(value)
    return list(repeated)
