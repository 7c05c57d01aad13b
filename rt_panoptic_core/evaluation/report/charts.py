"""What a report shows without pictures: tiles, tables with bars, histograms, lines, a confusion matrix.

Every function returns HTML with inline SVG; texts that are given are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT = 640, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 36
_MARK_HEIGHT = 13


@dataclass(frozen=True)
class Tile:
    """A number that matters: what it is, its value, and a few words more."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a chart: name and points; a gap where ``y`` is nan; ``color`` any of CSS."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = "var(--accent)"


@dataclass(frozen=True)
class BarRow:
    """A row of a bar table: name, share in [0, 1] (nan for none), colour of its class, further cells."""

    name: str
    share: float
    color: tuple[int, int, int] | None
    cells: Sequence[str] = ()


def percent(value: float | None, digits: int = 1) -> str:
    """``value`` in [0, 1] in percent without its sign; a dash for nan and None."""
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:.{digits}f}"


def tiles(items: Sequence[Tile]) -> str:
    """A row of tiles; the first stands out."""
    parts = []
    for index, item in enumerate(items):
        more = f'<span class="more">{escape(item.more)}</span>' if item.more else ""
        first = " first" if index == 0 else ""
        parts.append(
            f'<div class="tile{first}"><span class="name">{escape(item.name)}</span>'
            f"<b>{escape(item.value)}</b>{more}</div>"
        )
    return f'<div class="tiles">{"".join(parts)}</div>'


def swatch(color: tuple[int, int, int]) -> str:
    """A small square of an RGB colour."""
    return f'<span class="swatch" style="background:{_hex(color)}"></span>'


def bar_table(
    headings: Sequence[str], groups: Sequence[tuple[str, Sequence[BarRow]]], name: str = ""
) -> str:
    """A table with a bar for every row, in groups.

    Args:
        headings: of the bar and of the further cells.
        groups: title (may be empty) and rows.
        name: heading of the names.
    """
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = []
    for title, rows in groups:
        if not rows:
            continue
        if title:
            body.append(
                f'<tr class="group"><td>{escape(title)}</td><td colspan="{len(headings)}"></td></tr>'
            )
        for row in rows:
            mark = swatch(row.color) if row.color is not None else ""
            cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
            body.append(
                f'<tr><td>{mark}{escape(row.name)}</td><td class="bar">{_bar(row)}</td>{cells}</tr>'
            )
    return (
        f'<div class="scroll"><table><thead><tr><th>{escape(name)}</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def histogram(
    values: Sequence[float], *, unit: str, bins: int = 40, marks: Sequence[tuple[str, float]] = ()
) -> str:
    """How often values occur.

    The scale ends at the 99.5th percentile or the last mark: whatever lies beyond is in the last bin.

    Args:
        values: any number of them; nothing is drawn for none.
        unit: of the values.
        bins: at most so many.
        marks: name and value of vertical lines.
    """
    data = np.asarray(values, dtype=np.float64)
    if not data.size:
        return ""
    low = float(data.min())
    high = max([float(np.percentile(data, 99.5)), *(value for _, value in marks)])
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    count, edges = np.histogram(np.minimum(data, high), bins=bins, range=(low, high))
    # Above the highest bar is a line of room for every name.
    room = _MARK_HEIGHT * len(marks)
    frame = _Frame((low, high), (0.0, float(count.max())), top=_TOP + 10 + room)
    parts = [frame.axes(unit, "", whole_y=True)]
    for number, left, right in zip(count.tolist(), edges[:-1], edges[1:], strict=True):
        if number:
            x1, x2 = frame.x(float(left)), frame.x(float(right))
            top = frame.y(number)
            parts.append(
                f'<rect x="{x1:.1f}" y="{top:.1f}" width="{max(x2 - x1 - 1, 0.5):.1f}" '
                f'height="{frame.bottom - top:.1f}" fill="var(--accent)">'
                f"<title>{left:.3g} to {right:.3g} {escape(unit)}: {number}</title></rect>"
            )
    for index, (name, value) in enumerate(marks):
        x = frame.x(value)
        anchor = "end" if x > _WIDTH * 0.75 else "start"
        shift = -4 if anchor == "end" else 4
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{frame.bottom}" '
            'stroke="var(--bad)" stroke-dasharray="4 3"/>'
            f'<text class="value" x="{x + shift:.1f}" y="{_TOP + 10 + _MARK_HEIGHT * index}" '
            f'text-anchor="{anchor}">{escape(name)} {value:.3g} {escape(unit)}</text>'
        )
    return _svg(parts, "histogram")


