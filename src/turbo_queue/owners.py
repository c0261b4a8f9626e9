"""Who is alive, and how much has gone through: one locked file for each producer and consumer.

The file holds what its owner has counted. When the owner closes, or recovery finds that it is
dead, its figures are added to the queue's totals and the file goes.
"""

from __future__ import annotations

import errno
import logging
import operator
import os
import re
import stat
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from turbo_queue.errors import reporting
from turbo_queue.files import open_regular
from turbo_queue.folder import Folder
from turbo_queue.locks import (
    create_locked,
    is_owned,
    leads_to,
    lock,
    lock_soon,
    open_to_lock,
    release,
)

logger = logging.getLogger(__name__)

#: The kinds of owners, in the order of the totals.
PRODUCER, CONSUMER = "producer", "consumer"
_KINDS = (PRODUCER, CONSUMER)

#: The name of a sign of life: kind, process id, and something that no other has.
_SIGN = re.compile(r"(producer|consumer)_[0-9]{1,10}_[0-9a-f]{32}", re.ASCII)

_NUMBER_BYTES = 8
_MOST = 2 ** (8 * _NUMBER_BYTES) - 1

#: How long the totals are waited for; who holds them may have been stopped with SIGSTOP.
_TOTALS_WAIT_S = 0.2


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
    """One producer's or consumer's sign of life, and its figures. For any thread."""

    def __init__(self, folder: Folder, kind: str) -> None:
        self._folder = folder
        self._path = folder.alive / f"{kind}_{os.getpid()}_{uuid.uuid4().hex}"
        self._events = self._batches = 0
        self._lock = threading.Lock()
        self._is_closed = False
        with reporting("making a sign of life", self._path):
            self._descriptor = create_locked(self._path)
        self._note()

    def count(self, events: int, batches: int = 1) -> None:
        """Count events, and the batches that they complete."""
        with self._lock:
            self._events += events
            self._batches += batches
            if not self._is_closed:
                self._note()

    def close(self) -> None:
        """Add the figures to the totals, and go."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            _settle(self._folder, self._path, self._descriptor)
            release(self._descriptor)

    def _note(self) -> None:
        try:
            os.pwrite(self._descriptor, _pack(self._events, self._batches), 0)
        except OSError as error:  # Figures are no reason to stop.
            logger.warning("figures cannot be noted: %s", error)


def settle_dead(folder: Folder) -> None:
    """Add the figures of dead owners to the totals.

    Raises:
        FolderFailed: the folder cannot be read.
    """
    for path in _signs(folder):
        try:
            descriptor = open_to_lock(path, os.O_RDWR)
        except OSError:
            continue  # It has gone by itself, or is not ours.
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            if is_file and lock(descriptor) and leads_to(path, descriptor):
                _settle(folder, path, descriptor)
        finally:
            release(descriptor)


def living(folder: Folder) -> list[Alive]:
    """The producers and consumers that live, by kind and process id.

    Raises:
        FolderFailed: the folder cannot be read.
    """
    alive = []
    for path in _signs(folder):
        kind, pid, _ = path.name.split("_")
        with reporting("looking for owners", path):
            if is_owned(path):
                alive.append(Alive(kind, int(pid)))
    return sorted(alive, key=lambda owner: (owner.kind, owner.pid))


def traffic(folder: Folder) -> Traffic:
    """All that has gone in and out: the totals and the figures that are not in them yet.

    Raises:
        FolderFailed: the folder cannot be read.
    """
    with _locked_totals(folder) as descriptor:
        figures = dict.fromkeys(_KINDS, (0, 0))
        for path in _signs(folder):
            kind = path.name.partition("_")[0]
            events, batches = _figures_in(path)
            figures[kind] = (figures[kind][0] + events, figures[kind][1] + batches)
        totals = _read(descriptor, 4)
    added = [*figures[PRODUCER], *figures[CONSUMER]]
    return Traffic(*map(operator.add, totals, added))


def _signs(folder: Folder) -> list[Path]:
    """The signs of life in the folder, of owners that live or not; foreign files are passed."""
    with reporting("looking for owners", folder.alive):
        names = os.listdir(folder.alive)  # noqa: PTH208 - these are names
    return [folder.alive / name for name in names if _SIGN.fullmatch(name)]


def _settle(folder: Folder, path: Path, descriptor: int) -> None:
    """Add an owner's figures to the totals and remove its sign; if that fails, recovery will."""
    try:
        mine = _read(descriptor, 2)
        added = (*mine, 0, 0) if path.name.startswith(PRODUCER) else (0, 0, *mine)
        with _locked_totals(folder) as totals:
            os.pwrite(totals, _pack(*map(operator.add, _read(totals, 4), added)), 0)
            folder.forget(path)
    except OSError as error:  # Figures are no reason to stop.
        logger.warning("the figures of %s are not added yet: %s", path, error)


@contextmanager
def _locked_totals(folder: Folder) -> Iterator[int]:
    """The file of the totals; nobody else adds to them in this block."""
    with reporting("opening the totals", folder.totals):
        descriptor = open_to_lock(folder.totals, os.O_RDWR | os.O_CREAT)
        try:
            if not lock_soon(descriptor, _TOTALS_WAIT_S):
                raise BlockingIOError(errno.EAGAIN, "another process has them locked")
            yield descriptor
        finally:
            release(descriptor)


def _figures_in(path: Path) -> tuple[int, ...]:
    try:
        descriptor = open_regular(str(path))
    except OSError:
        return (0, 0)  # It is not ours.
    if descriptor is None:
        return (0, 0)  # Its owner has gone.
    try:
        return _read(descriptor, 2)
    finally:
        os.close(descriptor)


def _read(descriptor: int, numbers: int) -> tuple[int, ...]:
    return _unpack(os.pread(descriptor, numbers * _NUMBER_BYTES, 0), numbers)


def _pack(*numbers: int) -> bytes:
    return b"".join(min(number, _MOST).to_bytes(_NUMBER_BYTES, "big") for number in numbers)


def _unpack(data: bytes, numbers: int) -> tuple[int, ...]:
    data = data[: numbers * _NUMBER_BYTES].ljust(numbers * _NUMBER_BYTES, b"\0")
    return tuple(
        int.from_bytes(data[at : at + _NUMBER_BYTES], "big")
        for at in range(0, len(data), _NUMBER_BYTES)
    )
