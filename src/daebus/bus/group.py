"""Taking from a service's inbox: a consumer group, in which each replica is one consumer.

An entry that was read belongs to its reader until that acknowledges it. The reader renews what it
has in hand; what was not renewed for a whole lease is taken over by whoever looks first. Every
change asks first whose the entry is now, so a replica that was stopped for a while and lost its
entries cannot take them back. Entries that failed, or were given back, belong to `NOBODY`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

import hiredis

from daebus.bus import inbox_scripts as scripts
from daebus.bus.commands import Awaited, Command, ServerReply, pack
from daebus.bus.link import Link
from daebus.bus.script import AwaitedScript, Script, ScriptCall
from daebus.channels import dead_key, inbox_key
from daebus.deadline import Deadline
from daebus.errors import DaebusError, ServerUnavailable

#: The consumer of the entries that no replica has.
NOBODY = "nobody"

#: The longest wait for a read: the connection comes back, or the service stops. In seconds.
FOR_EVER_S = 1e8

#: Most entries that one command names: Lua passes a few thousand arguments at once.
MAX_IDS = 1_000


class Entry(NamedTuple):
    """One message in an inbox."""

    #: Its id in the stream: the server's clock in milliseconds when it was stored, and a number.
    id: bytes
    data: bytes
    message_id: str
    #: The durable channel that it was published to; None for a request.
    channel: str | None
    #: How often it was delivered, this time counted.
    deliveries: int
    #: Whether replicas died that had it, so often that it may be the reason.
    is_suspect: bool

    @property
    def stored_ms(self) -> int:
        """When it was stored, on the server's clock."""
        return int(self.id.partition(b"-")[0])


class GroupMissing(DaebusError):
    """The inbox or its group is not there: somebody removed it, or the server lost its data."""


#: Told what became of a change: None, or the server's error.
Then = Callable[[str | None], None]


class Group:
    """One replica's part in its service's group.

    Args:
        link: for all but reading.
        reading: a link of its own for reads, which block the connection.
        service: the service's name, which is the group's.
        consumer: this replica.
        lease_ms: how long an entry is its reader's without a sign of life.
    """

    def __init__(
        self, link: Link, reading: Link, service: str, consumer: str, lease_ms: int
    ) -> None:
        self._link = link
        self._reading = reading
        self._service = service
        self._me = (service, consumer)
        self._key = inbox_key(service)
        self._lease_ms = lease_ms
        self._read: _Read | None = None
        self._is_stopped = False
        #: The server's clock less this process's monotonic one, in milliseconds, once known.
        self.clock_ms: float | None = None

    def create(self, deadline: Deadline) -> None:
        """Create the inbox and its group where they are missing.

        Raises:
            ServerUnavailable: the server refused, or the connection was lost.
            CallTimeout: it did not answer in time.
        """
        for script in scripts.ALL:
            self._link.load(script)
        create = (b"XGROUP", b"CREATE", self._key.encode(), self._service.encode(), b"0")
        reply = self._link.ask(deadline, *create, b"MKSTREAM")
        # What is there may be emptied also when the server's memory takes nothing more.
        if isinstance(reply, hiredis.ReplyError) and not str(reply).startswith(
            ("BUSYGROUP", "OOM")
        ):
            raise ServerUnavailable(self._link.address, f"it refused an inbox: {reply}")

    def read(self, count: int, block_ms: int) -> list[Entry]:
        """Entries that nobody has had, as soon as there is one; [] when none came in time.

        Args:
            count: how many at most.
            block_ms: how long the server waits for the first; 0 not at all.

        Raises:
            GroupMissing: see there.
            ServerUnavailable: the server refused, or `stop_reading` was called.
        """
        block = (b"BLOCK", b"%d" % block_ms) if block_ms else ()
        group = (b"XREADGROUP", b"GROUP", *(name.encode() for name in self._me))
        what = (b"COUNT", b"%d" % count, *block, b"STREAMS", self._key.encode(), b">")
        self._read = read = _Read(*group, *what)
        if self._is_stopped:
            raise ServerUnavailable(self._link.address, "the service stops")
        self._reading.send(read)
        reply = read.wait(Deadline.after(FOR_EVER_S))
        if isinstance(reply, hiredis.ReplyError):
            raise self._error(reply)
        if not isinstance(reply, dict):
            return []
        [entries] = reply.values()
        return [_entry(*entry) for entry in entries]

    def stop_reading(self) -> None:
        """End a read that waits, and let no other begin."""
        self._is_stopped = True
        self._reading.close()
        if (read := self._read) is not None:
            read.fail(ServerUnavailable(self._link.address, "the service stops"))

    def take_over(
        self, count: int, *, suspects: int, suspect_at: int, deadline: Deadline
    ) -> tuple[list[Entry], bool]:
        """Entries that nobody has renewed for a lease; and whether there are more of them.

        Args:
            count: how many at most.
            suspects: how many suspects at most.
            suspect_at: which delivery makes an entry a suspect, if replicas died that had it.
            deadline: the longest wait.

        Raises:
            GroupMissing: see there.
            ServerUnavailable: the server refused, or the connection was lost.
            CallTimeout: it did not answer in time.
        """
        arguments = (*self._me, self._lease_ms, count, suspects, suspect_at, NOBODY)
        data = scripts.TAKE_OVER.call([self._key], *arguments)
        call = AwaitedScript(self._link, scripts.TAKE_OVER, data)
        self._link.send(call)
        reply = call.wait(deadline)
        if isinstance(reply, hiredis.ReplyError):
            raise self._error(reply)
        more, taken = reply  # type: ignore[misc]  # what the script gives
        return [_entry(*entry) for entry in taken], more == 1  # type: ignore[misc, union-attr]

    def renew(self, ids: Sequence[bytes], on_lost: Callable[[list[bytes]], None]) -> None:
        """Say that these are in hand; `on_lost` is told which are somebody else's by now."""
        for start in range(0, len(ids), MAX_IDS):
            data = scripts.RENEW.call([self._key], *self._me, *ids[start : start + MAX_IDS])
            self._link.send(_Renewal(self._link, scripts.RENEW, data, on_lost))

    def acknowledge(self, ids: Sequence[bytes], then: Then) -> None:
        """Remove entries that are done, `MAX_IDS` at most."""
        data = scripts.ACKNOWLEDGE.call([self._key], self._service, *ids)
        self._link.send(_Change(self._link, scripts.ACKNOWLEDGE, data, then))

    def park(self, entry: Entry, *, is_failed: bool, then: Then) -> None:
        """Let others have an entry: after a lease if it failed here, else at once.

        One that is only given back counts as delivered once less, so that restarts of the service
        are not taken for failures; but as once at least, because it may have been begun.
        """
        count = entry.deliveries if is_failed else max(1, entry.deliveries - 1)
        idle_ms = 0 if is_failed else self._lease_ms
        data = scripts.PARK.call([self._key], *self._me, entry.id, NOBODY, idle_ms, count)
        self._link.send(_Change(self._link, scripts.PARK, data, then))

    def bury(self, entry: Entry, reason: str, count: int, then: Then) -> None:
        """Move an entry to the dead stream."""
        fields: list[str | bytes | int] = ["data", entry.data, "id", entry.message_id]
        if entry.channel is not None:
            fields += ["channel", entry.channel]
        fields += ["reason", reason, "deliveries", count]
        keys = [self._key, dead_key(self._service)]
        data = scripts.BURY.call(keys, *self._me, entry.id, *fields)
        self._link.send(_Change(self._link, scripts.BURY, data, then))

    def clean_up(self, idle_ms: int) -> None:
        """Forget the consumers that have nothing and did nothing for so long."""
        data = scripts.CLEAN_UP.call([self._key], self._service, idle_ms, NOBODY, self._me[1])
        self._link.send(ScriptCall(self._link, scripts.CLEAN_UP, data))

    def leave(self, deadline: Deadline) -> None:
        """Give back what this consumer still has, and forget the consumer.

        Raises:
            ServerUnavailable: the connection was lost.
            CallTimeout: the server did not answer in time.
        """
        data = scripts.LEAVE.call([self._key], *self._me, NOBODY, self._lease_ms)
        call = AwaitedScript(self._link, scripts.LEAVE, data)
        self._link.send(call)
        call.wait(deadline)

    def read_clock(self) -> None:
        """Ask for the server's time; `clock_ms` is set when it has come."""
        self._link.send(_Clock(self))

    def _error(self, reply: hiredis.ReplyError) -> DaebusError:
        text = str(reply)
        # UNBLOCKED: the stream was removed while a read waited (XREADGROUP).
        if "NOGROUP" in text or text.startswith("UNBLOCKED"):
            return GroupMissing(text)
        return ServerUnavailable(self._link.address, f"it refused to give from an inbox: {text}")


