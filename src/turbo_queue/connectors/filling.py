"""From a source into a queue: what was read is on disk before the source is told so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from turbo_queue.connectors.interface import Reader, Source
from turbo_queue.connectors.pauses import Pauses
from turbo_queue.errors import BadEvent
from turbo_queue.producer import Producer
from turbo_queue.queue import Queue
from turbo_queue.records import Record, events_for

logger = logging.getLogger(__name__)

#: How long a read waits for events before it is looked whether the end is wished for, in seconds.
READ_S = 0.2

#: How long the reader rests before it looks again whether the queue has room, in seconds. Many
#: batches are ready then, so nobody waits for it.
REST_S = 0.02


class Position(Protocol):
    """Keeps where a source is that does not keep it itself."""

    def load(self) -> Any:
        """The position that was saved last; None if there is none."""

    def save(self, position: Any) -> None:
        """Keep this one."""


class InMemory:
    """Keeps a position as long as this process lives."""

    def __init__(self) -> None:
        self._position: Any = None

    def load(self) -> Any:
        """See `Position`."""
        return self._position

    def save(self, position: Any) -> None:
        """See `Position`."""
        self._position = position


def _refuse(_record: Record, error: BadEvent) -> None:
    raise error


class Filling:
    """Reads a source into a queue, in one thread. It is the `Intake` of its readers.

    Args:
        queue: Where to; with the codec `record` the whole records, else their values.
        source: Where from.
        stopping: Ends it when it is set.
        position: Where a source may keep how far it was read.
        on_refused: Takes an event that the queue cannot carry, and why, and returns once that is
            safe elsewhere; raises the reason unless given.
        on_read: Called with the number of events that have been put; also with 0, while there are
            none, or no room for any. Not called while committing fails, however often what was not
            committed is read again.
    """

    def __init__(
        self,
        queue: Queue,
        source: Source,
        *,
        stopping: threading.Event,
        position: Position | None = None,
        on_read: Callable[[int], object] = lambda _: None,
        on_refused: Callable[[Record, BadEvent], object] = _refuse,
    ) -> None:
        self.stopping = stopping
        position = position or InMemory()
        self.load, self.save = position.load, position.save
        self._queue = queue
        self._source = source
        self._on_read = on_read
        self._on_refused = on_refused
        self._batch_events = queue.settings.max_events_per_file
        self._batch_age_s = queue.settings.max_batch_age
        self._unflushed = 0
        self._untold = 0
        self._is_committing = True
        self._due_at = 0.0
        self._total = 0

    def run(self, on_open: Callable[[], object] = lambda: None) -> int:
        """Read until the source has come to its end, or the end is wished for.

        Args:
            on_open: Called once the source has been opened for the first time.

        Returns:
            How many events were read.

        Raises:
            BadEvent: `on_refused` does not take what the queue cannot carry.
            Exception: what the source says if it cannot be opened at first. Later errors are
                logged, and it is opened again after a pause.
        """
        pauses = Pauses(self.stopping)
        self._producer: Producer
        with self._queue.producer(is_bounded=False) as self._producer:
            reader: Reader | None = self._source.open(self)
            on_open()
            while reader is not None and not self._read_all(reader, pauses):
                reader = self._reopened(pauses)
        return self._total

    def flush(self) -> None:
        """See `Intake`: all that was read is in the producer already."""
        self._producer.flush()

    def _reopened(self, pauses: Pauses) -> Reader | None:
        while pauses.wait():
            try:
                return self._source.open(self)
            except Exception as error:  # noqa: BLE001 - it may be anybody's connector
                pauses.note(error, "the source cannot be opened", logger)
        return None

    def _read_all(self, reader: Reader, pauses: Pauses) -> bool:
        """Read to the end; False if the source has failed."""
        try:
            try:
                self._unflushed = 0  # What an earlier reader gave is read again.
                while not self.stopping.is_set() and self._read_some(reader):
                    if not self._unflushed:  # Reading alone does not say that committing works.
                        pauses.forget()
                        self._is_committing = True
                    self._tell()
                self._commit(reader)
                self._tell()
            finally:
                reader.close()
        except BadEvent:
            raise  # It would be read again and again.
        except Exception as error:  # noqa: BLE001 - it may be anybody's connector
            pauses.note(error, "reading failed", logger)
            return False
        return True

    def _read_some(self, reader: Reader) -> bool:
        """Read once; False at the end of the source."""
        if self._unflushed == 0 and self._queue.is_full:
            reader.rest(REST_S)
            return True
        now = monotonic()
        rest_s = self._due_at - now if self._unflushed else READ_S
        most = self._batch_events - self._unflushed
        records = reader.read(most, min(max(rest_s, 0.0), READ_S))
        if records is None:
            return False
        if records and not self._unflushed:
            self._due_at = now + self._batch_age_s
        self._put(records)
        if self._unflushed and (
            self._unflushed >= self._batch_events or monotonic() >= self._due_at
        ):
            self._commit(reader)
        return True

    def _put(self, records: list[Record]) -> None:
        rest = records
        while rest:
            try:
                self._producer.put_many(events_for(self._queue.settings.codec, rest))
                break
            except BadEvent as error:
                self._on_refused(rest[error.events_put], error)
                rest = rest[error.events_put + 1 :]
        self._unflushed += len(records)
        self._total += len(records)
        self._untold += len(records)

    def _tell(self) -> None:
        if self._is_committing:
            events, self._untold = self._untold, 0
            self._on_read(events)

    def _commit(self, reader: Reader) -> None:
        self._is_committing = False
        self.flush()
        reader.commit()
        self._unflushed = 0
        self._is_committing = True


def fill(queue: Queue, source: Source, *, stopping: threading.Event | None = None) -> int:
    """Read a source into a queue, until the source has come to its end.

    What was read is committed at the source only after its batch is on disk: at least once. While
    `max_ready_files` batches are ready it reads nothing.

    Args:
        queue: Where to; with the codec `record` the whole records, else their values.
        source: Where from.
        stopping: Ends it soon after it is set; what was read is committed then.

    Returns:
        How many events were read.

    Raises:
        BadEvent: the queue's codec cannot carry an event; those before it were put.
        Exception: what the source says if it cannot be opened. Later errors are logged, and it is
            opened again after a pause.

    Example:
        >>> from turbo_queue.connectors import IterableSource, fill
        >>> fill(Queue(another_folder), IterableSource(["a", "b"]))
        2
    """
    return Filling(queue, source, stopping=stopping or threading.Event()).run()
