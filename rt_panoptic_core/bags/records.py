"""What is known of each frame after an evaluation, as rows of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low

from rt_panoptic_core.errors import BagError
from rt_panoptic_core.files import write_text
from rt_panoptic_core.taxonomy import Taxonomy

ANSWERED = "answered"
DROPPED = "dropped"
UNREADABLE = "unreadable"
FAILED = "failed"

_GAP = 2.5
_REMEMBERED = 31


@dataclass
class FrameRecord:
    """One row.

    Attributes:
        topic: the image topic.
        number: of the topic's messages, from 0.
        stamp: of the header, nanoseconds.
        time: log time, nanoseconds.
        status: ``answered``, ``dropped`` (the node gave no result), ``unreadable`` (the message does not
            decode) or ``failed`` (the engine).
        note: ``gap``, ``back`` (the stamp is earlier than the one before) or ``repeat`` (the same), or
            empty.
        error: why it is unreadable or failed.
        encoding: of the message.
        height, width: of the picture; 0 where unreadable.
        instances: number of instances found.
        unlabelled: share of pixels without a class.
        flicker: share of pixels whose class changed after motion compensation; None where not compared.
        truth_stamp: of the ground truth it was measured against, or None.
        pq, sq, rq: panoptic, segmentation and recognition quality of this frame alone, in [0, 1].
        miou: mean IoU of the classes of this frame alone.
        latency: seconds from publication to the result, in real time; else None.
        shares: of pixels by class id.
    """

    topic: str
    number: int
    stamp: int
    time: int
    status: str = ANSWERED
    note: str = ""
    error: str = ""
    encoding: str = ""
    height: int = 0
    width: int = 0
    instances: int = 0
    unlabelled: float | None = None
    flicker: float | None = None
    truth_stamp: int | None = None
    pq: float | None = None
    sq: float | None = None
    rq: float | None = None
    miou: float | None = None
    latency: float | None = None
    shares: Sequence[float] = field(default=(), repr=False)


SHARE = "share "
"""Begins the name of a column that holds the share of a class."""

_COLUMNS = (
    "topic",
    "number",
    "stamp",
    "time",
    "status",
    "note",
    "error",
    "encoding",
    "height",
    "width",
    "instances",
    "unlabelled",
    "flicker",
    "truth_stamp",
    "pq",
    "sq",
    "rq",
    "miou",
    "latency",
)


class Pace:
    """Tells gaps and stamps that do not rise, from the stamps seen so far."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self._last: int | None = None
        self._steps: list[int] = []

    def note(self, stamp: int) -> str:
        """``back``, ``repeat``, ``gap`` (more than 2.5 times the usual step) or empty."""
        last, self._last = self._last, stamp
        if last is None:
            return ""
        step = stamp - last
        if step <= 0:
            return "repeat" if step == 0 else "back"
        usual = median_low(self._steps) if self._steps else step
        self._steps = [*self._steps[1 - _REMEMBERED :], step]
        return "gap" if step > _GAP * usual else ""


def write_csv(path: Path, records: Iterable[FrameRecord], taxonomy: Taxonomy) -> None:
    """Write ``records`` as CSV (UTF-8, one header line), a column ``share NAME`` for each class.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_COLUMNS, *(SHARE + name for name in taxonomy.names)])
    for record in records:
        shares: list[float | None] = list(record.shares) or [None] * len(taxonomy)
        values = [getattr(record, column) for column in _COLUMNS]
        table.writerow([_cell(value) for value in (*values, *shares)])
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table that :func:`write_csv` wrote, texts by column.

    Raises:
        BagError: it cannot be read, or is another table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BagError(f"{path}: cannot be read: {error}") from error
    missing = [name for name in _COLUMNS if name not in (table.fieldnames or ())]
    if missing:
        raise BagError(f"{path}: it is no table of frames: it has no column {missing[0]!r}")
    return rows


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else value
