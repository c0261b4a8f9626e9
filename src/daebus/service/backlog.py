"""Where messages wait for a free thread: bounded by count and by bytes."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, SimpleQueue

from daebus.service.exchange import Exchange

#: Most messages that wait, by default.
MAX_MESSAGES = 10_000

#: Most bytes of messages that wait, by default.
MAX_BYTES = 64 * 1024 * 1024


class Counter:
    """A number that one thread adds to and others read: no lock needed."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Backlog:
    """Messages in the order of their arrival.

    `offer` is called from the reader thread alone, so it may keep its counts without a lock. Each
    taker counts what it takes in a counter of its own, and the sum is made only when the limit on
    bytes seems near.
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
        """Let a message wait; False when there is no room, which is for the caller to tell."""
        if self._queue.qsize() >= self._max_messages:
            return False
        size = exchange.size_bytes
        if self._offered_bytes - self._taken_bytes + size > self._max_bytes:
            self._taken_bytes = sum(counter.value for counter in self._taken)
            if self._offered_bytes - self._taken_bytes + size > self._max_bytes:
                return False
        self._offered_bytes += size
        self._queue.put(exchange)
        return True

    def messages(self) -> Iterator[Exchange]:
        """Take messages, waiting for each, until told to end. For one thread.

        The loop takes straight from C into a local name, so that not even an exception put into
        the thread from outside can lose a message between the two.
        """
        taken = Counter()
        self._taken.append(taken)
        for exchange in iter(self._queue.get, None):
            taken.value += exchange.size_bytes
            yield exchange

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
