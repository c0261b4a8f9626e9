"""From a user's event to bytes, with errors that tell what was wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from turbo_queue.codec import EVENTS_PER_ROW, Codec, Row
from turbo_queue.errors import BadEvent, EventTooLarge

#: As much of a stream is encoded before it is added to a batch, so that the steps for adding it
#: are few, and a slow stream or one of large events does not gather much.
BLOCK_EVENTS = 10 * EVENTS_PER_ROW
BLOCK_BYTES = 1024 * 1024


class Encoder:
    """Encodes events for one queue.

    Args:
        codec: How.
        max_bytes: Larger events are refused.
        max_batch_bytes: Events that are larger together do not belong into one batch.
    """

    def __init__(self, codec: Codec, max_bytes: int, max_batch_bytes: int) -> None:
        self._codec = codec
        self._encode = codec.encode
        self._refused = codec.refused
        self._max_bytes = max_bytes
        self._max_together = min(max_bytes, max_batch_bytes)

    def encode(self, event: Any) -> bytes:
        """One event as bytes.

        Raises:
            BadEvent: the codec cannot carry it, or it is too large.
        """
        if event.__class__ in self._refused:
            raise self._bad_event(event, "use the codec 'raw' or 'msgpack' for bytes")
        try:
            data = self._encode(event)
        except Exception as error:
            raise self._bad_event(event, error) from error
        if len(data) > self._max_bytes:
            raise EventTooLarge(len(data), self._max_bytes)
        return data

    def take(self, events: Iterator[Any], most: int) -> tuple[list[list[Row]], BadEvent | None]:
        """Encode the next events, up to the first bad one; at most so many, and a block of them.

        Returns:
            Groups of rows, of which each belongs into one batch; and what is bad about the next
            event, if it is. No groups and no error: there are no more events.
        """
        together: list[Row] = []
        taken = size = 0
        while taken < min(most, BLOCK_EVENTS) and size < min(self._max_together, BLOCK_BYTES):
            some = list(islice(events, min(EVENTS_PER_ROW, most - taken)))
            if not some:
                break
            taken += len(some)
            try:
                rows = self._codec.rows_of(some)
            except Exception:  # noqa: BLE001 - looked at one by one below
                rows = []
            row_bytes = sum(len(row.body) for row in rows)
            if not rows or row_bytes > self._max_together:
                singly, failure = self._encode_singly(some)
                return [together, *singly] if together else singly, failure
            together += rows
            size += row_bytes
        return ([together] if together else []), None

    def _encode_singly(self, events: list[Any]) -> tuple[list[list[Row]], BadEvent | None]:
        groups: list[list[Row]] = []
        for event in events:
            try:
                groups.append(self._codec.rows([self.encode(event)]))
            except BadEvent as error:
                return groups, error
        return groups, None

    def _bad_event(self, event: Any, why: object) -> BadEvent:
        return BadEvent(
            f"the codec {self._codec.name!r} cannot carry this event of type "
            f"{type(event).__name__}: {why}"
        )
