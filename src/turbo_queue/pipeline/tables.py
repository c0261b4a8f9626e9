"""From a table of a TOML file to the keyword arguments of what it configures, checked. Pure."""

from __future__ import annotations

import inspect
import os
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from turbo_queue.errors import SettingsError
from turbo_queue.pipeline.naming import did_you_mean

#: Names stdin or stdout where a path is expected, as is usual.
STANDARD_STREAM = "-"

#: Arguments that may hold a password, and so are not shown.
_SECRETIVE = {"settings", "url"}

_PLAIN_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}


def arguments_for(
    configured: Callable[..., Any],
    table: Mapping[str, Any],
    *,
    folder: Path,
    given: Collection[str] = (),
) -> dict[str, Any]:
    """The keyword arguments that a table stands for.

    Args:
        configured: A class or a function; its signature says what there may be.
        table: Names and values.
        folder: What relative paths are relative to.
        given: Names of arguments that come from elsewhere.

    Raises:
        SettingsError: a name or a value does not fit.

    Example:
        >>> def connect(host: str, port: int = 9092): ...
        >>> arguments_for(connect, {"host": "localhost"}, folder=Path())
        {'host': 'localhost'}
    """
    parameters = inspect.signature(configured).parameters.values()
    known = [each for each in parameters if each.name not in given and each.kind not in _COLLECTING]
    names = [each.name for each in known]
    takes_others = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    for name in () if takes_others else table:
        if name not in names:
            raise SettingsError(
                f"there is no {name!r}{did_you_mean(name, names)}; there are {', '.join(names)}"
            )
    for each in known:
        if each.default is inspect.Parameter.empty and each.name not in table:
            raise SettingsError(f"{each.name!r} is missing")
    hints = _hints_of(configured)
    return {
        name: _fitted(name, value, hints.get(name, Any), folder) for name, value in table.items()
    }


_COLLECTING = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _hints_of(configured: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(
            configured.__init__ if isinstance(configured, type) else configured  # type: ignore[misc]
        )
    except (NameError, TypeError):  # Types that are there for type checkers only.
        return {}


def _fitted(name: str, value: Any, hint: Any, folder: Path) -> Any:
    """The value, with its paths made absolute."""
    if not _fits(value, hint) and isinstance(value, str):
        value = _meant(value)  # What comes from the environment is always text.
    if not _fits(value, hint):
        found = name if name in _SECRETIVE else f"{name} is {value!r}; it"
        raise SettingsError(f"{found} must be {_described(hint)}")
    if isinstance(value, str) and _is_path(hint) and value != STANDARD_STREAM:
        return folder / value
    if isinstance(value, list) and (items := _items_of(hint)) is not None:
        return [_fitted(name, item, items, folder) for item in value]
    return value


def _meant(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def _fits(value: Any, hint: Any) -> bool:
    kind, parts = _kind_of(hint)
    if kind is Union:
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return value in parts
    if kind is Any or not isinstance(kind, type):
        return True  # Such as a type variable.
    if isinstance(value, list) and parts and issubclass(list, kind):
        return all(_fits(item, parts[0]) for item in value)
    return _is_of(value, kind)


def _is_of(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind in {bool, object}
    if isinstance(value, str):
        return kind in {str, object} or _is_path(kind)
    try:
        return isinstance(value, (int, float) if kind is float else kind)
    except TypeError:  # A protocol, which only type checkers can check.
        return True


def _kind_of(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A hint without its parameters, and these."""
    origin = get_origin(hint)
    return (Union if origin is UnionType else origin or hint), get_args(hint)


def _is_path(hint: Any) -> bool:
    kind, parts = _kind_of(hint)
    return any(map(_is_path, parts)) if kind is Union else kind in {Path, os.PathLike}


def _items_of(hint: Any) -> Any | None:
    """What the items of a list are, if it says so."""
    kind, parts = _kind_of(hint)
    if kind is Union:
        return next((items for part in parts if (items := _items_of(part)) is not None), None)
    is_list = isinstance(kind, type) and parts and issubclass(list, kind)
    return parts[0] if is_list else None


def _described(hint: Any) -> str:
    """What a value must be, in words.

    Example:
        >>> _described(int | None), _described(Literal["bytes", "json", "text"])
        ('a whole number', "'bytes', 'json' or 'text'")
    """
    names = list(dict.fromkeys(_names_of(hint)))
    if not names:
        return "left out: a file cannot hold it"
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _names_of(hint: Any) -> list[str]:
    kind, parts = _kind_of(hint)
    if kind is Union:
        return [name for part in parts for name in _names_of(part)]
    if kind is Literal:
        return [repr(part) for part in parts]
    if _is_path(kind):
        return ["a path"]
    if kind in _PLAIN_NAMES or not isinstance(kind, type):
        return [_PLAIN_NAMES[kind]] if kind in _PLAIN_NAMES else []
    return [name for each, name in ((dict, "a table"), (list, "a list")) if issubclass(each, kind)]
