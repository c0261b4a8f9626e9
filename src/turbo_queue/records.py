"""An event with what came along with it: key, headers, timestamp, and where it came from."""

from __future__ import annotations

from typing import Any

import msgspec

#: A name and a value (bytes, str or None), as Kafka has them; a name may come several times.
Header = tuple[str, Any]


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event on its way through a pipeline.

    Args:
        value: The event itself: bytes, str or any JSON value.
        key: What Kafka chooses the partition by: bytes, str or None.
        headers: Names and values.
        timestamp_ms: When it happened, in milliseconds since 1970; None: not known.
        origin: Where it came from, for people: `orders[2]@1281`, `orders.jsonl:17`.

    Example:
        >>> Record("to your door", key=b"42").replace(value="delivered").key
        b'42'
    """

    value: Any
    key: Any = None  # msgspec reads no union of bytes and str.
    headers: tuple[Header, ...] = ()
    timestamp_ms: int | None = None
    origin: str = ""

    def replace(self, **changes: Any) -> Record:
        """The same record with other fields."""
        return msgspec.structs.replace(self, **changes)


def events_for(codec: str, records: list[Record]) -> list[Any]:
    """Records as the events of a queue: as they are if its codec carries them, else their values.

    Example:
        >>> events_for("json", [Record("a", key=b"1")])
        ['a']
    """
    return records if codec == "record" else [record.value for record in records]
