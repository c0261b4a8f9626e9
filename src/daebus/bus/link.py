"""A link: one connection to the server that comes back by itself.

It publishes for any number of threads and hands what it is subscribed to to one consumer. Its
reader thread parses a whole receive before it hands on anything, and never waits for a consumer.
When the connection breaks, the thread fails what was under way, connects again without limit
(backoff with jitter), subscribes again, and only then says that the link is up, and how long the
gap was.
"""

from __future__ import annotations

import os
import random
import threading
import weakref
from collections.abc import Iterable
from enum import Enum
from time import monotonic
from typing import Protocol

import hiredis

from daebus.bus import commands
from daebus.bus.commands import Awaited, Command, ServerReply, pack
from daebus.bus.connection import CONNECT_TIMEOUT_S, Wire, check_url, connect, display
from daebus.bus.writer import Writer
from daebus.deadline import Deadline
from daebus.errors import ConnectionLost, DaebusError, ServerUnavailable
from daebus.logs import describe, get_logger

log = get_logger(__name__)

#: First and longest wait between two attempts to connect, in seconds. The longest, jitter
#: included, stays below the second within which a link promises to be back.
FIRST_BACKOFF_S = 0.02
LONGEST_BACKOFF_S = 0.5

#: A link that has received nothing for so long asks whether the server is there, in seconds.
PING_AFTER_S = 2.0

#: … and counts as broken when nothing at all came for so long: a half-open connection, seconds.
DEAD_AFTER_S = 10.0

#: Bytes of one receive. Large, so that a burst costs few system calls and few turns at the GIL.
RECEIVE_BYTES = 256 * 1024

_NOTHING = object()
_CONFIRMATIONS = {b"subscribe", b"psubscribe", b"unsubscribe", b"punsubscribe"}
_PING = pack("PING")


#: Every link of this process, for the child of a fork to abandon.
_links: weakref.WeakSet[Link] = weakref.WeakSet()


class Consumer(Protocol):
    """Takes what a link receives. Called from the link's reader thread; must not block."""

    def on_messages(self, messages: list[list[bytes]]) -> None:
        """Take `[b"message", channel, data]` or `[b"pmessage", pattern, channel, data]`."""

    def on_lost(self, error: ConnectionLost) -> None:
        """The connection broke: messages may be missed from now on."""

    def on_back(self, gap_s: float, reason: str) -> None:
        """The link is up again; what was published in the last `gap_s` seconds was missed."""


class State(Enum):
    """What a link is doing."""

    CONNECTING = "connecting for the first time"
    UP = "up"
    DOWN = "down, connecting again"
    CLOSED = "closed"


