"""From a user's event to bytes, with errors that tell what was wrong with it. Pure."""

from __future__ import annotations

from typing import Any

from turbo_queue.codec import Codec, Row
from turbo_queue.errors import BadEvent, EventTooLarge


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

    def encode_many(self, events: list[Any]) -> tuple[list[list[Row]], BadEvent | None]:
        """All events before the first bad one, and what is bad about that.

        Returns:
            Groups of rows, of which each belongs into one batch; and the error, if there is one.
        """
        if self._refused.isdisjoint(map(type, events)):
            try:
                rows = self._codec.rows_of(events)
            except Exception:  # noqa: BLE001 - looked at one by one below
                rows = []
            if rows and sum(len(row.body) for row in rows) <= self._max_together:
                return [rows], None
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
