"""What `fill` asks of a source that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from turbo_queue import BadEvent, Queue
from turbo_queue.connectors import Intake, IterableSource, Reader, Record, Source, fill


class NoCommit(Source):
    """Gives the events 0 to 99; its first commit fails."""

    def __init__(self) -> None:
        self.asked_for: list[int] = []
        self.commits = 0

    def open(self, intake: Intake) -> Reader:
        return _NoCommitReader(self)


class _NoCommitReader(Reader):
    def __init__(self, source: NoCommit) -> None:
        self._source = source
        self._next = 0

    def read(self, most: int, timeout_s: float) -> list[Record] | None:
        self._source.asked_for.append(most)
        first, self._next = self._next, min(self._next + most, 100)
        return [Record(number) for number in range(first, self._next)] or None

    def commit(self) -> None:
        self._source.commits += 1
        if self._source.commits == 1:
            raise ConnectionError("no link")


def test_an_event_that_the_queue_cannot_carry_is_told(tmp_path: Path) -> None:
    queue = Queue(tmp_path)

    with pytest.raises(BadEvent, match="cannot carry this event of type object"):
        fill(queue, IterableSource([1, object(), 2]))

    assert list(queue.peek()) == [1]


def test_a_source_that_is_opened_again_is_asked_for_whole_batches(tmp_path: Path) -> None:
    queue = Queue(tmp_path, max_events_per_file=10)
    source = NoCommit()

    fill(queue, source)

    assert set(source.asked_for) == {10}
    assert set(queue.peek()) == set(range(100))
