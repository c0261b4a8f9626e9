"""How many events went by: counted in each process, told to the supervisor now and then."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import msgspec

#: How often a process tells, in seconds.
TELL_S = 0.2

#: How often it tells at least, while it gets on and there is nothing to count: a reader or a writer
#: that tries again and again to reach its source or sink does not, and is silent.
BEAT_S = 1.0


class Told(msgspec.Struct, array_like=True):
    """What a process has counted since it told the last time.

    Args:
        read: Events that were read from the source.
        handled: Events that the work is done with, or will not be tried again.
        written: Events that are safe in the sink.
        retried: Tries that failed and will be repeated.
        dead: Events that went to the dead letters.
        has_ended: Whether the source has come to its end.
        gone: Why the sink can never be written again; empty while it may be.
    """

    read: int = 0
    handled: int = 0
    written: int = 0
    retried: int = 0
    dead: int = 0
    has_ended: bool = False
    gone: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Told).decode


def read_told(data: bytes) -> Told:
    """What a process has told."""
    return _decode(data)


_NOTHING = Told()


class Tally:
    """Counts in one process, for one thread.

    Args:
        send: Sends bytes to the supervisor.
    """

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self._told = Told()
        self._tell_at = 0.0
        self._beat_at = monotonic() + BEAT_S

    def count(
        self, *, read: int = 0, handled: int = 0, written: int = 0, retried: int = 0, dead: int = 0
    ) -> None:
        """Count, and tell if it is time."""
        told = self._told
        told.read += read
        told.handled += handled
        told.written += written
        told.retried += retried
        told.dead += dead
        now = monotonic()
        if now >= self._beat_at or (now >= self._tell_at and told != _NOTHING):
            self.tell()

    def tell(self, *, has_ended: bool = False, gone: str = "") -> None:
        """Tell now."""
        self._told.has_ended = has_ended
        self._told.gone = gone
        self._send(_encode(self._told))
        self._told = Told()
        now = monotonic()
        self._tell_at, self._beat_at = now + TELL_S, now + BEAT_S
