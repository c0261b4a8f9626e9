"""Where messages wait for a free thread: bounded by count and by bytes."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, SimpleQueue

from daebus.service.exchange import Exchange


class Counter:
    """A number that one thread adds to and others read: no lock needed."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Backlog:
    """Messages in the order of their arrival.

    `offer` is called by one thread at a time, so it may keep its counts without a lock. Each taker
    counts what it takes in a counter of its own, and the sum is made only when the limit on bytes
    seems near.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        # SimpleQueue wakes one taker for the first of many messages, which wakes the next one if
        # there is still something to take: few wake-ups in a burst, and all of it in C.
        self._queue: SimpleQueue[Exchange | None] = SimpleQueue()
        self._offered_bytes = 0
        self._taken_bytes = 0
        self._taken: list[Counter] = []

    def offer(self, exchange: Exchange) -> bool:
        """Let a message wait; False when there is no room."""
        size = exchange.size_bytes
        # One that is larger than the whole backlog shall be handled, too.
        if not (self._has_room(size, self._max_messages, self._max_bytes) or self._queue.empty()):
            return False
        self._offered_bytes += size
        self._queue.put(exchange)
        return True

    def is_half_empty(self) -> bool:
        """Whether half of it is free."""
        return self._has_room(0, self._max_messages // 2, self._max_bytes // 2)

    def _has_room(self, size: int, max_messages: int, max_bytes: int) -> bool:
        if self._queue.qsize() >= max_messages:
            return False
        if self._offered_bytes - self._taken_bytes + size > max_bytes:
            self._taken_bytes = sum(counter.value for counter in self._taken)
        return self._offered_bytes - self._taken_bytes + size <= max_bytes

    def takes(self) -> tuple[Iterator[Exchange], Counter]:
        """For one taker: messages, waiting for each, until told to end; and what it has taken.

        The iterator is C all the way, so that not even an exception put into the thread from
        outside can lose a message between the queue and the loop's variable.
        """
        taken = Counter()
        self._taken.append(taken)
        return iter(self._queue.get, None), taken

    def end(self, takers: int) -> None:
        """Tell so many takers to end once they have taken all that waits now."""
        for _ in range(takers):
            self._queue.put(None)

    def take_rest(self) -> list[Exchange]:
        """Take all that still waits, without waiting."""
        rest: list[Exchange] = []
        while True:
            try:
                exchange = self._queue.get_nowait()
            except Empty:
                return rest
            if exchange is not None:
                rest.append(exchange)

    def __len__(self) -> int:
        return self._queue.qsize()
