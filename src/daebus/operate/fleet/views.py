"""What is running, as data: services with their replicas, queues and pipelines. Pure.

Rates and latencies are those between two looks; None where there was no look before, or nothing to
measure. What is counted (`handled`, `errors`, `gaps`) is since the start of the replicas that live.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class ActionView(msgspec.Struct, kw_only=True):
    """One action of a service, or one channel that it listens to; over all replicas."""

    name: str
    is_channel: bool = False
    requests_per_s: float | None = None
    errors_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    handled: int = 0
    errors: int = 0


class ReplicaView(msgspec.Struct, kw_only=True):
    """One running instance of a service."""

    replica_id: str
    host: str
    pid: int
    version: str
    uptime_s: float
    #: How long ago it said all this, in seconds.
    age_s: float
    is_ready: bool = True
    #: Why it is not ready.
    troubles: list[str] = []
    max_workers: int = 0
    processes: int = 0
    in_progress: int = 0
    backlog: int = 0
    #: Messages that wait on disk, because memory may not hold them.
    spilled: int = 0
    handled: int = 0
    errors: int = 0
    #: How often the connection was lost and messages may have been missed.
    gaps: int = 0
    #: What went wrong, by kind, such as `rejected` or `bad_message`.
    incidents: dict[str, int] = {}
    requests_per_s: float | None = None
    errors_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


class ServiceView(msgspec.Struct, kw_only=True):
    """A service; its figures are those of all its replicas together."""

    service: str
    #: How requests reach it: `pubsub` or `stream`.
    delivery: str = "pubsub"
    #: How many replicas are ready.
    ready: int = 0
    #: Empty when it has stopped, and something waits for it, or it ran a moment ago.
    replicas: list[ReplicaView] = []
    requests_per_s: float | None = None
    errors_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    in_progress: int = 0
    backlog: int = 0
    spilled: int = 0
    #: Messages on the server that no replica has taken yet; None where there is no inbox.
    waiting_in_inbox: int | None = None
    #: Those on the server, and the batches of them on this machine's disk.
    dead_letters: int = 0
    handled: int = 0
    errors: int = 0
    gaps: int = 0
    actions: list[ActionView] = []


class StateView(msgspec.Struct, kw_only=True):
    """The batches of a queue in one state."""

    batches: int = 0
    #: How many events of theirs are not finished; 0 for loading ones, which are in memory.
    events: int = 0
    #: How many have an owner that is dead, and wait for recovery.
    abandoned: int = 0
    #: The age of the oldest in seconds, 0 if there is none.
    oldest_s: float = 0.0


class QueueView(msgspec.Struct, kw_only=True):
    """A queue on this machine's disk."""

    path: str
    #: Its path below the folder that was named.
    name: str
    #: `loading`, `ready`, `chosen` and `dead`.
    states: dict[str, StateView] = {}
    #: Files that are no batches.
    bad_files: int = 0
    #: The process ids of those that live.
    producers: list[int] = []
    consumers: list[int] = []
    #: Events that went in and out since the queue was made.
    events_in: int = 0
    events_out: int = 0
    in_per_s: float | None = None
    out_per_s: float | None = None
    is_closed: bool = False
    #: Why it cannot be looked at.
    trouble: str | None = None


class PipelineView(msgspec.Struct, kw_only=True):
    """A pipeline on this machine's disk.

    A source or a sink that is a queue itself stands among the queues, if its folder was named.
    """

    path: str
    name: str
    is_running: bool = False
    #: The process id of the one that runs, where it is known.
    pid: int | None = None
    #: Those of `in`, `retry`, `out` and `dead` that there are.
    queues: list[QueueView] = []
    #: Events that wait in it, and are not dead.
    waiting: int = 0
    #: Events that failed too often.
    dead_letters: int = 0
    #: What was read and is written, in events per second; None where that is another queue.
    in_per_s: float | None = None
    out_per_s: float | None = None


class Fleet(msgspec.Struct, kw_only=True):
    """All that is running, at one moment."""

    #: When it was looked at, in seconds since 1970.
    at: float
    #: The server's address, without its password.
    address: str
    services: list[ServiceView] = []
    queues: list[QueueView] = []
    pipelines: list[PipelineView] = []
    #: Why the server tells nothing; the services are as they were seen last then.
    trouble: str | None = None

    @property
    def requests_per_s(self) -> float | None:
        """Of all services together."""
        return total(service.requests_per_s for service in self.services)


def total(figures: Iterable[float | None]) -> float | None:
    """The sum of those that are known; None where none is.

    Example:
        >>> total([1.0, None, 2.0]), total([None])
        (3.0, None)
    """
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None