def _entry(entry_id: bytes, fields: list[bytes], count: int = 1, is_suspect: int = 0) -> Entry:
    values = dict(zip(fields[::2], fields[1::2], strict=False))
    message_id = values.get(b"id", entry_id).decode(errors="replace")
    channel = values.get(b"channel")
    return Entry(
        entry_id,
        values.get(b"data", b""),
        message_id,
        None if channel is None else channel.decode(errors="replace"),
        count,
        bool(is_suspect),
    )


class _Read(Awaited):
    """A read that waits; after a lost connection it is made again."""

    __slots__ = ()
    resend = True


class _Change(ScriptCall):
    """A change that must come to pass, and may come to pass twice."""

    __slots__ = ("_then",)

    resend = True

    def __init__(self, link: Link, script: Script, data: bytes, then: Then) -> None:
        super().__init__(link, script, data)
        self._then = then

    def take(self, reply: ServerReply) -> None:
        is_error = isinstance(reply, hiredis.ReplyError)
        # Without its group there is nothing that could be changed.
        is_gone = is_error and "NOGROUP" in str(reply)
        self._then(str(reply) if is_error and not is_gone else None)


class _Renewal(ScriptCall):
    """A sign of life. One that is late is of no use, so it is not sent again."""

    __slots__ = ("_on_lost",)

    def __init__(
        self, link: Link, script: Script, data: bytes, on_lost: Callable[[list[bytes]], None]
    ) -> None:
        super().__init__(link, script, data)
        self._on_lost = on_lost

    def take(self, reply: ServerReply) -> None:
        if isinstance(reply, list) and reply:
            self._on_lost(reply)  # type: ignore[arg-type]  # ids, as the script gives them


class _Clock(Command):
    """The server's time."""

    __slots__ = ("_group",)

    def __init__(self, group: Group) -> None:
        super().__init__(pack("TIME"))
        self._group = group

    def resolve(self, reply: ServerReply) -> None:
        if isinstance(reply, list):
            seconds, microseconds = (int(part) for part in reply)  # type: ignore[arg-type]
            # Taken when the answer is here, so that no message is thought older than it is.
            now_ms = monotonic() * 1000
            self._group.clock_ms = seconds * 1000 + microseconds / 1000 - now_ms
