"""The plan of a pipeline: what each of its processes needs to know. Holds nothing open."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from turbo_queue.connectors.interface import Sink, Source
from turbo_queue.errors import SettingsError
from turbo_queue.pipeline.naming import found
from turbo_queue.pipeline.nothing import Nothing
from turbo_queue.queue import Queue

#: What a pipeline does with its events: a function, a class of callables, or `module:name`.
Work = Callable[[Any], Any] | type[Callable[[Any], Any]] | str

#: A batch whose worker died is taken up again more often than an event may be tried: the events
#: of it that kill nobody must not share the fate of the one that does.
_UNLIMITED_FAILURES = 1_000_000


@dataclass(frozen=True)
class Plan:
    """What a pipeline does. Is sent to its processes.

    Args:
        source: Where events come from.
        work: What is done with each.
        sink: Where the results go.
        folder: Where events wait between the processes.
        batched: Whether the work takes a list of events.
        records: Whether the work takes and may give `Record`s.
        attempts: How often an event is tried before it goes to the dead letters.
        retry_pause: Seconds until a failed event is tried again.
        batch_events: How many events are one batch.
        max_batch_age: Seconds after which events go on, however few they are.
        max_ready_files: So many batches may wait before each step; then the step before it waits.
        fsync: Whether batches survive a loss of power.
        traces: Whether the work has spans.
    """

    source: Source
    work: Work
    sink: Sink
    folder: Path
    batched: bool
    records: bool
    attempts: int
    retry_pause: float
    batch_events: int
    max_batch_age: float
    max_ready_files: int
    fsync: bool
    traces: bool

    @cached_property
    def incoming(self) -> Queue:
        """What waits for the work."""
        if self.source.queue is not None:
            queue = self.source.queue
            return queue.with_settings(max_failures=_UNLIMITED_FAILURES)
        return self._queue("in")

    @cached_property
    def retries(self) -> Queue:
        """What has failed and will be tried again."""
        return self._queue("retry", self._codec_of_failed)

    @cached_property
    def outgoing(self) -> Queue:
        """The results."""
        return self.sink.queue or self._queue("out")

    @cached_property
    def dead(self) -> Queue:
        """What has failed too often."""
        return self._queue("dead", self._codec_of_failed)

    @property
    def position_file(self) -> Path:
        """Where the position of a source is kept that does not keep it itself."""
        return self.folder / "position.json"

    def load_work(self) -> Callable[[Any], Any]:
        """The function that does the work in this process.

        Raises:
            SettingsError: there is no such function, or it is a class whose objects are none.
        """
        work = load_work(self.work)
        if not isinstance(work, type):
            return work
        made: object = work()
        if not callable(made):
            raise SettingsError(
                f"the work is the class {work.__name__}, whose objects cannot be called; name a "
                f"function, or give the class a method __call__"
            )
        return made

    @property
    def _codec_of_failed(self) -> str:
        """Objects that came as pickles must come back as what they were."""
        source = self.source.instead_of if isinstance(self.source, Nothing) else self.source
        queue = source.queue
        return "pickle" if queue is not None and queue.settings.codec == "pickle" else "record"

    def _queue(self, name: str, codec: str = "record") -> Queue:
        return Queue(
            self.folder / name,
            codec=codec,
            max_events_per_file=self.batch_events,
            max_batch_age=self.max_batch_age,
            max_ready_files=self.max_ready_files,
            fsync=self.fsync,
            checkpoint=100,
            max_failures=_UNLIMITED_FAILURES,
        )


def load_work(work: Work) -> Callable[[Any], Any]:
    """The function or class that `work` is, or names as `module:name`.

    Raises:
        SettingsError: there is none, or it is async.

    Example:
        >>> load_work("json:dumps")([1])
        '[1]'
    """
    thing = found(work, Path.cwd()) if isinstance(work, str) else work
    if not callable(thing):
        raise SettingsError(f"the work is {work!r}; it must be a function or 'module:name'")
    if _is_async(thing):
        raise SettingsError(
            f"the work is {work!r}, which is async, and nobody would await it; write a function "
            f"without async, which may use asyncio.run"
        )
    return thing


def _is_async(work: Any) -> bool:
    # The `__call__` of a class or an object is what is called for each event.
    return any(
        inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)
        for called in (work, work.__call__)
    )
