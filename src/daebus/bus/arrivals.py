"""What a link receives, waiting for the one thread that takes it."""

from __future__ import annotations

from queue import Empty, SimpleQueue

from daebus.errors import ConnectionLost


class Arrivals:
    """The consumer of a link: see `Consumer` for who calls what.

    Args:
        most: So many messages may wait; more are dropped and counted.
    """

    def __init__(self, most: int) -> None:
        # The one queue that a signal handler may put into (Python's queue module).
        self._batches: SimpleQueue[list[list[bytes]] | None] = SimpleQueue()
        self._most = most
        self._received = 0
        self._taken = 0
        #: How many messages were dropped.
        self.dropped = 0

    def on_messages(self, messages: list[list[bytes]]) -> bool:
        """See `Consumer`."""
        if self._received - self._taken > self._most:
            self.dropped += len(messages)
        else:
            self._received += len(messages)
            self._batches.put(messages)
        return False

    @property
    def is_expecting(self) -> bool:
        """The next message may come at any time."""
        return True

    def on_lost(self, error: ConnectionLost) -> None:
        """The link logs it."""

    def on_back(self, gap_s: float, reason: str) -> None:
        """The link logs it."""

    def end(self) -> None:
        """Let `take` give None once all that came before is taken."""
        self._batches.put(None)

    def take(self, timeout_s: float | None = None) -> list[list[bytes]] | None:
        """Some messages; none if none came in time, None after `end`."""
        try:
            batch = self._batches.get(timeout=timeout_s)
        except Empty:
            return []
        if batch is not None:
            self._taken += len(batch)
        return batch
