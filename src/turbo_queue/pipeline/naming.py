"""Finds what a pipeline's file names: `module:name`, or an installed type of source or sink."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from turbo_queue.errors import SettingsError

#: The groups of entry points by which packages add types of their own.
SOURCES, SINKS = "turbo_queue.sources", "turbo_queue.sinks"


def connector(name: str, group: str, folder: Path) -> Any:
    """The class of a source or a sink.

    Args:
        name: The name of an entry point, or `module:Class`.
        group: The group of entry points.
        folder: Where modules are looked for first.

    Raises:
        SettingsError: there is none, or it needs a package that is not installed.
    """
    if ":" in name:
        return found(name, folder)
    installed = {entry.name: entry for entry in entry_points(group=group)}
    if name not in installed:
        raise SettingsError(
            f"there is no type {name!r}{did_you_mean(name, installed)}; there are "
            f"{', '.join(sorted(installed))}, and a class of your own is 'module:Class'"
        )
    return _loaded(installed[name])


def found(text: str, folder: Path) -> Any:
    """What `module:name` names.

    Args:
        text: A module and a name in it.
        folder: Where modules are looked for first, to tell which file is missing.

    Raises:
        SettingsError: there is no such thing, or importing its module failed.

    Example:
        >>> found("json:dumps", Path())([1])
        '[1]'
    """
    module_name, _, path = text.partition(":")
    parts = [*module_name.split("."), *path.split(".")]
    if module_name.endswith(".py") or not all(part.isidentifier() for part in parts):
        raise SettingsError(
            f"{text!r} is no name; write 'module:name', such as 'work:clean' for the function "
            f"clean in work.py"
        )
    thing: Any = _imported(module_name, folder)
    where = getattr(thing, "__file__", None) or module_name
    for name in path.split("."):
        if not hasattr(thing, name):
            near = did_you_mean(name, vars(thing) if hasattr(thing, "__dict__") else ())
            raise SettingsError(f"there is no {name!r} in {where}{near}")
        thing = getattr(thing, name)
    return thing


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to append, if one of the known names is near.

    Example:
        >>> did_you_mean("proceses", ["folder", "processes"])
        " (did you mean 'processes'?)"
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _imported(name: str, folder: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only a module that was named can be a typo in the file.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(name, error) from None
        file = folder.joinpath(*error.name.split(".")).with_suffix(".py")
        near = did_you_mean(file.stem, (each.stem for each in file.parent.glob("*.py")))
        raise SettingsError(
            f"there is no module {error.name!r}{near}: neither is there a file {file}, nor a "
            f"package of that name installed"
        ) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything
        raise _failed(name, error) from None


def _failed(name: str, error: BaseException) -> SettingsError:
    """An error with the traceback of the user's own code."""
    frames = error.__traceback__
    while frames is not None and _is_of_importing(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    trace = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
    return SettingsError(f"importing {name!r} failed:\n{trace}")


def _is_of_importing(file: str) -> bool:
    return file in {__file__, importlib.__file__} or file.startswith("<frozen importlib")


def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ImportError as error:
        extra = (
            f": pip install '{entry.dist.name}[{entry.extras[0]}]'"
            if entry.dist and entry.extras
            else ""
        )
        raise SettingsError(f"the type {entry.name!r} cannot be used: {error}{extra}") from None


def look_in(folder: Path) -> None:
    """Find modules in this folder, in the processes that are started from now on, too.

    `multiprocessing` gives `sys.path` to those that it spawns.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
