"""What every place where handlers run can do: threads, an event loop, worker processes."""

from __future__ import annotations

from typing import Protocol

from daebus.deadline import Deadline
from daebus.service.exchange import Exchange
from daebus.service.tally import Tally


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

    def tallies(self) -> list[Tally]:
        """What it has handled."""

    def cancel(self, request_id: str) -> None:
        """End the handler of this request, if it runs here and can be ended."""

    def join(self, deadline: Deadline) -> list[Exchange]:
        """Finish what it has, and end; give what was not done in time."""
