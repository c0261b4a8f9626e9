"""Who is alive, and how much has gone through: one locked file for each producer and consumer.

The file holds what its owner has counted. When the owner closes, or recovery finds that it is
dead, its figures are added to the queue's totals and the file goes.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

from turbo_queue.errors import reporting
from turbo_queue.folder import Folder
from turbo_queue.locks import create_locked, is_owned, lock, wait_for_lock

logger = logging.getLogger(__name__)

#: The kinds of owners, in the order of the totals.
PRODUCER, CONSUMER = "producer", "consumer"
_KINDS = (PRODUCER, CONSUMER)

_NUMBER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has gone into a queue and out of it since it was made."""

    events_in: int = 0
    batches_in: int = 0
    events_out: int = 0
    batches_out: int = 0


@dataclass(frozen=True, slots=True)
class Alive:
    """A producer or consumer that lives."""

    kind: str
    pid: int


class Owner:
    """One producer's or consumer's sign of life, and its figures."""

    def __init__(self, folder: Folder, kind: str) -> None:
        self._folder = folder
        self._path = folder.alive / f"{kind}_{os.getpid()}_{uuid.uuid4().hex}"
        with reporting("making a sign of life", self._path):
            self._descriptor = create_locked(self._path)
        self._events = self._batches = 0
        self._lock = threading.Lock()

    def count(self, events: int, batches: int = 1) -> None:
        """Count events, and the batches that they complete."""
        with self._lock:
            self._events += events
            self._batches += batches
            os.pwrite(self._descriptor, _pack(self._events, self._batches), 0)

    def close(self) -> None:
        """Add the figures to the totals, and go."""
        try:
            _settle(self._folder, self._path, self._descriptor)
        except OSError as error:  # Figures are no reason to fail; recovery will add them.
            logger.warning("the figures of %s are not added yet: %s", self._path, error)
        os.close(self._descriptor)

    def leave_to_parent(self) -> None:
        """Close what a child of `fork` has inherited."""
        os.close(self._descriptor)


def settle_dead(folder: Folder) -> None:
    """Add the figures of dead owners to the totals."""
    for path in folder.alive.iterdir():
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        if lock(descriptor) and os.fstat(descriptor).st_nlink:
            _settle(folder, path, descriptor)
        os.close(descriptor)


def living(folder: Folder) -> list[Alive]:
    """The producers and consumers that live, by kind and process id."""
    alive = []
    for path in folder.alive.iterdir():
        kind, pid, _ = (*path.name.split("_"), "", "")[:3]
        if kind in _KINDS and pid.isdecimal() and is_owned(path):
            alive.append(Alive(kind, int(pid)))
    return sorted(alive, key=lambda owner: (owner.kind, owner.pid))


def traffic(folder: Folder) -> Traffic:
    """All that has gone in and out: the totals and the figures that are not in them yet."""
    figures = dict.fromkeys(_KINDS, (0, 0))
    try:
        totals = _unpack(folder.totals.read_bytes())
    except FileNotFoundError:
        totals = (0,) * 4
    for path in folder.alive.iterdir():
        kind = path.name.partition("_")[0]
        if kind in figures:
            try:
                events, batches = _unpack(path.read_bytes(), 2)
            except FileNotFoundError:
                continue
            figures[kind] = (figures[kind][0] + events, figures[kind][1] + batches)
    added = [*figures[PRODUCER], *figures[CONSUMER]]
    return Traffic(*(total + more for total, more in zip(totals, added, strict=True)))


def _settle(folder: Folder, path: Path, descriptor: int) -> None:
    mine = _unpack(os.pread(descriptor, 2 * _NUMBER_BYTES, 0), 2)
    producer = path.name.startswith(PRODUCER)
    added = (*mine, 0, 0) if producer else (0, 0, *mine)
    totals = os.open(folder.totals, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        wait_for_lock(totals)
        before = _unpack(os.pread(totals, 4 * _NUMBER_BYTES, 0))
        os.pwrite(totals, _pack(*(a + b for a, b in zip(before, added, strict=True))), 0)
    finally:
        os.close(totals)
    folder.forget(path)


def _pack(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(_NUMBER_BYTES, "big") for number in numbers)


def _unpack(data: bytes, numbers: int = 4) -> tuple[int, ...]:
    data = data.ljust(numbers * _NUMBER_BYTES, b"\0")
    return tuple(
        int.from_bytes(data[at : at + _NUMBER_BYTES], "big")
        for at in range(0, numbers * _NUMBER_BYTES, _NUMBER_BYTES)
    )
