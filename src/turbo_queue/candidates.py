"""Which ready batch to try next: the oldest, without listing the folder for each. Pure.

A listing of ten thousand names costs milliseconds, so one serves for many claims. Other consumers
claim from the same end; whoever finds a batch gone jumps ahead by 1, 2, 4, … names, and so is past
the others' place after a few tries. What was jumped over is seen in the next listing.
"""

from __future__ import annotations

#: A listing is used for a second at most, so that batches which were given back are not passed …
FRESH_S = 1.0

#: … or for so many times what it took, which bounds the cost of listings to half a percent.
FRESH_LISTINGS = 200


class Candidates:
    """The names of one listing that were not tried yet."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._next = 0
        self._step = 0
        self._stale_at = 0.0

    def renew(self, names: list[str], now: float, took_s: float) -> None:
        """Use a new listing.

        Args:
            names: Sorted, oldest first.
            now: The monotonic time in seconds.
            took_s: How long the listing took.
        """
        self._names = names
        self._next = 0
        self._step = 0
        self._stale_at = now + max(FRESH_S, took_s * FRESH_LISTINGS)

    def take(self, now: float) -> str | None:
        """The next name to try; None if a new listing is needed."""
        if self._next >= len(self._names) or now >= self._stale_at:
            return None
        name = self._names[self._next]
        self._next += 1
        return name

    def was_gone(self) -> None:
        """The name that was taken last was another consumer's already: jump ahead."""
        self._next += self._step
        self._step = self._step * 2 + 1

    def was_there(self) -> None:
        """The name that was taken last is ours now."""
        self._step = 0

    def expire(self) -> None:
        """An older batch is ready again: a new listing is needed."""
        self._names = []

    @property
    def left(self) -> int:
        """How many names were not tried yet."""
        return max(len(self._names) - self._next, 0)
