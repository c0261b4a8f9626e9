"""Commands to the server that wait for their reply, in the order in which they were sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import hiredis

from daebus.deadline import Deadline
from daebus.errors import CallTimeout, DaebusError, ServerUnavailable

#: What the server answers: the types that hiredis makes of a reply. Errors come as a value.
ServerReply = int | bytes | None | list["ServerReply"] | hiredis.ReplyError


def publish(channel: bytes, data: bytes) -> bytes:
    """The bytes of a PUBLISH command (RESP: an array of bulk strings)."""
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(channel),
        channel,
        len(data),
        data,
    )


def published(command: bytes) -> bytes:
    """The data that a PUBLISH command carries."""
    return command.split(b"\r\n", 6)[6][:-2]


def pack(*arguments: str | bytes | int) -> bytes:
    """The bytes of any command."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # a narrow stub
    return packed


class Command:
    """Bytes on their way to the server, and what becomes of the reply."""

    __slots__ = ("data",)

    #: Whether to send it again after a lost connection. Only what may arrive twice: a request
    #: would run twice, a reply is recognised by the caller and dropped.
    resend = False

    #: Whether the thread that sends it then receives for itself (`Link.read_until`).
    reads_for_itself = False

    def __init__(self, data: bytes) -> None:
        self.data = data

    def resolve(self, reply: ServerReply) -> None:
        """Take the server's reply. Called from the link's reader thread; never blocks."""

    def fail(self, error: DaebusError) -> None:
        """Take the news that there will be no reply. Never blocks."""


class Receivers(Command):
    """How many subscribers a published message had: a number that is waited for when it is used.

    `int(receivers)`, comparing, adding, printing or testing it waits for the server's answer (one
    round trip); a handler that only returns it waits for nothing.

    Raises:
        ServerUnavailable: from each use, when the connection was lost before the answer came.

    Example:
        >>> def handler():
        ...     if response.send({"progress": 10}, final=False) == 0:
        ...         return  # the caller has gone
    """

    __slots__ = ("_error", "_lock", "_value", "_waiter")

    #: Longest wait for the server's answer, in seconds.
    WAIT_S = 10.0

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._value: int | None = None
        self._error: DaebusError | None = None
        self._waiter: threading.Lock | None = None

    @classmethod
    def known(cls, count: int) -> Receivers:
        """A number that is known already, because nothing had to be sent."""
        receivers = cls(b"")
        receivers._value = count
        return receivers

    def resolve(self, reply: ServerReply) -> None:
        """See `Command`."""
        if isinstance(reply, int):
            self._value = reply
        else:
            self._error = ServerUnavailable("the server", f"it refused to publish: {reply!r}")
        self._wake()

    def fail(self, error: DaebusError) -> None:
        """See `Command`."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if (waiter := self._waiter) is not None:
            waiter.release()

    def wait(self, timeout_s: float = WAIT_S) -> int:
        """Wait for the number.

        Raises:
            ServerUnavailable: the connection was lost, or the server refused.
            CallTimeout: the server did not answer in time.
        """
        if self._value is None and self._error is None:
            waiter = threading.Lock()
            waiter.acquire()
            self._waiter = waiter
            # The answer may have come before the waiter was there to be woken.
            if self._value is None and self._error is None:
                waiter.acquire(timeout=timeout_s)
        if self._value is not None:
            return self._value
        if self._error is not None:
            raise self._error
        raise CallTimeout("the server", "PUBLISH", timeout_s)

    def __int__(self) -> int:
        return self.wait()

    __index__ = __int__

    def __bool__(self) -> bool:
        return self.wait() != 0

    def __eq__(self, other: object) -> bool:
        return self.wait() == other

    def __lt__(self, other: int) -> bool:
        return self.wait() < other

    def __le__(self, other: int) -> bool:
        return self.wait() <= other

    def __gt__(self, other: int) -> bool:
        return self.wait() > other

    def __ge__(self, other: int) -> bool:
        return self.wait() >= other

    def __add__(self, other: int) -> int:
        return self.wait() + int(other)

    __radd__ = __add__

    def __hash__(self) -> int:
        return hash(self.wait())

    def __repr__(self) -> str:
        if self._value is None:
            return "<receivers: not known yet>"
        return str(self._value)

    __str__ = __repr__


class ReplyPublication(Receivers):
    """A reply on its way to a caller."""

    __slots__ = ()
    resend = True


class Answer:
    """The server's reply to one command, for a thread that waits for it.

    Args:
        what: what is waited for, for the error's text.
    """

    __slots__ = ("_done", "_error", "_what", "reply")

    def __init__(self, what: str) -> None:
        self._what = what
        self._done = threading.Event()
        self._error: DaebusError | None = None
        self.reply: ServerReply = None

    def take(self, reply: ServerReply) -> None:
        """It has come."""
        self.reply = reply
        self._done.set()

    def fail(self, error: DaebusError) -> None:
        """It will not come."""
        self._error = error
        self._done.set()

    def wait(self, deadline: Deadline) -> ServerReply:
        """Wait for it; an error of the server comes back as a value.

        Raises:
            ServerUnavailable: the connection was lost before the reply came.
            CallTimeout: the reply did not come in time.
        """
        timeout_s = deadline.remaining_s()
        if not self._done.wait(timeout_s):
            raise CallTimeout("the server", self._what, timeout_s)
        if self._error is not None:
            raise self._error
        return self.reply


class Awaited(Command):
    """A command whose sender waits for the reply.

    Args:
        arguments: the command and its arguments.
        confirmations: how many push messages end a SUBSCRIBE, which has no other reply (RESP3).
    """

    __slots__ = ("_answer", "confirmations")

    def __init__(self, *arguments: bytes, confirmations: int = 0) -> None:
        super().__init__(pack(*arguments))
        self.confirmations = confirmations
        self._answer = Answer("a command")

    def resolve(self, reply: ServerReply) -> None:
        """See `Command`."""
        self._answer.take(reply)

    def fail(self, error: DaebusError) -> None:
        """See `Command`."""
        self._answer.fail(error)

    @property
    def reply(self) -> ServerReply:
        """The reply, once it has come."""
        return self._answer.reply

    def wait(self, deadline: Deadline) -> ServerReply:
        """See `Answer`."""
        return self._answer.wait(deadline)


class Asked(Command):
    """A command whose reply is given to a function, in the link's reader thread.

    Args:
        then: takes the reply, or the error that says that none will come; must not block.
        arguments: the command and its arguments.
    """

    __slots__ = ("_then",)

    def __init__(
        self, then: Callable[[ServerReply | DaebusError], object], *arguments: str | bytes | int
    ) -> None:
        super().__init__(pack(*arguments))
        self._then = then

    def resolve(self, reply: ServerReply) -> None:
        """See `Command`."""
        self._then(reply)

    def fail(self, error: DaebusError) -> None:
        """See `Command`."""
        self._then(error)


def confirmed(kind: bytes, names: Sequence[bytes]) -> Awaited:
    """SUBSCRIBE, UNSUBSCRIBE and the like: the server confirms each name by a push message."""
    return Awaited(kind, *names, confirmations=len(names))
