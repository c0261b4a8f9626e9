"""Background tasks: run at an interval or by a cron expression, over APScheduler."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from daebus.bus.presence import TaskRun
from daebus.deadline import Deadline
from daebus.errors import RegistrationError
from daebus.logs import describe, get_logger
from daebus.service.cluster_tasks import ClusterTasks, Lease, interval_us
from daebus.service.parameters import count_parameters
from daebus.service.registry import Background

log = get_logger(__name__)

#: A run that is late by more than this is left out, in seconds: the machine slept, or was busy.
MISFIRE_GRACE_S = 60

#: Most runs of one task under way at once in a replica, with overlap="allow". Each has a thread.
MAX_OVERLAPPING = 10

#: How far back to look for the last due time of a cron expression: 29 February may be 8 years ago.
LONGEST_LOOK_BACK = timedelta(days=8 * 366)

#: Most characters of an error that are kept, for `daebus ps`.
MAX_ERROR = 200

#: When the run that begins in this thread was due.
_due_at: contextvars.ContextVar[datetime] = contextvars.ContextVar("daebus_due_at")


class Periodic:
    """Runs background tasks, each run in a thread of its own.

    Args:
        tasks: what to run.
        enter: called once in each of those threads.
        cluster: decides about the tasks that run once among all replicas.

    Raises:
        RegistrationError: a task cannot be run, see `checked`.
    """

    def __init__(
        self, tasks: list[Background], enter: Callable[[], None], cluster: ClusterTasks
    ) -> None:
        self._enter = enter
        self._cluster = cluster
        self._threads = _Threads()
        self._scheduler: BackgroundScheduler | None = None
        self._tasks = [(task, *checked(task)) for task in tasks]
        self._last_runs: dict[str, TaskRun] = {}

    def start(self) -> None:
        """Start the scheduler, if there is anything to schedule."""
        if not self._tasks:
            return
        self._scheduler = scheduler = BackgroundScheduler(
            daemon=True,
            executors={"default": self._threads},
            job_defaults={"coalesce": True, "misfire_grace_time": MISFIRE_GRACE_S},
        )
        for task, trigger, takes_lease in self._tasks:
            most = MAX_OVERLAPPING if task.overlap == "allow" else 1
            arguments = [task, takes_lease]
            scheduler.add_job(self._run, trigger, arguments, id=task.name, max_instances=most)
            if task.misfire == "run":
                # Without a trigger: once, at once.
                name, missed = f"{task.name} (missed)", [task, takes_lease, trigger]
                scheduler.add_job(self._run_missed, args=missed, id=name)
        scheduler.start()

    def request_stop(self) -> None:
        """Start no further run."""
        self._cluster.request_stop()
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def join(self, deadline: Deadline) -> list[str]:
        """Wait for the runs under way; give the names of the tasks that did not end in time."""
        return self._threads.join(deadline)

    def last_runs(self) -> dict[str, TaskRun]:
        """The last run of each task here, also one that is under way."""
        return dict(self._last_runs)

    def _run(self, task: Background, takes_lease: bool) -> None:  # noqa: FBT001 - for APScheduler
        self._enter()
        if task.scope == "each":
            self._call(task)
        else:
            self._run_in_turn(task, takes_lease, _due_at.get(), is_missed=False)

    def _run_missed(self, task: Background, takes_lease: bool, trigger: BaseTrigger) -> None:  # noqa: FBT001
        """Run a task whose last due time has passed while no replica was there."""
        self._enter()
        now = datetime.now(UTC)
        due_at = now if interval_us(task) else _last_due(trigger, now)
        if due_at is not None:
            self._run_in_turn(task, takes_lease, due_at, is_missed=True)

    def _run_in_turn(
        self,
        task: Background,
        takes_lease: bool,  # noqa: FBT001
        due_at: datetime,
        *,
        is_missed: bool,
    ) -> None:
        due_us = round(due_at.timestamp() * 1e6)
        turn = self._cluster.take(task, due_us, is_missed=is_missed)
        if turn is not None:
            with turn.kept():
                run = self._call(task, *([turn.lease] if takes_lease else []))
            turn.finish(run)

    def _call(self, task: Background, *arguments: Lease) -> TaskRun:
        run = TaskRun(started_at=time.time())
        self._last_runs[task.name] = run
        begin = time.monotonic()
        text: str | None = None
        try:
            task.function(*arguments)
        except BaseException as error:
            text = describe(error)
            log.error(
                "background task %r failed: %s",
                task.name,
                text,
                exc_info=error,
                extra={"event": "background.error"},
            )
            # It may hold what cannot be sent: half a surrogate pair, of a file's name, say.
            text = text[:MAX_ERROR].encode(errors="backslashreplace").decode()
        ended = TaskRun(started_at=run.started_at, duration_s=time.monotonic() - begin, error=text)
        if self._last_runs[task.name] is run:  # No later one has begun meanwhile.
            self._last_runs[task.name] = ended
        return ended


class _Threads(BaseExecutor):  # type: ignore[misc]  # APScheduler 3 has no types
    """A daemon thread for each run.

    APScheduler's own pool would be joined when Python exits, and one run that never returns would
    keep the process for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[threading.Thread, str] = {}

    def _do_submit_job(self, job: Any, run_times: list[Any]) -> None:
        thread = threading.Thread(
            target=self._run, args=(job, run_times), name=f"daebus-background-{job.id}", daemon=True
        )
        self._running[thread] = job.id
        thread.start()

    def _run(self, job: Any, run_times: list[Any]) -> None:
        _due_at.set(run_times[-1])
        try:
            events = run_job(job, job._jobstore_alias, run_times, self._logger.name)  # noqa: SLF001
            self._run_job_success(job.id, events)
        finally:
            self._running.pop(threading.current_thread(), None)

    def join(self, deadline: Deadline) -> list[str]:
        """Wait for the threads; give the names of those that did not end in time."""
        late = []
        for thread, name in list(self._running.items()):
            thread.join(deadline.remaining_s())
            if thread.is_alive():
                late.append(name)
        return late


