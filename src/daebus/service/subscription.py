"""Messages that arrive over Pub/Sub: one of the sources of a service.

Runs in the reader thread of the service's own link, and never waits: what finds no room is
refused at once, because a subscriber that stops reading is cut off by the server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from daebus.bus.commands import Asked
from daebus.bus.link import Link
from daebus.channels import alive_channel, control_channel, replica_channel
from daebus.deadline import Deadline
from daebus.errors import ConnectionLost
from daebus.logs import Incidents, get_logger
from daebus.service.intake import Intake
from daebus.service.registry import Gap
from daebus.service.routes import Routes

log = get_logger(__name__)

#: How long the server may take at a stop to confirm that nothing more comes, in seconds: at least
#: this, so that a service without a grace time stops without an error, and at most that.
LEAST_CONFIRM_S = 0.5
MOST_CONFIRM_S = 1.0


class Subscription:
    """The consumer of the service's link.

    Args:
        link: what it subscribes with.
        service: the service's name, which is its channel.
        replica_id: this replica, which has a channel of its own.
        routes: the listeners.
        intake: takes each message.
        on_control: takes what callers say to all replicas.
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
        on_control: Callable[[bytes], None],
        incidents: Incidents,
        on_gap: Callable[[Gap], None],
        takes_requests: bool,
    ) -> None:
        self._link = link
        self._service = service
        #: The channels that requests come on.
        self._own = [service, replica_channel(service, replica_id)] if takes_requests else []
        self._own_names = frozenset(name.encode() for name in self._own)
        #: What is kept until the end: callers learn from it that a replica that stops still lives.
        self._kept = [control_channel(service), alive_channel(service, replica_id)]
        self._control_name = self._kept[0].encode()
        self._on_control = on_control
        self._shared_name = service.encode() if takes_requests else b""
        #: Whether a request came on the channel that all replicas hear, and whether that was told.
        self._took_shared = self._has_told = False
        self._channels = {name.encode(): (name, found) for name, found in routes.channels.items()}
        self._patterns = {name.encode(): found for name, found in routes.patterns.items()}
        self._intake = intake
        self._incidents = incidents
        self._on_gap = on_gap
        #: How often messages may have been missed.
        self.gaps = 0
        #: The channels of its own that it hears while it takes messages, and nobody else.
        self.private = [*self._own[1:], self._kept[1]]
        link.consumer = self

    def start(self, deadline: Deadline) -> None:
        """See `Source`."""
        names = {*self._own, *self._kept, *(name for name, _ in self._channels.values())}
        self._link.subscribe(deadline, names, [name.decode() for name in self._patterns])

    def stop(self, deadline: Deadline) -> None:
        """See `Source`. The server then tells callers that nobody listens."""
        if self._link.is_up:
            wait_s = min(MOST_CONFIRM_S, max(LEAST_CONFIRM_S, deadline.remaining_s()))
            self._link.unsubscribe_all(Deadline.after(wait_s), but=self._kept)

    def look_for_others(self) -> None:
        """Tell once when requests come on the channel that other replicas hear as well."""
        if self._took_shared and not self._has_told and self._link.is_up:
            self._took_shared = False
            self._link.send(Asked(self._tell_of_others, "PUBSUB", "NUMSUB", self._shared_name))

    def _tell_of_others(self, reply: Any) -> None:
        if isinstance(reply, list) and reply[1] > 1 and not self._has_told:
            self._has_told = True
            log.warning(
                "requests are published to the channel %r, so each of %d replicas handles every "
                "one of them; a DaebusCaller gives each to one replica",
                self._service,
                reply[1],
                extra={"event": "service.replica"},
            )

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
                        if channel == self._shared_name:
                            self._took_shared = True
                        take_request(data, service)
                    elif channel == self._control_name:
                        self._on_control(data)
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
