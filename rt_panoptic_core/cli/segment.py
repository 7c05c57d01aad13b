"""``rt-panoptic segment``: pictures, folders and videos to overlays and id maps."""

from __future__ import annotations

import argparse
import errno
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.cli.arguments import UsageError, number
from rt_panoptic_core.cli.model_options import (
    MANY_SIZES,
    add_model_options,
    many_sizes_hint,
    model_name,
    open_segmenter,
)
from rt_panoptic_core.cli.outputs import output_folder
from rt_panoptic_core.errors import ConfigError, DatasetError, ImageError
from rt_panoptic_core.files import resolved, write_bytes
from rt_panoptic_core.image_files import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    InputFile,
    Video,
    find_inputs,
    quiet_decoders,
    read_image,
)
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.inference.rgb_image import MAX_PIXELS
from rt_panoptic_core.inference.tracking import InstanceTracker
from rt_panoptic_core.panoptic_format import PanopticWriter, file_stem
from rt_panoptic_core.pipeline import Ahead, Beside
from rt_panoptic_core.result_folders import mark_results
from rt_panoptic_core.visualization.overlay import draw_overlay
from rt_panoptic_core.visualization.video import VideoWriter
from rt_panoptic_core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from rt_panoptic_core.segmenter import Segmenter

EXIT_NOTHING_DONE = 1
EXIT_SOME_SKIPPED = 3

_DEFAULT_RATE = 25.0
_JPEG_QUALITY = 92

_AT_A_TIME = 3
"""Pictures in the engine, or being drawn, at a time."""

_READ_AHEAD = 3
"""Pictures."""

