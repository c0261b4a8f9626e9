"""Overflow to disk: a runner whose messages wait there, in their order, when memory has no room.

While there is room, a message goes straight to the runner. Without room spilling begins: this
message and all later ones go behind what waits, until nothing waits any more. What waits is, oldest
first: what was read from disk, the disk, and a tail in memory that becomes the next block there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic

from daebus.deadline import Deadline
from daebus.logs import Incidents, get_logger
from daebus.service.configuration import ServiceSettings
from daebus.service.exchange import Exchange
from daebus.service.mover import Mover
from daebus.service.routes import Place
from daebus.service.runner import Runner
from daebus.service.spill import BLOCK_BYTES, BLOCK_MESSAGES, Spill
from daebus.service.spill_log import SpillLog
from daebus.service.spilled import Spilled
from daebus.service.tally import Tally

log = get_logger(__name__)

#: How long a message waits in memory at most before it is on disk, in seconds: a kill -9 loses no
#: more of what was spilled.
TAIL_S = 1.0

#: Pauses between two looks whether there is room again, in seconds. The runners tell nobody what
#: they take: that would cost each message.
SHORTEST_PAUSE_S = 0.0005
LONGEST_PAUSE_S = 0.02


class Overflow:
    """A runner with a disk behind it.

    Args:
        runner: handles the messages.
        place: whose messages these are.
        spill: where they wait.
        offer_first: how the runner is offered what has not waited yet.
        settings: how many may.
        incidents: where what goes wrong is counted.
        others: all runners of the service with a disk behind them.
    """

    def __init__(
        self,
        runner: Runner,
        place: Place,
        spill: Spill,
        *,
        offer_first: Callable[[Exchange], bool],
        settings: ServiceSettings,
        incidents: Incidents,
        others: Mapping[Place, Overflow],
    ) -> None:
        self._runner = runner
        self._place = place
        self._spill = spill
        self._max_messages = settings.max_spill
        self._max_bytes = settings.max_spill_bytes
        self._incidents = incidents
        self._others = others
        self._offer_now = runner.offer
        self._offer_first = offer_first
        self._log = SpillLog()
        #: Brings back what waits.
        self.mover = Mover(place.name.lower(), self._move, incidents)
        self._pause_s = SHORTEST_PAUSE_S
        self._full = 0
        #: Read from disk and next in turn; the mover's own.
        self._next: deque[Exchange] = deque()
        #: Guards all below, and offers to the runner while spilling.
        self._lock = threading.Lock()
        self._is_spilling = False
        self._is_closed = False
        self._waiting = 0
        self._waiting_bytes = 0
        self._tail: deque[Exchange] = deque()
        self._tail_bytes = 0
        self._tail_since = 0.0
        #: Whether something was written since the mover began its last look at the disk.
        self._is_written = False

    def open_left(self) -> None:
        """Find what earlier runs have left on disk: it is handled before all else.

        Raises:
            SettingsError: the folder cannot be used.
        """
        self._waiting, self._waiting_bytes = self._spill.open_left()
        if self._waiting:
            self._log.found(self._waiting)
            self._is_spilling = True
            self.mover.wake()

    def start(self) -> None:
        """See `Runner`."""
        self._runner.start()

    def offer(self, exchange: Exchange) -> bool:
        """See `Runner`. False when there is no room on disk, either."""
        if not self._is_spilling and self._offer_first(exchange):
            return True
        with self._lock:
            # One that is stored elsewhere until it is finished need not be kept here, too.
            if exchange.delivery is not None:
                return self._offer_now(exchange)
            # All that waited may just have been taken.
            if not self._is_spilling and self._offer_now(exchange):
                return True
            return self._append(exchange)

    def hand_over(self, exchange: Exchange) -> bool:
        """Take a message that waited for another runner, before its handler was changed.

        False when there is no room. Safe from any thread.
        """
        with self._lock:
            return self._append(exchange)

    def join(self, deadline: Deadline) -> list[Exchange]:
        """See `Runner`. What no caller waits for is kept on disk, for the next start."""
        cut = self._runner.join(deadline)
        told = [exchange for exchange in cut if _is_to_be_told(exchange)]
        kept = [exchange for exchange in cut if _is_to_be_kept(exchange)]
        for exchange in kept:
            exchange.request.delivery_count += exchange.has_begun
        with self._lock:
            self._is_closed = True
            left = self._waiting + len(kept)
            lost = self._spill.keep([*kept, *self._next]) if kept or self._next else []
            if self._tail and not self._spill.write(self._tail, is_last=True):
                lost += self._tail
        if left > len(lost):
            log.info(
                "%d messages wait on disk for the next start",
                left - len(lost),
                extra={"event": "spill.left"},
            )
        return told + lost

    def close(self) -> None:
        """Free what is open on disk, once all runners have ended: they may share what was read."""
        self._spill.close()

    @property
    def in_progress(self) -> int:
        """See `Runner`."""
        return self._runner.in_progress

    @property
    def waiting(self) -> int:
        """See `Runner`."""
        return self._runner.waiting

    @property
    def spilled(self) -> int:
        """See `Runner`."""
        return self._waiting

    def tallies(self) -> list[Tally]:
        """See `Runner`."""
        return self._runner.tallies()

    def cancel(self, request_id: str) -> None:
        """See `Runner`."""
        self._runner.cancel(request_id)

    # --- under the lock ---

    def _append(self, exchange: Exchange) -> bool:
        """Let a message wait behind all others; False when there is no room."""
        size = exchange.size_bytes
        if (
            self._is_closed
            or self._waiting >= self._max_messages
            or self._waiting_bytes + size > self._max_bytes
        ):
            return False
        tail = self._tail
        if (
            len(tail) >= BLOCK_MESSAGES or self._tail_bytes >= BLOCK_BYTES
        ) and not self._write_tail():
            return False
        if not tail:
            self._tail_since = monotonic()
        tail.append(exchange)
        self._tail_bytes += size
        self._waiting += 1
        self._waiting_bytes += size
        if not self._is_spilling:
            self._is_spilling = True
            self.mover.wake()
        return True

    def _write_tail(self) -> bool:
        if not self._spill.write(self._tail):
            return False
        self._log.written(len(self._tail), self._spill.folder)
        self._is_written = True
        self._tail.clear()
        self._tail_bytes = 0
        return True

    def _hand_on(self, waiting: deque[Exchange]) -> bool:
        """Give the runner what waits here, as far as it has room; whether that was all."""
        while waiting:
            if not self._offer_now(waiting[0]):
                return False
            self._waiting -= 1
            self._waiting_bytes -= waiting.popleft().size_bytes
        return True

    def _hand_on_tail(self) -> bool:
        is_all = self._hand_on(self._tail)
        self._tail_bytes = sum(exchange.size_bytes for exchange in self._tail)
        return is_all

    def _write_late_tail(self) -> None:
        if self._tail and monotonic() - self._tail_since >= TAIL_S:
            self._write_tail()

    # --- in the mover's thread ---

    def _move(self) -> float | None:
        """Give the runner what waits, oldest first, as far as it has room; see `Mover`."""
        self._adapt_pause()
        while not self.mover.is_stopping:
            may_read = self._spill.may_take()
            if not self._next and may_read and self._read_next():
                continue
            with self._lock:
                if self._next:
                    has_room = self._hand_on(self._next)
                elif not may_read:
                    has_room = False
                elif self._is_written:
                    continue  # After the last look.
                elif has_room := self._hand_on_tail():
                    self._end()
                    return None
                if not has_room:
                    self._write_late_tail()
                    break
        self._log.goes_on(self._waiting, self._waiting_bytes)
        self._full = self._in_memory
        return self._pause_s

    def _read_next(self) -> bool:
        """Read a block; False when there is none."""
        self._is_written = False
        exchanges = self._spill.take()
        for exchange in exchanges:
            place = exchange.route.place
            if place is self._place:
                self._next.append(exchange)
            else:
                with self._lock:
                    self._waiting -= 1
                    self._waiting_bytes -= exchange.size_bytes
                if not self._others[place].hand_over(exchange):
                    self._incidents.report(
                        "spill_error", "messages wait for the next start: no room"
                    )
        return bool(exchanges)

    def _end(self) -> None:
        self._is_spilling = False
        # What was damaged, or taken by hand, was never counted off.
        self._waiting = self._waiting_bytes = 0
        self._log.ended()

    def _adapt_pause(self) -> None:
        """The runner shall have work at the next look, and room enough to be worth the look."""
        if self._in_memory < self._full / 4:
            self._pause_s = max(self._pause_s / 2, SHORTEST_PAUSE_S)
        elif self._in_memory > self._full * 3 / 4:
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    @property
    def _in_memory(self) -> int:
        return self._runner.waiting + self._runner.in_progress


def _is_to_be_kept(exchange: Exchange) -> bool:
    """Whether a message that the stop cut off is to be handled at the next start."""
    delivery = exchange.delivery
    if delivery is None:  # Once its handler has begun, a message is not handled again.
        return exchange.request.reply_to is None and not exchange.has_begun
    return isinstance(delivery, Spilled) and not delivery.is_settled


def _is_to_be_told(exchange: Exchange) -> bool:
    """Whether whoever sent it is told that it was cut off."""
    return not (isinstance(exchange.delivery, Spilled) or _is_to_be_kept(exchange))
