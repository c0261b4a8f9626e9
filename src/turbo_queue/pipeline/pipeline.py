"""A pipeline: from a source through many processes to a sink, with a queue before each step."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from math import inf
from os import PathLike
from pathlib import Path
from typing import Any, Self

from turbo_queue import tracing
from turbo_queue.connectors.interface import Sink, Source
from turbo_queue.discovery import PIPELINE_LOCK
from turbo_queue.errors import PipelineFailed, SettingsError, reporting
from turbo_queue.forks import watch
from turbo_queue.locks import lock, open_to_lock, release
from turbo_queue.pipeline.configuration import load
from turbo_queue.pipeline.counts import Counts
from turbo_queue.pipeline.display import Display, status_line
from turbo_queue.pipeline.failures import is_result, unmarked
from turbo_queue.pipeline.nothing import Nothing
from turbo_queue.pipeline.outcome import Outcome
from turbo_queue.pipeline.plan import Plan, Work, load_work
from turbo_queue.pipeline.positions import PositionFile
from turbo_queue.pipeline.supervisor import Supervisor
from turbo_queue.records import events_for
from turbo_queue.safe_folders import make_private
from turbo_queue.settings import metrics_address
from turbo_queue.signals import StopSignals
from turbo_queue.systemd import Notifier

#: Nobody has so many cores, and a slip such as 400000 would take the machine down.
MOST_PROCESSES = 1_000


class Pipeline:
    """Events from a source, through work in many processes, to a sink; at least once.

    What was read is committed at the source only when it is on disk, and is removed from there
    only when the sink has confirmed its results. So nothing is lost, whatever is killed; what was
    under way then is done twice.

    Args:
        source: Where events come from.
        work: A function of one event that gives None, one result, or many: a list, a tuple or an
            iterator. Or a class: each process makes one object of it, and calls that. Or the name
            of either, `module:name`.
        sink: Where the results go.
        processes: How many processes do the work, up to 1,000; as many as there are cores.
        folder: Where events wait between the processes; `./pipeline`. One for each pipeline.
        batched: The work takes a list of events, and gives None, or many results.
        records: The work takes `Record`s, with key, headers and timestamp; it may give such, too.
        attempts: So often an event is tried before it goes to the dead letters; 3.
        retry_pause: Seconds until a failed event is tried again; 1.
        batch_events: So many events are one batch; 2,000. Slow work wants small ones.
        max_batch_age: Seconds after which events go on, however few they are; 1.
        max_ready_files: So many batches may wait before each step; 64.
        fsync: Make what was committed survive a loss of power, too.
        grace: Seconds to finish what was read, after a first Ctrl-C or SIGTERM; 10.
        start_method: `fork`, `spawn` or `forkserver`; as the program does.
        metrics_port: Serve metrics for Prometheus and probes of its health at this port while it
            runs, 0 for any that is free (`TURBO_QUEUE_METRICS_PORT`); none if None.
        metrics_host: … at this address (`TURBO_QUEUE_METRICS_HOST`, 127.0.0.1).
        traces: Make a span of OpenTelemetry for the work on each event (`TURBO_QUEUE_TRACES`, off).

    Raises:
        SettingsError: an argument makes no sense, or traces are wanted and the package for them is
            not installed.

    Example:
        >>> from turbo_queue.connectors import IterableSource, QueueSink
        >>> results = Queue(another_folder)
        >>> source, sink = IterableSource(["a", "b"]), QueueSink(results)
        >>> pipeline = Pipeline(source, str.upper, sink, folder=folder, processes=1)
        >>> pipeline.run().exit_code
        <ExitCode.OK: 0>
        >>> sorted(results.peek())
        ['A', 'B']
    """

    def __init__(
        self,
        source: Source,
        work: Work,
        sink: Sink,
        *,
        processes: int | None = None,
        folder: str | PathLike[str] = "pipeline",
        batched: bool = False,
        records: bool = False,
        attempts: int = 3,
        retry_pause: float = 1.0,
        batch_events: int = 2_000,
        max_batch_age: float = 1.0,
        max_ready_files: int = 64,
        fsync: bool = False,
        grace: float = 10.0,
        start_method: str | None = None,
        metrics_port: int | None = None,
        metrics_host: str | None = None,
        traces: bool | None = None,
    ) -> None:
        _check_number("processes", processes, 1, MOST_PROCESSES, optional=True)
        _check_number("attempts", attempts, 1)
        _check_number("batch_events", batch_events, 1)
        _check_seconds("retry_pause", retry_pause)
        _check_seconds("grace", grace)
        if start_method not in {None, *multiprocessing.get_all_start_methods()}:
            raise SettingsError(
                f"start_method is {start_method!r}; there are "
                f"{', '.join(multiprocessing.get_all_start_methods())}"
            )
        load_work(work)
        self._processes = processes or len(_cores())
        self._status_address = metrics_address(metrics_port, metrics_host)
        self._grace_s = grace
        self._start_method = start_method
        self._signals: StopSignals | None = None
        self._plan = Plan(
            source=source,
            work=work,
            sink=sink,
            folder=Path(folder).absolute(),
            batched=batched,
            records=records,
            attempts=attempts,
            retry_pause=retry_pause,
            batch_events=batch_events,
            max_batch_age=max_batch_age,
            max_ready_files=max_ready_files,
            fsync=fsync,
            traces=tracing.is_wanted(traces),
        )
        _ = self._plan.retries  # Checks the settings of the queues.

    @classmethod
    def from_toml(cls, path: str | PathLike[str], **changes: Any) -> Self:
        """The pipeline that a TOML file describes, as `turbo-queue run` runs it.

        Args:
            path: The file, with the tables [pipeline], [source] and [sink].
            changes: Arguments that stand above those of the file.

        Raises:
            SettingsError: the file makes no sense; the text says where, and what may stand there.
        """
        return cls(**load(path, cls) | changes)

    @property
    def folder(self) -> Path:
        """Where events wait: the queues `in`, `retry`, `out` and `dead`."""
        return self._plan.folder

    def run(self, *, progress: bool = True) -> Outcome:
        """Run until the source has come to its end, a signal comes, or `stop` is called.

        Ctrl-C and SIGTERM end it in order: nothing more is read, what was read is finished within
        the grace time, and what is not waits for the next run. A second one ends it at once.
        systemd is told when it is ready, how it gets on, that it lives, and that it stops.

        Args:
            progress: Show how it gets on: on a terminal by a line on stderr that changes,
                elsewhere by log lines of the logger `turbo_queue.pipeline`.

        Returns:
            What was done; its `exit_code` is for `sys.exit`.

        Raises:
            PipelineFailed: it cannot start; the text says why.
            SinkGone: nobody reads stdout any more, to which the sink writes; what was not written
                waits in the folder.
            FolderRefused: the folder is not safe to use.
            FolderFailed: the folder cannot be used.
        """
        outcome = self._show(self._plan, progress=progress)
        if outcome.has_ended:
            PositionFile(self._plan.position_file, fsync=self._plan.fsync).forget()
        return outcome

    def retry_dead(self, *, progress: bool = True) -> Outcome:
        """Try all dead letters again, as if they had never failed; read nothing from the source.

        Those that the sink has refused are written again, without any work. What waits in the
        folder is done, too.

        Args:
            progress: As for `run`.

        Returns:
            As for `run`; it has ended when all are done with.

        Raises:
            PipelineFailed: it cannot start; the text says why.
            SinkGone: nobody reads stdout any more, to which the sink writes; what was not written
                waits in the folder.
            FolderRefused: the folder is not safe to use.
            FolderFailed: the folder cannot be used.
        """
        plan = replace(self._plan, source=Nothing(self._plan.source))
        return self._show(plan, progress=progress, before=self._revive)

    def stop(self) -> None:
        """End it as a signal does. For any thread; does nothing unless it runs."""
        if (signals := self._signals) is not None:
            signals.request()

    def after_fork(self) -> None:
        """Nothing but the lock is held here, and that is the parent's alone (see `forks`)."""

    def _show(
        self, plan: Plan, *, progress: bool, before: Callable[[], object] = lambda: None
    ) -> Outcome:
        if not progress:
            return self._run(plan, before, lambda _: None)
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        with Display(is_terminal=is_terminal, name=self.folder.name) as display:
            return self._run(plan, before, display.show)

    def _run(
        self, plan: Plan, before: Callable[[], object], show: Callable[[Counts], object]
    ) -> Outcome:
        systemd = Notifier.from_environment()

        def on_look(counts: Counts) -> None:
            show(counts)
            systemd.tell(status_line(counts))

        make_private(self.folder)
        held = self._lock()
        try:
            before()
            with StopSignals() as self._signals:
                supervisor = Supervisor(
                    plan,
                    processes=self._processes,
                    start_method=self._start_method,
                    grace_s=self._grace_s,
                    signals=self._signals,
                    on_look=on_look,
                    on_ending=systemd.stopping,
                )
                with self._watched(plan, supervisor):
                    supervisor.start()
                    if not self._signals.is_wanted:
                        systemd.ready()
                    return supervisor.run()
        finally:
            self._signals = None
            release(held)

    def _watched(self, plan: Plan, supervisor: Supervisor) -> AbstractContextManager[None]:
        if self._status_address is None:
            return nullcontext()
        from turbo_queue.pipeline.status import serving  # noqa: PLC0415 - HTTP takes 30 ms to load

        return serving(self._status_address, plan, supervisor.condition)

    def _revive(self) -> None:
        """Put the dead letters back: results among the results, the others to be tried again."""
        plan = self._plan
        codec = plan.outgoing.settings.codec
        with (
            plan.dead.consumer(stop_when_empty=True) as dead,
            plan.retries.producer(is_bounded=False) as retries,
            plan.outgoing.producer(is_bounded=False) as results,
        ):
            for batch in dead.batches():
                with batch:
                    for letter in batch:
                        record = unmarked(letter)
                        if is_result(letter):
                            results.put_many(events_for(codec, [record]))
                        else:
                            retries.put(record)
                    retries.flush()
                    results.flush()

    def _lock(self) -> int:
        watch(self)
        path = self.folder / PIPELINE_LOCK
        with reporting("locking the folder", path):
            descriptor = open_to_lock(path, os.O_RDWR | os.O_CREAT)
        if lock(descriptor):
            with suppress(OSError):  # For those who look on; no reason not to run.
                os.pwrite(descriptor, b"%-10d\n" % os.getpid(), 0)
            return descriptor
        release(descriptor)
        raise PipelineFailed(
            f"another pipeline runs in {str(self.folder)!r}; stop it, or choose another folder"
        )


def _cores() -> set[int]:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _check_number(
    name: str, value: object, least: int, most: int | None = None, *, optional: bool = False
) -> None:
    if optional and value is None:
        return
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= (most or value):
        return
    limit = "on" if most is None else f"to {most:,}"
    raise SettingsError(f"{name} is {value!r}; it must be a whole number from {least} {limit}")


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < inf:
        raise SettingsError(f"{name} is {value!r}; it must be a number of seconds")
