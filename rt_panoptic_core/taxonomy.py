"""A label set: names, colours, and which classes are things.

A class is known by its ``class_id``, its place 0 … N-1 in the taxonomy: that is what the network
predicts and what label images hold. ``source_id`` is the number that the data set itself gives the
class (Cityscapes ``labelId``, COCO ``category_id``) and matters only where files are read or written.
"""

from __future__ import annotations

import colorsys
import operator
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from rt_panoptic_core.errors import TaxonomyError
from rt_panoptic_core.wording import shown

UNLABELLED = 255
"""Value of a pixel without a class in every uint8 label image."""

MAX_CLASSES = 255
"""Class ids fit a uint8 and leave :data:`UNLABELLED` free."""


@dataclass(frozen=True)
class Category:
    """One class: ``class_id`` in [0, N), its name, RGB colour, thing or stuff, id in its data set."""

    class_id: int
    name: str
    color: tuple[int, int, int]
    is_thing: bool
    source_id: int


class Taxonomy:
    """An ordered, immutable set of :class:`Category`."""

    def __init__(self, name: str, categories: tuple[Category, ...]) -> None:
        """Check and hold ``categories``.

        Raises:
            TaxonomyError: no category, more than 255, class ids that are not 0 … N-1 in order, a name or
                source id used twice, or a colour outside 0 … 255.
        """
        if not 1 <= len(categories) <= MAX_CLASSES:
            raise TaxonomyError(
                f"taxonomy {name!r}: {len(categories)} classes; it must have 1 to {MAX_CLASSES}"
            )
        names: set[str] = set()
        sources: set[int] = set()
        for index, category in enumerate(categories):
            where = f"taxonomy {name!r}, class {category.name!r}"
            if category.class_id != index:
                raise TaxonomyError(
                    f"{where}: class_id {category.class_id}; ids must count up from 0, here {index}"
                )
            if not category.name or category.name in names:
                raise TaxonomyError(f"{where}: the name is empty or used twice; rename it")
            if category.source_id in sources:
                raise TaxonomyError(f"{where}: source_id {category.source_id} is used twice")
            if len(category.color) != 3 or not all(0 <= c <= 255 for c in category.color):
                raise TaxonomyError(
                    f"{where}: colour {list(category.color)}; it must be [r, g, b], each 0 to 255"
                )
            names.add(category.name)
            sources.add(category.source_id)
        self.name = name
        self.categories = categories

    def __len__(self) -> int:
        return len(self.categories)

    def __iter__(self) -> Iterator[Category]:
        return iter(self.categories)

    def __getitem__(self, class_id: int) -> Category:
        try:
            return self.categories[class_id]
        except IndexError:
            raise IndexError(
                f"class id {class_id}: taxonomy {self.name!r} has 0 to {len(self) - 1}, and {UNLABELLED} is "
                "what has no class"
            ) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Taxonomy) and self.categories == other.categories

    def __hash__(self) -> int:
        return hash(self.categories)

    def __repr__(self) -> str:
        return f"Taxonomy({self.name!r}, {len(self.thing_ids)} things, {len(self.stuff_ids)} stuff)"

    @cached_property
    def thing_ids(self) -> tuple[int, ...]:
        """Class ids of the things, rising: box class t of the network is class ``thing_ids[t]``."""
        return tuple(c.class_id for c in self.categories if c.is_thing)

    @cached_property
    def stuff_ids(self) -> tuple[int, ...]:
        """Class ids of the stuff, rising."""
        return tuple(c.class_id for c in self.categories if not c.is_thing)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Class names by class id."""
        return tuple(c.name for c in self.categories)

    @cached_property
    def is_thing(self) -> npt.NDArray[np.bool_]:
        """bool [256]: whether a class id is a thing; False for unused ids and for 255."""
        table = np.zeros(256, dtype=bool)
        table[list(self.thing_ids)] = True
        return table

    @cached_property
    def palette(self) -> npt.NDArray[np.uint8]:
        """uint8 [256, 3] RGB colour by class id; black for unused ids and for 255."""
        table = np.zeros((256, 3), dtype=np.uint8)
        for category in self.categories:
            table[category.class_id] = category.color
        return table

    @cached_property
    def class_id_by_source(self) -> dict[int, int]:
        """Class id by the data set's own id."""
        return {c.source_id: c.class_id for c in self.categories}

    def class_id(self, name: str) -> int:
        """Class id of the class called ``name``.

        Raises:
            TaxonomyError: there is none.
        """
        for category in self.categories:
            if category.name == name:
                return category.class_id
        raise TaxonomyError(
            f"taxonomy {self.name!r} has no class {name!r}; its classes: {', '.join(self.names)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`from_dict` reads back: the form of the YAML files."""
        return {
            "name": self.name,
            "classes": [
                {
                    "name": c.name,
                    "color": list(c.color),
                    "thing": c.is_thing,
                    "source_id": c.source_id,
                }
                for c in self.categories
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], origin: str = "taxonomy") -> Taxonomy:
        """Taxonomy from ``{name, classes: [{name, thing, color?, source_id?}, …]}``.

        A class without a colour gets one by its place (golden-angle hues: stable, and neighbours differ);
        one without ``source_id`` gets its class id.

        Raises:
            TaxonomyError: a key is missing, unknown or of the wrong type; ``origin`` is named.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("classes"), list):
            raise TaxonomyError(f"{origin}: it must hold 'name' and a list 'classes'")
        categories = []
        for index, item in enumerate(data["classes"]):
            where = f"{origin}, class {index}"
            if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
                raise TaxonomyError(f"{where}: {shown(item)}; it must hold a text 'name'")
            if not item["name"].isprintable():
                raise TaxonomyError(f"{where}: the name {shown(item['name'])} cannot be printed")
            unknown = set(item) - {"name", "color", "thing", "source_id"}
            if unknown:
                raise TaxonomyError(
                    f"{where} ({item['name']!r}): unknown key {sorted(map(str, unknown))[0]!r}; "
                    "one of name, color, thing, source_id"
                )
            thing = item.get("thing")
            if not isinstance(thing, bool):
                raise TaxonomyError(f"{where} ({item['name']!r}): 'thing' must be true or false")
            color = item.get("color", _color_by_index(index))
            source_id = item.get("source_id", index)
            try:
                red, green, blue = (_whole(c) for c in color)
                source_id = _whole(source_id)
            except (TypeError, ValueError, OverflowError):
                raise TaxonomyError(
                    f"{where} ({item['name']!r}): colour {shown(color)}, source_id {shown(source_id)}; "
                    "they must be [r, g, b] and a whole number"
                ) from None
            categories.append(Category(index, item["name"], (red, green, blue), thing, source_id))
        try:
            return cls(str(data.get("name", "custom")), tuple(categories))
        except TaxonomyError as error:
            raise TaxonomyError(f"{origin}: {error}") from None

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> Taxonomy:
        """Taxonomy from a YAML file in the form of :meth:`to_dict`.

        Raises:
            TaxonomyError: the file cannot be read or is malformed; it is named.
        """
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        # ValueError: no UTF-8, no date, or a number of thousands of digits.
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise TaxonomyError(f"{os.fspath(path)}: not a readable YAML file: {error}") from error
        return cls.from_dict(data, os.fspath(path))

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Taxonomy:
        """Built-in taxonomy by name (``cityscapes``, ``coco``, ``camvid``), or one from a YAML file.

        Raises:
            TaxonomyError: neither a built-in name nor a readable file.
        """
        name = os.fspath(name_or_path)
        folder = resources.files("rt_panoptic_core") / "taxonomies"
        built_in = {
            file.name.removesuffix(".yaml"): file
            for file in folder.iterdir()
            if file.name.endswith(".yaml")
        }
        if name in built_in:
            text = built_in[name].read_text(encoding="utf-8")
            return cls.from_dict(yaml.safe_load(text), name)
        if Path(name).is_file():
            return cls.from_yaml(name)
        raise TaxonomyError(
            f"taxonomy {name!r}: neither built in ({', '.join(sorted(built_in))}) nor a YAML file"
        )


def _whole(value: Any) -> int:
    """``value`` if it is a whole number.

    Raises:
        TypeError: it is none; true, 2.7 and "2" are none, though int() takes them.
    """
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _color_by_index(index: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((index * 0.618033988749895) % 1.0, 0.65, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)
