"""Any stream on the server, read by a consumer group: who takes an entry has it to acknowledge it.

What is not acknowledged may be taken over. Needs Redis 6.2 (XAUTOCLAIM). Used by one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import hiredis

from daebus.bus.commands import Awaited, ServerReply
from daebus.bus.link import Link
from daebus.deadline import Deadline
from daebus.errors import ServerUnavailable

#: The longest wait for the server's answer, in seconds.
TIMEOUT_S = 10.0

#: The longest that the server waits for an entry, in seconds. The connection is blocked then.
MAX_BLOCK_S = 1.0

#: Most entries of one answer, and most ids of one command.
MAX_ENTRIES = 1_000

FIRST_ID = b"0-0"


class StreamEntry(NamedTuple):
    """An entry of a stream."""

    #: The server's clock in milliseconds when it was stored, and a number.
    id: bytes
    #: Names and values in turns; None if it was removed from the stream.
    fields: list[bytes] | None

    @property
    def stored_ms(self) -> int:
        """When it was stored, on the server's clock."""
        return int(self.id.partition(b"-")[0])


class StreamGroup:
    """One consumer's part in a group.

    Args:
        link: for this alone, because reads block it.
        stream: the stream's key.
        group: the group's name.
        consumer: this consumer.
    """

    def __init__(self, link: Link, stream: str, group: str, consumer: str) -> None:
        self._link = link
        self._key = stream.encode()
        self._group = group.encode()
        self._consumer = consumer.encode()

    def create(self, start: str) -> None:
        """Create the stream and the group where they are missing.

        Args:
            start: the id behind which a new group begins; `0` at the first, `$` at the next.

        Raises:
            ServerUnavailable: the server refused, or the connection was lost.
            CallTimeout: it did not answer in time.
        """
        create = (b"XGROUP", b"CREATE", self._key, self._group, start.encode(), b"MKSTREAM")
        reply = self._link.ask(Deadline.after(TIMEOUT_S), *create)
        if isinstance(reply, hiredis.ReplyError) and not str(reply).startswith("BUSYGROUP"):
            raise self._refused("a group", reply)

    def read_new(self, count: int, timeout_s: float) -> list[StreamEntry]:
        """Entries that nobody in the group has had; [] when none came in time.

        Raises:
            ServerUnavailable: the server refused, or the connection was lost.
            CallTimeout: it did not answer in time.
        """
        # BLOCK 0 would wait for ever.
        block_ms = int(min(timeout_s, MAX_BLOCK_S) * 1000)
        return self._read(b">", count, (b"BLOCK", b"%d" % block_ms) if block_ms else ())

    def read_own(self, count: int, after: bytes) -> list[StreamEntry]:
        """Entries that this consumer has taken and not acknowledged, those behind `after`.

        Raises:
            ServerUnavailable: the server refused, or the connection was lost.
            CallTimeout: it did not answer in time.
        """
        return self._read(after, count)

    def take_over(
        self, count: int, idle_ms: int, start: bytes
    ) -> tuple[list[StreamEntry], bytes | None]:
        """Entries that somebody took so long ago and did not acknowledge; they are ours then.

        Args:
            count: how many at most.
            idle_ms: how long ago, in milliseconds.
            start: where to look: `FIRST_ID`, later what was given the last time.

        Returns:
            The entries, and where to go on; None when all were looked at.

        Raises:
            ServerUnavailable: the server refused, or the connection was lost.
            CallTimeout: it did not answer in time.
        """
        whose = (self._key, self._group, self._consumer)
        reply = self._ask(b"XAUTOCLAIM", *whose, b"%d" % idle_ms, start, b"COUNT", b"%d" % count)
        following, entries = reply[:2]  # type: ignore[index]  # Redis 7 has a third part.
        # An entry that was removed is nil here in Redis 6.2, and left out later.
        found = [StreamEntry(*entry) for entry in entries if entry]  # type: ignore[union-attr, misc]
        return found, None if following == FIRST_ID else following  # type: ignore[return-value]

    def acknowledge(self, ids: Sequence[bytes]) -> None:
        """These are done with.

        Raises:
            ServerUnavailable: the server refused, or the connection was lost.
            CallTimeout: it did not answer in time.
        """
        parts = [ids[start : start + MAX_ENTRIES] for start in range(0, len(ids), MAX_ENTRIES)]
        asked = [Awaited(b"XACK", self._key, self._group, *part) for part in parts]
        self._link.ensure_up(Deadline.after(TIMEOUT_S))
        self._link.send_all([*asked])
        deadline = Deadline.after(TIMEOUT_S)
        for command in asked:
            reply = command.wait(deadline)
            if isinstance(reply, hiredis.ReplyError):
                raise self._refused("an acknowledgement", reply)

    def _read(self, after: bytes, count: int, block: tuple[bytes, ...] = ()) -> list[StreamEntry]:
        who = (b"XREADGROUP", b"GROUP", self._group, self._consumer)
        reply = self._ask(*who, b"COUNT", b"%d" % count, *block, b"STREAMS", self._key, after)
        if not isinstance(reply, dict):
            return []
        [entries] = reply.values()
        return [StreamEntry(*entry) for entry in entries]

    def _ask(self, *arguments: bytes) -> ServerReply:
        deadline = Deadline.after(TIMEOUT_S)
        self._link.ensure_up(deadline)  # At once, where it is away.
        reply = self._link.ask(deadline, *arguments)
        if isinstance(reply, hiredis.ReplyError):
            raise self._refused("a read", reply)
        return reply

    def _refused(self, what: str, reply: hiredis.ReplyError) -> ServerUnavailable:
        return ServerUnavailable(
            self._link.address, f"it refused {what} of {self._key.decode()!r}: {reply}"
        )
