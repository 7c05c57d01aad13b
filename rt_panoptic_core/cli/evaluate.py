"""``rt-panoptic evaluate``: run a model over a data set and report its quality."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rt_panoptic_core.cli.arguments import UsageError, checked, number
from rt_panoptic_core.cli.model_options import (
    MANY_SIZES,
    add_model_options,
    many_sizes_hint,
    model_name,
    open_segmenter,
)
from rt_panoptic_core.cli.outputs import output_file, output_folder
from rt_panoptic_core.cli.progress import progress_bar
from rt_panoptic_core.datasets.registry import DATASET_KINDS, dataset_kind, open_dataset
from rt_panoptic_core.errors import ConfigError, DatasetError, ImageError
from rt_panoptic_core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from rt_panoptic_core.datasets.sample import PanopticDataset
    from rt_panoptic_core.evaluation.record import EvaluationRecord
    from rt_panoptic_core.evaluation.report.pictures import FrameGallery
    from rt_panoptic_core.segmenter import Segmenter

_GENERATED_LENGTH = 100
_SHOWN_PROBLEMS = 100

_OPENED_AT_A_TIME = 16
"""Files: opening them is waiting."""

_RESIZING = {"height", "pixels"}
"""Options of data sets whose pictures have other sizes than their files then."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rt-panoptic evaluate``."""
    parser.epilog = (
        "Writes OUTPUT/results.json (also for rt-panoptic compare) and OUTPUT/report.html, both only "
        "when all frames are done."
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        required=True,
        type=checked(dataset_kind),
        metavar="KIND",
        help=f"one of {', '.join(DATASET_KINDS)}",
    )
    data.add_argument("--root", metavar="DIR", help="its folder; generated streets have none")
    data.add_argument("--split", default="val", help="part of it (default: %(default)s)")
    data.add_argument(
        "--option",
        action="append",
        type=checked(_option),
        default=[],
        metavar="KEY=VALUE",
        help="of the data set, for example length=50 or size=[256,512]; may be repeated",
    )
    data.add_argument(
        "--limit",
        type=number(int, 1),
        metavar="N",
        help="take N frames, evenly spaced over the data set",
    )
    data.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="report on the rest where samples cannot be read",
    )
    add_model_options(parser)
    measures = parser.add_argument_group("measures")
    measures.add_argument(
        "--boundary",
        type=number(float, 0, 1, open_ended=True),
        metavar="RATIO",
        help="boundary width as a share of the diagonal (default: 0.005 for cityscapes, else 0.02)",
    )
    measures.add_argument(
        "--detections",
        action="store_true",
        help="AP from whole, overlapping masks by the slow reference path, "
        "not from the visible ones of the panoptic result",
    )
    output = parser.add_argument_group("results")
    output.add_argument(
        "--output",
        type=Path,
        default=Path("evaluation"),
        metavar="DIR",
        help="folder for results.json and report.html (default: %(default)s)",
    )
    output.add_argument(
        "--pictures",
        type=number(int, 0),
        default=4,
        metavar="N",
        help="worst and best frames in the report (%(default)s)",
    )
    output.add_argument(
        "--no-report", action="store_true", help="no report.html; one of an earlier run is removed"
    )
    output.add_argument(
        "--save-predictions",
        type=Path,
        metavar="DIR",
        help="write the results as COCO panoptic files, for rt-panoptic score: DIR and DIR.json",
    )
    output.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Evaluate, write JSON and report, print the tables."""
    if args.save_predictions is not None and not args.save_predictions.name:
        raise UsageError(
            f"--save-predictions {args.save_predictions}: the folder must have a name, which the JSON "
            "beside it has too"
        )
    with output_folder(args.output):
        return _evaluate(args)


def _evaluate(args: argparse.Namespace) -> int:
    from rich.console import Console

    from rt_panoptic_core.checkpoint import load_checkpoint
    from rt_panoptic_core.datasets.sample import notes_of, picture_files_of
    from rt_panoptic_core.evaluation.boundary_regions import (
        BOUNDARY_RATIO,
        CITYSCAPES_BOUNDARY_RATIO,
    )
    from rt_panoptic_core.evaluation.evaluation import Evaluation
    from rt_panoptic_core.evaluation.report.pictures import FrameGallery
    from rt_panoptic_core.evaluation.runner import EvaluatedFrame, evaluate
    from rt_panoptic_core.panoptic_format import PanopticWriter

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    kind = args.dataset
    segmenter = open_segmenter(
        args, load_checkpoint(args.model), lambda step, _: errors.print(f"[dim]{step}[/]")
    )
    options = dict(args.option)
    if kind == "generated_streets":
        options = {"length": args.limit or _GENERATED_LENGTH, "depth": True, **options}
    dataset = _open_dataset(args, segmenter, options)
    notes = notes_of(dataset)
    for note in notes:
        errors.print(f"note: {note}", markup=False, style="yellow")
    indices = _spread(len(dataset), args.limit)
    indices = _by_engine(indices, dataset, options, segmenter, errors)
    default_ratio = CITYSCAPES_BOUNDARY_RATIO if kind == "cityscapes" else BOUNDARY_RATIO
    ratio = default_ratio if args.boundary is None else args.boundary
    evaluation = Evaluation(segmenter.taxonomy, boundary_ratio=ratio)
    gallery = FrameGallery(0 if args.no_report else args.pictures)
    with ExitStack() as stack:
        writer = None
        if args.save_predictions is not None:
            stack.enter_context(output_folder(args.save_predictions))
            writer = PanopticWriter(args.save_predictions, segmenter.taxonomy)
            stack.enter_context(output_file(writer.json_path))
            stack.enter_context(writer)
        advance = stack.enter_context(
            progress_bar("evaluating", len(indices), "frames", quiet=args.quiet)
        )

        places: dict[str, int | None] = {}
        files = picture_files_of(dataset)
        sizes: set[tuple[int, int]] = set()

        def on_frame(evaluated: EvaluatedFrame) -> None:
            gallery.add(evaluated)
            places[evaluated.record.name] = evaluated.index
            height, width = evaluated.frame.truth_ids.shape
            sizes.add((height, width))
            if writer is not None:
                name = evaluated.record.name
                called = name if evaluated.image_id is None else evaluated.image_id
                picture = None if files is None else files[evaluated.index or 0].name
                writer.add(called, evaluated.frame.result, image_file=picture)
            advance(1)

        problems = evaluate(
            segmenter,
            dataset,
            evaluation,
            indices=indices,
            detect=segmenter.detect if args.detections else None,
            overlap=_runs_on_gpu(segmenter, dataset, indices),
            on_frame=on_frame,
        )
        _report_problems(problems, args.skip_unreadable, bool(evaluation.frames))
    evaluation.frames.sort(key=lambda frame: places[frame.name] or 0)
    subject = _subject(args, segmenter, kind, options, len(problems), sizes)
    if notes:
        subject["notes"] = "; ".join(notes)
    record = evaluation.record(subject)
    if writer is not None:
        errors.print(f"written: {writer.json_path}, its PNGs in {writer.folder}", markup=False)
    _write(record, None if args.no_report else gallery, args.output, errors)
    # After the files are written: who looks at the beginning alone (`| head`) ends the command.
    _print(record, Console(highlight=False))
    return 0


def _write(
    record: EvaluationRecord, gallery: FrameGallery | None, folder: Path, errors: Console
) -> None:
    """Write JSON and report; without a gallery no report, nor is one of other results left."""
    from rt_panoptic_core.evaluation.report.evaluation_page import evaluation_page

    report = folder / "report.html"
    record.write(folder / "results.json")
    errors.print(f"written: {folder / 'results.json'}", markup=False)
    if gallery is None:
        if report.is_file():
            report.unlink()
        return
    evaluation_page(record, gallery.worst(), gallery.best()).write(report)
    errors.print(f"written: {report}", markup=False)


def _print(record: EvaluationRecord, console: Console) -> None:
    from rt_panoptic_core.cli.quality_tables import print_classes, print_summary

    print_classes(record, console)
    print_summary(record, console)


def _open_dataset(
    args: argparse.Namespace, segmenter: Segmenter, options: dict[str, Any]
) -> PanopticDataset:
    taxonomy = segmenter.taxonomy
    try:
        return open_dataset(args.dataset, args.root, args.split, taxonomy, **options)
    except DatasetError as error:
        # Only what is wrong with the classes names them; files may be missing as well.
        if args.model is not None or f"taxonomy {taxonomy.name!r}" not in str(error):
            raise
        raise DatasetError(
            f"{error}. No --model was given, and the default one ({model_name(segmenter.checkpoint)}) "
            "was taken: name the model of these classes"
        ) from error


def _runs_on_gpu(segmenter: Segmenter, dataset: PanopticDataset, indices: list[int]) -> bool:
    """Whether the engine for the first image runs on a GPU; builds that engine.

    On a sample that cannot be read the answer is no: the run itself reports it.
    """
    try:
        image = dataset[indices[0]].image
    except (DatasetError, ValueError):
        return False
    height, width = image.shape[:2]
    return not segmenter.prepare((height, width)).spec.device.startswith("cpu")


def _report_problems(problems: list[str], skip: bool, any_frame: bool) -> None:
    """Raise what was wrong with samples, unless they are to be skipped and others are left."""
    if not problems:
        return
    shown = problems[:_SHOWN_PROBLEMS]
    if len(problems) > len(shown):
        shown.append(f"… and {len(problems) - len(shown)} more")
    text = "\n  ".join(shown)
    if not skip or not any_frame:
        way_out = "; --skip-unreadable reports on the rest" if any_frame else ""
        raise DatasetError(
            f"{counted(len(problems), 'sample')} cannot be used, nothing written{way_out}:\n  {text}"
        )
    from rich.console import Console

    Console(stderr=True, highlight=False).print(
        f"left out {counted(len(problems), 'sample')}:\n  {text}", markup=False, style="yellow"
    )


def _subject(
    args: argparse.Namespace,
    segmenter: Segmenter,
    kind: str,
    options: dict[str, Any],
    skipped: int,
    picture_sizes: Collection[tuple[int, int]],
) -> dict[str, Any]:
    from rt_panoptic_core import __version__

    checkpoint = segmenter.checkpoint
    subject: dict[str, Any] = {
        "model": model_name(checkpoint),
        "dataset": f"{kind} {args.split}",
        "checkpoint_sha256": checkpoint.digest,
    }
    if args.root:
        subject["root"] = Path(args.root).name
    if args.limit is not None:
        subject["limit"] = args.limit
    if options:
        subject["options"] = ", ".join(f"{key}={value}" for key, value in options.items())
    if segmenter.engine is not None:
        spec = segmenter.engine.spec
        subject["engine"] = f"{segmenter.engine.library}, {spec.precision}, {spec.device}"
        sizes = {segmenter.engine_size(size) for size in picture_sizes}
        subject["engine_size"] = (
            "x".join(str(side) for side in spec.image_size)
            if len(sizes) == 1
            else f"{len(sizes)} sizes"
        )
    score, mask, overlap, stuff_area = segmenter.thresholds.as_tuple()
    subject["thresholds"] = (
        f"score {score:g}, mask {mask:g}, overlap {overlap:g}, stuff area {stuff_area:g}"
    )
    if args.detections:
        subject["instance_masks"] = "whole, from the reference path"
    if skipped:
        subject["samples_left_out"] = skipped
    subject["version"] = __version__
    return subject


def _by_engine(
    indices: list[int],
    dataset: PanopticDataset,
    options: Mapping[str, Any],
    segmenter: Segmenter,
    errors: Console,
) -> list[int]:
    """``indices`` so that pictures of one engine follow each other: few engines can be open at a time.

    Where pictures need many engines, that is told, and what to do about it.
    """
    from rt_panoptic_core.datasets.files import picture_size
    from rt_panoptic_core.datasets.sample import picture_files_of

    files = picture_files_of(dataset)
    if files is None or not _RESIZING.isdisjoint(options):
        return indices
    with ThreadPoolExecutor(_OPENED_AT_A_TIME) as pool:
        sizes = list(pool.map(picture_size, [files[index] for index in indices]))
    engines: dict[tuple[int, int] | None, list[int]] = {}
    for index, size in zip(indices, sizes, strict=True):
        try:
            engine = None if size is None else segmenter.engine_size(size)
        # Whoever reads the picture says what is wrong with it.
        except ImageError:
            engine = None
        engines.setdefault(engine, []).append(index)
    known = {engine: len(group) for engine, group in engines.items() if engine is not None}
    if len(known) >= MANY_SIZES:
        errors.print(f"note: {many_sizes_hint(known)}", markup=False, style="yellow")
    return [index for group in engines.values() for index in group]


def _option(text: str) -> tuple[str, Any]:
    """Key and value of ``KEY=VALUE``, the value read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{text}: it must be KEY=VALUE")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{text}: the value is not readable: {error}") from error


def _spread(length: int, limit: int | None) -> list[int]:
    """``limit`` indices evenly spaced in [0, length), or all."""
    if limit is None or limit >= length:
        return list(range(length))
    return [index * length // limit for index in range(limit)]
