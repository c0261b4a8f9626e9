"""The batch that is being filled, in memory: rows that are complete and the one that is not. Pure.

It lives in memory until it is published as a whole, so a file that others see is never half full.
"""

from __future__ import annotations

import zlib

from turbo_queue.batch_file import Contents
from turbo_queue.codec import EVENTS_PER_ROW, Codec, Row


class Loading:
    """The events of the next batch.

    Args:
        codec: Makes rows of encoded events.
        max_events: The batch is full with this many.
        max_bytes: … or with this many bytes; one row alone may be larger.
    """

    def __init__(self, codec: Codec, max_events: int, max_bytes: int) -> None:
        self._codec = codec
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.clear()

    def clear(self) -> None:
        """Begin the next batch."""
        self._rows: list[Row] = []
        self._crc32s = [0]  # Up to each row, counted while its bytes are in the processor's cache.
        self._row: list[bytes] = []
        self._events_in_rows = 0
        self._bytes = 0
        self._quick_events = 0

    @property
    def events(self) -> int:
        """How many events it holds."""
        return self._events_in_rows + len(self._row)

    @property
    def space(self) -> int:
        """How many events more it may hold."""
        return self._max_events - self.events

    @property
    def is_full(self) -> bool:
        """Whether it is time to publish it."""
        return self.events >= self._max_events or self._bytes >= self._max_bytes

    def has_space_for(self, rows: list[Row]) -> bool:
        """Whether these rows fit into it; into an empty one everything does."""
        events = sum(row.number for row in rows)
        size = sum(len(row.body) for row in rows)
        fits = events <= self.space and self._bytes + size <= self._max_bytes
        return fits or not self.events

    def add_event(self, data: bytes) -> bool:
        """Add an encoded event, unless it begins the batch or completes it; then False."""
        size = self._bytes + len(data)
        if self._quick_events <= 0 or size >= self._max_bytes:
            return False
        self._quick_events -= 1
        self._bytes = size
        row = self._row
        row.append(data)
        if len(row) == EVENTS_PER_ROW:
            self._end_row()
        return True

    def add_rows(self, rows: list[Row]) -> None:
        """Add whole rows."""
        self._end_row()
        for row in rows:
            self._append(row)
            self._bytes += len(row.body)
        self._quick_events = self.space - 1

    def take_back(self, rows: list[Row]) -> None:
        """Remove the rows that were added last."""
        for row in rows:
            self._rows.pop()
            self._crc32s.pop()
            self._events_in_rows -= row.number
            self._bytes -= len(row.body)
        self._quick_events = self.space - 1 if self._rows else 0

    def contents(self) -> Contents:
        """What the batch's file will hold."""
        self._end_row()
        return Contents(self._codec.name, tuple(self._rows), self.events, self._crc32s[-1])

    def _end_row(self) -> None:
        if self._row:
            for row in self._codec.rows(self._row):
                self._append(row)
            self._row = []

    def _append(self, row: Row) -> None:
        self._rows.append(row)
        self._crc32s.append(zlib.crc32(row.body, self._crc32s[-1]))
        self._events_in_rows += row.number
