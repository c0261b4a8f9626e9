"""Appends entries to any stream on the server, many in one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import hiredis

from daebus.bus.commands import Answer, Command, ServerReply, pack
from daebus.bus.link import Link
from daebus.deadline import Deadline
from daebus.errors import DaebusError, ServerUnavailable

#: The longest wait for the server's answers, in seconds.
TIMEOUT_S = 30.0


def append(
    link: Link,
    stream: str,
    entries: Iterable[Mapping[str, str | bytes]],
    *,
    max_length: int | None = None,
) -> None:
    """Append entries in order, and return once the server has all of them.

    Args:
        link: what they are sent with.
        stream: the stream's key; made if it is not there.
        entries: the fields of each, at least one.
        max_length: the server may remove the oldest entries that are more than this.

    Raises:
        ServerUnavailable: the server refused one, or the connection was lost; others may be there.
        CallTimeout: it did not answer in time; they may be there.
    """
    trim = () if max_length is None else ("MAXLEN", "~", max_length)
    packed = [
        pack("XADD", stream, *trim, "*", *(part for field in fields.items() for part in field))
        for fields in entries
    ]
    if not packed:
        return
    deadline = Deadline.after(TIMEOUT_S)
    link.ensure_up(deadline)
    appends = _Appends(packed)
    link.send_all(appends.commands())
    if (refusal := appends.wait(deadline)) is not None:
        raise ServerUnavailable(link.address, f"it refused an entry of {stream!r}: {refusal}")


class _Appends(Command):
    """XADD commands that leave together; wakes its sender with the last reply."""

    __slots__ = ("_answer", "_left", "_refusal")

    def __init__(self, packed: list[bytes]) -> None:
        super().__init__(b"".join(packed))
        self._left = len(packed)
        self._answer = Answer("entries for a stream")
        self._refusal: hiredis.ReplyError | None = None

    def commands(self) -> list[Command]:
        """One command without bytes for each reply but the last, and one with all the bytes.

        In this order: the writer may part them, and a reply must not come before its command; and
        while any reply is missing the last one is, so its sender learns of a lost connection.
        """
        return [*([_Other(self)] * (self._left - 1)), self]

    def wait(self, deadline: Deadline) -> hiredis.ReplyError | None:
        """Wait for all replies; gives the first refusal, if there is one.

        Raises:
            ServerUnavailable: the connection was lost before they came.
            CallTimeout: they did not come in time.
        """
        self._answer.wait(deadline)
        return self._refusal

    def resolve(self, reply: ServerReply) -> None:
        """Take the reply to one of them."""
        if isinstance(reply, hiredis.ReplyError) and self._refusal is None:
            self._refusal = reply
        self._left -= 1
        if self._left == 0:
            self._answer.take(None)

    def fail(self, error: DaebusError) -> None:
        """See `Command`."""
        self._answer.fail(error)


class _Other(Command):
    """Stands for a reply to come, of a command whose bytes another one carries."""

    __slots__ = ("_appends",)

    def __init__(self, appends: _Appends) -> None:
        super().__init__(b"")
        self._appends = appends

    def resolve(self, reply: ServerReply) -> None:
        self._appends.resolve(reply)
