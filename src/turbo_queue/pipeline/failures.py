"""What a record that has failed carries with it: why, and how often. In headers, as is usual."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from turbo_queue.records import Header, Record

logger = logging.getLogger(__name__)

_PREFIX = "turbo-queue-"
ERROR, ATTEMPTS, FAILED_AT = f"{_PREFIX}error", f"{_PREFIX}attempts", f"{_PREFIX}failed-at"
_IS_RESULT = f"{_PREFIX}is-result"

#: How much is kept of a value that no queue can carry, in characters.
_MOST_TEXT = 200

#: How much of an error's text is kept, in characters.
_MOST_ERROR = 1_000


def described(error: BaseException) -> str:
    """An exception as `Type: text`, also when its own text cannot be made."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the user's __str__ may raise anything
        text = "(its text cannot be made)"
    return f"{type(error).__name__}: {text}"[:_MOST_ERROR]


def failed(record: Record, error: str, attempts: int) -> Record:
    """The same record with how often it has failed, and why the last time.

    Example:
        >>> failed(Record(0), "KeyError: 'id'", 1).headers[:2]
        (('turbo-queue-error', b"KeyError: 'id'"), ('turbo-queue-attempts', b'1'))
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    mine: tuple[Header, ...] = (
        (ERROR, error.encode(errors="replace")),
        (ATTEMPTS, str(attempts).encode()),
        (FAILED_AT, now.encode()),
    )
    return record.replace(headers=(*unmarked(record).headers, *mine))


def refused(result: Record, reason: str) -> Record:
    """A result that the sink will not take; if it is tried again, there is no work to do on it.

    Example:
        >>> is_result(refused(Record(0), "it is too large")), is_result(failed(Record(0), "no", 1))
        (True, False)
    """
    dead = failed(result, reason, 1)
    return dead.replace(headers=(*dead.headers, (_IS_RESULT, b"1")))


def is_result(record: Record) -> bool:
    """Whether the sink has refused it, and not the work."""
    return _header(record, _IS_RESULT) != ""


def as_text(record: Record) -> Record:
    """What can be kept of a record that no queue can carry: how Python shows its value, cut.

    Example:
        >>> as_text(Record({1j}, origin="here"))
        Record(value='{1j}', key=None, headers=(), timestamp_ms=None, origin='here')
    """
    return Record(repr(record.value)[:_MOST_TEXT], origin=record.origin)


def attempts_of(record: Record) -> int:
    """How often it has failed.

    Example:
        >>> attempts_of(failed(Record(0), "no", 2))
        2
    """
    text = _header(record, ATTEMPTS)
    return int(text) if text.isdecimal() else 0


def error_of(record: Record) -> str:
    """Why it failed the last time.

    Example:
        >>> error_of(failed(Record(0), "no", 2))
        'no'
    """
    return _header(record, ERROR)


def log_dead(dead: list[Record]) -> None:
    """Log that these are among the dead letters now."""
    logger.error(
        "%s among the dead letters now; the first one, %s: %s",
        "1 event is" if len(dead) == 1 else f"{len(dead):,} events are",
        dead[0].origin or "of unknown origin",
        error_of(dead[0]),
        extra={"event": "event.dead", "origin": dead[0].origin, "events": len(dead)},
    )


def _header(record: Record, wanted: str) -> str:
    for name, value in record.headers:
        if name == wanted and isinstance(value, bytes):
            return value.decode(errors="replace")
    return ""


def unmarked(record: Record) -> Record:
    """The record as it was before it failed.

    Example:
        >>> unmarked(failed(Record(0), "no", 2)) == Record(0)
        True
    """
    theirs = tuple(header for header in record.headers if not header[0].startswith(_PREFIX))
    return record if len(theirs) == len(record.headers) else record.replace(headers=theirs)
