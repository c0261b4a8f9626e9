"""Sending to a service's inbox: a stream on the server, in which messages wait for the service.

One send makes one entry, however often it is sent again after a lost reply: the server keeps the
message's id for a while. An inbox is never trimmed; one that is full refuses.
"""

from __future__ import annotations

import threading

import hiredis

from daebus.bus.commands import Command, ServerReply, pack
from daebus.bus.script import Script, ScriptCall, Sender
from daebus.channels import inbox_key, sent_key
from daebus.deadline import Deadline
from daebus.errors import CallTimeout, DaebusError, InboxFull, ServerFull, ServerUnavailable

#: How long the server's replicas may take to say that they have a message, in milliseconds.
REPLICATED_MS = 1_000

#: Stores a message. The order of the steps matters: a message that is there already must not be
#: told that the inbox is full, and one that is refused must not leave its id behind.
SEND = Script("""\
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 'dup'
end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return 'full'
end
redis.call('SET', KEYS[2], 1, 'PX', ARGV[2])
return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3))
""")


def store(
    service: str,
    data: bytes,
    *,
    message_id: str,
    max_inbox: int,
    window_ms: int,
    channel: str | None = None,
) -> bytes:
    """The bytes of the command that stores one message in a service's inbox.

    Args:
        service: whose inbox.
        data: the request's envelope; for a durable channel, the payload.
        message_id: the same each time that this message is sent.
        max_inbox: how many messages the inbox may hold.
        window_ms: how long the server remembers the id, in milliseconds.
        channel: the durable channel that it was published to.
    """
    fields: list[str | bytes] = ["data", data, "id", message_id]
    if channel is not None:
        fields += ["channel", channel]
    keys = [inbox_key(service), sent_key(service, message_id)]
    return SEND.call(keys, max_inbox, max(1, window_ms), *fields)


def store_error(service: str, reply: ServerReply) -> DaebusError | None:
    """What is wrong with the server's answer to it; None when the message is stored.

    A message that was stored before counts as stored.
    """
    if reply == b"full":
        return InboxFull(service, "as many messages wait in its inbox as it may hold")
    if not isinstance(reply, hiredis.ReplyError):
        return None
    if "OOM " in str(reply):
        return ServerFull(service, "the server has no memory left (its maxmemory)")
    return ServerUnavailable("the server", f"it refused to store the message: {reply}")


class Stored(ScriptCall):
    """A message on its way to an inbox; after a lost connection it is sent again.

    The script must be known to the link: `link.load(SEND)`. Send it with
    `link.send_all(stored.commands())`.

    Args:
        link: what it is sent with.
        service: whose inbox.
        data: see `store`.
        replicas: how many replicas of the server must have it. Asking blocks the connection until
            they do.
    """

    __slots__ = ("_error", "_is_settled", "_replicas", "_service", "_waiter", "_witness")

    resend = True

    def __init__(self, link: Sender, service: str, data: bytes, replicas: int = 0) -> None:
        super().__init__(link, SEND, data)
        self._service = service
        self._replicas = replicas
        self._error: DaebusError | None = None
        self._is_settled = False
        self._waiter: threading.Event | None = None
        self._witness: _Witness | None = None

    def commands(self) -> list[Command]:
        """See `ScriptCall`."""
        if not self._replicas:
            return [self]
        self._witness = _Witness(self, self._replicas)
        return [self, self._witness]

    def take(self, reply: ServerReply) -> None:
        """See `ScriptCall`."""
        error = store_error(self._service, reply)
        if error is not None or self._witness is None:
            self.settle(error)

    def fail(self, error: DaebusError) -> None:
        """See `Command`."""
        self.settle(error)

    def testify(self, witness: _Witness, error: DaebusError | None) -> None:
        """Take what the replicas of the server say."""
        if witness is self._witness:
            self.settle(error)

    def settle(self, error: DaebusError | None) -> None:
        """It is stored, or refused. Called once or more, the first counts; never blocks."""
        if self._is_settled:
            return
        self._error = error
        self._is_settled = True
        if (waiter := self._waiter) is not None:
            waiter.set()

    def wait(self, deadline: Deadline) -> None:
        """Wait until it is stored.

        Raises:
            InboxFull: as many messages wait as may, or (`ServerFull`) the server's memory is full.
            ServerUnavailable: the server refused it for another reason, or was lost.
            CallTimeout: the server did not answer in time; it may be stored all the same.
        """
        timeout_s = deadline.remaining_s()
        if not self._is_settled:
            self._waiter = waiter = threading.Event()
            # It may have been settled before there was somebody to wake.
            if not self._is_settled and not waiter.wait(timeout_s):
                raise CallTimeout("the server", "a message for the inbox", timeout_s)
        if self._error is not None:
            raise self._error


class _Witness(Command):
    """The WAIT behind a message: how many replicas of the server have it.

    It is not sent again: on another connection it would wait for nothing.
    """

    __slots__ = ("_replicas", "_stored")

    def __init__(self, stored: Stored, replicas: int) -> None:
        super().__init__(pack("WAIT", replicas, REPLICATED_MS))
        self._stored = stored
        self._replicas = replicas

    def resolve(self, reply: ServerReply) -> None:
        """See `Command`."""
        if isinstance(reply, int) and reply >= self._replicas:
            self._stored.testify(self, None)
            return
        self._stored.testify(
            self,
            ServerUnavailable(
                "the server", f"it stored the message, but of {self._replicas} replicas: {reply!r}"
            ),
        )

    def fail(self, error: DaebusError) -> None:
        """See `Command`."""
        self._stored.testify(self, error)
