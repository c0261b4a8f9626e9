"""Starts the processes of a pipeline, watches over them, and ends them in the order of the flow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic

from turbo_queue.bad_files import number_in
from turbo_queue.errors import PipelineFailed, SinkGone, TurboQueueError, WorkerFailed
from turbo_queue.folder import Folder
from turbo_queue.pipeline import roles
from turbo_queue.pipeline.condition import Condition, Crew, Stage
from turbo_queue.pipeline.counts import Counts
from turbo_queue.pipeline.failures import described
from turbo_queue.pipeline.logs import shown_level
from turbo_queue.pipeline.outcome import Outcome
from turbo_queue.pipeline.plan import Plan
from turbo_queue.pipeline.tally import Told, read_told
from turbo_queue.queue import Queue
from turbo_queue.signals import StopSignals
from turbo_queue.worker import Worker
from turbo_queue.workers import WorkerGroup

logger = logging.getLogger(__name__)

#: How often it is looked whether a queue is empty while a pipeline ends, in seconds.
LOOK_S = 0.02

#: How often what waits is counted, and dead owners' retries are taken over, in seconds.
COUNT_S = 0.5

#: How much of the grace time has passed when a reader that does not end is killed, when what was
#: read but is not worked on is left, and when workers that do not end are killed and results that
#: are not written are left; the rest is for the writer. So no step takes the time of the next ones.
_READER_SHARE, _WORK_SHARE, _RESULTS_SHARE = 0.4, 0.5, 0.8


class Supervisor:
    """Runs a pipeline. It is the `Watcher` of its processes.

    Args:
        plan: What the pipeline does.
        processes: How many processes do the work.
        start_method: How processes are started; None: as the program does.
        grace_s: Seconds to finish what was read, once the end is wished for.
        signals: The first one is a wish for the end, the second one ends it at once.
        on_look: Called every `COUNT_S` with what was done so far.
        on_ending: Called once the end is wished for.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        processes: int,
        start_method: str | None,
        grace_s: float,
        signals: StopSignals,
        on_look: Callable[[Counts], object],
        on_ending: Callable[[], object],
    ) -> None:
        self._plan = plan
        self._grace_s = grace_s
        self._start_method = start_method
        self._signals = signals
        self._on_look = on_look
        self._on_ending = on_ending
        self._look_at = 0.0
        self._lock = threading.Lock()
        self._told = Told()
        self._restarts = 0
        self._is_started = False
        self._waiting = 0
        self._bad_before: int | None = None
        self._damaged = 0
        self._has_source_ended = threading.Event()
        #: Why nothing can be written any more; empty while it can.
        self._gone = ""
        #: When a process of each role has last told that it gets on.
        self._told_at: dict[str, float] = {}
        self._stage = Stage.STARTING
        self._running_since = self._looked_at = monotonic()
        self._heard = 0
        self._end_at = float("inf")
        self._was_forced = False
        self._workers = self._group(roles.work, processes, "worker")
        self._reader = self._group(roles.read, 1, "reader") if plan.source.queue is None else None
        self._writer = self._group(roles.write, 1, "writer") if plan.sink.queue is None else None

    def start(self) -> None:
        """Start the processes, and wait until all can work.

        Returns early once the end is wished for: opening a source or a sink may take for ever.

        Raises:
            PipelineFailed: one of them cannot; the others are ended.
        """
        with suppress(TurboQueueError):  # The processes say what is wrong with the folders.
            self._count_damaged()
        with ExitStack() as undo:
            try:
                for group in self._groups().values():
                    undo.callback(group.join, 0)
                    self._start(group)
                self._is_started = all(map(self._becomes_ready, self._groups().values()))
            except WorkerFailed as error:
                raise PipelineFailed(f"the pipeline cannot start: {error}") from error
            undo.pop_all()

    def _start(self, group: WorkerGroup) -> None:
        try:
            group.start()
        except WorkerFailed:
            raise
        except Exception as error:
            raise PipelineFailed(
                f"the source, the work or the sink cannot be sent to another process: "
                f"{described(error)}. Use functions and classes at the top level of a module, or "
                f"start_method='fork'"
            ) from error

    def _becomes_ready(self, group: WorkerGroup) -> bool:
        """Wait until it is ready; False if the end is wished for before."""
        while not group.wait_until_ready(LOOK_S):
            if self._signals.is_wanted or self._gone:
                return False
        return True

    def run(self) -> Outcome:
        """Wait until the source has ended or the end is wished for; then end with the flow.

        Raises:
            SinkGone: the sink can never be written again.
        """
        self._running_since = self._looked_at = monotonic()
        self._stage = Stage.RUNNING
        try:
            while not (self._is_end_wanted or self._is_source_done()):
                self._pause(COUNT_S)
            self._stage = Stage.STOPPING
            if self._reader is not None:
                self._end(self._reader, _READER_SHARE)
            self._wait_for(self._is_work_done, _WORK_SHARE)
            self._end(self._workers, _RESULTS_SHARE)
            if self._writer is not None:
                self._wait_for(lambda: self._plan.outgoing.is_idle, _RESULTS_SHARE)
                self._end(self._writer, 1.0)
        finally:
            for group in self._groups().values():
                group.join(0)
        self._look()
        if self._gone:
            raise SinkGone(
                f"{self._gone}; about {self._waiting:,} events wait in {str(self._plan.folder)!r} "
                f"for the next run"
            )
        return self._outcome()

    def counts(self) -> Counts:
        """What was done so far."""
        with self._lock:
            told = self._told
            return Counts(
                read=told.read,
                handled=told.handled,
                written=told.written,
                retried=told.retried,
                dead=told.dead,
                waiting=self._waiting,
                restarts=self._restarts,
                damaged=self._damaged,
            )

    def condition(self) -> Condition:
        """How it is now. For any thread."""
        return Condition(
            stage=self._stage,
            counts=self.counts(),
            crews=tuple(self._crew(role, group) for role, group in self._groups().items()),
            # While it starts, it waits for the source and the sink to be opened.
            unwatched_s=0.0 if self._stage is Stage.STARTING else monotonic() - self._looked_at,
        )

    def _crew(self, role: str, group: WorkerGroup) -> Crew:
        up = sum(worker.is_ready and not worker.is_leaving for worker in group.workers)
        # The work may take as long as it likes, and a reader has nothing to tell after the end.
        is_quiet = group is self._workers or (
            group is self._reader and self._has_source_ended.is_set()
        )
        told_at = self._told_at.get(group.name, self._running_since)
        silent_s = 0.0 if is_quiet else monotonic() - told_at
        return Crew(role, up=up, wanted=group.count, silent_s=silent_s)

    # --- what the groups tell, each from its own thread ---

    def on_message(self, worker: Worker, data: bytes) -> None:
        """See `Watcher`."""
        more = read_told(data)
        self._told_at[worker.process.name] = monotonic()
        with self._lock:
            told = self._told
            told.read += more.read
            told.handled += more.handled
            told.written += more.written
            told.retried += more.retried
            told.dead += more.dead
        if more.has_ended:
            self._has_source_ended.set()
        self._gone = self._gone or more.gone
        if more.has_ended or more.gone:
            self._signals.wake()

    def on_overdue(self, _worker: Worker) -> None:
        """See `Watcher`; nothing here has a time limit."""

    def on_end(self, worker: Worker, how: str) -> None:
        """See `Watcher`."""
        if worker.is_leaving or not self._is_started:
            return
        with self._lock:
            self._restarts += 1
        logger.warning(
            "the process %d %s; another takes its place",
            worker.pid,
            how,
            extra={"event": "pipeline.restarted"},
        )

    # --- the steps of the end ---

    @property
    def _is_end_wanted(self) -> bool:
        return self._end_at != float("inf")

    def _is_source_done(self) -> bool:
        incoming = self._plan.incoming
        if self._reader is not None:
            return self._has_source_ended.is_set()
        return incoming.is_closed and incoming.is_idle and self._plan.retries.is_idle

    def _is_work_done(self) -> bool:
        """Whether nothing waits for the workers that they should do before the end."""
        if self._is_end_wanted:  # What is to be tried again, and others' queues, can wait.
            return self._reader is None or self._plan.incoming.is_idle
        # In this order: what fails is among the retries before its batch is finished.
        return self._plan.incoming.is_idle and self._plan.retries.is_idle

    def _wait_for(self, condition: Callable[[], bool], share: float) -> None:
        if not self._is_started:
            return  # There may be nobody who could work.
        # What nobody will write is left where it is, as it can be done by the next run.
        while not (condition() or self._gone) and self._has_time(share):
            self._pause(LOOK_S)

    def _end(self, group: WorkerGroup, share: float) -> None:
        """Let the processes finish what they are at; those that do not in time are killed."""
        group.request_stop()
        while group.is_running and self._has_time(share):
            self._pause(LOOK_S)
        self._was_forced = self._was_forced or group.is_running
        group.join(0)

    def _has_time(self, share: float) -> bool:
        """Whether less than this share of the grace time has passed, if the end is wished for."""
        return monotonic() < self._end_at - (1 - share) * self._grace_s

    def _outcome(self) -> Outcome:
        return Outcome(
            self.counts(), has_ended=not self._is_end_wanted, was_forced=self._was_forced
        )

    # --- what is done on the side ---

    def _pause(self, timeout_s: float) -> None:
        self._signals.pause(timeout_s)
        if self._signals.count > self._heard or (self._gone and not self._is_end_wanted):
            self._hear()
        if monotonic() >= self._look_at:
            self._look()

    def _hear(self) -> None:
        """The end is wished for, once more or for the first time."""
        is_first, self._heard = not self._is_end_wanted, self._signals.count
        self._end_at = monotonic() + (self._grace_s if is_first and self._heard <= 1 else 0.0)
        if not is_first:
            return
        self._on_ending()
        if not self._gone:  # That is told in the end.
            logger.info(
                "ending: what was read is finished, or waits for the next run after %g s; a "
                "second signal ends it at once",
                self._grace_s,
                extra={"event": "pipeline.ending"},
            )

    def _look(self) -> None:
        self._looked_at = monotonic()
        self._look_at = self._looked_at + COUNT_S
        try:
            self._plan.retries.recover()
            self._waiting = sum(map(_events_waiting, self._queues()))
            self._count_damaged()
        except TurboQueueError as error:
            logger.warning("what waits cannot be counted: %s", error)
        self._on_look(self.counts())

    def _count_damaged(self) -> None:
        """Count what was set aside since the start: processes do that deep below their work."""
        found = sum(number_in(Folder(queue.path).bad) for queue in self._queues())
        if self._bad_before is None:
            self._bad_before = found
        self._damaged = max(self._damaged, found - self._bad_before)

    def _queues(self) -> list[Queue]:
        queues = [self._plan.incoming, self._plan.retries]
        if self._writer is not None:
            queues.append(self._plan.outgoing)
        return list({queue.path: queue for queue in queues}.values())

    def _groups(self) -> dict[str, WorkerGroup]:
        """Those that there are, by what they do, in the order of the flow."""
        groups = {"reader": self._reader, "worker": self._workers, "writer": self._writer}
        return {role: group for role, group in groups.items() if group is not None}

    def _group(self, role: Callable[..., None], count: int, name: str) -> WorkerGroup:
        return WorkerGroup(
            roles.begin,
            (role, self._plan, shown_level()),
            count=count,
            watcher=self,
            start_method=self._start_method,
            name=f"pipeline-{name}",
        )


def _events_waiting(queue: Queue) -> int:
    """About how many: batches times what they hold on average; opening each would cost too much."""
    traffic = queue.traffic()
    if not traffic.batches_in:
        return 0
    return round(queue.batches_waiting * traffic.events_in / traffic.batches_in)
