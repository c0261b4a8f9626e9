"""Names of batch files: `ready_1678299439_0dceb957-4fb1-7661-920d-2ae848ac1a5b.db`. Pure.

The number is the epoch in seconds, the UUID is of version 7 (RFC 9562): its first 48 bits are the
time in milliseconds and the next 12 count within one, so names sort in the order in which a
producer made them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from turbo_queue.states import State

#: How many names a millisecond has room for: the 12 bits of the UUID's counter.
NAMES_PER_MS = 4096

_PATTERN = re.compile(
    r"(loading|ready|chosen|dead)_"
    r"([0-9]{10}_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.db",
    re.ASCII,
)


class BatchName(NamedTuple):
    """The name of a batch file; sorts by state, then by age.

    Args:
        state: What the name begins with.
        identity: What stays the same through all states: `<epoch>_<uuid>`.
    """

    state: State
    identity: str

    @classmethod
    def parse(cls, text: str) -> BatchName | None:
        """The batch that a file's name speaks of, or `None` for a foreign name.

        Example:
            >>> BatchName.parse("ready_1678299439_0dceb957-4fb1-4661-920d-2ae848ac1a5b.db").epoch_s
            1678299439
            >>> BatchName.parse("ready_README.txt") is None
            True
        """
        match = _PATTERN.fullmatch(text)
        return cls(State(match[1]), match[2]) if match else None

    def __str__(self) -> str:
        return f"{self.state.value}_{self.identity}.db"

    @property
    def epoch_s(self) -> int:
        """When the batch was begun, in seconds since 1970."""
        return int(self.identity[:10])

    @property
    def epoch_ms(self) -> int:
        """When the batch was begun, in milliseconds since 1970: the first 48 bits of the UUID."""
        return int(self.identity[11:19] + self.identity[20:24], 16)

    def to(self, state: State) -> BatchName:
        """The same batch in another state."""
        return BatchName(state, self.identity)


class NameSequence:
    """Makes names that sort in the order in which they were made, also when the clock goes back.

    Not for use by several threads at once.

    Args:
        entropy: 62 random bits, which keep the names of several producers apart.
    """

    def __init__(self, entropy: int) -> None:
        self._tail = 0b10 << 62 | entropy & (1 << 62) - 1
        self._last = 0

    def next(self, now_ms: int) -> BatchName:
        """The next name.

        Args:
            now_ms: The time in milliseconds since 1970.
        """
        self._last = max(now_ms * NAMES_PER_MS, self._last + 1)
        ms, counter = divmod(self._last, NAMES_PER_MS)
        bits = ms << 80 | 0x7 << 76 | counter << 64 | self._tail
        digits = f"{bits:032x}"
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        return BatchName(State.LOADING, f"{ms // 1000:010d}_{'-'.join(parts)}")
