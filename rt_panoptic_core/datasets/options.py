"""Options of data sets, compared with what their opener says that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from rt_panoptic_core.errors import ConfigError

_NO_OPTIONS = ("root", "split", "taxonomy", "return")
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "null",
}


def fitted_options(
    kind: str, opener: Callable[..., Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """``options`` in the types of ``opener``'s parameters: a whole number serves as any number.

    Args:
        kind: of the data set, for errors.
        opener: takes (root, split, taxonomy, **options), all of them annotated.
        options: as YAML has them.

    Raises:
        ConfigError: an option that the opener has not, or a value of another type.
    """
    hints = {name: hint for name, hint in get_type_hints(opener).items() if name not in _NO_OPTIONS}
    unknown = sorted(set(options) - set(hints))
    if unknown:
        raise ConfigError(
            f"data set {kind!r}: unknown option {unknown[0]!r}; one of {', '.join(sorted(hints)) or 'none'}"
        )
    fitted = {}
    for name, value in options.items():
        try:
            fitted[name] = _fitted(value, hints[name])
        except ValueError:
            raise ConfigError(
                f"data set {kind!r}: option {name!r} is {value!r}; it must be {_words(hints[name])}"
            ) from None
    return fitted


def _fitted(value: Any, hint: Any) -> Any:
    """``value`` as ``hint`` has it.

    Raises:
        ValueError: it is of another type.
    """
    if _is_union(hint):
        return _fitted_one_of(value, get_args(hint))
    if _is_list(hint):
        if not isinstance(value, list | tuple):
            raise ValueError
        return tuple(_fitted(item, get_args(hint)[0]) for item in value)
    if hint is float and type(value) is str:
        # YAML takes 1e-3, which has no point, for a text.
        return float(value)
    # Exact comparisons: to Python, True is a whole number.
    if type(value) is not hint and not (hint is float and type(value) is int):
        raise ValueError
    return value


def _fitted_one_of(value: Any, hints: Sequence[Any]) -> Any:
    for hint in hints:
        try:
            return _fitted(value, hint)
        except ValueError:
            continue
    raise ValueError


def _words(hint: Any) -> str:
    """What a value of ``hint`` is called."""
    if _is_union(hint):
        return " or ".join(_words(each) for each in get_args(hint))
    if _is_list(hint):
        return f"a list, each of its items {_words(get_args(hint)[0])}"
    return _WORDS[hint]


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _is_list(hint: Any) -> bool:
    return get_origin(hint) in (Sequence, list, tuple)