class Link:
    """One connection, shared.

    Args:
        url: the server's address.
        name: the connection's name in the server's CLIENT LIST.

    Raises:
        SettingsError: the address makes no sense.
    """

    def __init__(self, url: str, name: str) -> None:
        self.url = check_url(url)
        self.name = name
        self.address = display(url)
        self.consumer: Consumer | None = None
        self._writer = Writer(self.address)
        self._channels: set[bytes] = set()
        self._patterns: set[bytes] = set()
        self._state = State.CONNECTING
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._wire: Wire | None = None
        self._error: DaebusError | None = None
        self._lost_at: float | None = None
        self._last_receive = monotonic()
        self._is_pinged = False
        self._thread = threading.Thread(target=self._run, name="daebus-reader", daemon=True)
        _links.add(self)

    # --- for the threads that use it ---

    def start(self) -> None:
        """Start the reader thread, which connects."""
        self._thread.start()

    def ensure_up(self, deadline: Deadline) -> None:
        """Return when the link is up; wait only for the first attempt to connect.

        Raises:
            ServerUnavailable: it is down, or closed, or the deadline passed first.
        """
        if self.is_up:
            return
        with self._changed:
            self._changed.wait_for(
                lambda: self._state is not State.CONNECTING, deadline.remaining_s()
            )
            if self.is_up:
                return
            if isinstance(self._error, ServerUnavailable):
                reason = self._error.reason
            else:
                reason = str(self._error or self._state.value)
        raise ServerUnavailable(self.address, reason)

    @property
    def is_up(self) -> bool:
        """Whether it is connected and has all its subscriptions."""
        return self._state is State.UP

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, here or by a fork."""
        return self._state is State.CLOSED

    def is_reader(self) -> bool:
        """Whether the current thread is the link's own, in which nothing may wait for a reply."""
        return threading.get_ident() == self._thread.ident

    def send(self, command: Command) -> None:
        """Send a command; `command.resolve` or `command.fail` is called later.

        Raises:
            ServerUnavailable: too much waits already.
        """
        self._writer.write(command)

    def send_all(self, commands: list[Command]) -> None:
        """Send commands with no other between them.

        Raises:
            ServerUnavailable: too much waits already.
        """
        self._writer.write_all(commands)

    def ask(self, deadline: Deadline, *arguments: bytes) -> ServerReply:
        """Send a command and wait for its reply; an error of the server is returned as a value.

        Raises:
            ServerUnavailable: the connection was lost before the reply came.
            CallTimeout: it did not come in time.
        """
        command = Awaited(*arguments)
        self.send(command)
        return command.wait(deadline)

    def subscribe(
        self, deadline: Deadline, channels: Iterable[str] = (), patterns: Iterable[str] = ()
    ) -> None:
        """Subscribe, and wait until the server has confirmed it.

        Raises:
            ServerUnavailable: the server refused (no right to this channel), or is away.
            CallTimeout: it did not confirm in time.
        """
        new_channels = [name.encode() for name in channels]
        new_patterns = [name.encode() for name in patterns]
        self._channels.update(new_channels)
        self._patterns.update(new_patterns)
        asked = _subscriptions(new_channels, new_patterns)
        for command in asked:
            self.send(command)
        for command in asked:
            reply = command.wait(deadline)
            if isinstance(reply, hiredis.ReplyError):
                raise ServerUnavailable(self.address, f"it refused to subscribe: {reply}")

    def unsubscribe_all(self, deadline: Deadline) -> None:
        """Unsubscribe, and wait until everything that was sent before has been handed on.

        Raises:
            ServerUnavailable: the connection was lost meanwhile.
            CallTimeout: the server did not confirm in time.
        """
        asked = []
        if self._channels:
            asked.append(commands.confirmed(b"UNSUBSCRIBE", list(self._channels)))
        if self._patterns:
            asked.append(commands.confirmed(b"PUNSUBSCRIBE", list(self._patterns)))
        self._channels.clear()
        self._patterns.clear()
        for command in asked:
            self.send(command)
        for command in asked:
            command.wait(deadline)

    def close(self) -> None:
        """Close the connection and end the reader thread. May be called again."""
        self._closing.set()
        if (wire := self._wire) is not None:
            wire.close()
        if self._thread.is_alive() and not self.is_reader():
            self._thread.join(CONNECT_TIMEOUT_S)

    def abandon(self) -> None:
        """In the child of a fork: leave the parent's connection alone, and be closed here."""
        self._closing.set()
        self._state = State.CLOSED
        if self._wire is not None:
            self._wire.abandon()

    # --- the reader thread ---

    def _run(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while not self._closing.is_set():
            try:
                wire = connect(self.url, self.name)
                self._attach(wire)
                backoff_s = FIRST_BACKOFF_S
                self._receive(wire)
            except (DaebusError, OSError, hiredis.ProtocolError) as error:
                self._lose(error)
            except Exception as error:
                log.exception("the reader of %s failed", self.name, extra={"event": "link.error"})
                self._lose(error)
            # Jitter, so that a server that comes back is not met by all its clients at once.
            self._closing.wait(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311
            backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)
        self._lose(ServerUnavailable(self.address, "this end was closed"))
        self._set_state(State.CLOSED)

    def _attach(self, wire: Wire) -> None:
        self._wire = wire
        if self._closing.is_set():
            wire.close()
        self._last_receive = monotonic()
        self._is_pinged = False
        again = _subscriptions(list(self._channels), list(self._patterns))
        # The reply to PING comes after the confirmations, so it says that they are complete.
        self._writer.attach(wire, [*again, _Ready(self, again)])

    def _receive(self, wire: Wire) -> None:
        """Read until the connection breaks, which raises."""
        parser = hiredis.Reader(notEnoughData=_NOTHING)
        buffer = bytearray(RECEIVE_BYTES)
        sent = self._writer.sent
        while True:
            count = wire.receive_into(buffer)
            if count < 0:
                self._look_after_silence()
                continue
            self._last_receive = monotonic()
            parser.feed(buffer, 0, count)  # type: ignore[arg-type]  # any buffer
            messages: list[list[bytes]] = []
            while (reply := parser.gets()) is not _NOTHING:
                if reply.__class__ is not hiredis.PushNotification:
                    sent.popleft().resolve(reply)
                elif reply[0] == b"message" or reply[0] == b"pmessage":
                    messages.append(reply)
                elif reply[0] in _CONFIRMATIONS:
                    # What came before the end of a subscription is handed on before it is told.
                    self._hand_on(messages)
                    messages = []
                    self._confirm()
            self._hand_on(messages)
            self._writer.flush()

    def _hand_on(self, messages: list[list[bytes]]) -> None:
        if messages and self.consumer is not None:
            self.consumer.on_messages(messages)

    def _confirm(self) -> None:
        """A subscription began or ended: a push message takes the place of a reply (RESP3)."""
        command = self._writer.sent[0]
        assert isinstance(command, Awaited)  # noqa: S101 - replies come in the order of commands
        command.confirmations -= 1
        if command.confirmations == 0:
            self._writer.sent.popleft().resolve(None)

    def _look_after_silence(self) -> None:
        """Nothing came for a while: ask, and give up on a server that does not answer."""
        silence_s = monotonic() - self._last_receive
        if silence_s > DEAD_AFTER_S:
            raise TimeoutError(f"no sign of life for {silence_s:.0f} s")
        if silence_s > PING_AFTER_S and not self._is_pinged:
            self._is_pinged = True
            self._writer.write(_Pong(self))

    def _set_state(self, state: State) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _came_up(self) -> None:
        """All subscriptions are confirmed."""
        if self._state is State.CLOSED:
            return
        lost_at, error = self._lost_at, self._error
        self._lost_at = self._error = None
        self._set_state(State.UP)
        if lost_at is not None:
            gap_s = monotonic() - lost_at
            log.warning(
                "%s: back at %s after %.2f s; what was published meanwhile was missed",
                self.name,
                self.address,
                gap_s,
                extra={"event": "link.back", "gap_s": gap_s},
            )
            if self.consumer is not None:
                self.consumer.on_back(gap_s, str(error))

    def _lose(self, error: Exception) -> None:
        """The connection broke, or an attempt to connect failed."""
        if (wire := self._wire) is not None:
            wire.close()
            self._wire = None
        was_up = self._state is State.UP
        if not isinstance(error, DaebusError):
            error = ServerUnavailable(self.address, describe(error))
        self._error = error
        if not self._closing.is_set():
            self._set_state(State.DOWN)
        lost = ConnectionLost(self.address, describe(error))
        for command in self._writer.detach():
            command.fail(lost)
        if was_up:
            self._lost_at = monotonic()
            if not self._closing.is_set():
                log.warning(
                    "%s: the connection to %s was lost (%s); connecting again",
                    self.name,
                    self.address,
                    describe(error),
                    extra={"event": "link.lost"},
                )
            if self.consumer is not None:
                self.consumer.on_lost(lost)


class _Ready(Command):
    """The PING behind the subscriptions of a new connection."""

    __slots__ = ("_link", "_subscriptions")

    def __init__(self, link: Link, subscriptions: list[Awaited]) -> None:
        super().__init__(_PING)
        self._link = link
        self._subscriptions = subscriptions

    def resolve(self, reply: ServerReply) -> None:
        """Refused means lost: raising ends the reader's receive loop."""
        for answer in (reply, *(command.reply for command in self._subscriptions)):
            # A user without the right to PING is connected all the same.
            if isinstance(answer, hiredis.ReplyError) and "ping" not in str(answer):
                raise ServerUnavailable(self._link.address, f"it refused: {answer}")
        self._link._came_up()  # noqa: SLF001 - a part of the link


class _Pong(Command):
    """The PING that looks for a half-open connection."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        super().__init__(_PING)
        self._link = link

    def resolve(self, reply: ServerReply) -> None:  # noqa: ARG002 - any answer is a sign of life
        self._link._is_pinged = False  # noqa: SLF001 - a part of the link


def _subscriptions(channels: list[bytes], patterns: list[bytes]) -> list[Awaited]:
    asked = []
    if channels:
        asked.append(commands.confirmed(b"SUBSCRIBE", channels))
    if patterns:
        asked.append(commands.confirmed(b"PSUBSCRIBE", patterns))
    return asked


def _abandon_after_fork() -> None:
    """A child has none of the reader threads, and must not speak on its parent's connections."""
    for link in list(_links):
        link.abandon()


os.register_at_fork(after_in_child=_abandon_after_fork)
