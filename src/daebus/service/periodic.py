"""Background tasks: run at an interval or by a cron expression, over APScheduler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from daebus.deadline import Deadline
from daebus.errors import RegistrationError
from daebus.logs import describe, get_logger
from daebus.service.parameters import count_parameters
from daebus.service.registry import Background

log = get_logger(__name__)

#: A run that is late by more than this is left out, in seconds: the machine slept, or was busy.
MISFIRE_GRACE_S = 60


class Periodic:
    """Runs background tasks, each run in a thread of its own.

    Args:
        tasks: what to run.
        enter: called once in each of those threads.

    Raises:
        RegistrationError: a schedule cannot be read, or a function takes parameters.
    """

    def __init__(self, tasks: list[Background], enter: Callable[[], None]) -> None:
        self._enter = enter
        self._threads = _Threads()
        self._scheduler: BackgroundScheduler | None = None
        self._tasks = [(task, _trigger(task)) for task in tasks]
        for task in tasks:
            count_parameters(task.function, 0, f"the background task {task.name!r}")

    def start(self) -> None:
        """Start the scheduler, if there is anything to schedule."""
        if not self._tasks:
            return
        self._scheduler = BackgroundScheduler(
            daemon=True,
            executors={"default": self._threads},
            job_defaults={
                "coalesce": True,
                "max_instances": 1,
                "misfire_grace_time": MISFIRE_GRACE_S,
            },
        )
        for task, trigger in self._tasks:
            self._scheduler.add_job(self._run, trigger, args=[task], id=task.name)
        self._scheduler.start()

    def request_stop(self) -> None:
        """Start no further run."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def join(self, deadline: Deadline) -> list[str]:
        """Wait for the runs under way; give the names of the tasks that did not end in time."""
        return self._threads.join(deadline)

    def _run(self, task: Background) -> None:
        self._enter()
        try:
            task.function()
        except BaseException as error:
            log.error(
                "background task %r failed: %s",
                task.name,
                describe(error),
                exc_info=error,
                extra={"event": "background.error"},
            )


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


def _trigger(task: Background) -> BaseTrigger:
    if not isinstance(task.schedule, str):
        return IntervalTrigger(seconds=task.schedule)
    try:
        return CronTrigger.from_crontab(task.schedule)
    except ValueError as error:
        raise RegistrationError(
            f"background task {task.name!r}: {task.schedule!r} is no cron expression ({error}). "
            f"It has five fields: minute, hour, day, month, day of the week."
        ) from None
