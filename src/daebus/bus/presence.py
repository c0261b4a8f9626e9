"""Presence: who serves what, alive. Each replica refreshes a key that expires otherwise."""

from __future__ import annotations

import msgspec
import redis

from daebus.bus.connection import advice, client, display
from daebus.channels import ALL_PRESENCE_KEYS, presence_pattern
from daebus.errors import ServerUnavailable
from daebus.latency import BUCKETS

#: A key is refreshed so often, and expires when it was not for so long, in seconds.
REFRESH_S = 2.0
EXPIRE_S = 8.0


class TaskRun(msgspec.Struct, kw_only=True):
    """The last run of a background task."""

    started_at: float
    duration_s: float | None = None
    error: str | None = None


class Figures(msgspec.Struct, kw_only=True):
    """What the handlers of one action or channel have done since the replica's start."""

    handled: int = 0
    errors: int = 0
    #: The sum of the latencies, in seconds: from a message's arrival to the end of its handling.
    total_s: float = 0.0
    #: How many latencies were in each bucket; see `daebus.latency.BOUNDS_S`.
    latency: list[int] = []


class Replica(msgspec.Struct, kw_only=True):
    """One running instance of a service, as it described itself last."""

    service: str
    replica_id: str
    host: str
    pid: int
    version: str
    #: The version of the wire format that it speaks; 1 of those that do not say so.
    wire_version: int = 1
    started_at: float
    actions: list[str] = []
    channels: list[str] = []
    #: How requests reach it: `pubsub` or `stream`.
    delivery: str = "pubsub"
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
    #: The last runs of background tasks, by name.
    tasks: dict[str, TaskRun] = {}
    #: Whether it takes messages and gets on with them, and if not, why.
    is_ready: bool = True
    troubles: list[str] = []
    #: What was handled, by action, and by channel that is listened to.
    figures: dict[str, Figures] = {}
    listened: dict[str, Figures] = {}


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Replica)


def encode_replica(replica: Replica) -> bytes:
    """What stands in the presence key. Callers read it every second, so it is kept short."""
    figures, listened = map(_shortened, (replica.figures, replica.listened))
    return _encoder.encode(msgspec.structs.replace(replica, figures=figures, listened=listened))


def decode_replica(data: object) -> Replica | None:
    """What stands in a presence key; None when it is gone, or something else."""
    if not isinstance(data, bytes):
        return None
    try:
        replica = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    for figures in (*replica.figures.values(), *replica.listened.values()):
        figures.latency += [0] * (BUCKETS - len(figures.latency))
    return replica


def _shortened(group: dict[str, Figures]) -> dict[str, Figures]:
    """The same without the empty buckets at the end, and with microseconds at most."""
    return {
        name: msgspec.structs.replace(
            figures,
            total_s=round(figures.total_s, 6),
            latency=figures.latency[: _last_used(figures.latency)],
        )
        for name, figures in group.items()
    }


def _last_used(latency: list[int]) -> int:
    return max((number for number, count in enumerate(latency, 1) if count), default=0)


def find_replicas(url: str, service: str | None = None) -> list[Replica]:
    """The replicas that are alive, ordered by service and start.

    Args:
        url: the server's address.
        service: only this service.

    Raises:
        SettingsError: the address makes no sense.
        ServerUnavailable: the server cannot be reached or refused.
    """
    pattern = presence_pattern(service) if service else ALL_PRESENCE_KEYS
    try:
        with client(url) as server:
            keys = list(server.scan_iter(match=pattern, count=1000))
            values = server.mget(keys) if keys else []
    except redis.RedisError as error:
        raise ServerUnavailable(display(url), advice(url, error)) from None
    # A key may expire between the two commands, and a foreign one of that name is no replica.
    found = [replica for value in values if (replica := decode_replica(value)) is not None]
    return sorted(found, key=lambda replica: (replica.service, replica.started_at))