_NAMED = 4
"""Folders of earlier results, at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.epilog = (
        "Writes OUTPUT/overlays (pictures, and .mp4 for videos) and OUTPUT/panoptic (id maps, with "
        "OUTPUT/panoptic.json). Results that are there stay, but for those of the same names. Inputs are "
        f"{', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}. "
        "Exit status: 0 all done, 3 some inputs were skipped or cut short, 1 nothing done."
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, video or folder")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("segmented"),
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )
    model = add_model_options(parser)
    model.add_argument(
        "--no-track", action="store_true", help="videos: number instances anew in every frame"
    )
    output = parser.add_argument_group("results")
    output.add_argument(
        "--ids",
        choices=("coco", "cityscapes", "none"),
        help="form of the id maps (default: coco for pictures, for videos none but with --no-overlay)",
    )
    output.add_argument("--no-overlay", action="store_true", help="write no overlay pictures")
    output.add_argument(
        "--opacity",
        type=number(float, 0, 1),
        default=0.5,
        metavar="A",
        help="of the colours (%(default)s)",
    )
    output.add_argument("--no-names", action="store_true", help="no class names and scores")
    output.add_argument("--no-legend", action="store_true", help="no legend")
    output.add_argument("--show-ids", action="store_true", help="write instance ids at the names")


def run(args: argparse.Namespace) -> int:
    """Segment ``args.inputs``; exit status."""
    from rich.console import Console

    from rt_panoptic_core.checkpoint import load_checkpoint

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if args.no_overlay and args.ids == "none":
        raise UsageError("--no-overlay and --ids none: then nothing is left to write")
    _check_output(args)
    quiet_decoders()
    # Threads of a pool spin while they wait for each other, on cores that the engine needs.
    cv2.setNumThreads(1)
    files, problems, earlier = find_inputs(args.inputs, leave_out=args.output)
    if earlier:
        named = ", ".join(map(str, earlier[:_NAMED]))
        rest = len(earlier) - _NAMED
        more = f" and {counted(rest, 'other folder')}" if rest > 0 else ""
        console.print(f"left out: results of an earlier run in {_plain(named)}{more}")
    for problem in problems:
        console.print(f"[red]skipped[/] {_plain(problem)}")
    if not files:
        return EXIT_NOTHING_DONE
    with output_folder(args.output), _progress(console) as progress:
        task = progress.add_task("loading the model", total=len(files))
        segmenter = open_segmenter(
            args,
            load_checkpoint(args.model),
            lambda step, _: progress.update(task, description=step),
            mode="throughput",
        )
        job = _Job(args, segmenter, progress, task, left_out=len(problems))
        job.work(files)
    console.print(job.summary(), markup=False)
    if not job.done:
        return EXIT_NOTHING_DONE
    return EXIT_SOME_SKIPPED if job.skipped or job.cut_short else 0


def _check_output(args: argparse.Namespace) -> None:
    """Refuse a folder for the results that a folder of inputs is, or is in: it would hold no input.

    Nor may an input be among the results, one of which could replace it.
    """
    output = resolved(args.output)
    results = (output / "overlays", output / "panoptic")
    for item in args.inputs:
        path = Path(item)
        places = (output,) if path.is_dir() else results if path.is_file() else ()
        if any(resolved(path).is_relative_to(place) for place in places):
            raise UsageError(
                f"--output {args.output}: results cannot go where the input {item} is, for results are "
                f"not taken for input; name another folder, for example --output "
                f"{args.output / 'segmented'}"
            )


class _Picture(NamedTuple):
    """What was made of a picture: its result and its overlay as JPEG, or why there is none."""

    file: InputFile
    result: PanopticResult | ImageError
    overlay: bytes | ImageError | None = None


class _Frame(NamedTuple):
    """A frame of a video."""

    image: npt.NDArray[np.uint8]
    result: PanopticResult


class _Job:
    """One run of the command: what it writes, counts and says."""

    def __init__(
        self,
        args: argparse.Namespace,
        segmenter: Segmenter,
        progress: Progress,
        task: TaskID,
        left_out: int,
    ) -> None:
        self._args = args
        self._segmenter = segmenter
        self._progress = progress
        self._task = task
        self._images = 0
        # When the first engine was ready: its building is not counted.
        self._begun: float | None = None
        # Of the id maps that were written: two images must not have one.
        self._stems: set[str] = set()
        self._names: Counter[str] = Counter()
        self._folders: set[str] = set()
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._hinted = False
        self._marked: set[str] = set()
        self.done = 0
        self.skipped = left_out
        self.cut_short = 0

    def work(self, files: list[InputFile]) -> None:
        """Segment ``files``; what is wrong with one of them is said, and the next one follows."""
        self._names.update(file.path.name for file in files)
        self._folders.update(file.name.rpartition("/")[0] for file in files)
        with ExitStack() as stack:
            image_ids, video_ids = self._writers(stack)
            for kind, group in groupby(files, lambda file: file.kind):
                if kind == "image":
                    self._pictures(list(group), image_ids)
                    continue
                for file in group:
                    self._progress.update(self._task, description=file.path.name)
                    self._done(file, partial(self._video, file, video_ids))

    def _pictures(self, files: Iterable[InputFile], ids: PanopticWriter | None) -> None:
        ahead = Ahead(map(_read, files), _READ_AHEAD)
        try:
            with Beside(partial(self._keep, ids=ids), _AT_A_TIME) as beside:
                for file, image in ahead:
                    if isinstance(image, ImageError):
                        beside.put(_Picture(file, image))
                    elif (problem := self._prepare(image, file.path)) is not None:
                        beside.put(_Picture(file, problem))
                    else:
                        beside.put_made(partial(self._picture, file, image))
        finally:
            ahead.close()

    def _keep(self, picture: _Picture, ids: PanopticWriter | None) -> None:
        """Write what was made of a picture, in the order of the pictures."""
        self._progress.update(self._task, description=picture.file.path.name)
        self._done(picture.file, partial(self._write, picture, ids))

    def _done(self, file: InputFile, work: Callable[[], None]) -> None:
        """Count ``file`` as done by ``work``, or as skipped."""
        try:
            work()
            self.done += 1
        except ImageError as error:
            self._skip(str(error))
        except DatasetError as error:
            # Somebody else's PNG where its id map would be.
            self._skip(f"{file.path}: {error}")
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            self._skip(f"{file.path}: its name is too long for a result to be called after it")
        self._progress.advance(self._task)

    def _skip(self, problem: str) -> None:
        self.skipped += 1
        self._progress.console.print(f"[red]skipped[/] {_plain(problem)}")

    def _writers(self, stack: ExitStack) -> tuple[PanopticWriter | None, PanopticWriter | None]:
        """Writers of id maps for pictures and for frames of videos; one and the same, or none."""
        form = self._args.ids or "coco"
        if form == "none":
            return None, None
        writer = PanopticWriter(
            self._args.output / "panoptic", self._segmenter.taxonomy, ids=form, add_to=True
        )
        # Also when the user interrupts: what is there then is complete and may be used.
        stack.callback(lambda: writer.close() if writer.begun else writer.let_go())
        # A video's frames are many; but without its overlay they are all that is left to write.
        return writer, writer if self._args.ids or self._args.no_overlay else None

    def _picture(self, file: InputFile, image: npt.NDArray[np.uint8]) -> _Picture:
        """What is made of a picture, on a thread of its own."""
        result = self._segmenter.segment(image)
        if self._args.no_overlay:
            return _Picture(file, result)
        try:
            return _Picture(file, result, _jpeg(self._draw(image, result)))
        except ImageError as error:
            # The id map can still be written.
            return _Picture(file, result, error)

    def _write(self, picture: _Picture, ids: PanopticWriter | None) -> None:
        file, result, overlay = picture
        if isinstance(result, ImageError):
            raise result
        self._count(result)
        # First what may fail for its name.
        if ids is not None:
            called = self._id_of(file)
            # The bare name, as data sets have it, where that tells which picture it was.
            alone = self._names[file.path.name] == 1
            self._folder("panoptic")
            ids.add(called, result, image_file=file.path.name if alone else str(file.path))
        if isinstance(overlay, ImageError):
            raise overlay
        if overlay is not None:
            write_bytes(self._folder("overlays") / f"{file.name}.jpg", overlay)

    def _folder(self, name: str) -> Path:
        """The folder called ``name`` in the output, there and marked as one of results."""
        folder: Path = self._args.output / name
        if name not in self._marked:
            mark_results(folder)
            self._marked.add(name)
        return folder

    def _id_of(self, file: InputFile) -> int | str:
        """What the picture is called in the panoptic JSON, as no other one there."""
        called = image_id(file.name)
        number = 1
        while file_stem(called) in self._stems:
            # Two folders with one picture's name in both; ``file.name`` is unique, but may be taken all the
            # same, by x_leftImg8bit.png as by x.png.
            called = file.name if number == 1 else f"{file.name}_{number}"
            number += 1
        self._stems.add(file_stem(called))
        return called

    def _frames_folder(self, file: InputFile) -> str:
        """Where the id maps of a video's frames go: not where those of pictures in such a folder do."""
        folder = file.name
        while folder in self._folders:
            folder += "_frames"
        self._folders.add(folder)
        return folder

    def _video(self, file: InputFile, ids: PanopticWriter | None) -> None:
        video = Video(file.path)
        folder = self._frames_folder(file)
        task = self._progress.add_task(f"  {file.path.name}", total=video.length)
        tracker = None if self._args.no_track else InstanceTracker()
        rate = video.fps or _DEFAULT_RATE
        if video.fps is None and not self._args.no_overlay:
            self._progress.console.print(
                f"note: {_plain(str(file.path))} does not tell its rate, or one of 1000 a second and more; "
                f"its overlay plays at {_DEFAULT_RATE:g}"
            )
        number = 0
        overlay: VideoWriter | None = None

        def keep(frame: _Frame) -> None:
            nonlocal number, overlay
            result = frame.result
            self._count(result)
            if tracker is not None:
                result = tracker.update(result, number / rate)
            if not self._args.no_overlay:
                if overlay is None:
                    # Not before: an unreadable first frame must not leave an encoder behind.
                    path = self._folder("overlays") / f"{file.name}.mp4"
                    overlay = stack.enter_context(VideoWriter(path, rate))
                overlay.write(self._draw(frame.image, result))
            if ids is not None:
                called = f"{folder}/{number:06d}"
                self._stems.add(called)
                self._folder("panoptic")
                ids.add(called, result)
            number += 1
            self._progress.advance(task)

        try:
            with ExitStack() as stack, Beside(keep, _AT_A_TIME) as beside:
                for image in video.frames():
                    problem = self._prepare(image, file.path)
                    if problem is not None:
                        raise problem
                    beside.put_made(partial(self._frame, image))
        except KeyboardInterrupt:
            if number and not self._args.no_overlay:
                self._progress.console.print(
                    f"{_plain(str(file.path))}: stopped at frame {number}; its overlay is not kept"
                )
            raise
        finally:
            video.close()
            self._progress.remove_task(task)
        if ids is not None and number:
            # Frames of an earlier and longer video of that name.
            later = number
            while ids.drop(f"{folder}/{later:06d}"):
                later += 1
        # Containers count a frame or two too many; a tenth missing is another matter.
        if video.length is not None and number < 0.9 * video.length:
            self.cut_short += 1
            self._progress.console.print(
                f"[red]cut short[/] {_plain(str(file.path))}: {number} of {video.length} frames can be "
                "read; the results hold those"
            )

    def _frame(self, image: npt.NDArray[np.uint8]) -> _Frame:
        return _Frame(image, self._segmenter.segment(image))

    def _prepare(self, image: npt.NDArray[np.uint8], path: Path) -> ImageError | None:
        """Have the engine for an image ready; why there can be none.

        On the thread that an interrupt reaches: building one takes a while, as may waiting for one who does.
        """
        from rt_panoptic_core.segmenter import check_image

        try:
            self._segmenter.prepare(check_image(image))
        except (ConfigError, ImageError) as error:
            return ImageError(f"{path}: {error}")
        if self._begun is None:
            self._begun = time.perf_counter()
        return None

    def _count(self, result: PanopticResult) -> None:
        """Count an image, and say once that many sizes need as many engines, and what to do about it."""
        self._images += 1
        height, width = result.semantic.shape
        self._sizes[self._segmenter.engine_size((height, width))] += 1
        if len(self._sizes) == MANY_SIZES and not self._hinted:
            self._hinted = True
            self._progress.console.print(f"note: {many_sizes_hint(self._sizes)}")

    def _draw(self, image: npt.NDArray[np.uint8], result: PanopticResult) -> npt.NDArray[np.uint8]:
        args = self._args
        return draw_overlay(
            image,
            result,
            self._segmenter.taxonomy,
            opacity=args.opacity,
            names=not args.no_names,
            legend=not args.no_legend,
            show_ids=args.show_ids,
        )

    def summary(self) -> str:
        """What was done, in a few lines."""
        engine = self._segmenter.engine
        lines = []
        if self._begun is not None and self._images and engine is not None:
            seconds = time.perf_counter() - self._begun
            pace = f", {self._images / seconds:.1f} a second" if self._images > 1 else ""
            lines.append(
                f"{counted(self._images, 'image')} in {seconds:.1f} s{pace}, with {engine.spec.label}"
            )
            if self._args.engine == "auto" and engine.spec.engine == "pytorch":
                from rt_panoptic_core.engines.select import missing_for

                missing = missing_for("openvino", "cpu")
                if engine.spec.device == "cpu" and missing is not None:
                    lines.append(f"OpenVINO would be faster: {missing}")
        if self.skipped:
            lines.append(f"{self.skipped} of {counted(self.done + self.skipped, 'input')} skipped")
        if self.cut_short:
            lines.append(f"{counted(self.cut_short, 'video')} cut short")
        if self._images:
            lines.append(f"results: {self._args.output}")
        licence = self._segmenter.checkpoint.metadata.get("licence")
        if licence:
            lines.append(f"model: {model_name(self._segmenter.checkpoint)}; licence: {licence}")
        return "\n".join(lines)


def image_id(name: str) -> int | str:
    """What a data set's ground truth calls the picture called ``name``; ``name`` for any other picture.

    COCO's twelve digits are a number, and Cityscapes leaves out the folder and ``_leftImg8bit``.
    """
    last = name.rsplit("/", 1)[-1]
    if len(last) == 12 and last.isascii() and last.isdigit():
        return int(last)
    if last.endswith("_leftImg8bit"):
        return last.removesuffix("_leftImg8bit")
    return name


def _read(file: InputFile) -> tuple[InputFile, npt.NDArray[np.uint8] | ImageError]:
    try:
        return file, read_image(file.path, most_pixels=MAX_PIXELS)
    except ImageError as error:
        return file, error


def _jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        height, width = picture.shape[:2]
        raise ImageError(f"an overlay of {height}x{width} cannot be encoded as JPEG")
    return bytes(data.tobytes())


def _plain(text: str) -> str:
    """``text`` for a rich console, its brackets meaning themselves."""
    from rich.markup import escape

    return escape(text)


def _progress(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        # Where nobody watches it would leave empty lines.
        disable=not console.is_terminal,
    )
