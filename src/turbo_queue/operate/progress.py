"""Progress bars, on stderr and only if that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from turbo_queue.operate import output

_COUNT = TextColumn("{task.completed:,.0f} events")


@contextmanager
def bar(
    what: str, total: int | None, *, in_bytes: bool = False, is_wanted: bool = True
) -> Iterator[Callable[[int], None]]:
    """A bar, or a count if no total is known; gives the function that moves it on.

    Args:
        what: What is done.
        total: How much there is to do.
        in_bytes: Whether that is bytes; else it is events.
        is_wanted: Show it, if there is a terminal; else the function does nothing.
    """
    amount: ProgressColumn = DownloadColumn() if in_bytes else _COUNT
    columns = [TextColumn(what), BarColumn(), TaskProgressColumn(), amount, TimeRemainingColumn()]
    if total is None:
        columns = [SpinnerColumn(), TextColumn(what), amount]
    with Progress(*columns, console=output.err, disable=not (is_wanted and is_shown())) as progress:
        task = progress.add_task(what, total=total)
        yield lambda number: progress.advance(task, number)


def is_shown() -> bool:
    """Whether there is a terminal to show a bar on."""
    return output.err.is_terminal
