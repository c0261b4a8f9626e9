"""What is in a queue, from its folder alone; looking keeps nobody from working."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from turbo_queue.bad_files import number_in
from turbo_queue.errors import FolderFailed
from turbo_queue.folder import Folder
from turbo_queue.fork_gate import in_sqlite
from turbo_queue.locks import is_owned
from turbo_queue.names import BatchName
from turbo_queue.owners import CONSUMER, PRODUCER, Traffic, living, traffic
from turbo_queue.peeks import progress_of
from turbo_queue.states import State


@dataclass(frozen=True, slots=True)
class StateStats:
    """The batches in one state.

    Args:
        batches: How many there are.
        events: How many events of theirs are not finished; those of loading batches are not known
            before they are ready, as they are in their producers' memory.
        abandoned: How many have an owner that is dead, and wait for recovery.
        oldest_s: The age of the oldest in seconds, 0 if there is none.
    """

    batches: int = 0
    events: int = 0
    abandoned: int = 0
    oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What is in a queue, what went through it, and who is at work on it.

    Args:
        loading: Batches that producers fill.
        ready: Batches that wait for a consumer.
        chosen: Batches that consumers work on.
        dead: Batches that failed too often.
        bad_files: Files that are no batches, or damaged ones, in `bad/`.
        producers: The process ids of the producers that live.
        consumers: The process ids of the consumers that live.
        traffic: What went in and out since the queue was made.
        is_closed: Whether the queue was closed.
    """

    loading: StateStats
    ready: StateStats
    chosen: StateStats
    dead: StateStats
    bad_files: int
    producers: tuple[int, ...]
    consumers: tuple[int, ...]
    traffic: Traffic
    is_closed: bool

    def as_dict(self) -> dict[str, Any]:
        """The same as dicts, lists and numbers, for JSON."""
        return asdict(self)


class Monitor:
    """Looks at a queue again and again; what a batch holds is read once. Made by `Queue.monitor`.

    Args:
        folder: Whose queue.

    Example:
        >>> monitor = Queue(folder).monitor()
        >>> monitor.look().ready.events
        3
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._events: dict[str, int] = {}

    def look(self) -> QueueStats:
        """What is there now.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        folder = self._folder
        names: dict[State, list[BatchName]] = {state: [] for state in State}
        for text in folder.names(*State):
            if name := BatchName.parse(text):
                names[name.state].append(name)
        present = {name.identity for of_state in names.values() for name in of_state}
        self._events = {key: value for key, value in self._events.items() if key in present}
        alive = living(folder) if folder.exists() else []
        return QueueStats(
            **{state.value: self._state(state, names[state]) for state in State},
            bad_files=number_in(folder.bad),
            producers=tuple(owner.pid for owner in alive if owner.kind == PRODUCER),
            consumers=tuple(owner.pid for owner in alive if owner.kind == CONSUMER),
            traffic=traffic(folder) if folder.exists() else Traffic(),
            is_closed=folder.is_closed(),
        )

    def _state(self, state: State, names: list[BatchName]) -> StateStats:
        owned = state in {State.LOADING, State.CHOSEN}
        return StateStats(
            batches=len(names),
            events=0 if state is State.LOADING else sum(map(self._unfinished, names)),
            abandoned=sum(not self._has_owner(name) for name in names) if owned else 0,
            oldest_s=max(time.time() - min(name.epoch_s for name in names), 0.0) if names else 0.0,
        )

    def _unfinished(self, name: BatchName) -> int:
        try:
            if name.identity not in self._events:
                self._events[name.identity] = _events_in(self._folder.path / str(name))
            done = progress_of(self._folder, name)
        except (FolderFailed, OSError, sqlite3.Error):
            return 0  # It has just been moved, or is foreign.
        return max(self._events[name.identity] - done, 0)

    def _has_owner(self, name: BatchName) -> bool:
        path = self._folder.path / str(name)
        try:
            return is_owned(path) or not path.exists()
        except OSError:
            return False


def _events_in(path: Path) -> int:
    """How many events a batch has; of its file only the few pages are read that say so.

    Raises:
        OSError: it is gone.
        sqlite3.Error: it is gone, or no batch.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return 0
    place = f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"
    with in_sqlite, closing(sqlite3.connect(place, uri=True)) as database:
        database.execute("PRAGMA cell_size_check = ON")
        # A view of that name could run for ever; only a plain table has a root page.
        found = database.execute(
            "SELECT 1 FROM sqlite_schema WHERE name = 'batch' AND type = 'table' AND rootpage > 0"
        ).fetchone()
        events = found and database.execute("SELECT events FROM batch LIMIT 1").fetchone()
    return events[0] if events and isinstance(events[0], int) else 0