def columns_chart(
    labels: Sequence[str], shares: Sequence[float], below: Sequence[str], title: str
) -> str:
    """A column for every label, ``shares`` in [0, 1] (nan for none), and a second line of text below."""
    if not labels:
        return ""
    frame = _Frame((0.0, float(len(labels))), (0.0, 1.0), bottom=52)
    parts = [frame.axes("", "%", x_ticks=False)]
    for index, (label, share, text) in enumerate(zip(labels, shares, below, strict=True)):
        middle = frame.x(index + 0.5)
        width = 0.66 * (frame.x(1.0) - frame.x(0.0))
        if not math.isnan(share):
            top = frame.y(share)
            parts.append(
                f'<rect x="{middle - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" rx="3" '
                f'height="{max(frame.bottom - top, 0.5):.1f}" fill="var(--accent)"/>'
                f'<text class="value" x="{middle:.1f}" y="{top - 4:.1f}" text-anchor="middle">'
                f"{percent(share, 0)}</text>"
            )
        parts.append(
            f'<text x="{middle:.1f}" y="{frame.bottom + 16}" text-anchor="middle">{escape(label)}</text>'
            f'<text x="{middle:.1f}" y="{frame.bottom + 31}" text-anchor="middle">{escape(text)}</text>'
        )
    return _svg(parts, title)


def line_chart(
    lines: Sequence[Line],
    *,
    x_title: str,
    y_title: str = "",
    y_range: tuple[float, float] | None = None,
    spans: Sequence[tuple[float, float, str]] = (),
) -> str:
    """Lines over a common axis: a timeline.

    Args:
        lines: nothing is drawn if none has a point.
        x_title: unit of the x axis.
        y_title: unit of the y axis.
        y_range: of the y axis; that of the points for None.
        spans: from, to, and name of stretches to shade.
    """
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y if not math.isnan(y)]
    if not xs or not ys:
        return ""
    low, high = y_range or (min(0.0, min(ys)), max(ys))
    if high <= low:
        high = low + 1.0
    frame = _Frame((min(xs), max(max(xs), min(xs) + 1e-9)), (low, high))
    parts = []
    for start, end, name in spans:
        x1, x2 = frame.x(start), frame.x(end)
        parts.append(
            f'<rect x="{x1:.1f}" y="{_TOP}" width="{max(x2 - x1, 1):.1f}" '
            f'height="{frame.bottom - _TOP}" fill="var(--bad)" opacity=".16">'
            f"<title>{escape(name)}</title></rect>"
        )
    parts.append(frame.axes(x_title, y_title))
    for line in lines:
        path, pen_down = [], False
        for x, y in zip(line.x, line.y, strict=True):
            if math.isnan(y):
                pen_down = False
                continue
            path.append(f"{'L' if pen_down else 'M'}{frame.x(x):.1f} {frame.y(y):.1f}")
            pen_down = True
        parts.append(
            f'<path d="{"".join(path)}" fill="none" stroke="{escape(line.color)}" stroke-width="1.6" '
            f'stroke-linejoin="round" stroke-linecap="round"><title>{escape(line.name)}</title></path>'
        )
    legend = ""
    if len(lines) > 1:
        entries = "".join(
            f'<span><span class="swatch" style="background:{escape(line.color)}"></span>'
            f"{escape(line.name)}</span>"
            for line in lines
        )
        legend = f'<div class="legend">{entries}</div>'
    return legend + _svg(parts, "lines")


