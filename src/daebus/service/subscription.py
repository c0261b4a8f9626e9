"""Messages that arrive over Pub/Sub: one of the sources of a service.

Runs in the reader thread of the service's own link, and never waits: what finds no room is
refused at once, because a subscriber that stops reading is cut off by the server.
"""

from __future__ import annotations

from collections.abc import Callable

from daebus.bus.link import Link
from daebus.channels import replica_channel
from daebus.deadline import Deadline
from daebus.errors import ConnectionLost
from daebus.logs import Incidents, get_logger
from daebus.service.intake import Intake
from daebus.service.registry import Gap
from daebus.service.routes import Routes

log = get_logger(__name__)


class Subscription:
    """The consumer of the service's link.

    Args:
        link: what it subscribes with.
        service: the service's name, which is its channel.
        replica_id: this replica, which has a channel of its own.
        routes: the listeners.
        intake: takes each message.
        incidents: where what went wrong is counted.
        on_gap: told when messages may have been missed.
        takes_requests: whether requests come this way.
    """

    def __init__(
        self,
        link: Link,
        service: str,
        replica_id: str,
        routes: Routes,
        *,
        intake: Intake,
        incidents: Incidents,
        on_gap: Callable[[Gap], None],
        takes_requests: bool,
    ) -> None:
        self._link = link
        self._service = service
        #: The channels that requests come on.
        self._own = [service, replica_channel(service, replica_id)] if takes_requests else []
        self._own_names = frozenset(name.encode() for name in self._own)
        self._channels = {name.encode(): (name, found) for name, found in routes.channels.items()}
        self._patterns = {name.encode(): found for name, found in routes.patterns.items()}
        self._intake = intake
        self._incidents = incidents
        self._on_gap = on_gap
        #: How often messages may have been missed.
        self.gaps = 0
        link.consumer = self

    def start(self, deadline: Deadline) -> None:
        """See `Source`."""
        names = {*self._own, *(name for name, _ in self._channels.values())}
        self._link.subscribe(deadline, names, [name.decode() for name in self._patterns])

    def stop(self, deadline: Deadline) -> None:
        """See `Source`. The server then tells callers that nobody listens."""
        if self._link.is_up:
            self._link.unsubscribe_all(Deadline.after(min(1.0, deadline.remaining_s())))

    def close(self, deadline: Deadline) -> None:
        """See `Source`."""

    def on_messages(self, messages: list[list[bytes]]) -> bool:
        """See `Consumer`."""
        channels, own, service = self._channels, self._own_names, self._service
        take_request = self._intake.take_request
        for message in messages:
            try:
                if message[0] == b"message":
                    _, channel, data = message
                    if channel in channels:
                        name, routes = channels[channel]
                        self._intake.take_published(name, routes, data)
                    if channel in own:
                        take_request(data, service)
                else:
                    _, pattern, channel, data = message
                    name = channel.decode(errors="replace")
                    self._intake.take_published(name, self._patterns[pattern], data)
            except Exception:
                # One message must never end the reader, whatever is wrong with it.
                self._incidents.report("intake_error", "a message could not be taken")
                log.exception("a message could not be taken", extra={"event": "intake.error"})
        return False

    @property
    def is_expecting(self) -> bool:
        """See `Consumer`."""
        return True

    def on_lost(self, error: ConnectionLost) -> None:
        """See `Consumer`."""

    def on_back(self, gap_s: float, reason: str) -> None:
        """See `Consumer`."""
        self.gaps += 1
        self._on_gap(Gap(gap_s, reason))
