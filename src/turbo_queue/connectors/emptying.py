"""From a queue to a sink: a batch is removed only after its events are safe where they go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack

from turbo_queue.batch import Batch
from turbo_queue.connectors.interface import Refused, Sink, Writer
from turbo_queue.connectors.pauses import Pauses
from turbo_queue.consumer import Consumer
from turbo_queue.errors import BatchDamaged, SinkGone, SinkRefused
from turbo_queue.queue import Queue
from turbo_queue.records import Record

logger = logging.getLogger(__name__)

#: How long it waits for a batch before it is looked whether the end is wished for, in seconds.
TAKE_S = 0.2

#: As many batches that are ready are written before one flush: while a flush waits for its answer
#: more become ready, and the next one answers for all of them.
MOST_BATCHES = 32
MOST_EVENTS = 50_000


class Emptying:
    """Writes a queue's events to a sink, in one thread.

    Args:
        queue: Where from; events that are no `Record`s become ones.
        sink: Where to.
        stopping: Ends it when it is set; batches that are not written go back.
        on_refused: Takes what the sink refuses for good, and returns once it is safe elsewhere.
        on_written: Called with the number of events that are safe at their destination; also with
            0, while there are none.
    """

    def __init__(
        self,
        queue: Queue,
        sink: Sink,
        *,
        stopping: threading.Event,
        on_refused: Callable[[list[Refused]], object],
        on_written: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._queue = queue
        self._sink = sink
        self._stopping = stopping
        self._on_refused = on_refused
        self._on_written = on_written
        self._total = 0

    def run(
        self, on_open: Callable[[], object] = lambda: None, *, stop_when_empty: bool = False
    ) -> int:
        """Write until the end is wished for, or the queue has ended.

        Args:
            on_open: Called once the sink has been opened for the first time.
            stop_when_empty: The queue has ended as soon as no batch is ready.

        Returns:
            How many events were written.

        Raises:
            SinkGone: the sink says that it can never be written again; batches that are not
                written have gone back.
            SinkRefused: `on_refused` does not take what the sink refuses.
            Exception: what the sink says if it cannot be opened at first. Later errors are logged,
                and it is opened again after a pause.
        """
        pauses = Pauses(self._stopping)
        with self._queue.consumer(stop_when_empty=stop_when_empty) as consumer:
            writer: Writer | None = self._sink.open(self._stopping)
            on_open()
            while writer is not None and not self._write_all(writer, consumer, pauses):
                writer = self._reopened(pauses)
        return self._total

    def _reopened(self, pauses: Pauses) -> Writer | None:
        while pauses.wait():
            try:
                return self._sink.open(self._stopping)
            except Exception as error:  # noqa: BLE001 - it may be anybody's connector
                pauses.note(error, "the sink cannot be opened", logger)
        return None

    def _write_all(self, writer: Writer, consumer: Consumer, pauses: Pauses) -> bool:
        """Write until the end; False if the sink has failed."""
        try:
            try:
                while not self._stopping.is_set() and (batches := self._take(consumer)) is not None:
                    self._write(writer, batches)
                    pauses.forget()
            finally:
                writer.close()
        except (SinkGone, SinkRefused):
            raise
        except Exception as error:  # noqa: BLE001 - it may be anybody's connector
            pauses.note(error, "writing failed", logger)
            return False
        return True

    def _take(self, consumer: Consumer) -> list[Batch] | None:
        """Some batches that are ready; None if the queue has ended."""
        batch = consumer.take(timeout=TAKE_S)
        if batch is None:
            return None if consumer.has_ended else []
        batches, events = [batch], len(batch)
        while len(batches) < MOST_BATCHES and events < MOST_EVENTS:
            more = consumer.take(timeout=0)
            if more is None:
                break
            batches.append(more)
            events += len(more)
        return batches

    def _write(self, writer: Writer, batches: list[Batch]) -> None:
        if not batches:
            self._on_written(0)
            return
        with ExitStack() as undo:
            for batch in batches:
                undo.callback(_return, batch)
            for batch in batches:
                if records := _records(batch):
                    writer.write(records)
            refused = writer.flush()
            if refused:
                self._on_refused(refused)
            events = sum(len(batch) for batch in batches if batch.is_held)
            for batch in batches:
                if batch.is_held:
                    batch.acknowledge()
        written = events - len(refused)
        self._total += written
        self._on_written(written)


def _records(batch: Batch) -> list[Record]:
    try:
        return [event if isinstance(event, Record) else Record(event) for event in batch]
    except BatchDamaged as error:
        batch.set_aside(error.reason)
        return []


def _return(batch: Batch) -> None:
    if batch.is_held:
        batch.give_back()


def empty(
    queue: Queue,
    sink: Sink,
    *,
    stopping: threading.Event | None = None,
    stop_when_empty: bool = False,
) -> int:
    """Write a queue's events to a sink, until the queue was closed and is empty.

    A batch is removed only after the sink has all of it: at least once.

    Args:
        queue: Where from; events that are no `Record`s are written as the values of ones.
        sink: Where to.
        stopping: Ends it soon after it is set; batches that are not written go back.
        stop_when_empty: End as soon as no batch is ready.

    Returns:
        How many events were written.

    Raises:
        SinkGone: nobody reads what is written to stdout; batches that are not written go back.
        SinkRefused: the sink will never take some events; their batches have gone back.
        Exception: what the sink says if it cannot be opened. Later errors are logged, and it is
            opened again after a pause.

    Example:
        >>> from turbo_queue.connectors import QueueSink, empty
        >>> empty(Queue(folder), QueueSink(another_folder), stop_when_empty=True)
        3
    """

    def refuse(refused: list[Refused]) -> None:
        raise SinkRefused(len(refused), refused[0].reason)

    emptying = Emptying(queue, sink, stopping=stopping or threading.Event(), on_refused=refuse)
    return emptying.run(stop_when_empty=stop_when_empty)
