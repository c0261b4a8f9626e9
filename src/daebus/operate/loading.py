"""Find the app that `daebus run module:app` names."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from daebus.errors import SettingsError
from daebus.service.app import Daebus, only_imports
from daebus.service.blueprint import Blueprint

#: What is looked for in a module if nothing is named.
USUAL_NAME = "app"


def load_app(target: str) -> Daebus:
    """The app that a text such as `module:app` names.

    Args:
        target: `module:app`, `package.module:object.app`, `module:make_app` for a function that
            gives the app, or just `module` for its `app`. Modules of the current directory are
            found.

    Raises:
        SettingsError: there is no such app; the text says what is wrong, with the traceback of
            what the user's own code raised.
    """
    module_name, _, attribute = target.partition(":")
    parts = module_name.split(".")
    if parts[-1] == "py" or not all(part.isidentifier() for part in parts):
        raise SettingsError(
            f"{target!r} names no app; write module:app, such as {_suggestion(module_name)}"
        )
    module = _import(module_name)
    found = _attribute(module, attribute or USUAL_NAME)
    if isinstance(found, Daebus):
        return found
    if _is_factory(found):
        return _made_by(found, target)
    hint = "; register it with an app, and name that" if isinstance(found, Blueprint) else ""
    raise SettingsError(f"{target!r} is {_kind(found)}, not a Daebus app{hint}{_apps_of(module)}")


def _import(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        with _nothing_is_served():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only a module that the user named can be a typo on the command line.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise SettingsError(
                f"there is no module {error.name!r}; it is looked for in {folder} and among the "
                f"installed packages"
            ) from None
        raise _failed(f"importing {name!r}", error) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything
        raise _failed(f"importing {name!r}", error) from None


@contextmanager
def _nothing_is_served() -> Iterator[None]:
    token = only_imports.set(True)
    try:
        yield
    finally:
        only_imports.reset(token)


def _attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            owner = f"the module {module.__name__!r}" if found is module else _kind(found)
            raise SettingsError(f"{owner} has no {name!r}{_apps_of(module)}")
        found = getattr(found, name)
    return found


def _is_factory(found: Any) -> bool:
    if not callable(found) or inspect.isclass(found):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


def _made_by(factory: Any, target: str) -> Daebus:
    try:
        with _nothing_is_served():
            app = factory()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything
        raise _failed(f"calling {target!r}", error) from None
    if not isinstance(app, Daebus):
        raise SettingsError(f"{target!r} gave {_kind(app)}, not a Daebus app")
    return app


def _failed(what: str, error: BaseException) -> SettingsError:
    trace = own_frames(error, skip=(__file__, "<frozen importlib._bootstrap", "importlib/__init__"))
    return SettingsError(f"{what} failed:\n{trace}")


def own_frames(error: BaseException, skip: tuple[str, ...]) -> str:
    """A traceback without its first frames, those of daebus: it begins in the user's code."""
    frames: TracebackType | None = error.__traceback__
    while frames is not None and any(part in frames.tb_frame.f_code.co_filename for part in skip):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()


def _kind(value: Any) -> str:
    name = "None" if value is None else type(value).__name__
    return name if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _apps_of(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Daebus)]
    return f". It has: {', '.join(f'{module.__name__}:{name}' for name in names)}" if names else ""


def _suggestion(text: str) -> str:
    """What was meant by a file's path."""
    parts = [part for part in Path(text.removesuffix(".py")).parts if part.isidentifier()]
    return f"{'.'.join(parts) or 'service'}:{USUAL_NAME}"