def checked(task: Background) -> tuple[BaseTrigger, bool]:
    """When a task is due, and whether its function takes the lease.

    Raises:
        RegistrationError: its schedule cannot be read, its function is async or takes too many
            parameters, or its choices exclude each other.
    """
    most = 1 if task.scope == "cluster" else 0
    takes_lease = count_parameters(task.function, most, f"the background task {task.name!r}") == 1
    if task.misfire == "run" and task.scope != "cluster":
        raise RegistrationError(
            f"background task {task.name!r}: misfire='run' needs scope='cluster', because only "
            f"then the server remembers which run was the last one"
        )
    return _trigger(task), takes_lease


def _trigger(task: Background) -> BaseTrigger:
    if not isinstance(task.schedule, str):
        if task.scope == "each":
            return IntervalTrigger(seconds=task.schedule)
        # At the multiples of the interval, so that all replicas are woken at the same time, and
        # one that has just started does not begin to count anew.
        start = datetime.fromtimestamp(0, UTC)
        return IntervalTrigger(seconds=interval_us(task) / 1e6, start_date=start)
    try:
        return CronTrigger.from_crontab(task.schedule)
    except ValueError as error:
        raise RegistrationError(
            f"background task {task.name!r}: {task.schedule!r} is no cron expression ({error}). "
            f"It has five fields: minute, hour, day, month, day of the week."
        ) from None


def _last_due(trigger: BaseTrigger, now: datetime) -> datetime | None:
    """The last time until `now` that a trigger was due: it only tells the next one."""
    back = timedelta(minutes=1)
    while back <= LONGEST_LOOK_BACK:
        last: datetime | None = None
        due: datetime | None = trigger.get_next_fire_time(None, now - back)
        while due is not None and due <= now:
            last, due = due, trigger.get_next_fire_time(due, due)
        if last is not None:
            return last
        back *= 2
    return None
