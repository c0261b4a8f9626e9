"""Which handlers a worker process has, and whether they can get there."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

from daebus.errors import RegistrationError
from daebus.service.registry import PROCESS, Function, Registry, where


def for_workers(registry: Registry) -> Registry:
    """The handlers of worker processes; the parent keeps their time limits.

    The other listeners are only counted: a listener's key is its number among all.
    """
    return Registry(
        actions={
            name: replace(action, timeout_s=None)
            for name, action in registry.actions.items()
            if action.workers == PROCESS
        },
        listeners=[
            replace(listener, timeout_s=None)
            if listener.workers == PROCESS
            else replace(listener, function=_elsewhere)
            for listener in registry.listeners
        ],
        on_worker_start=registry.on_worker_start,
    )


def _elsewhere() -> None:
    """Stands for a listener that runs in the service's own process."""


def check_importable(registry: Registry) -> None:
    """Refuse handlers that cannot be sent to a process that imports the program anew.

    Raises:
        RegistrationError: a handler is not a function at the top level of a module.
    """
    functions: list[Function] = [action.function for action in registry.actions.values()]
    functions += [listener.function for listener in registry.listeners]
    for function in [*functions, *registry.on_worker_start]:
        try:
            ForkingPickler.dumps(function)
        except Exception as error:
            # Whatever a user's object raises when it is pickled.
            raise RegistrationError(
                f"{where(function)} cannot be sent to a worker process ({error}). Where processes "
                f"are started by 'spawn' or 'forkserver', a handler with workers='process' must be "
                f"a function at the top level of a module, or use start_method='fork'"
            ) from error
