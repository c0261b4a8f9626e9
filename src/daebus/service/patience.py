"""The short wait of a reader whose backlog has just become full, for handlers that are quick."""

from __future__ import annotations

from time import monotonic, sleep

from daebus.service.backlog import Backlog
from daebus.service.exchange import Exchange

#: How long the reader waits at most when the backlog has just become full, in seconds; and when it
#: judges that the handlers do nothing at all, or are too slow to make room in that time. On a busy
#: machine a process may get no turn for some hundredths of a second.
WAIT_S = 1.0
STUCK_AFTER_S = 0.09
SLOW_AFTER_S = 0.3

#: Where messages may wait on disk instead, handlers are quick that take so many a second: for them
#: the disk costs more than the wait, and the server's buffer does not fill up meanwhile.
QUICK_PER_S = 10_000
NOT_QUICK_AFTER_S = 0.05


class Patience:
    """Offers messages to a backlog, and refuses none that quick handlers would soon have taken.

    Args:
        backlog: takes them. Nobody else offers to it meanwhile.
        has_disk: whether messages that find no room wait on disk, instead of being refused.
    """

    def __init__(self, backlog: Backlog, *, has_disk: bool) -> None:
        self._backlog = backlog
        self._least_per_s = QUICK_PER_S if has_disk else 0.0
        self._slow_after_s = NOT_QUICK_AFTER_S if has_disk else SLOW_AFTER_S
        self._may_wait = True

    def offer(self, exchange: Exchange) -> bool:
        """Let a message wait; False when there is no room, which is for the caller to tell.

        When the backlog has just become full it waits for quick handlers to make room; what they
        cannot take yet waits in the server's buffer. Slow ones are not waited for, nor quick ones
        again before the backlog has been half empty: a reader that stops is cut off by the server.
        """
        if self._backlog.offer(exchange):
            if not self._may_wait:
                self._may_wait = self._backlog.is_half_empty()
            return True
        return self._may_wait and self._wait_until_half_empty() and self._backlog.offer(exchange)

    def _wait_until_half_empty(self) -> bool:
        began, waiting = monotonic(), len(self._backlog)
        least_per_s = max(self._least_per_s, waiting / 2 / WAIT_S)
        waited_s, taken = 0.0, 0
        while not self._backlog.is_half_empty():
            sleep(0.001)  # The takers tell nobody what they take: that would cost each message.
            waited_s = monotonic() - began
            taken = waiting - len(self._backlog)
            is_stuck = taken <= 0 and waited_s > STUCK_AFTER_S
            is_slow = taken < least_per_s * waited_s and waited_s > self._slow_after_s
            if is_stuck or is_slow or waited_s > WAIT_S:
                self._may_wait = False
                return False
        # A small backlog is half empty soon, also with slow handlers.
        self._may_wait = taken >= self._least_per_s * waited_s
        return True
