"""The services that listen to a channel durably: a message goes into the inbox of each.

Each of them stands in a set on the server, which senders look up once a second at most.
"""

from __future__ import annotations

import uuid
from time import monotonic
from typing import NamedTuple

from daebus.bus.commands import Awaited
from daebus.bus.link import Link
from daebus.bus.mode import Mode, read_mode
from daebus.bus.stream import SEND, Stored, store
from daebus.channels import durable_key
from daebus.deadline import Deadline
from daebus.logs import get_logger

log = get_logger(__name__)

#: How long what was looked up is used, in seconds: so long after its very first start may a
#: listener miss a message, and so often does a look-up cost a sender.
FRESH_S = 1.0

#: Channels that are remembered.
MAX_CHANNELS = 4096


class Listener(NamedTuple):
    """A service, and the limits of its inbox."""

    service: str
    mode: Mode


class DurableListeners:
    """Knows who listens durably to which channel of one server. Safe from any thread.

    Args:
        link: to the server.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._known: dict[str, tuple[float, list[Listener]]] = {}
        self._is_told = False

    def ask(self, channel: str) -> Awaited | list[Listener]:
        """What is known, if it is fresh; else the server is asked. Either is for `of`.

        Raises:
            ServerUnavailable: too much waits already.
        """
        known = self._known.get(channel)
        if known is not None and monotonic() - known[0] < FRESH_S:
            return known[1]
        asked = Awaited(b"SMEMBERS", durable_key(channel).encode())
        self.link.send(asked)
        return asked

    def of(
        self, channel: str, asked: Awaited | list[Listener], deadline: Deadline
    ) -> list[Listener]:
        """Who listens; nobody where this user may not look.

        Raises:
            ServerUnavailable: the connection was lost.
            CallTimeout: the server did not answer in time.
        """
        if isinstance(asked, list):
            return asked
        listeners: list[Listener] = []
        reply = asked.wait(deadline)
        if isinstance(reply, list | set):
            for name in reply:
                service = name.decode(errors="replace")  # type: ignore[union-attr]
                mode = read_mode(self.link, deadline, service)
                listeners.append(Listener(service, mode or Mode()))
        elif not self._is_told:
            self._is_told = True
            log.info(
                "nothing is stored for durable listeners, who cannot be looked up: %s",
                reply,
                extra={"event": "broadcast.not_durable"},
            )
        if listeners:
            self.link.load(SEND)
        if len(self._known) >= MAX_CHANNELS:
            self._known.clear()
        self._known[channel] = (monotonic(), listeners)
        return listeners

    def store(self, listeners: list[Listener], channel: str, messages: list[bytes]) -> list[Stored]:
        """Store messages in the inbox of each listener; wait for them with `Stored.wait`.

        Raises:
            ServerUnavailable: too much waits already.
        """
        stored = [
            self._copy(listener, channel, data) for data in messages for listener in listeners
        ]
        self.link.send_all([command for copy in stored for command in copy.commands()])
        return stored

    def _copy(self, listener: Listener, channel: str, data: bytes) -> Stored:
        service, mode = listener
        command = store(
            service,
            data,
            message_id=uuid.uuid4().hex,
            max_inbox=mode.max_inbox,
            window_ms=mode.window_ms,
            channel=channel,
        )
        return Stored(self.link, service, command, mode.replicas)
