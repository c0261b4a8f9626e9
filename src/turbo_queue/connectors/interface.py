"""What a source and a sink must do, so that a pipeline can use them; add your own.

A `Source` and a `Sink` say what to connect to; they are sent to the process that uses them (by
pickle where processes are spawned), so they hold nothing open. `open()` is called there and gives
the `Reader` or the `Writer` that does the work. Each of these is used by one thread only.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from turbo_queue.queue import Queue
from turbo_queue.records import Record


class Intake(Protocol):
    """What a reader is given by whoever reads."""

    #: Set when the reader shall come to an end; `read` should return soon after.
    stopping: threading.Event

    def flush(self) -> None:
        """Make all that `read` has returned so far safe on disk, before this returns.

        Raises:
            TurboQueueError: it cannot be written now.
        """

    def load(self) -> Any:
        """The position that was saved last; None if there is none."""

    def save(self, position: Any) -> None:
        """Keep a position, any JSON value, for the next `open`; for sources that keep none."""


class Reader(ABC):
    """Reads events from an open source."""

    @abstractmethod
    def read(self, most: int, timeout_s: float) -> list[Record] | None:
        """The next events, in order.

        What it raises is logged; the reader is closed, and the source opened again after a pause.

        Args:
            most: So many at most.
            timeout_s: How long to wait for the first of them.

        Returns:
            The events; none if none came in time; None once the source has come to its end.
        """

    def commit(self) -> None:  # noqa: B027 - most sources that are files have nothing to do
        """All that `read` has returned is safe on disk: it need not be read again."""

    def rest(self, timeout_s: float) -> None:
        """Called instead of `read` while the queue is full: stay alive, and read nothing."""
        time.sleep(timeout_s)

    def close(self) -> None:  # noqa: B027
        """Free what it holds. May be called again."""


class Source(ABC):
    """Where events come from."""

    #: The queue that the events wait in already, if they do; then nothing is read from elsewhere.
    queue: Queue | None = None

    @abstractmethod
    def open(self, intake: Intake) -> Reader:
        """Begin to read, where the last reader's last commit was.

        Raises:
            Exception: it cannot be read; the text says why and what to do.
        """

    def decode(self, value: Any) -> Any:
        """From a record's value to what the work is given. Called in the worker processes.

        Raises:
            Exception: the value is not what it should be; the event fails.
        """
        return value


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that a sink will never take.

    Args:
        record: Which.
        reason: Why.
    """

    record: Record
    reason: str


class Writer(ABC):
    """Writes events to an open sink."""

    @abstractmethod
    def write(self, records: list[Record]) -> None:
        """Write these, in order. They need not be safe before `flush` has returned.

        What `write` and `flush` raise is logged; the writer is closed, the sink opened again after
        a pause, and all that was written since the last `flush` is written once more. A `SinkGone`
        says that this would never work: it ends whoever writes.
        """

    def flush(self) -> list[Refused]:
        """Return once all that was written is safe at its destination.

        Returns:
            The records that will never be; they go to the dead letters.
        """
        return []

    def close(self) -> None:  # noqa: B027
        """Free what it holds; what was not flushed may be dropped. May be called again."""


class Sink(ABC):
    """Where events go."""

    #: The queue that the events are put into, if it is one; then they are written nowhere else.
    queue: Queue | None = None

    @abstractmethod
    def open(self, stopping: threading.Event) -> Writer:
        """Begin to write.

        Args:
            stopping: Set when the writer shall come to an end; a `flush` that waits for a
                destination that does not answer raises soon after.

        Raises:
            Exception: it cannot be written; the text says why and what to do.
        """

    def encode(self, value: Any) -> Any:
        """From a result of the work to a record's value. Called in the worker processes.

        Raises:
            Exception: the sink cannot carry it; the event that it came from fails.
        """
        return value
