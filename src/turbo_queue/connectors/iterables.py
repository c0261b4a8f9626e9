"""Any iterable as a source: a list, a generator, a function that gives one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import monotonic
from typing import Any

from turbo_queue.connectors.interface import Intake, Reader, Source
from turbo_queue.errors import SettingsError
from turbo_queue.records import Record

logger = logging.getLogger(__name__)

#: For how long events gather, if the iterable takes its time for each of them.
_GATHER_S = 0.05


class IterableSource(Source):
    """The events that an iterable gives; it ends with them.

    Where it is read again after a stop or a failure, as many events are left out as were committed
    before: it must give the same ones in the same order. A generator cannot do that; name the
    function that makes it, without calling it. One that waits for its next event holds back those
    that it gave in the 50 ms before, because it is read in one thread.

    Args:
        events: An iterable of JSON values, bytes or `Record`s, or a function without arguments that
            gives one. The function is called in the process that reads; where processes are
            spawned, it must be one that can be pickled.

    Raises:
        SettingsError: it is none of these.

    Example:
        >>> from turbo_queue.connectors import IterableSource, fill
        >>> fill(Queue(another_folder), IterableSource(range(1_000)))
        1000
    """

    def __init__(self, events: Iterable[Any] | Callable[[], Iterable[Any]]) -> None:
        if isinstance(events, str | bytes) or not (
            isinstance(events, Iterable) or callable(events)
        ):
            raise SettingsError(
                f"events is {type(events).__name__}; it must be an iterable of events, or a "
                f"function that gives one"
            )
        self._events = events
        self._is_begun = False

    def open(self, intake: Intake) -> Reader:
        """See `Source`.

        Raises:
            SettingsError: a generator was begun before; its events are gone.
        """
        if not isinstance(self._events, Iterable):
            return _IterableReader(iter(self._events()), intake)
        events = iter(self._events)
        if events is self._events:
            if self._is_begun:
                raise SettingsError(
                    "an iterator can be read only once, and was begun before; name the function "
                    "that makes it, without calling it"
                )
            self._is_begun = True
        return _IterableReader(events, intake)


class _IterableReader(Reader):
    """Counts what it gives."""

    def __init__(self, events: Iterator[Any], intake: Intake) -> None:
        self._events = events
        self._intake = intake
        self._saved = self._given = _number(intake.load())
        self._failure: Exception | None = None
        self._is_ended = False
        skipped = sum(1 for _ in islice(events, self._given))
        if skipped < self._given:
            logger.warning(
                "the iterable has %d events by now, and %d were read before",
                skipped,
                self._given,
                extra={"event": "iterable.shorter"},
            )

    def read(self, most: int, timeout_s: float) -> list[Record] | None:
        """See `Reader`. An iterable that waits for its next event is waited for."""
        if self._failure is not None:
            # What was read before is fine: it need not be read again by whoever tries again.
            self._intake.flush()
            self.commit()
            raise self._failure
        if self._is_ended:
            return None
        records = self._take(most, monotonic() + min(timeout_s, _GATHER_S))
        self._given += len(records)
        return records if records or not self._is_ended else None

    def commit(self) -> None:
        """See `Reader`."""
        if self._given != self._saved:
            self._intake.save(self._given)
            self._saved = self._given

    def close(self) -> None:
        """See `Reader`. A generator ends, so that its `finally` is run."""
        if (close := getattr(self._events, "close", None)) is not None:
            close()

    def _take(self, most: int, until: float) -> list[Record]:
        records: list[Record] = []
        try:
            for number, event in enumerate(islice(self._events, most), self._given + 1):
                is_record = isinstance(event, Record)
                records.append(event if is_record else Record(event, origin=f"event {number}"))
                if monotonic() >= until:
                    return records
        except Exception as error:  # noqa: BLE001 - raised by the next call, after these events
            self._failure = error
        self._is_ended = self._failure is None and len(records) < most
        return records


def _number(position: Any) -> int:
    if isinstance(position, int):
        return position
    if position is not None:
        logger.warning(
            "beginning at the first event: the place that was kept is no number of events",
            extra={"event": "iterable.started_over"},
        )
    return 0
