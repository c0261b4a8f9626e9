"""Reads a pipeline from a TOML file: the tables [pipeline], [source] and [sink]."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from turbo_queue.connectors.interface import Sink, Source
from turbo_queue.errors import SettingsError
from turbo_queue.pipeline.naming import SINKS, SOURCES, connector, did_you_mean, found, look_in
from turbo_queue.pipeline.tables import arguments_for
from turbo_queue.settings import with_environment

_TABLES = ("pipeline", "source", "sink")


def load(path: str | PathLike[str], pipeline: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of the pipeline that a file describes.

    Modules beside the file are found from now on, in this process and those that it starts.

    Args:
        path: The file.
        pipeline: What takes the arguments; its signature says which there may be.

    Returns:
        Keyword arguments. `source` and `sink` are made; `work` stays a text such as
        `module:function`, which is there; `folder` is one beside the file and named like it, if
        the file says nothing.

    Raises:
        SettingsError: the file cannot be read or does not make sense; the text says where.
    """
    path = Path(path)
    folder = path.absolute().parent
    with _telling(str(path)):
        tables = _tables_of(path)
        look_in(folder)
        made = {
            "source": _made("source", tables["source"], SOURCES, folder),
            "sink": _made("sink", tables["sink"], SINKS, folder),
        }
        with _telling("[pipeline]"):
            arguments = arguments_for(pipeline, tables["pipeline"], folder=folder, given=made)
            _check_work(arguments["work"], folder)
    return {"folder": folder / path.stem, **arguments, **made}


def _tables_of(path: Path) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"this is not TOML: {error}") from None
    for name in tables:
        if name not in _TABLES:
            raise SettingsError(
                f"there is no table [{name}]{did_you_mean(name, _TABLES)}; there are "
                f"[pipeline], [source] and [sink]"
            )
    for name in _TABLES:
        if not isinstance(tables.get(name), dict):
            raise SettingsError(f"the table [{name}] is missing")
        with _telling(f"[{name}]"):
            tables[name] = _expanded(tables[name])
    return tables


def _expanded(value: Any) -> Any:
    """The same with values of the environment in all texts."""
    if isinstance(value, dict):
        return {name: _expanded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_expanded(each) for each in value]
    return with_environment(value) if isinstance(value, str) else value


def _made(what: str, table: dict[str, Any], group: str, folder: Path) -> Any:
    """A source or a sink."""
    table = dict(table)
    with _telling(f"[{what}]"):
        type_name = table.pop("type", None)
        if not isinstance(type_name, str):
            raise SettingsError("'type' is missing, such as type = \"json-lines\"")
        kind = connector(type_name, group, folder)
        if not callable(kind):
            raise SettingsError(f"type is {type_name!r}, which is no class")
        arguments = arguments_for(kind, table, folder=folder)
        try:
            thing = kind(**arguments)
        except Exception as error:
            raise SettingsError(f"{type_name!r} cannot be made: {error}") from error
        kinds = {"source": Source, "sink": Sink}
        if not isinstance(thing, kinds[what]):
            raise SettingsError(
                f"type is {type_name!r}, which is no {what}: it must be a subclass of "
                f"turbo_queue.connectors.{kinds[what].__name__}"
            )
        return thing


def _check_work(work: Any, folder: Path) -> None:
    """Find the work, so that a misspelt name is told before anything is started."""
    if not isinstance(work, str):
        raise SettingsError(f"work is {work!r}; it must be text such as 'module:function'")
    if not callable(found(work, folder)):
        raise SettingsError(f"work is {work!r}, which is no function")


@contextmanager
def _telling(where: str) -> Iterator[None]:
    """Say in errors where in the file they are."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from error.__cause__
