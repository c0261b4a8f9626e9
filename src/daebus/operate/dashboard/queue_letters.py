"""The dead batches of a queue, in the shape of a service's dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from daebus.errors import DaebusError
from daebus.operate.letters import Letter, Message
from turbo_queue import BatchNotFound, DeadBatch, Queue, TurboQueueError


@dataclass(frozen=True)
class QueueLetters:
    """All dead batches of a queue; the id of each is the name of its file.

    Args:
        path: the queue's folder.
    """

    path: Path

    def __iter__(self) -> Iterator[Letter]:
        """Oldest first.

        Raises:
            DaebusError: the disk refuses.
        """
        with _telling():
            for batch in Queue(self.path).dead:
                if letter := self._letter(batch):
                    yield letter

    def find(self, name: str) -> Letter | None:
        """The one of this name; None if there is none.

        Raises:
            DaebusError: the disk refuses.
        """
        return next((letter for letter in self if letter.letter_id == name), None)

    def retry(self, name: str) -> bool:
        """Make it ready again; False if there is none of this name.

        Raises:
            DaebusError: the disk refuses.
        """
        return _found(lambda: Queue(self.path).dead.retry(name))

    def drop(self, name: str) -> bool:
        """Remove it for good; False if there is none of this name.

        Raises:
            DaebusError: the disk refuses.
        """
        return _found(lambda: Queue(self.path).dead.drop(name))

    def retry_all(self) -> int:
        """Make all ready again; gives how many there were.

        Raises:
            DaebusError: the disk refuses.
        """
        return sum(self.retry(name) for name in self._names())

    def drop_all(self) -> int:
        """Remove all for good; gives how many there were.

        Raises:
            DaebusError: the disk refuses.
        """
        return sum(self.drop(name) for name in self._names())

    def _names(self) -> list[str]:
        with _telling():
            return [batch.name for batch in Queue(self.path).dead]

    def _letter(self, batch: DeadBatch) -> Letter | None:
        """None when it is gone by now."""
        try:
            at = (self.path / batch.name).stat().st_mtime
            events = Queue(self.path, codec=batch.codec).dead.events(batch.name)
        except (BatchNotFound, FileNotFoundError):
            return None
        except TurboQueueError as error:  # Its codec is one that is not read without being asked.
            events = [f"the events cannot be shown: {error}"]
        messages = [Message(_data(event), None, "") for event in events]
        return Letter(batch.name, "queue", batch.reason, batch.failures, at, messages)


def _data(event: Any) -> bytes:
    if isinstance(event, bytes):
        return event
    try:
        return msgspec.json.encode(event)
    except (TypeError, ValueError):
        return repr(event).encode(errors="backslashreplace")


def _found(use: Callable[[], None]) -> bool:
    try:
        with _telling():
            use()
    except BatchNotFound:
        return False
    return True


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except BatchNotFound:
        raise
    except (TurboQueueError, OSError) as error:
        raise DaebusError(f"the queue's dead batches cannot be used: {error}") from None
