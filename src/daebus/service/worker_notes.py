"""What a worker process and the service that has it tell each other.

The worker says what it has begun and finished, in notes; the service answers each `Started` with
what to do.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

#: What the parent says about a message. Behind `BURY` comes the reason.
RUN, DROP, BURY = b"run", b"drop", b"bury"


class Started(msgspec.Struct, tag="started", array_like=True):
    """A worker has a message, and waits for what to do with it."""

    key: str
    #: How often its worker has died, as the queue counts.
    failures: int
    #: The parcel, if it is from an earlier run of the service, so that the parent learns of it.
    parcel: bytes | None


class Handled(msgspec.Struct, tag="handled", array_like=True):
    """The handler has returned; the reply is on its way."""

    key: str


class Finished(msgspec.Struct, tag="finished", array_like=True):
    """The message is done with, and its caller has the reply."""

    key: str
    is_error: bool
    #: Why it is to be tried again by whoever delivered it.
    failure: str | None
    #: The memory of the worker, in bytes.
    memory_bytes: int


class Incident(msgspec.Struct, tag="incident", array_like=True):
    """Something to be counted by the service."""

    kind: str
    text: str
    count: int


Note = Started | Handled | Finished | Incident

#: From a note to its bytes, and back.
write_note: Callable[[Note], bytes] = msgspec.msgpack.Encoder().encode
read_note: Callable[[bytes], Note] = msgspec.msgpack.Decoder(Note).decode