def confusion_matrix(
    names: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    confusion: npt.NDArray[np.int64],
    most: int = 30,
) -> str:
    """Share of each true class's pixels that went to each class; rows sum to 100 %.

    Args:
        names: of the classes.
        colors: RGB, of the classes.
        confusion: int64 [C, C + 1], pixels by true and predicted class, last column unlabelled.
        most: with more classes that occur, only so many with the most pixels are shown.
    """
    truth, predicted = confusion.sum(axis=1), confusion[:, :-1].sum(axis=0)
    by_pixels = np.argsort(-(truth + predicted), kind="stable")[:most]
    present = sorted(int(i) for i in by_pixels if truth[i] + predicted[i])
    if not present:
        return ""
    columns = [*present, len(names)]
    shown = [*(names[i] for i in present), "unlabelled"]
    head = "".join(f"<th><span>{escape(name)}</span></th>" for name in shown)
    rows = []
    for row in present:
        cells = []
        for column in columns:
            share = confusion[row, column] / truth[row] if truth[row] else 0.0
            text = f"{100 * share:.0f}" if share >= 0.005 else ""
            own = ' class="own"' if row == column else ""
            target = "unlabelled" if column == len(names) else names[column]
            cells.append(
                f'<td{own} style="background:rgba(var(--heat),{0.85 * share**0.6:.3f})" '
                f'title="{escape(names[row])} as {escape(target)}: {100 * share:.2f} %">{text}</td>'
            )
        rows.append(f"<tr><th>{escape(names[row])} {swatch(colors[row])}</th>{''.join(cells)}</tr>")
    return (
        '<div class="scroll"><table class="confusion"><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table, the first column left, the others right; nothing for no rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def side_by_side(*parts: tuple[str, str]) -> str:
    """``(title, HTML)`` pairs beside each other where there is room; empty ones are left out."""
    shown = "".join(f"<div><h3>{escape(title)}</h3>{body}</div>" for title, body in parts if body)
    return f'<div class="columns">{shown}</div>' if shown else ""


class _Frame:
    """Where values lie in a chart."""

    def __init__(
        self,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        *,
        bottom: int = _BOTTOM,
        top: int = _TOP + 10,
    ) -> None:
        """``top`` is where the highest value lies: the default has room for a number above its column."""
        self._x_range, self._y_range = x_range, y_range
        self.bottom = _HEIGHT - bottom
        self.top = top

    def x(self, value: float) -> float:
        low, high = self._x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y_range
        return self.bottom - (value - low) / max(high - low, 1e-12) * (self.bottom - self.top)

    def axes(
        self, x_title: str, y_title: str, *, x_ticks: bool = True, whole_y: bool = False
    ) -> str:
        parts = []
        scale = 100.0 if y_title == "%" else 1.0
        for tick in _ticks(*self._y_range, whole=whole_y):
            y = self.y(tick)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * scale:g}</text>'
            )
        if y_title:
            parts.append(f'<text x="4" y="{_TOP}">{escape(y_title)}</text>')
        if x_ticks:
            for tick in _ticks(*self._x_range):
                parts.append(
                    f'<text x="{self.x(tick):.1f}" y="{self.bottom + 16}" '
                    f'text-anchor="middle">{tick:g}</text>'
                )
        if x_title:
            middle = (_LEFT + _WIDTH - _RIGHT) / 2
            parts.append(
                f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(x_title)}</text>'
            )
        return "".join(parts)


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round values between ``low`` and ``high``, about five."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / 4))
    for factor in (1.0, 2.0, 5.0, 10.0):
        if span / (step * factor) <= 6:
            step *= factor
            break
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _bar(row: BarRow) -> str:
    if math.isnan(row.share):
        return '<span class="faint">–</span>'
    color = "var(--accent)" if row.color is None else _hex(row.color)
    # A thin line in the text's colour keeps bars of near-black and near-white classes visible.
    return (
        '<svg viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="14" rx="1"/>'
        f'<rect width="{100 * row.share:.2f}" height="14" rx="1" fill="{color}" '
        'stroke="var(--soft)" stroke-width="1" vector-effect="non-scaling-stroke"/></svg>'
    )


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
