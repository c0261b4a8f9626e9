"""Routes: which handler a message goes to, and how that handler is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import MappingProxyType

from daebus.errors import RegistrationError
from daebus.service.parameters import (
    Arguments,
    action_arguments,
    check_no_generator,
    listener_arguments,
)
from daebus.service.registry import PROCESS, Action, Function, Listener, Registry, where


class Place(Enum):
    """Where a handler runs."""

    THREAD = "thread"
    LOOP = "event loop"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, and how it is called."""

    #: Tells the routes of a service apart, also in another process.
    key: str
    #: The action's name or the listener's channel.
    name: str
    function: Function
    #: Makes the arguments of the payload; None for a function without parameters.
    arguments: Arguments | None
    place: Place
    timeout_s: float | None = None
    is_action: bool = False


#: Makes the route that is used of one that was found.
Change = Callable[[Route], Route]


def traced(service: str, *, traces: bool) -> Change:
    """Gives each route a function that makes a span; no other one where traces are not wanted."""
    if not traces:
        return _unchanged
    from daebus.service.handler_spans import with_span  # noqa: PLC0415 - an extra

    return partial(with_span, service)


def _unchanged(route: Route) -> Route:
    return route


class Routes:
    """All routes of a service.

    Args:
        registry: the service's handlers.
        built_in: the functions of the actions that every service has, by name.
        change: what becomes of each route but those; see `traced`.

    Attributes:
        actions: by name.
        channels: the listeners' routes by channel.
        patterns: the listeners' routes by pattern.
        durable: the durable listeners' routes by channel.
        by_key: all of them.
        places: where they run.

    Raises:
        RegistrationError: a handler's parameters cannot be taken from a payload.
    """

    def __init__(
        self,
        registry: Registry,
        built_in: Mapping[str, Function] = MappingProxyType({}),
        change: Change = _unchanged,
    ) -> None:
        actions = {name: Action(name, function) for name, function in built_in.items()}
        self.actions = {name: _of_action(action) for name, action in actions.items()}
        for name, action in registry.actions.items():
            self.actions[name] = change(_of_action(action))
        self.channels: dict[str, list[Route]] = {}
        self.patterns: dict[str, list[Route]] = {}
        self.durable: dict[str, list[Route]] = {}
        for listener in registry.listeners:
            kind, routes = "channel", self.channels
            if listener.is_durable:
                kind, routes = "durable", self.durable
            elif listener.is_pattern:
                kind, routes = "pattern", self.patterns
            found = routes.setdefault(listener.channel, [])
            # The same after other listeners were added or removed: messages wait on disk under it.
            key = f"listener:{kind}:{len(found)}:{listener.channel}"
            found.append(change(_of_listener(listener, key)))
        self.by_key = {route.key: route for route in self._all()}
        self.places = {route.place for route in self._all()}

    def _all(self) -> Iterator[Route]:
        yield from self.actions.values()
        for group in (self.channels, self.patterns, self.durable):
            for routes in group.values():
                yield from routes


def _of_action(action: Action) -> Route:
    function = action.function
    check_no_generator(function, "stream with response.send(..., final=False)")
    return Route(
        f"action:{action.name}",
        action.name,
        function,
        action_arguments(function),
        _place(action),
        action.timeout_s,
        is_action=True,
    )


def _of_listener(listener: Listener, key: str) -> Route:
    function = listener.function
    check_no_generator(function, "nobody takes what a listener yields")
    return Route(
        key,
        listener.channel,
        function,
        listener_arguments(function),
        _place(listener),
        listener.timeout_s,
    )


def _place(handler: Action | Listener) -> Place:
    if not inspect.iscoroutinefunction(handler.function):
        return Place.PROCESS if handler.workers == PROCESS else Place.THREAD
    if handler.workers == PROCESS:
        raise RegistrationError(
            f"{where(handler.function)} is an async function; workers='process' is for plain ones"
        )
    return Place.LOOP
