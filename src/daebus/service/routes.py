"""Routes: which handler a message goes to, and how that handler is called."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

from daebus.errors import RegistrationError
from daebus.service.parameters import Arguments, action_arguments, listener_arguments
from daebus.service.registry import Action, Function, Listener, Registry, where


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, and how it is called."""

    #: The action's name or the listener's channel.
    name: str
    function: Function
    #: Makes the arguments of the payload; None for a function without parameters.
    arguments: Arguments | None
    is_async: bool
    timeout_s: float | None = None


class Routes:
    """All routes of a service.

    Attributes:
        actions: by name.
        channels: the listeners' routes by channel.
        patterns: the listeners' routes by pattern.

    Raises:
        RegistrationError: a handler's parameters cannot be taken from a payload.
    """

    def __init__(self, registry: Registry) -> None:
        self.actions = {name: _of_action(action) for name, action in registry.actions.items()}
        self.channels: dict[str, list[Route]] = {}
        self.patterns: dict[str, list[Route]] = {}
        for listener in registry.listeners:
            routes = self.patterns if listener.is_pattern else self.channels
            routes.setdefault(listener.channel, []).append(_of_listener(listener))

    @property
    def has_async(self) -> bool:
        """Whether any handler is an `async def` function."""
        return any(route.is_async for route in self._all())

    def _all(self) -> Iterator[Route]:
        yield from self.actions.values()
        for routes in (*self.channels.values(), *self.patterns.values()):
            yield from routes


def _of_action(action: Action) -> Route:
    function = action.function
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise RegistrationError(
            f"{where(function)} is a generator; stream with response.send(..., final=False)"
        )
    return Route(
        action.name,
        function,
        action_arguments(function),
        inspect.iscoroutinefunction(function),
        action.timeout_s,
    )


def _of_listener(listener: Listener) -> Route:
    function = listener.function
    return Route(
        listener.channel,
        function,
        listener_arguments(function),
        inspect.iscoroutinefunction(function),
    )
