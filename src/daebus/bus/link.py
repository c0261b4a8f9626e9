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
from collections.abc import Callable, Iterable
from enum import Enum
from time import monotonic

import hiredis

from daebus.bus import commands
from daebus.bus.commands import Awaited, Command, ServerReply
from daebus.bus.connection import CONNECT_TIMEOUT_S, Wire, check_url, connect, display
from daebus.bus.receiver import PING, Consumer, Receiver
from daebus.bus.script import Script
from daebus.bus.writer import Writer
from daebus.deadline import Deadline
from daebus.errors import ConnectionLost, DaebusError, ServerUnavailable
from daebus.logs import describe, get_logger

log = get_logger(__name__)

#: First and longest wait between two attempts to connect, in seconds. The longest, jitter
#: included, stays below the second within which a link promises to be back.
FIRST_BACKOFF_S = 0.02
LONGEST_BACKOFF_S = 0.5

#: Every link of this process, for the child of a fork to abandon.
_links: weakref.WeakSet[Link] = weakref.WeakSet()


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
        self._writer = Writer(self.address)
        self._receiver = Receiver(self._writer)
        self._channels: set[bytes] = set()
        self._patterns: set[bytes] = set()
        #: Loaded into the server with each connection, in this order.
        self._scripts: dict[Script, None] = {}
        self._state = State.CONNECTING
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._wire: Wire | None = None
        self._error: DaebusError | None = None
        self._lost_at: float | None = None
        self._backoff_s = FIRST_BACKOFF_S
        self._thread = threading.Thread(target=self._run, name="daebus-reader", daemon=True)
        _links.add(self)

    @property
    def consumer(self) -> Consumer | None:
        """Takes the messages that the link receives; set before the first subscription."""
        return self._receiver.consumer

    @consumer.setter
    def consumer(self, consumer: Consumer) -> None:
        self._receiver.consumer = consumer

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
        """Whether the current thread hands on what is received, so that it may wait for nothing."""
        is_reader = threading.get_ident() == self._thread.ident
        return is_reader or self._receiver.is_reading_for_itself()

    def read_until(self, is_done: Callable[[], bool], deadline: Deadline) -> None:
        """Receive in the calling thread until `is_done`, if the reader has stood back for that."""
        self._receiver.read_until(is_done, deadline)

    def send(self, command: Command) -> None:
        """Send a command; `command.resolve` or `command.fail` is called later.

        Raises:
            ServerUnavailable: too much waits already.
        """
        self._writer.write(command)
        if not command.reads_for_itself:
            self._receiver.recall_reader()

    def send_all(self, commands: list[Command]) -> None:
        """Send commands with no other between them.

        Raises:
            ServerUnavailable: too much waits already.
        """
        self._writer.write_all(commands)
        self._receiver.recall_reader()

    def load(self, script: Script) -> None:
        """Make the server know a script, now and after each reconnect. Costs nothing again.

        Raises:
            ServerUnavailable: too much waits already.
        """
        if script not in self._scripts:
            self._scripts[script] = None
            self.send(Command(script.load))

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

    def unsubscribe(self, channels: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        """End some subscriptions, without waiting for it: what is on its way still comes.

        Raises:
            ServerUnavailable: too much waits to be sent already.
        """
        for kind, kept, names in (
            (b"UNSUBSCRIBE", self._channels, channels),
            (b"PUNSUBSCRIBE", self._patterns, patterns),
        ):
            if gone := kept.intersection(name.encode() for name in names):
                kept.difference_update(gone)
                self.send(commands.confirmed(kind, list(gone)))

    def unsubscribe_all(self, deadline: Deadline, *, but: Iterable[str] = ()) -> None:
        """Unsubscribe, and wait until everything that was sent before has been handed on.

        Args:
            deadline: the end of the wait.
            but: channels that are kept.

        Raises:
            ServerUnavailable: the connection was lost meanwhile.
            CallTimeout: the server did not confirm in time.
        """
        asked = []
        kept = self._channels.intersection(name.encode() for name in but)
        if left := list(self._channels - kept):
            asked.append(commands.confirmed(b"UNSUBSCRIBE", left))
        if self._patterns:
            asked.append(commands.confirmed(b"PUNSUBSCRIBE", list(self._patterns)))
        self._channels = kept
        self._patterns.clear()
        for command in asked:
            self.send(command)
        for command in asked:
            command.wait(deadline)

    def reconnect(self) -> None:
        """Give this connection up, as if it had been lost."""
        if (wire := self._wire) is not None:
            wire.close()

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
        while not self._closing.is_set():
            try:
                wire = connect(self.url, self.name)
                self._attach(wire)
                self._receiver.run()
            except (DaebusError, OSError, hiredis.ProtocolError) as error:
                self._lose(error)
            except BaseException as error:
                # Also what ends a thread: `sys.exit` in a callback of a future, say.
                log.exception("the reader of %s failed", self.name, extra={"event": "link.error"})
                self._lose(error)
            # Jitter, so that a server that comes back is not met by all its clients at once.
            self._closing.wait(self._backoff_s * random.uniform(0.5, 1.0))  # noqa: S311
            self._backoff_s = min(self._backoff_s * 2, LONGEST_BACKOFF_S)
        self._lose(ServerUnavailable(self.address, "this end was closed"))
        self._set_state(State.CLOSED)

    def _attach(self, wire: Wire) -> None:
        self._wire = wire
        if self._closing.is_set():
            wire.close()
        self._receiver.attach(wire)
        again = _subscriptions(list(self._channels), list(self._patterns))
        scripts = [Command(script.load) for script in list(self._scripts)]
        # The reply to PING comes after the confirmations, so it says that they are complete.
        self._writer.attach(wire, [*again, *scripts, _Ready(self, again)])

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
        self._backoff_s = FIRST_BACKOFF_S
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

    def _lose(self, error: BaseException) -> None:
        """The connection broke, or an attempt to connect failed."""
        error = self._writer.failure or error
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
        super().__init__(PING)
        self._link = link
        self._subscriptions = subscriptions

    def resolve(self, reply: ServerReply) -> None:
        """Refused means lost: raising ends the reader's receive loop."""
        for answer in (reply, *(command.reply for command in self._subscriptions)):
            # A user without the right to PING is connected all the same.
            if isinstance(answer, hiredis.ReplyError) and "ping" not in str(answer):
                raise ServerUnavailable(self._link.address, f"it refused: {answer}")
        self._link._came_up()  # noqa: SLF001 - a part of the link


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
