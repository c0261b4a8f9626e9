"""The dead letters of a service on the server: messages of its inbox that failed too often.

For people, through the command line: it opens a connection of its own for each use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from daebus.bus.connection import advice, client, display
from daebus.channels import dead_key, inbox_key
from daebus.errors import ServerFull, ServerUnavailable

#: How many entries the server gives, or moves, at once: it does nothing else meanwhile.
AT_ONCE = 100


@dataclass(frozen=True)
class DeadEntry:
    """A message that failed too often."""

    #: The id of its entry in the dead stream.
    entry: str
    #: The message as it came.
    data: bytes
    message_id: str
    #: The channel, if it came over one; else it is a request.
    channel: str | None
    reason: str
    deliveries: int
    #: When it was given up, in milliseconds since 1970.
    at_ms: int


class DeadStream:
    """The dead stream of one service.

    Args:
        url: the server's address.
        service: the service's name.
    """

    def __init__(self, url: str, service: str) -> None:
        self._url = url
        self._service = service
        self._dead = dead_key(service)
        self._inbox = inbox_key(service)

    def entries(self) -> Iterator[DeadEntry]:
        """All of them, oldest first.

        Raises:
            SettingsError: the address makes no sense.
            ServerUnavailable: the server cannot be reached, or refuses.
        """
        first = "-"
        with self._server() as server:
            while found := self._range(server, first, "+"):
                yield from found
                first = f"({found[-1].entry}"

    def find(self, entry: str) -> DeadEntry | None:
        """The one with this id; None if there is none.

        Raises:
            SettingsError: the address makes no sense.
            ServerUnavailable: the server cannot be reached, or refuses.
        """
        with self._server() as server:
            found = self._range(server, entry, entry)
        return found[0] if found else None

    def retry(self, entry: str) -> bool:
        """Put one back into the inbox, as new; False if there is none with this id.

        Raises:
            SettingsError: the address makes no sense.
            ServerFull: the server has no memory left for it; it stays where it is.
            ServerUnavailable: the server cannot be reached, or refuses.
        """
        return self._move(_RETRY, entry, entry) == 1

    def drop(self, entry: str) -> bool:
        """Remove one for good; False if there is none with this id.

        Raises:
            SettingsError: the address makes no sense.
            ServerUnavailable: the server cannot be reached, or refuses.
        """
        return self._move(_DROP, entry, entry) == 1

    def retry_all(self) -> int:
        """Put all back that are dead by now; gives how many that were.

        Raises:
            SettingsError: the address makes no sense.
            ServerFull: the server has no memory left; what is not moved stays where it is.
            ServerUnavailable: the server cannot be reached, or refuses.
        """
        return self._move_all(_RETRY)

    def drop_all(self) -> int:
        """Remove all that are dead by now; gives how many that were.

        Raises:
            SettingsError: the address makes no sense.
            ServerUnavailable: the server cannot be reached, or refuses.
        """
        return self._move_all(_DROP)

    def _move_all(self, script: str) -> int:
        with self._server() as server:
            newest: Any = server.xrevrange(self._dead, count=1)
        if not newest:
            return 0
        # What dies again meanwhile is not put back for ever.
        last = newest[0][0].decode()
        moved = 0
        while count := self._move(script, "-", last):
            moved += count
        return moved

    def _move(self, script: str, first: str, last: str) -> int:
        with self._server() as server:
            run = server.register_script(script)
            return int(run(keys=[self._dead, self._inbox], args=[first, last, AT_ONCE]))

    def _range(self, server: redis.Redis, first: str, last: str) -> list[DeadEntry]:
        found: Any = server.xrange(self._dead, first, last, count=AT_ONCE)
        return [_entry(entry.decode(), fields) for entry, fields in found]

    @contextmanager
    def _server(self) -> Iterator[redis.Redis]:
        try:
            with client(self._url) as server:
                yield server
        except redis.OutOfMemoryError as error:
            raise ServerFull(self._service, f"the server's memory is full ({error})") from None
        except redis.RedisError as error:
            raise ServerUnavailable(display(self._url), advice(self._url, error)) from None


# One step each: whatever happens, a message is in one of the two streams.
_EACH = """
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
for _, entry in ipairs(found) do
  {put_back}
  redis.call('XDEL', KEYS[1], entry[1])
end
return #found
"""
_DROP = _EACH.format(put_back="")
_RETRY = _EACH.format(
    put_back="""
  local fields = {}
  for at = 1, #entry[2], 2 do fields[entry[2][at]] = entry[2][at + 1] end
  local again = { 'data', fields.data or '', 'id', fields.id or '' }
  if fields.channel then
    table.insert(again, 'channel')
    table.insert(again, fields.channel)
  end
  redis.call('XADD', KEYS[2], '*', unpack(again))
"""
)


def _entry(entry: str, fields: dict[bytes, bytes]) -> DeadEntry:
    """An entry as it stands there; a field that is missing or foreign does not hide the others."""
    channel = fields.get(b"channel")
    return DeadEntry(
        entry,
        fields.get(b"data", b""),
        _text(fields.get(b"id", b"")),
        None if channel is None else _text(channel),
        _text(fields.get(b"reason", b"")),
        _number(fields.get(b"deliveries", b"")),
        _number(fields.get(b"at", b"")) or _number(entry.partition("-")[0].encode()),
    )


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _number(value: bytes) -> int:
    return int(value) if value.isdigit() else 0
