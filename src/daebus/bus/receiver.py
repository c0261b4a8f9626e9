"""The receiver: parses what comes on a link's connection and hands it on.

Usually the link's reader thread receives. A thread that makes one call after the other may do so
itself, because to hand a reply to another thread costs about as much as a hop over the server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

import hiredis

from daebus.bus.commands import Awaited, Command, ServerReply, pack
from daebus.bus.connection import RECEIVE_WAIT_S, Wire
from daebus.bus.writer import Writer
from daebus.deadline import Deadline
from daebus.errors import ConnectionLost

#: Bytes of one receive. Large, so that a burst costs few system calls and few turns at the GIL.
RECEIVE_BYTES = 256 * 1024

#: How long the reader leaves the socket to a thread that reads for itself, in seconds.
STAND_BACK_S = 0.001

#: After so long without a byte the server is asked whether it is there, in seconds.
PING_AFTER_S = 2.0

#: … and after so long the connection counts as broken, though it looks open, in seconds.
DEAD_AFTER_S = 10.0

PING = pack("PING")

_NOTHING = object()
_CONFIRMATIONS = {b"subscribe", b"psubscribe", b"unsubscribe", b"punsubscribe"}


class Consumer(Protocol):
    """Takes what a link receives. Called from the link's reader thread; must not block."""

    def on_messages(self, messages: list[list[bytes]]) -> bool:
        """Take `[b"message", channel, data]` or `[b"pmessage", pattern, channel, data]`.

        Returns:
            Whether nothing more is expected for now, and the last one went to a thread that may
            read for itself the next time (`Link.read_until`).
        """

    @property
    def is_expecting(self) -> bool:
        """Whether anybody waits for a message."""

    def on_lost(self, error: ConnectionLost) -> None:
        """The connection broke: messages may be missed from now on."""

    def on_back(self, gap_s: float, reason: str) -> None:
        """The link is up again; what was published in the last `gap_s` seconds was missed."""


class Receiver:
    """Receives over one wire at a time.

    Args:
        writer: has the commands that wait for the server's replies.
    """

    def __init__(self, writer: Writer) -> None:
        self.consumer: Consumer | None = None
        self._writer = writer
        self._wire: Wire | None = None
        self._parser = hiredis.Reader(notEnoughData=_NOTHING)
        self._buffer = bytearray(RECEIVE_BYTES)
        self._last_receive = monotonic()
        self._is_pinged = False
        # Held by the thread that receives: the reader, or one that reads for itself.
        self._reading = threading.Lock()
        self._reads_for_itself: int | None = None
        self._is_reader_away = False
        self._away_since = 0.0
        self._recall = threading.Event()
        self._failure: Exception | None = None

    def attach(self, wire: Wire) -> None:
        """Go on with a new wire. Nobody receives meanwhile."""
        self._wire = wire
        self._parser = hiredis.Reader(notEnoughData=_NOTHING)
        self._last_receive = monotonic()
        self._is_pinged = False
        self._failure = None

    def run(self) -> None:
        """Receive in the reader thread until the connection breaks, which raises.

        Raises:
            OSError: the connection is broken, or shows no sign of life.
            DaebusError: the server refused what a new connection needs.
            hiredis.ProtocolError: what came is not the protocol.
        """
        while True:
            with self._reading:
                may_stand_back = self._receive_once()
            if may_stand_back:
                self._stand_back()

    def read_until(self, is_done: Callable[[], bool], deadline: Deadline) -> None:
        """Receive in the calling thread until `is_done`, if the reader has stood back for that.

        Where the reader is at work this returns at once, and the caller waits to be told.
        """
        if not self._is_reader_away or not self._reading.acquire(blocking=False):
            return
        try:
            self._reads_for_itself = threading.get_ident()
            wire = self._wire
            while wire is not None and not is_done():
                # A receive may take RECEIVE_WAIT_S, which the deadline may not have.
                remaining_s = deadline.remaining_s()
                if remaining_s <= RECEIVE_WAIT_S and not wire.wait_readable(remaining_s):
                    break
                self._receive_once()
        except Exception as error:  # noqa: BLE001 - the reader thread deals with it
            self._failure = error
        except BaseException:
            # Ctrl-C, say: what was received may not have been handed on, so the wire is given up.
            self._failure = InterruptedError("the thread that received was interrupted")
            self._recall.set()
            raise
        finally:
            self._reads_for_itself = None
            self._reading.release()
            self._away_since = monotonic()
        if self._failure is not None or (self.consumer is not None and self.consumer.is_expecting):
            self._recall.set()

    def recall_reader(self) -> None:
        """End the reader's absence: somebody waits for a reply who does not read for itself."""
        if self._is_reader_away:
            self._recall.set()

    def is_reading_for_itself(self) -> bool:
        """Whether the current thread receives in the reader's stead."""
        return self._reads_for_itself == threading.get_ident()

    def _stand_back(self) -> None:
        """Leave the socket to the thread that reads for itself, for as long as it keeps coming."""
        self._recall.clear()
        self._away_since = monotonic()
        self._is_reader_away = True
        while not self._recall.wait(STAND_BACK_S):
            if not self._reading.locked() and monotonic() - self._away_since > STAND_BACK_S:
                break
        self._is_reader_away = False
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _receive_once(self) -> bool:
        """Receive what is there, and hand on all of it. The calling thread holds `_reading`.

        Returns:
            Whether the next receive may be left to the thread that has just got its reply.
        """
        assert self._wire is not None  # noqa: S101 - see attach
        count = self._wire.receive_into(self._buffer)
        if count < 0:
            self._look_after_silence()
            return False
        self._last_receive = monotonic()
        parser, sent = self._parser, self._writer.sent
        parser.feed(self._buffer, 0, count)  # type: ignore[arg-type]  # any buffer
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
        may_stand_back = self._hand_on(messages)
        self._writer.flush()
        return may_stand_back and not sent

    def _hand_on(self, messages: list[list[bytes]]) -> bool:
        if not messages or self.consumer is None:
            return False
        return self.consumer.on_messages(messages)

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


class _Pong(Command):
    """The PING that looks for a half-open connection."""

    __slots__ = ("_receiver",)

    def __init__(self, receiver: Receiver) -> None:
        super().__init__(PING)
        self._receiver = receiver

    def resolve(self, reply: ServerReply) -> None:  # noqa: ARG002 - any answer is a sign of life
        self._receiver._is_pinged = False  # noqa: SLF001 - a part of the receiver
