"""Where messages wait for a free thread: bounded by count and by bytes."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, SimpleQueue
from time import monotonic, sleep

from daebus.service.exchange import Exchange

#: Most messages that wait, by default.
MAX_MESSAGES = 10_000

#: How long the reader waits at most when the backlog has just become full, in seconds; and when it
#: judges that the handlers do nothing at all, or are too slow to make room in that time. On a busy
#: machine a process may get no turn for some hundredths of a second.
WAIT_S = 1.0
STUCK_AFTER_S = 0.09
SLOW_AFTER_S = 0.3

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
        self._may_wait = True

    def offer(self, exchange: Exchange) -> bool:
        """Let a message wait; False when there is no room, which is for the caller to tell.

        When it has just become full it waits for quick handlers to make room; what they cannot take
        yet waits in the server's buffer. Slow ones are not waited for, nor quick ones again before
        the backlog has been half empty: a reader that stops is cut off by the server.
        """
        size = exchange.size_bytes
        if self._has_room(size, self._max_messages, self._max_bytes):
            if not self._may_wait:
                self._may_wait = self._is_half_empty()
        elif not self._may_wait or not self._wait_until_half_empty():
            return False
        self._offered_bytes += size
        self._queue.put(exchange)
        return True

    def _has_room(self, size: int, max_messages: int, max_bytes: int) -> bool:
        if self._queue.qsize() >= max_messages:
            return False
        if self._offered_bytes - self._taken_bytes + size > max_bytes:
            self._taken_bytes = sum(counter.value for counter in self._taken)
        return self._offered_bytes - self._taken_bytes + size <= max_bytes

    def _is_half_empty(self) -> bool:
        return self._has_room(0, self._max_messages // 2, self._max_bytes // 2)

    def _wait_until_half_empty(self) -> bool:
        began, waiting = monotonic(), self._queue.qsize()
        while not self._is_half_empty():
            sleep(0.001)  # The takers tell nobody what they take: that would cost each message.
            waited_s = monotonic() - began
            taken = waiting - self._queue.qsize()
            is_stuck = taken <= 0 and waited_s > STUCK_AFTER_S
            is_slow = taken * WAIT_S < waiting / 2 * waited_s and waited_s > SLOW_AFTER_S
            if is_stuck or is_slow or waited_s > WAIT_S:
                self._may_wait = False
                return False
        return True

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
