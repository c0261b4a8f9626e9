"""Looks at the queues and pipelines in folders of this machine, again and again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic

from daebus.operate.fleet.views import PipelineView, QueueView, StateView
from turbo_queue import Found, Monitor, Queue, QueueStats, TurboQueueError, discover

#: Rates are means of so many seconds: events come and go in batches, so one alone says little.
RATE_S = 5.0

#: The states of batches.
STATES = ("loading", "ready", "chosen", "dead")


class FolderWatch:
    """Looks at folders. For one thread at a time.

    Args:
        folders: each is a queue, a pipeline, or has some below it.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._monitors: dict[Path, Monitor] = {}
        #: What had gone in and out of a queue at the last looks, and when.
        self._seen: dict[Path, deque[tuple[float, int, int]]] = {}

    def look(self) -> tuple[list[QueueView], list[PipelineView]]:
        """What there is now."""
        found = {
            place.path: (place, _name(place.path, folder))
            for folder in self._folders
            for place in discover(folder)
        }
        paths = {path for place, _ in found.values() for path in place.queues}
        self._monitors = {path: self._monitors.get(path) or _monitor(path) for path in paths}
        self._seen = {path: self._seen.get(path) or deque() for path in paths}
        queues, pipelines = [], []
        for place, name in found.values():
            if place.is_pipeline:
                pipelines.append(self._pipeline(place, name))
            else:
                queues.append(self._queue(place.path, name))
        return queues, pipelines

    def _pipeline(self, place: Found, name: str) -> PipelineView:
        queues = [self._queue(path, path.name) for path in place.queues]
        named = {queue.name: queue for queue in queues}
        dead = named.get("dead")
        first, last = named.get("in"), named.get("out")
        return PipelineView(
            path=_text(place.path),
            name=name,
            is_running=place.is_running,
            pid=place.pid,
            queues=queues,
            waiting=sum(_waiting(queue) for queue in queues if queue is not dead),
            dead_letters=_waiting(dead) if dead else 0,
            in_per_s=first.in_per_s if first else None,
            out_per_s=last.out_per_s if last else None,
        )

    def _queue(self, path: Path, name: str) -> QueueView:
        try:
            stats = self._monitors[path].look()
        except TurboQueueError as error:
            return QueueView(path=_text(path), name=name, trouble=str(error))
        return _queue_view(path, name, stats, self._rates(path, stats))

    def _rates(self, path: Path, stats: QueueStats) -> tuple[float | None, float | None]:
        """How many events came in and went out per second in the last seconds."""
        now_s, traffic, seen = monotonic(), stats.traffic, self._seen[path]
        seen.append((now_s, traffic.events_in, traffic.events_out))
        while len(seen) > 2 and now_s - seen[1][0] >= RATE_S:  # noqa: PLR2004
            seen.popleft()
        then_s, events_in, events_out = seen[0]
        if now_s <= then_s:
            return None, None
        # While an owner hands its figures over to the totals, a look may see them once too few.
        return (
            max(traffic.events_in - events_in, 0) / (now_s - then_s),
            max(traffic.events_out - events_out, 0) / (now_s - then_s),
        )


def _queue_view(
    path: Path, name: str, stats: QueueStats, rates: tuple[float | None, float | None]
) -> QueueView:
    return QueueView(
        path=_text(path),
        name=name,
        states={state: StateView(**asdict(getattr(stats, state))) for state in STATES},
        bad_files=stats.bad_files,
        producers=list(stats.producers),
        consumers=list(stats.consumers),
        events_in=stats.traffic.events_in,
        events_out=stats.traffic.events_out,
        in_per_s=rates[0],
        out_per_s=rates[1],
        is_closed=stats.is_closed,
    )


def _monitor(path: Path) -> Monitor:
    return Queue(path).monitor()


def _name(path: Path, folder: Path) -> str:
    """A path below the folder that was named; that folder's own name for itself."""
    below = os.path.relpath(path, os.path.realpath(folder))
    return _text(path.name) if below == os.curdir else _text(below)


def _text(path: str | Path) -> str:
    """A path as text; names of files may be any bytes."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _waiting(queue: QueueView) -> int:
    return sum(queue.states[state].events for state in ("ready", "chosen") if queue.states)
