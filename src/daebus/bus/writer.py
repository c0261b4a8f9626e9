"""The coalescing writer: all that is ready leaves in one send, and no sender waits long.

Whoever writes sends at once, in its own thread, if nobody else is sending; otherwise the one who
is sending takes the new command along in its next send. So a lone message needs no hand-over to
another thread, and a thousand messages need few system calls.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic

from daebus.bus.commands import Command
from daebus.bus.connection import Wire
from daebus.errors import ServerUnavailable

#: Most commands in one send. A send should stay near the size of a socket's buffer.
MAX_COMMANDS = 1_000

#: Most commands that wait for the reply to those before them.
MAX_DELAYED = 64

#: … for at most so long, in seconds, when the server's answers are far behind in its output.
MAX_DELAY_S = 0.001

#: Most bytes that wait while the server takes none: it stalls, or the connection is away.
MAX_WAITING_BYTES = 64 * 1024 * 1024

#: How long a sender itself waits for a full socket before a thread takes over, in seconds.
PATIENCE_S = 0.05


class Writer:
    """Sends commands in order over a wire that may be away for a while.

    `sent` holds the commands that wait for the server's reply, oldest first; it belongs to the
    link's reader thread, and the order in it is the order on the wire.
    """

    def __init__(self, address: str) -> None:
        self.sent: deque[Command] = deque()
        #: Why the writer gave up the wire, if it did: the reader only sees it closed.
        self.failure: BaseException | None = None
        self._address = address
        self._waiting: deque[Command] = deque()
        self._sending = threading.Lock()
        self._wire: Wire | None = None
        self._last_send = 0.0
        self._held_bytes = 0
        self._is_held = True

    def write(self, command: Command) -> None:
        """Send a command, or let it wait until that is possible.

        Raises:
            ServerUnavailable: so much waits already that memory would not be bounded.
        """
        if self._is_held:
            self._count_held(command)
        waiting = self._waiting
        waiting.append(command)
        if self.sent and len(waiting) < MAX_DELAYED and monotonic() - self._last_send < MAX_DELAY_S:
            return  # The answer to what was just sent takes this along.
        if self._sending.acquire(blocking=False):
            self._send()

    def write_all(self, commands: list[Command]) -> None:
        """Send commands that belong together, with no other between them.

        Raises:
            ServerUnavailable: see `write`.
        """
        if self._is_held:
            for command in commands:
                self._count_held(command)
        self._waiting.extend(commands)
        self.flush()

    def attach(self, wire: Wire, first: list[Command]) -> None:
        """Go on over a new wire: `first` goes out before all that waits."""
        with self._sending:
            self._waiting.extendleft(reversed(first))
            self._wire = wire
            self.failure = None
            self._release_held()
        self.flush()

    def flush(self) -> None:
        """Send what waits, if nobody else is sending."""
        if self._waiting and self._sending.acquire(blocking=False):
            self._send()

    def detach(self) -> list[Command]:
        """Leave a broken, closed wire; give the commands that are to fail, oldest first.

        Those that may be sent twice stay, in their order.
        """
        with self._sending:
            self._wire = None
            self._is_held = True
            commands = [*self.sent]
            self.sent.clear()
            while self._waiting:  # One at a time: others add commands meanwhile.
                commands.append(self._waiting.popleft())
            self._waiting.extendleft(command for command in reversed(commands) if command.resend)
        return [command for command in commands if not command.resend]

    def _send(self) -> None:
        """Send all that waits. The caller has taken `_sending`; it is given back here."""
        while True:
            wire = self._wire
            try:
                while self._waiting and wire is not None:
                    commands = self._take()
                    self.sent.extend(commands)
                    data = b"".join([command.data for command in commands])
                    if not self._send_whole(wire, data):
                        return  # Another thread has taken over, and `_sending` with it.
            except BaseException as error:
                # Ctrl-C, say: how much has left is unknown, so the wire is given up.
                if wire is not None:
                    self._lose(wire, error)
                self._sending.release()
                raise
            self._sending.release()
            # Somebody may have added a command and found the writer taken just before that.
            if not self._waiting or wire is None or not self._sending.acquire(blocking=False):
                return

    def _take(self) -> list[Command]:
        waiting = self._waiting
        if len(waiting) == 1:
            return [waiting.popleft()]
        return [waiting.popleft() for _ in range(min(len(waiting), MAX_COMMANDS))]

    def _send_whole(self, wire: Wire, data: bytes) -> bool:
        """Send all of `data`; False when a thread of its own goes on with it."""
        self._last_send = monotonic()
        try:
            count = wire.send(data)
            if count == len(data):
                return True
            rest = memoryview(data)[count:]
            while rest and wire.wait_writable(PATIENCE_S):
                rest = rest[wire.send(rest) :]
        except OSError as error:
            self._lose(wire, error)
            return True
        if not rest:
            return True
        self._is_held = True
        threading.Thread(
            target=self._send_slowly, args=(wire, rest), name="daebus-writer", daemon=True
        ).start()
        return False

    def _send_slowly(self, wire: Wire, rest: memoryview) -> None:
        """Wait for a server that takes no data; `detach` closes the wire to end this."""
        try:
            while rest:
                wire.wait_writable(1.0)
                rest = rest[wire.send(rest) :]
        except (OSError, ValueError) as error:
            self._lose(wire, error)
        else:
            self._release_held()
        self._send()

    def _lose(self, wire: Wire, error: BaseException) -> None:
        """A broken wire: the reader thread sees it closed and looks after the rest."""
        self.failure = error
        self._wire = None
        self._is_held = True
        wire.close()

    def _count_held(self, command: Command) -> None:
        self._held_bytes += len(command.data)
        if self._held_bytes > MAX_WAITING_BYTES:
            self._held_bytes -= len(command.data)
            raise ServerUnavailable(
                self._address,
                f"it takes no data, and {MAX_WAITING_BYTES // 1024 // 1024} MiB wait already",
            )

    def _release_held(self) -> None:
        self._is_held = False
        self._held_bytes = 0
