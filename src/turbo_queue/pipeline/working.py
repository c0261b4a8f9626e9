"""What a worker process does: events in, the user's work, results out, failures set apart.

A batch is finished only after its results are on disk. Results and failures are settled together,
some at a time, so a worker that is killed repeats at most what it had not settled. A batch that
has killed a worker is taken up event by event, so that the one to blame is found.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

from turbo_queue.batch import Batch
from turbo_queue.connectors.pauses import Pauses
from turbo_queue.errors import (
    BadEvent,
    BatchDamaged,
    FolderFailed,
    QueueFull,
    TurboQueueError,
)
from turbo_queue.pipeline.failures import (
    as_text,
    attempts_of,
    described,
    failed,
    log_dead,
    unmarked,
)
from turbo_queue.pipeline.plan import Plan
from turbo_queue.pipeline.results import results_of_list, step
from turbo_queue.pipeline.tally import Tally
from turbo_queue.producer import Producer
from turbo_queue.records import Record, events_for

logger = logging.getLogger(__name__)

#: How long a worker waits for a batch before it looks for what is to be tried again, in seconds.
TAKE_S = 0.2

#: How often it looks for that while it is busy, in seconds.
RETRIES_EVERY_S = 0.1

#: How long it waits for room for its results before it looks whether it is to end, in seconds.
ROOM_S = 0.2


class _Part:
    """The results and failures of some events that are settled together."""

    def __init__(self) -> None:
        self.results: list[Record] = []
        self.to_retry: list[Record] = []
        self.dead: list[Record] = []
        self.events = 0


class Working:
    """Does the work of a pipeline, in one thread of one process.

    Args:
        plan: What to do.
        stopping: Ends it when it is set, after the event at hand.
        tally: Where it counts.
    """

    def __init__(self, plan: Plan, *, stopping: threading.Event, tally: Tally) -> None:
        self._plan = plan
        self._stopping = stopping
        self._tally = tally
        self._pauses = Pauses(stopping)
        self._encode = plan.sink.encode
        self._look_at = 0.0
        self._do_together: Callable[[list[Record]], list[Record]] = self._together

    def run(self, on_open: Callable[[], object] = lambda: None) -> None:
        """Work until the end is wished for.

        Args:
            on_open: Called once it can work.

        Raises:
            SettingsError: there is no such work.
            FolderFailed: a queue's folder cannot be used.
            Exception: what making the work's object raised, if the work is a class.
        """
        plan = self._plan
        self._work = plan.load_work()
        self._do = step(
            self._work,
            plan.source.decode,
            self._encode,
            is_batched=plan.batched,
            takes_records=plan.records,
        )
        with ExitStack() as stack:
            if plan.traces:
                self._make_spans(stack)
            self._incoming = stack.enter_context(plan.incoming.consumer())
            self._again = stack.enter_context(plan.retries.consumer())
            self._outgoing = stack.enter_context(plan.outgoing.producer())
            self._to_retry = stack.enter_context(plan.retries.producer(is_bounded=False))
            self._dead = stack.enter_context(plan.dead.producer(is_bounded=False))
            on_open()
            while not self._stopping.is_set():
                self._do_next()
            self._tally.tell()

    def _do_next(self) -> None:
        try:
            batch = self._next_batch()
            if batch is None:
                self._tally.count()
            else:
                self._handle(batch)
            self._pauses.forget()
        except TurboQueueError as error:  # The disk is full, say.
            self._pauses.note(error, "the queues cannot be used", logger)
            self._pauses.wait()

    def _next_batch(self) -> Batch | None:
        """What is due to be tried again, else what is new; None if there is neither for now."""
        if monotonic() >= self._look_at:
            age_s = self._plan.retries.oldest_ready_s
            is_due = age_s is not None and age_s >= self._plan.retry_pause
            if is_due and (batch := self._again.take(timeout=0)) is not None:
                return batch
            self._look_at = monotonic() + RETRIES_EVERY_S
        batch = self._incoming.take(timeout=TAKE_S)
        if batch is None and self._incoming.has_ended:
            self._stopping.wait(RETRIES_EVERY_S)  # A queue that is closed says so at once.
        return batch

    def _handle(self, batch: Batch) -> None:
        try:
            if batch.failures or not self._handle_quickly(batch):
                self._handle_singly(batch)
        except BatchDamaged as error:
            batch.set_aside(error.reason)
        finally:
            if batch.is_held:
                batch.give_back()

    def _handle_quickly(self, batch: Batch) -> bool:
        """Do the work, and settle as seldom as may be; False if it has to be done one by one."""
        try:
            if self._plan.batched:
                return self._handle_together(batch)
            self._handle_in_parts(batch)
        except BadEvent:
            return False  # A result that no queue can carry; which one, the other way will show.
        return True

    def _handle_in_parts(self, batch: Batch) -> None:
        part = _Part()
        settle_at = monotonic() + self._plan.max_batch_age
        for record in _records(batch):
            self._try(record, part)
            if monotonic() >= settle_at or self._stopping.is_set():
                self._settle(batch, part)
                if self._stopping.is_set():
                    return
                part = _Part()
                settle_at = monotonic() + self._plan.max_batch_age
        self._settle(batch, part)

    def _handle_together(self, batch: Batch) -> bool:
        records = [unmarked(record) for record in _records(batch)]
        part = _Part()
        part.events = len(records)
        try:
            part.results = self._do_together(records)
        except BaseException:  # noqa: BLE001 - the user's work may raise anything
            return False
        self._settle(batch, part)
        return True

    def _handle_singly(self, batch: Batch) -> None:
        # The first death came while no event was settled: any of the batch may be to blame for it.
        is_to_blame = batch.failures >= max(self._plan.attempts, 2)
        for record in _records(batch):
            part = _Part()
            if is_to_blame:
                self._bury(
                    unmarked(record), f"it ended its worker process {batch.failures} times", part
                )
                is_to_blame = False
            else:
                self._try(record, part)
            try:
                self._settle(batch, part)
            except BadEvent as error:
                self._settle_bad(batch, record, error)
            if self._stopping.is_set():
                return

    def _settle_bad(self, batch: Batch, record: Record, error: BadEvent) -> None:
        """Settle an event if a queue cannot carry its result, or the event itself."""
        part = _Part()
        self._fail(record, error, part)
        try:
            self._settle(batch, part)
        except BadEvent:
            part = _Part()
            self._bury(as_text(record), described(error), part)
            self._settle(batch, part)

    def _try(self, record: Record, part: _Part) -> None:
        """Do the work on one event."""
        try:
            self._do(unmarked(record) if record.headers else record, part.results)
        except BaseException as error:  # noqa: BLE001 - also CancelledError and KeyboardInterrupt
            self._fail(record, error, part)
        else:
            part.events += 1

    def _together(self, records: list[Record]) -> list[Record]:
        """Do the work on the events of a batch at once."""
        return results_of_list(self._work(self._arguments(records)), self._encode)

    def _make_spans(self, stack: ExitStack) -> None:
        from turbo_queue.pipeline.work_spans import WorkSpans  # noqa: PLC0415 - an extra

        spans = WorkSpans(self._plan.folder.name)
        stack.callback(spans.flush)
        self._do = spans.around_each(self._do)
        self._do_together = spans.around_all(self._together)

    def _arguments(self, records: list[Record]) -> list[Any]:
        decode = self._plan.source.decode
        if self._plan.records:
            return [record.replace(value=decode(record.value)) for record in records]
        return [decode(record.value) for record in records]

    def _fail(self, record: Record, error: BaseException, part: _Part) -> None:
        """Have an event tried again, or put it among the dead letters."""
        attempts = attempts_of(record) + 1
        if attempts >= self._plan.attempts:
            self._bury(record, described(error), part, attempts)
            return
        part.events += 1
        part.to_retry.append(failed(record, described(error), attempts))

    def _bury(self, record: Record, reason: str, part: _Part, attempts: int | None = None) -> None:
        part.events += 1
        part.dead.append(failed(record, reason, attempts or self._plan.attempts))

    def _settle(self, batch: Batch, part: _Part) -> None:
        """Make results and failures safe, then finish the events that they came from."""
        results = part.results
        self._put(self._outgoing, events_for(self._plan.outgoing.settings.codec, results))
        self._put(self._to_retry, part.to_retry)
        if part.dead:
            self._put(self._dead, part.dead)
            log_dead(part.dead)
        if len(batch) == part.events:
            batch.acknowledge()
        else:
            batch.checkpoint(batch.done + part.events)
        self._tally.count(
            handled=part.events - len(part.to_retry),
            written=0 if self._plan.sink.queue is None else len(results),
            retried=len(part.to_retry),
            dead=len(part.dead),
        )

    def _put(self, producer: Producer, events: list[Any]) -> None:
        """Put events and make them safe; wait while there is no room, or the disk is full."""
        if not events:
            return
        while True:
            try:
                producer.put_many(events, timeout=ROOM_S)
                events = []
                producer.flush()
            except QueueFull as full:
                events = events[full.events_put :]
                if self._stopping.is_set():
                    # What is done is not done again by the next run, so its results do not wait
                    # for room; they are no more than those of a part for each worker.
                    with self._plan.outgoing.producer(is_bounded=False) as unbounded:
                        unbounded.put_many(events)
                    events = []
                continue
            except FolderFailed as error:  # Doing the work again would put other results twice.
                if self._stopping.is_set():
                    raise
                events = events[error.events_put :]
                self._pauses.note(error, "the queues cannot be used", logger)
                self._pauses.wait()
            else:
                return


def _records(batch: Batch) -> Iterator[Record]:
    for event in batch:
        yield event if type(event) is Record else Record(event)
