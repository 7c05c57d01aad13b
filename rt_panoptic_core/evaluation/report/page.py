"""The page of a report: head, navigation, sections, style."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rt_panoptic_core.evaluation.report.style import SCRIPT, STYLE
from rt_panoptic_core.files import write_text


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: heading and entry in the navigation.
        body: HTML, as :mod:`charts` and :mod:`pictures` make it.
        note: a sentence under the heading, plain text.
    """

    title: str
    body: str
    note: str = ""

    @property
    def anchor(self) -> str:
        """The section's id in the page."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


class Page:
    """A report that :meth:`write` makes one HTML file of, for light and dark, wide and narrow screens."""

    def __init__(
        self, title: str, subtitle: str = "", facts: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Start an empty report.

        Args:
            title: plain text.
            subtitle: a line under it, plain text.
            facts: ``(name, value)`` pairs under that, plain text.
        """
        self.title = title
        self.subtitle = subtitle
        self.facts = tuple(facts)
        self.sections: list[Section] = []

    def add(self, section: Section) -> None:
        """Append a section; one without a body is left out."""
        if section.body:
            self.sections.append(section)

    def html(self) -> str:
        """The whole page."""
        navigation = "".join(
            f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in self.sections
        )
        facts = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in self.facts
        )
        sections = "\n".join(_section(section) for section in self.sections)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
            f"<header><h1>{escape(self.title)}</h1>"
            + (f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else "")
            + (f'<dl class="facts">{facts}</dl>' if facts else "")
            + f"</header>\n<nav>{navigation}</nav>\n<main>\n{sections}\n</main>\n"
            f'<dialog id="zoom"><img alt=""></dialog>\n<script>{SCRIPT}</script>\n'
            "</body>\n</html>\n"
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page atomically.

        Raises:
            OSError: the file cannot be written.
        """
        write_text(path, self.html())


def _section(section: Section) -> str:
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    return f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>{note}{section.body}</section>'
