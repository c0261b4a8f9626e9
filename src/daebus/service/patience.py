"""The short wait of a reader whose backlog has just become full, where nothing waits on disk."""

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


class Patience:
    """Offers messages to a backlog, and refuses none that quick handlers would soon have taken.

    Args:
        backlog: takes them. Nobody else offers to it.
    """

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
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
        while not self._backlog.is_half_empty():
            sleep(0.001)  # The takers tell nobody what they take: that would cost each message.
            waited_s = monotonic() - began
            taken = waiting - len(self._backlog)
            is_stuck = taken <= 0 and waited_s > STUCK_AFTER_S
            is_slow = taken * WAIT_S < waiting / 2 * waited_s and waited_s > SLOW_AFTER_S
            if is_stuck or is_slow or waited_s > WAIT_S:
                self._may_wait = False
                return False
        return True
