"""Queues as source and sink, of their own or from queue to queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from os import PathLike
from typing import Any

from turbo_queue.batch import Batch
from turbo_queue.connectors.interface import Intake, Reader, Refused, Sink, Source, Writer
from turbo_queue.consumer import Consumer
from turbo_queue.errors import BadEvent, BatchDamaged, QueueFull, SinkFailed
from turbo_queue.queue import Queue
from turbo_queue.records import Record, events_for
from turbo_queue.settings import QueueSettings

#: How soon a wait for room sees that the end is wished for, in seconds.
_LOOK_S = 0.1


class QueueSource(Source):
    """The events of a queue; it ends once the queue was closed and is empty.

    A pipeline takes them out of it directly. An event is removed once it is done with, so another
    run goes on where the last one ended.

    Args:
        queue: The queue, or its folder.
        settings: Those of `Queue`, where a folder is given.

    Raises:
        SettingsError: a setting makes no sense.

    Example:
        >>> from turbo_queue.connectors import QueueSource, fill
        >>> Queue(folder).close()
        >>> fill(Queue(another_folder), QueueSource(folder))
        3
    """

    queue: Queue

    def __init__(self, queue: Queue | str | PathLike[str], **settings: Any) -> None:
        self.queue = _queue(queue, settings)

    def open(self, intake: Intake) -> Reader:  # noqa: ARG002 - the queue keeps the place itself
        """See `Source`.

        Raises:
            FolderRefused: the folder is not safe to use.
            FolderFailed: it cannot be made.
        """
        return _QueueReader(self.queue.consumer())


class QueueSink(Sink):
    """Puts events into a queue, which other processes empty.

    A pipeline's workers put them there directly. Into a queue with the codec `record` go whole
    `Record`s, into others their values.

    Args:
        queue: The queue, or its folder.
        settings: Those of `Queue`, where a folder is given.

    Raises:
        SettingsError: a setting makes no sense.

    Example:
        >>> from turbo_queue.connectors import QueueSink, empty
        >>> empty(Queue(folder), QueueSink(another_folder), stop_when_empty=True)
        3
    """

    queue: Queue

    def __init__(self, queue: Queue | str | PathLike[str], **settings: Any) -> None:
        self.queue = _queue(queue, settings)

    def open(self, stopping: threading.Event) -> Writer:
        """See `Sink`.

        Raises:
            FolderRefused: the folder is not safe to use.
            FolderFailed: it cannot be made.
        """
        return _QueueWriter(self.queue, stopping)


def _queue(queue: Queue | str | PathLike[str], settings: dict[str, Any]) -> Queue:
    if not isinstance(queue, Queue):
        QueueSettings.of(**settings)  # Tells a misspelt name as an error of settings.
        return Queue(queue, **settings)
    if settings:
        raise TypeError(f"the queue has its settings already; leave out {', '.join(settings)}")
    return queue


class _QueueReader(Reader):
    """Holds what it has given until that is committed."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        #: Those that were given to their end, and the one that is being given.
        self._given: list[Batch] = []
        self._batch: Batch | None = None
        self._events: Iterator[Any] = iter(())
        self._done = self._end = 0

    def read(self, most: int, timeout_s: float) -> list[Record] | None:
        """See `Reader`."""
        if self._batch is None:
            self._batch = self._consumer.take(timeout=timeout_s)
            if self._batch is None:
                return None if self._consumer.has_ended else []
            self._events, self._done = iter(self._batch), self._batch.done
            self._end = self._done + len(self._batch)
        return self._take(self._batch, most)

    def commit(self) -> None:
        """See `Reader`."""
        while self._given:
            self._given[-1].acknowledge()
            self._given.pop()
        if self._batch is not None:
            self._batch.checkpoint(self._done)

    def close(self) -> None:
        """See `Reader`. What was not committed goes back."""
        self._consumer.close()

    def _take(self, batch: Batch, most: int) -> list[Record]:
        records: list[Record] = []
        try:
            for event in self._events:
                self._done += 1
                is_record = isinstance(event, Record)
                origin = f"{batch.name}[{self._done}]"
                records.append(event if is_record else Record(event, origin=origin))
                if len(records) == most and self._done < self._end:
                    return records
            self._given.append(batch)
        except BatchDamaged as error:
            batch.set_aside(error.reason)
        self._batch = None
        return records


class _QueueWriter(Writer):
    """Puts what it is given, and waits where there is no room."""

    def __init__(self, queue: Queue, stopping: threading.Event) -> None:
        self._producer = queue.producer()
        self._codec = queue.settings.codec
        self._stopping = stopping
        self._refused: list[Refused] = []

    def write(self, records: list[Record]) -> None:
        """See `Writer`."""
        while records:
            try:
                self._producer.put_many(events_for(self._codec, records), timeout=_LOOK_S)
                records = []
            except BadEvent as error:
                self._refused.append(Refused(records[error.events_put], str(error)))
                records = records[error.events_put + 1 :]
            except QueueFull as error:
                records = records[error.events_put :]
                if self._stopping.is_set():
                    raise SinkFailed("the queue has no room, and the end came") from error

    def flush(self) -> list[Refused]:
        """See `Writer`."""
        self._producer.flush()
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        """See `Writer`."""
        self._producer.close()
