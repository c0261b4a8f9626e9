"""From what replicas say of themselves to rates and latencies: the arithmetic of a fleet. Pure.

A replica says every 2 s how it is. So figures are compared between two times that it said so, and
stand until the next; compared between looks they would be nothing, and then twice as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from daebus.bus.overview import Inbox
from daebus.bus.presence import Figures, Replica
from daebus.latency import quantile_s
from daebus.operate.fleet.views import ActionView, ReplicaView, ServiceView, total

#: Figures that are closer together than this are of one moment, in seconds.
ONE_MOMENT_S = 0.5


class Said(NamedTuple):
    """What a replica said of itself, and when, on the monotonic clock of who looks."""

    replica: Replica
    at_s: float


class Track(NamedTuple):
    """One replica: what it said last, and what that is compared with, if there was anything."""

    latest: Said
    before: Said | None = None

    def then(self, said: Said) -> Track:
        """The track after another look; it may have seen the same again."""
        if said.at_s - self.latest.at_s < ONE_MOMENT_S:
            return Track(said, self.before)
        return Track(said, self.latest)


class Change(NamedTuple):
    """What was handled between two moments."""

    handled: int
    errors: int
    latency: list[int]
    elapsed_s: float


class Rates(NamedTuple):
    """What a view shows of changes."""

    requests_per_s: float | None
    errors_per_s: float | None
    p50_ms: float | None
    p99_ms: float | None


def rates(changes: Sequence[Change]) -> Rates:
    """The rates of changes that went on at the same time, and the latencies of all of them.

    Example:
        >>> rates([Change(4, 1, [0, 4], 2.0)])
        Rates(requests_per_s=2.0, errors_per_s=0.5, p50_ms=0.15, p99_ms=0.199)
    """
    latency = _sums(change.latency for change in changes)
    return Rates(
        total(change.handled / change.elapsed_s for change in changes),
        total(change.errors / change.elapsed_s for change in changes),
        _ms(quantile_s(latency, 0.5)),
        _ms(quantile_s(latency, 0.99)),
    )


def service_view(
    service: str,
    tracks: Sequence[Track],
    inbox: Inbox,
    *,
    dead_on_disk: int,
    now_s: float,
    at: float,
) -> ServiceView:
    """A service as it is now.

    Args:
        service: its name.
        tracks: its replicas, in the order in which they are shown.
        inbox: what the server has for it.
        dead_on_disk: how many dead batches this machine's disk has of it.
        now_s: the monotonic clock.
        at: the time in seconds since 1970.
    """
    replicas = [track.latest.replica for track in tracks]
    return ServiceView(
        service=service,
        delivery=replicas[0].delivery if replicas else "stream",
        ready=sum(replica.is_ready for replica in replicas),
        replicas=[_replica_view(track, now_s, at) for track in tracks],
        in_progress=sum(replica.in_progress for replica in replicas),
        backlog=sum(replica.backlog for replica in replicas),
        spilled=sum(replica.spilled for replica in replicas),
        waiting_in_inbox=inbox.waiting,
        dead_letters=(inbox.dead or 0) + dead_on_disk,
        handled=sum(replica.handled for replica in replicas),
        errors=sum(replica.errors for replica in replicas),
        gaps=sum(replica.gaps for replica in replicas),
        actions=_action_views(tracks),
        **rates([change for track in tracks if (change := _change(track))])._asdict(),
    )


def _replica_view(track: Track, now_s: float, at: float) -> ReplicaView:
    replica = track.latest.replica
    change = _change(track)
    return ReplicaView(
        replica_id=replica.replica_id,
        host=replica.host,
        pid=replica.pid,
        version=replica.version,
        uptime_s=max(at - replica.started_at, 0.0),
        age_s=max(now_s - track.latest.at_s, 0.0),
        is_ready=replica.is_ready,
        troubles=replica.troubles,
        max_workers=replica.max_workers,
        processes=replica.processes,
        in_progress=replica.in_progress,
        backlog=replica.backlog,
        spilled=replica.spilled,
        handled=replica.handled,
        errors=replica.errors,
        gaps=replica.gaps,
        incidents=replica.incidents,
        **rates([change] if change else [])._asdict(),
    )


def _action_views(tracks: Sequence[Track]) -> list[ActionView]:
    """All actions, then all channels, by name; also those that nobody has used yet."""
    names = {
        *((False, name) for track in tracks for name in track.latest.replica.actions),
        *((False, name) for track in tracks for name in track.latest.replica.figures),
        *((True, name) for track in tracks for name in track.latest.replica.channels),
        *((True, name) for track in tracks for name in track.latest.replica.listened),
    }
    return [_action_view(name, tracks, is_channel=is_channel) for is_channel, name in sorted(names)]


def _action_view(name: str, tracks: Sequence[Track], *, is_channel: bool) -> ActionView:
    now = [_figures(track.latest, name, is_channel=is_channel) for track in tracks]
    changes = [
        _difference(
            figures,
            _figures(track.before, name, is_channel=is_channel),
            track.latest.at_s - track.before.at_s,
        )
        for track, figures in zip(tracks, now, strict=True)
        if track.before is not None
    ]
    return ActionView(
        name=name,
        is_channel=is_channel,
        handled=sum(figures.handled for figures in now),
        errors=sum(figures.errors for figures in now),
        **rates(changes)._asdict(),
    )


def _figures(said: Said, name: str, *, is_channel: bool) -> Figures:
    group = said.replica.listened if is_channel else said.replica.figures
    return group.get(name) or Figures()


def _change(track: Track) -> Change | None:
    """Between what a replica said last and what it said before."""
    if track.before is None:
        return None
    elapsed_s = track.latest.at_s - track.before.at_s
    return _difference(_all(track.latest.replica), _all(track.before.replica), elapsed_s)


def _all(replica: Replica) -> Figures:
    handlers = [*replica.figures.values(), *replica.listened.values()]
    return Figures(
        handled=replica.handled,
        errors=replica.errors,
        latency=_sums(figures.latency for figures in handlers),
    )


def _difference(now: Figures, then: Figures, elapsed_s: float) -> Change:
    """What came in between; a replica whose figures have fallen has begun anew."""
    if now.handled < then.handled:
        then = Figures()
    return Change(
        now.handled - then.handled,
        max(now.errors - then.errors, 0),
        [max(a - b, 0) for a, b in zip_longest(now.latency, then.latency, fillvalue=0)],
        elapsed_s,
    )


def _sums(latencies: Iterable[Sequence[int]]) -> list[int]:
    return [sum(counts) for counts in zip_longest(*latencies, fillvalue=0)]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 6)
