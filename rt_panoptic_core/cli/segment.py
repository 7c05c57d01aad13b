"""``rt-panoptic segment``: pictures, folders and videos to overlays and id maps."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from rt_panoptic_core.cli.arguments import UsageError, number
from rt_panoptic_core.cli.model_options import add_model_options, model_name, open_segmenter
from rt_panoptic_core.cli.outputs import output_folder
from rt_panoptic_core.cli.wording import counted
from rt_panoptic_core.errors import ConfigError, ImageError
from rt_panoptic_core.files import write_bytes
from rt_panoptic_core.image_files import InputFile, Video, find_inputs, read_image
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.inference.tracking import InstanceTracker
from rt_panoptic_core.panoptic_format import PanopticWriter
from rt_panoptic_core.visualization.overlay import draw_overlay
from rt_panoptic_core.visualization.video import VideoWriter

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from rt_panoptic_core.segmenter import Segmenter

EXIT_NOTHING_DONE = 1
EXIT_SOME_SKIPPED = 3

_DEFAULT_RATE = 25.0
_MANY_SIZES = 5
_JPEG_QUALITY = 92


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.epilog = (
        "Writes OUTPUT/overlays (pictures, and .mp4 for videos) and OUTPUT/panoptic (id maps, with "
        "OUTPUT/panoptic.json). Results that are there stay, but for those of the same names. "
        "Exit status: 0 all done, 3 some inputs were skipped, 1 nothing done."
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
    files, problems = find_inputs(args.inputs, leave_out=args.output)
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
        )
        job = _Job(args, segmenter, progress, task)
        job.work(files)
    console.print(job.summary(), markup=False)
    if not job.done:
        return EXIT_NOTHING_DONE
    return EXIT_SOME_SKIPPED if problems or job.skipped else 0


def _check_output(args: argparse.Namespace) -> None:
    """Refuse a folder for the results that a folder of inputs is, or is in: it would hold no input."""
    output = args.output.resolve()
    for item in args.inputs:
        folder = Path(item)
        if folder.is_dir() and folder.resolve().is_relative_to(output):
            raise UsageError(
                f"--output {args.output}: results cannot go where the input {item} is, for results are "
                f"not taken for input; name another folder, for example --output "
                f"{args.output / 'segmented'}"
            )


@dataclass
class _Tally:
    """Where the time went, in seconds."""

    frames: int = 0
    segmenting: float = 0.0
    begun: float | None = None


class _Job:
    """One run of the command: what it writes, counts and says."""

    def __init__(
        self, args: argparse.Namespace, segmenter: Segmenter, progress: Progress, task: TaskID
    ) -> None:
        self._args = args
        self._segmenter = segmenter
        self._progress = progress
        self._task = task
        self._tally = _Tally()
        self._image_ids: set[int | str] = set()
        self._names: Counter[str] = Counter()
        self._sizes: set[tuple[int, int]] = set()
        self._hinted = False
        self.done = 0
        self.skipped = 0

    def work(self, files: list[InputFile]) -> None:
        """Segment ``files``; what is wrong with one of them is said, and the next one follows."""
        self._names.update(file.path.name for file in files)
        with ExitStack() as stack:
            image_ids, video_ids = self._writers(stack)
            for file in files:
                self._progress.update(self._task, description=file.path.name)
                try:
                    if file.kind == "image":
                        self._image(file, image_ids)
                    else:
                        self._video(file, video_ids)
                    self.done += 1
                except ImageError as error:
                    self.skipped += 1
                    self._progress.console.print(f"[red]skipped[/] {_plain(str(error))}")
                self._progress.advance(self._task)

    def _writers(self, stack: ExitStack) -> tuple[PanopticWriter | None, PanopticWriter | None]:
        """Writers of id maps for pictures and for frames of videos; one and the same, or none."""
        form = self._args.ids or "coco"
        if form == "none":
            return None, None
        writer = PanopticWriter(
            self._args.output / "panoptic", self._segmenter.taxonomy, ids=form, add_to=True
        )
        # Also when the user interrupts: what is there then is complete and may be used.
        stack.callback(lambda: writer.close() if self._image_ids else None)
        # A video's frames are many; but without its overlay they are all that is left to write.
        return writer, writer if self._args.ids or self._args.no_overlay else None

    def _image(self, file: InputFile, ids: PanopticWriter | None) -> None:
        image = read_image(file.path)
        result = self._segment(image, file.path)
        if not self._args.no_overlay:
            path = self._args.output / "overlays" / f"{file.name}.jpg"
            write_bytes(path, _jpeg(self._draw(image, result)))
        if ids is not None:
            called = image_id(file.name)
            if called in self._image_ids:
                # Two folders with one picture's name in both: ``file.name`` is unique.
                called = file.name
            self._image_ids.add(called)
            # The bare name, as data sets have it, where that tells which picture it was.
            alone = self._names[file.path.name] == 1
            ids.add(called, result, image_file=file.path.name if alone else str(file.path))

    def _video(self, file: InputFile, ids: PanopticWriter | None) -> None:
        video = Video(file.path)
        task = self._progress.add_task(f"  {file.path.name}", total=video.length)
        tracker = None if self._args.no_track else InstanceTracker()
        rate = video.fps or _DEFAULT_RATE
        path = self._args.output / "overlays" / f"{file.name}.mp4"
        number = 0
        try:
            with ExitStack() as stack:
                # An unreadable first frame must not leave an encoder behind, so it comes first.
                for number, (image, result) in enumerate(
                    self._segmented(video, file.path, tracker), start=1
                ):
                    if not self._args.no_overlay:
                        if number == 1:
                            overlay = stack.enter_context(VideoWriter(path, rate))
                        overlay.write(self._draw(image, result))
                    if ids is not None:
                        called = f"{file.name}/{number - 1:06d}"
                        self._image_ids.add(called)
                        ids.add(called, result)
                    self._progress.advance(task)
        finally:
            video.close()
            self._progress.remove_task(task)
        if number == 0:
            raise ImageError(f"{file.path}: no frame can be read; the video is damaged")
        # Containers count a frame or two too many; a tenth missing is another matter.
        if video.length is not None and number < 0.9 * video.length:
            raise ImageError(
                f"{file.path}: cut short: {number} of {video.length} frames can be read; "
                "the results hold those"
            )

    def _segmented(
        self, video: Video, path: Path, tracker: InstanceTracker | None
    ) -> Iterator[tuple[npt.NDArray[np.uint8], PanopticResult]]:
        for image in video.frames():
            result = self._segment(image, path)
            yield image, result if tracker is None else tracker.update(result)

    def _segment(self, image: npt.NDArray[np.uint8], path: Path) -> PanopticResult:
        from rt_panoptic_core.segmenter import check_image

        try:
            # The engine is built here, so that its time is not counted.
            size = check_image(image)
            self._segmenter.prepare(size)
            self._hint(self._segmenter.engine_size(size))
            begun = time.perf_counter()
            if self._tally.begun is None:
                self._tally.begun = begun
            result = self._segmenter.segment(image)
        except (ConfigError, ImageError) as error:
            raise ImageError(f"{path}: {error}") from error
        self._tally.segmenting += time.perf_counter() - begun
        self._tally.frames += 1
        return result

    def _hint(self, size: tuple[int, int]) -> None:
        """Say once that pictures of many sizes need as many engines, and what to do about it."""
        self._sizes.add(size)
        if len(self._sizes) == _MANY_SIZES and not self._hinted:
            self._hinted = True
            height, width = (max(sides) for sides in zip(*self._sizes, strict=True))
            self._progress.console.print(
                f"The pictures have many sizes, and an engine is built for each; "
                f"--size {height}x{width} would use one for all."
            )

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
        tally, engine = self._tally, self._segmenter.engine
        lines = []
        if tally.begun is not None and tally.frames and engine is not None:
            lines.append(
                f"{counted(tally.frames, 'image')} in "
                f"{time.perf_counter() - tally.begun:.1f} s, "
                f"{tally.segmenting / tally.frames * 1e3:.1f} ms each in {engine.spec.label}"
            )
        if self.skipped:
            lines.append(f"{self.skipped} of {counted(self.done + self.skipped, 'input')} skipped")
        if tally.frames:
            lines.append(f"results: {self._args.output}")
        licence = self._segmenter.checkpoint.metadata.get("licence")
        if licence:
            lines.append(f"model: {model_name(self._segmenter.checkpoint)} ({licence})")
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
    )
