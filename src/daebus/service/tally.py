"""What a service has handled: counts and latencies of each handler."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

from daebus.bus.presence import Figures
from daebus.latency import BUCKETS, bucket_of
from daebus.service.exchange import Exchange
from daebus.service.routes import Route


class Count:
    """What one handler has done."""

    __slots__ = ("errors", "latency", "route", "total_s")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.errors = 0
        self.total_s = 0.0
        #: How many messages, by the bucket of their latency.
        self.latency = [0] * BUCKETS

    @property
    def handled(self) -> int:
        """How many messages."""
        return sum(self.latency)


class Tally:
    """What one thread has handled. Only that thread adds, any may read.

    Attributes:
        errors: how many messages have failed.
    """

    __slots__ = ("_counts", "errors")

    def __init__(self) -> None:
        self.errors = 0
        self._counts: dict[str, Count] = {}

    def add(self, exchange: Exchange, *, is_error: bool) -> None:
        """Count a message that is done with."""
        route = exchange.route
        count = self._counts.get(route.key)
        if count is None:
            count = self._counts[route.key] = Count(route)
        elapsed_s = monotonic() - exchange.received_at
        count.total_s += elapsed_s
        count.latency[bucket_of(elapsed_s)] += 1
        if is_error:
            count.errors += 1
            self.errors += 1

    def counts(self) -> list[Count]:
        """Of each handler that has handled anything."""
        return list(self._counts.values())


def figures_of(
    tallies: Iterable[Tally],
) -> tuple[dict[str, Figures], dict[str, Figures]]:
    """The sum of all: by action, and by channel."""
    actions: dict[str, Figures] = {}
    channels: dict[str, Figures] = {}
    for tally in tallies:
        for count in tally.counts():
            group = actions if count.route.is_action else channels
            figures = group.setdefault(count.route.name, Figures())
            figures.handled += count.handled
            figures.errors += count.errors
            figures.total_s += count.total_s
            figures.latency = [
                mine + theirs
                for mine, theirs in zip(
                    figures.latency or [0] * BUCKETS, count.latency, strict=True
                )
            ]
    return actions, channels


def handled(tallies: Iterable[Tally]) -> int:
    """How many messages were handled."""
    return sum(count.handled for tally in tallies for count in tally.counts())
