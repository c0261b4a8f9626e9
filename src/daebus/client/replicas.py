"""The live replicas of a service as a caller's process sees them, and which is called next."""

from __future__ import annotations

from collections.abc import Sequence

from daebus.bus.presence import Replica
from daebus.channels import alive_channel, replica_channel


class LiveReplica:
    """A place that takes requests: one replica, or the channel that a whole service listens to.

    Attributes:
        channel: what requests are published to.
        alive_channel: what it subscribes to for as long as it lives.
        calls: the ids of this process's calls under way there, oldest first.
        others: how many messages of others wait there, as far as one knows.
        is_shared: whether everybody who serves the name listens to the channel.
        missing_since: when it was first seen to be gone, on the monotonic clock.
    """

    __slots__ = (
        "_beat",
        "_oldest",
        "_waited",
        "alive_channel",
        "calls",
        "channel",
        "is_shared",
        "missing_since",
        "others",
    )

    def __init__(self, channel: str, alive: str, *, is_shared: bool = False) -> None:
        self.channel = channel.encode()
        self.alive_channel = alive.encode()
        self.is_shared = is_shared
        self.calls: dict[str, None] = {}
        self.others = 0
        self.missing_since: float | None = None
        self._beat: Replica | None = None
        self._waited = 0
        self._oldest: str | None = None

    @classmethod
    def of(cls, service: str, replica_id: str) -> LiveReplica:
        """One replica of a service."""
        return cls(replica_channel(service, replica_id), alive_channel(service, replica_id))

    @classmethod
    def shared(cls, service: str) -> LiveReplica:
        """Whoever listens to a service's own channel."""
        return cls(service, service, is_shared=True)

    def learn(self, beat: Replica | None) -> None:
        """Take what it said of itself last.

        What waits there beyond its free workers counts only if two beats in a row say so: one may
        have met a short burst, and all callers would keep away until the next one.
        """
        if beat is None or beat == self._beat:
            return
        busy = beat.in_progress + beat.backlog + beat.spilled
        waits = max(0, busy - len(self.calls) - beat.max_workers)
        self.others = min(waits, self._waited)
        self._waited = waits
        self._beat = beat

    def has_old_call(self) -> bool:
        """Whether the oldest call here is the same as when this was asked last."""
        try:
            oldest = next(iter(self.calls), None)
        except RuntimeError:  # A call came or went in this moment.
            return False
        if oldest is None or oldest != self._oldest:
            self._oldest = oldest
            self.missing_since = None
            return False
        return True


def least_busy(replicas: Sequence[LiveReplica], turn: int) -> LiveReplica:
    """The replica with the fewest calls; equals take turns.

    Args:
        replicas: one or more.
        turn: counts the calls, whoever makes them.
    """
    count = len(replicas)
    least, chosen = -1, replicas[0]
    for number in range(turn, turn + count):
        replica = replicas[number % count]
        busy = len(replica.calls) + replica.others
        if busy == 0:
            return replica
        if least < 0 or busy < least:
            least, chosen = busy, replica
    return chosen
