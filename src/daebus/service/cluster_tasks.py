"""Background tasks that run once among all replicas: which of them runs, and for how long it may.

Every replica is woken at the due time and asks the server, and one is told to run. While it runs it
says so again and again; one that has died, or was stopped for too long, is silent, so that another
one runs at the next due time. All runs have numbers that grow, for stores to tell a late one by.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from daebus.bus.lease import Answer, TaskLease, Verdict
from daebus.bus.link import Link
from daebus.bus.presence import TaskRun
from daebus.deadline import Deadline
from daebus.errors import DaebusError
from daebus.logs import Incidents, describe, get_logger
from daebus.service.registry import Background

log = get_logger(__name__)

#: How long to wait for the server's answer, in seconds.
ANSWER_S = 5.0

#: A replica that is woken this much before the next due time of an interval waits for it, in
#: seconds: by its own clock it was due.
MAX_EARLY_S = 1.0

#: So many times within its length a lease is renewed: two renewals may fail.
RENEWALS = 3


class Lease:
    """The right of one run of a background task with `scope="cluster"`: given to its function.

    Attributes:
        token: the run's number, larger than that of each run before it. Give it to what the run
            writes to, if that can refuse a number smaller than one it has seen: so a run that was
            stopped for a while, and was thought dead, does no harm when it goes on.

    Example:
        >>> @app.background("bill", "0 3 * * *", scope="cluster")
        ... def bill(lease: Lease) -> None:
        ...     for invoice in due():
        ...         if not lease.is_held():
        ...             return
        ...         store.write(invoice, lease.token)
    """

    def __init__(self, token: int, held_until: float) -> None:
        self.token = token
        #: On the monotonic clock.
        self._held_until = held_until

    def is_held(self) -> bool:
        """Whether no other replica may run the task by now. Asks nobody; costs nothing."""
        return monotonic() < self._held_until

    def __repr__(self) -> str:
        return f"<lease {self.token}{'' if self.is_held() else ', not held'}>"


class ClusterTasks:
    """Asks whether to run a task here, and keeps its lease while it runs.

    Args:
        service: the service's name.
        replica_id: this replica's id.
        lease_s: how long a lease lives without a sign of life.
        link: the way to the server.
        incidents: where runs are counted that were left out.
    """

    def __init__(
        self, service: str, replica_id: str, lease_s: float, *, link: Link, incidents: Incidents
    ) -> None:
        self._service = service
        self._replica_id = replica_id
        self._lease_s = lease_s
        self._link = link
        self._incidents = incidents
        self._stopping = threading.Event()

    def request_stop(self) -> None:
        """Begin no run that is due only now."""
        self._stopping.set()

    def take(self, task: Background, due_us: int, *, is_missed: bool) -> Turn | None:
        """Take a task's run, if no other replica has; None if it is not to run here.

        Args:
            task: the task.
            due_us: when it is due, in microseconds since 1970; an interval's is the server's
                matter.
            is_missed: it was due earlier, and is to be run now if nobody did.
        """
        store = TaskLease(self._link, self._service, task.name, self._replica_id, self._lease_s)
        try:
            asked_at, answer = self._claim(store, task, due_us, is_missed=is_missed)
            early_s = answer.number / 1e6
            if answer.verdict is Verdict.DONE and 0 < early_s <= _most_early_s(task):
                self._stopping.wait(early_s)
                if not self._stopping.is_set():
                    asked_at, answer = self._claim(store, task, due_us, is_missed=is_missed)
        except DaebusError as error:
            self._leave_out(task, describe(error))
            return None
        if answer.verdict is Verdict.EARLY:
            self._leave_out(task, f"this machine's clock is {answer.number / 1e6:.0f} s ahead")
        if answer.verdict is not Verdict.TAKEN:
            return None
        # Where runs may overlap, nobody waits for the end of this one.
        held_until = float("inf") if task.overlap == "allow" else asked_at + self._lease_s
        lease = Lease(answer.number, held_until)
        if not lease.is_held():
            self._leave_out(task, f"the server's answer took more than {self._lease_s:g} s")
            return None
        return Turn(task, store, lease, self._lease_s)

    def _claim(
        self, store: TaskLease, task: Background, due_us: int, *, is_missed: bool
    ) -> tuple[float, Answer]:
        """The answer, and when it was asked for: the lease lives from then on, at least."""
        asked_at = monotonic()
        answer = store.claim(
            Deadline.after(ANSWER_S),
            interval_us=interval_us(task),
            due_us=due_us,
            may_overlap=task.overlap == "allow",
            is_missed=is_missed,
        )
        return asked_at, answer

    def _leave_out(self, task: Background, reason: str) -> None:
        self._incidents.report(
            "run_left_out",
            lambda: f"a run of the background task {task.name!r} was left out: {reason}",
        )


class Turn:
    """One run of a task in this replica."""

    def __init__(self, task: Background, store: TaskLease, lease: Lease, lease_s: float) -> None:
        self.lease = lease
        self._task = task
        self._store = store
        self._lease_s = lease_s
        self._has_ended = threading.Event()
        self._is_told = False

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease, in a thread of its own, because the run's own is the user's."""
        if self._task.overlap == "allow":
            yield
            return
        thread = threading.Thread(
            target=self._keep, name=f"daebus-lease-{self._task.name}", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._has_ended.set()
            thread.join()

    def finish(self, run: TaskRun) -> None:
        """Free the lease, and note how the run went."""
        deadline = Deadline.after(ANSWER_S)
        try:
            is_mine = self._store.finish(
                self.lease.token, run.duration_s or 0.0, run.error, deadline
            )
        except DaebusError as error:
            log.warning(
                "background task %r: the server was not told of its end: %s",
                self._task.name,
                describe(error),
                extra={"event": "background.lease"},
            )
        else:
            if not is_mine and self._task.overlap == "skip":
                self._lose()

    def _keep(self) -> None:
        while not self._has_ended.wait(self._lease_s / RENEWALS):
            renewed_at = monotonic()
            deadline = Deadline.after(self._lease_s / RENEWALS)
            try:
                is_mine = self._store.renew(self.lease.token, deadline)
            except DaebusError as error:
                if not self.lease.is_held():
                    self._tell(f"the server cannot be reached ({describe(error)})")
                continue
            if not is_mine:
                self._lose()
                return
            self.lease._held_until = renewed_at + self._lease_s  # noqa: SLF001 - its other half
            self._is_told = False

    def _lose(self) -> None:
        self.lease._held_until = 0.0  # noqa: SLF001
        self._tell("another replica has run it since, or runs it now")

    def _tell(self, reason: str) -> None:
        if not self._is_told:
            self._is_told = True
            log.warning(
                "background task %r has lost its lease of %g s: %s",
                self._task.name,
                self._lease_s,
                reason,
                extra={"event": "background.lost"},
            )


def interval_us(task: Background) -> int:
    """A task's interval in microseconds; 0 when it runs by a cron expression."""
    return 0 if isinstance(task.schedule, str) else max(1, round(task.schedule * 1e6))


def _most_early_s(task: Background) -> float:
    return min(MAX_EARLY_S, interval_us(task) / 2e6)
