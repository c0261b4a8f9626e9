"""Where handlers run: threads, an event loop, worker processes. Chosen here, for each handler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from daebus.deadline import Deadline
from daebus.service.configuration import ServiceSettings
from daebus.service.event_loop import EventLoop
from daebus.service.exchange import Exchange
from daebus.service.handling import Handling
from daebus.service.routes import Place, Routes
from daebus.service.workers import Workers


class Runner(Protocol):
    """Runs the handlers of the messages that it is offered."""

    def start(self) -> None:
        """Start its threads or processes."""

    def offer(self, exchange: Exchange) -> bool:
        """Take a message, if there is room. Called by one thread at a time; never blocks."""

    @property
    def in_progress(self) -> int:
        """How many messages are in a handler now."""

    @property
    def waiting(self) -> int:
        """How many messages wait for one in memory."""

    @property
    def spilled(self) -> int:
        """How many wait on disk."""

    def totals(self) -> tuple[int, int]:
        """How many messages were handled, and how many of them failed."""

    def cancel(self, request_id: str) -> None:
        """End the handler of this request, if it runs here and can be ended."""

    def join(self, deadline: Deadline) -> list[Exchange]:
        """Finish what it has, and end; give what was not done in time."""


class Runners:
    """The runners that a service's handlers need.

    Args:
        settings: their sizes and limits.
        routes: the handlers.
        handling: what is done with a message.
        enter: called once in each thread that runs the user's code.
        make_processes: makes the runner of worker processes.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        routes: Routes,
        handling: Handling,
        enter: Callable[[], None],
        make_processes: Callable[[], Runner],
    ) -> None:
        threads = Workers(settings, handling, enter)
        self._by_place: dict[Place, Runner] = {Place.THREAD: threads}
        if Place.LOOP in routes.places:
            self._by_place[Place.LOOP] = EventLoop(settings.max_backlog, handling, enter)
        if Place.PROCESS in routes.places:
            self._by_place[Place.PROCESS] = make_processes()
        # The one place that nearly every service has costs no look-up.
        self.offer = threads.offer if len(self._by_place) == 1 else self._offer

    def start(self) -> None:
        """Start all of them."""
        for runner in self:
            runner.start()

    def join(self, deadline: Deadline) -> list[Exchange]:
        """Finish what they have, and end; give what was not done in time."""
        return [exchange for runner in self for exchange in runner.join(deadline)]

    def __iter__(self) -> Iterator[Runner]:
        return iter(self._by_place.values())

    def _offer(self, exchange: Exchange) -> bool:
        return self._by_place[exchange.route.place].offer(exchange)
