"""Everything that turbo_queue raises.

TurboQueueError
├── SettingsError (ValueError)       a setting makes no sense
├── BadEvent (ValueError)            an event that the queue's codec cannot carry
│   └── EventTooLarge                … because it is larger than the limit
├── QueueFull (queue.Full)           as many batches are ready as may be
├── QueueEmpty (queue.Empty)         no event came within the time
├── QueueClosed (RuntimeError)       the queue, or this end of it, was closed
├── BatchSettled (RuntimeError)      a batch was acknowledged or given back before
├── BatchDamaged (ValueError)        a file does not hold what a batch file must hold
├── BatchNotFound (LookupError)      there is no such batch
├── WorkerFailed (RuntimeError)      worker processes cannot be started
├── PipelineFailed (RuntimeError)    a pipeline cannot start
├── SourceFailed (ConnectionError)   a pipeline's source cannot be read
├── SinkFailed (ConnectionError)     a pipeline's sink cannot be written
│   └── SinkGone                     … and never will be by this process
├── SinkRefused (ValueError)         a sink will never take some of the events
└── FolderFailed (OSError)           the system refused something in the queue's folder
    └── FolderRefused                … or the folder is not safe to use as one
"""

from __future__ import annotations

import errno
import queue
from pathlib import Path
from types import TracebackType
from typing import Any


def _restore(
    kind: type[TurboQueueError], args: tuple[Any, ...], facts: dict[str, Any]
) -> TurboQueueError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class TurboQueueError(Exception):
    """The root of every error that turbo_queue raises on purpose."""

    #: How many events a `put_many` had put before it failed.
    events_put: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle by facts, because the signatures differ from `args`."""
        return _restore, (type(self), self.args, self.__dict__)


class SettingsError(TurboQueueError, ValueError):
    """A setting makes no sense; the text says which, and what is allowed."""


class BadEvent(TurboQueueError, ValueError):
    """An event cannot be carried by the queue's codec; nothing of it was put."""


class EventTooLarge(BadEvent):
    """An event is larger than the limit; it was not put."""

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes
        super().__init__(
            f"an event of {size_bytes:,} bytes is over the limit of {max_bytes:,} bytes. Put a "
            f"reference to the data instead, or raise max_event_bytes."
        )


class QueueFull(TurboQueueError, queue.Full):
    """As many batches are ready as may be, and no consumer took one in time."""

    def __init__(self, path: str, max_ready_files: int) -> None:
        self.path = path
        self.max_ready_files = max_ready_files
        super().__init__(
            f"the queue in {path!r} has {max_ready_files} or more ready batches; the event was "
            f"not put. Wait longer, start more consumers, or raise max_ready_files."
        )


class QueueEmpty(TurboQueueError, queue.Empty):
    """No event became ready within the time."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"no event is ready in {path!r}")


class QueueClosed(TurboQueueError, RuntimeError):
    """The queue was closed, or this producer or consumer was."""


class BatchSettled(TurboQueueError, RuntimeError):
    """A batch was acknowledged or given back before, or belongs to another process."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"the batch {name} is no longer held: it was acknowledged or given back before, its "
            f"consumer was closed, or it was taken in another process. Take the next one."
        )


class BatchDamaged(TurboQueueError, ValueError):
    """A file does not hold what a batch file must hold; `reason` says what is wrong."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class BatchNotFound(TurboQueueError, LookupError):
    """There is no batch of this name, or it is in another state."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is no batch {name!r}; 'turbo-queue dead list' shows the dead ones")


class WorkerFailed(TurboQueueError, RuntimeError):
    """Worker processes cannot be started, or end before they are ready."""


class PipelineFailed(TurboQueueError, RuntimeError):
    """A pipeline cannot start; the text says which part of it, and why."""


class SourceFailed(TurboQueueError, ConnectionError):
    """A source cannot be read now; nothing that was read before is lost."""


class SinkFailed(TurboQueueError, ConnectionError):
    """A sink cannot be written now; what it has not confirmed is written again."""


class SinkGone(SinkFailed):
    """Whoever read the sink has gone for good, as `head` does; what it did not take is kept."""


class SinkRefused(TurboQueueError, ValueError):
    """A sink will never take some of the events; their batches are back in the queue."""

    def __init__(self, events: int, reason: str) -> None:
        self.events = events
        self.reason = reason
        super().__init__(
            f"the sink refuses {events:,} of the events, the first one because: {reason}. Their "
            f"batches are back in the queue; take these events out, or change the sink's limits."
        )


class FolderFailed(TurboQueueError, OSError):
    """The system refused an operation in the queue's folder: a full disk, no descriptors.

    `errno` and `filename` are those of the system's error.
    """

    def __init__(self, doing: str, path: str, error: OSError, comfort: str = "") -> None:
        self.path = path
        text = f"{doing} failed: {error.strerror or error}"
        super().__init__(error.errno, f"{text}. {comfort}" if comfort else text, path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle with the fields that OSError keeps outside `__dict__`."""
        return _restore_os, (type(self), self.errno, self.strerror, self.filename, self.__dict__)


class FolderRefused(FolderFailed):
    """A folder is not safe to use as a queue; the text says why and what to do."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        OSError.__init__(self, None, f"the folder cannot hold a queue: {reason}", path)

    def __str__(self) -> str:
        """The reason and the folder, without an error number."""
        return f"{self.strerror}: {self.filename!r}"


class NameTaken(FolderFailed):
    """A foreign file has the name that a batch should get; neither is touched."""

    def __init__(self, path: str) -> None:
        self.path = path
        OSError.__init__(self, errno.EEXIST, "another file has the name of this batch", path)


def _restore_os(
    kind: type[FolderFailed], number: int | None, text: str, path: str, facts: dict[str, Any]
) -> FolderFailed:
    error = kind.__new__(kind, number, text, path)
    OSError.__init__(error, number, text, path)
    error.__dict__.update(facts)
    return error


class reporting:  # noqa: N801 - read as `with reporting(...)`, like contextlib's own
    """Turns what the system refuses in its block into a `FolderFailed`.

    A class, because a generator would cost more than the system calls in some of the blocks.

    Args:
        doing: What was tried, as in "listing the folder".
        path: On what.
        comfort: What is not lost by it.
    """

    __slots__ = ("_comfort", "_doing", "_path")

    def __init__(self, doing: str, path: Path | str, comfort: str = "") -> None:
        self._doing = doing
        self._path = path
        self._comfort = comfort

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, FolderFailed):
            raise FolderFailed(self._doing, str(self._path), error, self._comfort) from error
