"""Threads that a service keeps running beside its messages."""

from __future__ import annotations

import threading
from collections.abc import Callable

from daebus.deadline import Deadline
from daebus.logs import describe, get_logger
from daebus.service.parameters import count_parameters
from daebus.service.registry import ThreadTask

log = get_logger(__name__)

#: Waits before a thread that raised is started again, in seconds.
FIRST_RESTART_S = 0.1
LONGEST_RESTART_S = 30.0

#: A thread that ran for so long before it raised starts again with the first wait, in seconds.
STEADY_S = 60.0


class Threads:
    """Runs each registered function in a thread of its own, and again when it raises.

    Args:
        tasks: what to run.
        goes_on: tells whether the service still runs.
        stopping: set when it stops, so that no wait outlives it.
        enter: called once in each thread.

    Raises:
        RegistrationError: a function needs more than one parameter.
    """

    def __init__(
        self,
        tasks: list[ThreadTask],
        *,
        goes_on: Callable[[], bool],
        stopping: threading.Event,
        enter: Callable[[], None],
    ) -> None:
        self._goes_on = goes_on
        self._stopping = stopping
        self._enter = enter
        self._takes_goes_on = {
            task.name: count_parameters(task.function, 1, f"the thread {task.name!r}") == 1
            for task in tasks
        }
        self._threads = {
            task.name: threading.Thread(
                target=self._run, args=(task,), name=f"daebus-thread-{task.name}", daemon=True
            )
            for task in tasks
        }

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads.values():
            thread.start()

    def join(self, deadline: Deadline) -> list[str]:
        """Wait for the threads to end; give the names of those that did not in time."""
        late = []
        for name, thread in self._threads.items():
            if thread.is_alive():
                thread.join(deadline.remaining_s())
            if thread.is_alive():
                late.append(name)
        return late

    def _run(self, task: ThreadTask) -> None:
        self._enter()
        restart_s = FIRST_RESTART_S
        while self._goes_on():
            started = Deadline.after(STEADY_S)
            try:
                task.function(*([self._goes_on] if self._takes_goes_on[task.name] else []))
            except BaseException as error:
                if started.has_passed():
                    restart_s = FIRST_RESTART_S
                log.error(
                    "thread %r failed and is started again in %.1f s: %s",
                    task.name,
                    restart_s,
                    describe(error),
                    exc_info=error,
                    extra={"event": "thread.error"},
                )
                self._stopping.wait(restart_s)
                restart_s = min(restart_s * 2, LONGEST_RESTART_S)
            else:
                return
