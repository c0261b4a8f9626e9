"""A message that is with worker processes: who has it, for how long, and how many died of it."""

from __future__ import annotations

from time import monotonic

from daebus.service.exchange import Exchange
from turbo_queue.worker import Worker


class Task:
    """A message that has gone into the queue, and is not finished.

    Attributes:
        worker: the one that handles it, if one does.
        deaths: how often a worker has died of it.
        how: how the last one ended, if one did in this run of the service.

    Args:
        key: tells it apart in the queue.
        exchange: the message.
        deaths: how often a worker had died of it before.
    """

    __slots__ = ("deaths", "exchange", "how", "key", "worker")

    def __init__(self, key: str, exchange: Exchange, deaths: int) -> None:
        self.key = key
        self.exchange = exchange
        self.worker: Worker | None = None
        self.deaths = deaths
        self.how = ""

    def limit_at(self) -> float | None:
        """When a handler that starts now has to be ended, on the monotonic clock."""
        if self.exchange.request.is_expired:
            return None  # The worker does not start it.
        limits = [self.exchange.route.timeout_s, self.patience_s()]
        found = [limit_s for limit_s in limits if limit_s is not None]
        return monotonic() + min(found) if found else None

    def patience_s(self) -> float | None:
        """Seconds until a handler that runs is of no use to its caller; None if that is not known.

        A caller of a stream waits as long again after each response, which only the worker knows
        of; it cancels the request when it gives up.
        """
        return None if self.exchange.request.is_stream else self.exchange.remaining_s()

    def deaths_in_words(self) -> str:
        """How often a worker has died of it, and how the last one did."""
        times = "once" if self.deaths == 1 else f"{self.deaths} times"
        how = f"; the last time it {self.how}" if self.how else ""
        return f"the worker process of {self.exchange.route.name!r} died {times}{how}"
