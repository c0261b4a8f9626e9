"""Logging: loggers whose records cannot be forged by what a message says, and a count of incidents.

Text from outside (an action's name, an exception's text, a payload that a handler logs) may hold
line breaks and terminal codes. Every logger made here escapes them, so one record is one entry.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from time import monotonic

#: Longest message of one record, in characters; the rest is cut, so that no payload fills a disk.
MAX_RECORD_LENGTH = 10_000

#: Incidents of one kind within this many seconds are one burst: logged when it begins and ends.
BURST_S = 10.0

#: Above all loggers that a service writes to: its spilled messages and its processes are a queue's.
PACKAGES = ("daebus", "turbo_queue")

#: Also halves of surrogate pairs, as names of files have them: they can be neither sent nor shown.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Escape control characters (line breaks and terminal codes too; a tab stays), and cut.

    Example:
        >>> printable("one" + chr(10) + "two")
        'one\\ntwo'
    """
    if len(text) > MAX_RECORD_LENGTH:
        text = f"{text[:MAX_RECORD_LENGTH]}… ({len(text):,} characters)"
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def describe(error: BaseException) -> str:
    """An exception as `Type: text`, also when its own text cannot be made."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - the user's __str__ may raise anything
        text = "(its text cannot be printed)"
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _traceback(error: BaseException) -> str:
    """A traceback whose every line is indented by a bar, so that none can pass for a record."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001 - the user's __repr__ may raise anything
        text = describe(error)
    return "\n".join(f"  | {printable(line)}" for line in text.rstrip("\n").split("\n"))


class _SafeRecord(logging.Filter):
    """Make a record safe for any formatter: it may only use what stands in the record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = printable(record.getMessage())
        record.args = None
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            # A formatter takes exc_text as it finds it (logging.Formatter.format).
            record.exc_text = _traceback(record.exc_info[1])
        return True


_safe_record = _SafeRecord()


def get_logger(name: str) -> logging.Logger:
    """The logger of this name, made safe."""
    log = logging.getLogger(name)
    log.addFilter(_safe_record)  # A filter that is there already is not added again.
    return log


def show_logs(level: int) -> None:
    """Show records on stderr, unless the program has configured logging itself.

    Called by `app.run()` and the command line, never by an import.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s"))
    handler.addFilter(_safe_record)
    for package in PACKAGES:
        log = logging.getLogger(package)
        if log.level == logging.NOTSET:
            log.setLevel(level)
        if not log.hasHandlers():
            log.addHandler(handler)


def shown_level() -> int | None:
    """The level from which on this process shows records; None if it shows none."""
    log = logging.getLogger("daebus")
    return log.getEffectiveLevel() if log.hasHandlers() else None


class Incidents:
    """Counts what goes wrong by kind, and logs each kind once a burst instead of once a message.

    Safe from any thread. A burst that is over is ended by `flush`, which whoever owns it may call
    now and then, or by the next incident of its kind; then it is told how many more there were.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._bursts: dict[str, tuple[float, int]] = {}

    def report(self, kind: str, text: str | Callable[[], str], count: int = 1) -> None:
        """Count an incident, and log it if its burst has just begun.

        Args:
            kind: its name in counters and in the record's `event`, such as `bad_message`.
            text: what happened, or a function that makes the text when it is needed.
            count: how many messages it concerns.
        """
        now = monotonic()
        with self._lock:
            self._counts[kind] += count
            since, silent = self._bursts.get(kind, (float("-inf"), 0))
            begins = now - since >= BURST_S
            self._bursts[kind] = (now, 0) if begins else (since, silent + count)
        if begins:
            self._tell_of_more(kind, silent)
            self._log.warning(
                "%s", text if isinstance(text, str) else text(), extra={"event": kind}
            )

    def flush(self, *, everything: bool = False) -> None:
        """End the bursts that are old enough, and say how many incidents each held back."""
        now = monotonic()
        with self._lock:
            over = {
                kind: silent
                for kind, (since, silent) in self._bursts.items()
                if everything or now - since >= BURST_S
            }
            for kind in over:
                del self._bursts[kind]
        for kind, silent in over.items():
            self._tell_of_more(kind, silent)

    def counts(self) -> dict[str, int]:
        """How many incidents there were, by kind."""
        with self._lock:
            return dict(self._counts)

    def _tell_of_more(self, kind: str, silent: int) -> None:
        if silent:
            self._log.warning("%s: %d more since then", kind, silent, extra={"event": kind})
