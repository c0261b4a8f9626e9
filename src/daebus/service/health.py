"""Whether a service takes messages and gets on with them: what probes and its presence tell.

Neither follows from the process being there. The server is asked whether it has this replica's
subscriptions; the answer comes through the reader thread, and so shows that this lives, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from daebus.bus.commands import Asked
from daebus.bus.link import Link
from daebus.errors import DaebusError
from daebus.logs import Incidents

#: A confirmation of the server, or a beat, is believed for so long, in seconds: three beats.
BELIEVED_S = 6.0

#: A replica that is connected, and deaf for so long, should be started anew; in seconds.
DEAF_FOR_GOOD_S = 30.0


@dataclass(frozen=True)
class Vitals:
    """How a replica is.

    Attributes:
        is_live: whether a restart would not help it.
        is_ready: whether it takes messages and gets on with them.
        troubles: why it is not ready.
    """

    is_live: bool
    is_ready: bool
    troubles: list[str] = field(default_factory=list)


#: How many messages wait, and how many were handled, where handlers of one kind run.
Progress = Callable[[], tuple[int, int]]


class _Flow:
    """Whether messages get on where handlers of one kind run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._handled = 0
        self.moved_at = monotonic()

    def beat(self, now: float) -> None:
        waiting, handled = self._progress()
        if not waiting or handled != self._handled:
            self.moved_at = now
        self._handled = handled

    def trouble(self, now: float, max_stall_s: float) -> str:
        """Nothing while it gets on, or has not been held up for long."""
        stalled_s = now - self.moved_at
        if stalled_s <= max_stall_s:
            return ""
        waiting, handled = self._progress()
        if not waiting or handled != self._handled:
            return ""
        return f"{waiting:,} messages wait, and none was finished for {stalled_s:.0f} s"


class Health:
    """Watches one replica.

    Args:
        link: the connection that messages come on.
        channels: those that nobody but this replica subscribes to.
        incidents: where deafness is counted.
        progress: of the threads, of the event loop and of the processes: one that gets on must not
            hide that another does not.
        is_stopping: whether somebody has asked the service to stop.
        is_inbox_read: whether the inbox is being read, if there is one.
        max_stall_s: messages may wait so long while none is finished.
    """

    def __init__(
        self,
        link: Link,
        channels: Iterable[str],
        incidents: Incidents,
        *,
        progress: Iterable[Progress],
        is_stopping: Callable[[], bool],
        is_inbox_read: Callable[[], bool],
        max_stall_s: float,
    ) -> None:
        self._link = link
        self._channels = [name.encode() for name in channels]
        self._incidents = incidents
        self._flows = [_Flow(each) for each in progress]
        self._is_stopping = is_stopping
        self._is_inbox_read = is_inbox_read
        self._max_stall_s = max_stall_s
        self._has_started = False
        self._beat_at = self._heard_at = monotonic()
        self._was_deaf = False

    def start(self) -> None:
        """The service takes messages from now on."""
        self._heard_at = self._beat_at = now = monotonic()
        for flow in self._flows:
            flow.moved_at = now
        self._has_started = True

    def beat(self) -> None:
        """Look after all that is watched. Called by the heartbeat, every few seconds."""
        now = self._beat_at = monotonic()
        for flow in self._flows:
            flow.beat(now)
        if not self._link.is_up:
            self._heard_at = now  # Who is connected and hears nothing is deaf.
        elif not self._is_stopping():
            self._link.send(Asked(self._hear, "PUBSUB", "NUMSUB", *self._channels))

    def look(self) -> Vitals:
        """How the replica is now. Safe from any thread, and cheap."""
        if not self._has_started:
            return Vitals(is_live=True, is_ready=False, troubles=["it is starting"])
        if self._is_stopping():
            return Vitals(is_live=True, is_ready=False, troubles=["it is stopping"])
        now = monotonic()
        stalls = [text for flow in self._flows if (text := flow.trouble(now, self._max_stall_s))]
        deaf_s = now - self._heard_at
        troubles = [*stalls, self._deafness(deaf_s)]
        if not self._is_inbox_read():
            troubles.append("its inbox is not read")
        if stopped := now - self._beat_at > BELIEVED_S:
            troubles.append(f"its heartbeat stopped {now - self._beat_at:.0f} s ago")
        is_deaf_for_good = self._link.is_up and deaf_s > DEAF_FOR_GOOD_S
        told = [trouble for trouble in troubles if trouble]
        return Vitals(not (stalls or stopped or is_deaf_for_good), not told, told)

    def _deafness(self, deaf_s: float) -> str:
        if not self._link.is_up:
            return f"it is not connected to {self._link.address}"
        if self._was_deaf:
            return "the server does not have its subscriptions"
        if deaf_s > BELIEVED_S:
            return f"the server has not confirmed its subscriptions for {deaf_s:.0f} s"
        return ""

    def _hear(self, reply: Any) -> None:
        """The server's answer: pairs of a channel and the number of its subscribers."""
        if isinstance(reply, DaebusError):
            return  # The connection was lost, which the link mends.
        if not isinstance(reply, list) or all(reply[1::2]):
            # A server that does not tell has at least answered.
            self._was_deaf, self._heard_at = False, monotonic()
        elif not self._is_stopping():
            self._was_deaf = True
            self._incidents.report(
                "deaf", "the server does not have the service's subscriptions; connecting again"
            )
            self._link.reconnect()
