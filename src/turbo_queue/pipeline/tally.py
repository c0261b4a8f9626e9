"""How many events went by: counted in each process, told to the supervisor now and then."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import msgspec

#: How often a process tells, in seconds.
TELL_S = 0.2


class Told(msgspec.Struct, array_like=True):
    """What a process has counted since it told the last time.

    Args:
        read: Events that were read from the source.
        handled: Events that the work is done with, or will not be tried again. Nobody adds them up;
            that a worker tells them shows that it has worked, so that it is replaced at once.
        written: Events that are safe in the sink.
        retried: Tries that failed and will be repeated.
        dead: Events that went to the dead letters.
        has_ended: Whether the source has come to its end.
    """

    read: int = 0
    handled: int = 0
    written: int = 0
    retried: int = 0
    dead: int = 0
    has_ended: bool = False


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
        if monotonic() >= self._tell_at and told != _NOTHING:
            self.tell()

    def tell(self, *, has_ended: bool = False) -> None:
        """Tell now."""
        self._told.has_ended = has_ended
        self._send(_encode(self._told))
        self._told = Told()
        self._tell_at = monotonic() + TELL_S
