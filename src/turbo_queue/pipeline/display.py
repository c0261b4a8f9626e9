"""Shows how a running pipeline gets on: a live line on a terminal, log lines elsewhere.

It has no thread, and keeps the cursor at the beginning of its line, so that processes may be forked
meanwhile, and whatever else is written to stderr stands over the line.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from turbo_queue.pipeline.counts import Counts

log = logging.getLogger("turbo_queue.pipeline")

#: Time between two log lines.
LOG_INTERVAL_S = 10.0

#: The rates on a terminal are means of this time: events come in batches, so that a second alone
#: says little.
LIVE_RATE_S = 5.0

_ERASE_LINE = Control((ControlType.CARRIAGE_RETURN,), (ControlType.ERASE_IN_LINE, 2))


class Look(NamedTuple):
    """What was counted, and when."""

    at_s: float
    counts: Counts


class Display:
    """Shows the counts that it is given, and their totals at the end, unless that is an error.

    Args:
        is_terminal: Show a live line on stderr; else log lines, by the logger
            `turbo_queue.pipeline`.
        name: The pipeline's name.
        console: Where the live line goes, if not to stderr.
        clock: The time in seconds, for tests.

    Example:
        >>> from turbo_queue.pipeline.counts import Counts
        >>> with Display(is_terminal=False, name="orders") as display:
        ...     display.show(Counts(read=3, written=2, waiting=1))
    """

    def __init__(
        self,
        *,
        is_terminal: bool,
        name: str,
        console: Console | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._is_terminal = is_terminal
        self._name = name
        self._console = console or Console(stderr=True, highlight=False)
        self._clock = clock
        self._logged_s = 0.0
        self._rate_s = LIVE_RATE_S if is_terminal else LOG_INTERVAL_S
        self._looks: deque[Look] = deque()

    def show(self, counts: Counts) -> None:
        """Show these, if it is time to. To be called about once a second, and at the end."""
        now = Look(self._clock(), counts)
        self._looks.append(now)
        while len(self._looks) > 2 and now.at_s - self._looks[1].at_s >= self._rate_s:  # noqa: PLR2004
            self._looks.popleft()
        if self._is_terminal:
            self._write(live_line(self._name, now, self._looks[0]))
        elif now.at_s - self._logged_s >= LOG_INTERVAL_S:
            self._logged_s = now.at_s
            line = live_line(self._name, now, self._looks[0]).plain
            log.info("%s", line, extra={"event": "pipeline.progress"})

    def __enter__(self) -> Self:
        self._began = Look(self._clock(), Counts())
        self._logged_s = self._began.at_s
        self._looks.append(self._began)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_terminal:
            self._console.control(_ERASE_LINE)
        if error is not None:
            return
        line = last_line(self._name, self._looks[-1].counts, self._clock() - self._began.at_s)
        if self._is_terminal:
            self._console.print(Text(line), soft_wrap=True)
        else:
            log.info("%s", line, extra={"event": "pipeline.ended"})

    def _write(self, line: Text) -> None:
        self._console.control(_ERASE_LINE)
        # One column less than there are: the cursor must not go to the next line.
        line.truncate(self._console.width - 1, overflow="ellipsis")
        self._console.print(line, end="\r", soft_wrap=True)


def live_line(name: str, now: Look, before: Look) -> Text:
    """The counts of a moment, with the rates since an earlier one.

    Example:
        >>> before, now = Counts(read=0), Counts(read=4_000, written=3_000, waiting=1_000)
        >>> live_line("orders", Look(2.0, now), Look(0.0, before)).plain
        'orders: in 4,000 (2,000/s), out 3,000 (1,500/s), waiting 1,000, failed 0'
    """
    counts = now.counts
    elapsed_s = now.at_s - before.at_s
    text = Text.assemble(
        (f"{name}: ", "bold"),
        f"in {counts.read:,} ({_rate(counts.read - before.counts.read, elapsed_s)}), ",
        f"out {counts.written:,} ({_rate(counts.written - before.counts.written, elapsed_s)}), ",
        f"waiting {counts.waiting:,}, ",
        (f"failed {counts.dead:,}", "red" if counts.dead else ""),
    )
    return text.append("".join(f", {trouble}" for trouble in _troubles(counts)), "yellow")


def last_line(name: str, counts: Counts, elapsed_s: float) -> str:
    """The totals, with their mean rate.

    Example:
        >>> last_line("orders", Counts(read=9_000, written=8_999, dead=1, retried=2), 3.0)
        'orders: ended after 3.0 s: in 9,000, out 8,999 (3,000/s), waiting 0, failed 1, retried 2'
    """
    out = f"out {counts.written:,} ({_rate(counts.written, elapsed_s)})"
    return f"{name}: ended after {elapsed_s:,.1f} s: {_totals(counts, out)}"


def status_line(counts: Counts) -> str:
    """The totals alone, for systemd.

    Example:
        >>> status_line(Counts(read=9_000, written=8_000, waiting=1_000))
        'in 9,000, out 8,000, waiting 1,000, failed 0'
    """
    return _totals(counts, f"out {counts.written:,}")


def _totals(counts: Counts, out: str) -> str:
    parts = [f"in {counts.read:,}", out, f"waiting {counts.waiting:,}", f"failed {counts.dead:,}"]
    return ", ".join([*parts, *_troubles(counts)])


def _troubles(counts: Counts) -> list[str]:
    """What there is to say only if it is not as it should be."""
    named = (
        ("retried", counts.retried),
        ("restarts", counts.restarts),
        ("damaged files", counts.damaged),
    )
    return [f"{what} {number:,}" for what, number in named if number]


def _rate(number: int, elapsed_s: float) -> str:
    return f"{number / elapsed_s:,.0f}/s" if elapsed_s > 0 else "-/s"
