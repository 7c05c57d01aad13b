"""Whether the categories of a data set's files are what the label set takes them for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rt_panoptic_core.errors import DatasetError
from rt_panoptic_core.taxonomy import Taxonomy
from rt_panoptic_core.wording import counted


def check_categories(
    title: str, categories: Mapping[int, Mapping[str, Any]], used: Iterable[int], taxonomy: Taxonomy
) -> None:
    """Accept category ids that ``taxonomy`` has as source ids, with the same meaning.

    Args:
        title: of the data set, for errors.
        categories: what the file says of them, by id: ``name`` and, where it tells, ``isthing``.
        used: the ids that annotations have.
        taxonomy: the label set.

    Raises:
        DatasetError: ids that the taxonomy lacks, a name that it has for another id, or stuff that it takes
            for a thing.
    """
    known = taxonomy.class_id_by_source
    ids = set(used)
    missing = sorted(ids - set(known))
    if missing:
        named = ", ".join(
            f"{i} ({categories[i]['name']})" if i in categories else str(i) for i in missing[:5]
        )
        raise DatasetError(
            f"{title}: taxonomy {taxonomy.name!r} lacks {counted(len(missing), 'category', 'categories')}: "
            f"{named}; train with a taxonomy of this data set"
        )
    for number in sorted(ids & set(categories)):
        _check_meaning(title, categories[number], known[number], taxonomy)


def _check_meaning(
    title: str, category: Mapping[str, Any], class_id: int, taxonomy: Taxonomy
) -> None:
    """Refuse a taxonomy whose numbers mean something else: it would be learnt without a word."""
    ours = taxonomy[class_id]
    name, number = category["name"], category["id"]
    if name != ours.name and name in taxonomy.names:
        raise DatasetError(
            f"{title}: its category {number} is {name!r}, but source_id {number} of taxonomy "
            f"{taxonomy.name!r} is {ours.name!r}; correct the source_id of both there"
        )
    if ours.is_thing and not category.get("isthing", True):
        raise DatasetError(
            f"{title}: category {number} ({name!r}) is stuff, but {ours.name!r} of taxonomy "
            f"{taxonomy.name!r} is a thing; where nothing is told apart it cannot be one"
        )
