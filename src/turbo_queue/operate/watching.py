"""`turbo-queue watch`: look at a queue again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from time import monotonic
from typing import Annotated

import typer
from rich.live import Live

from turbo_queue.monitor import Monitor
from turbo_queue.operate import options, output, views
from turbo_queue.operate.stopping import Stop
from turbo_queue.operate.views import Look
from turbo_queue.queue import Queue


def watch(
    path: options.QueuePath,
    *,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.01, help="The time between two looks.")
    ] = 1.0,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="End after so many looks.", show_default=False),
    ] = None,
) -> None:
    """Watch what is in the queue and how much goes through it, until Ctrl-C.

    On a terminal it is a table that stays in its place, else a line for each
    look. Events count as in when their batch is ready, and as out when it is
    finished or given back.

    Examples:
      turbo-queue watch ./queue
      turbo-queue watch ./queue --interval 10 >> queue.log
      turbo-queue watch ./queue --count 2
    """
    queue = options.existing(path)
    monitor = Monitor(options.folder_of(queue))
    before, looks = None, 0
    looked_at = monotonic()
    with Stop() as stop, _screen(queue) as show:
        while not stop.is_wanted:
            now = monotonic()
            before = Look(monitor.look()).since(before, now - looked_at)
            looked_at = now
            show(before)
            looks += 1
            if looks == count or stop.wait(interval):
                break
    stop.end()


@contextmanager
def _screen(queue: Queue) -> Iterator[Callable[[Look], None]]:
    """Where the looks are shown."""
    if not output.out.is_terminal:
        yield _print
        return
    with Live(console=output.out, auto_refresh=False) as live:
        yield lambda look: live.update(views.as_table(look, str(queue.path)), refresh=True)


def _print(look: Look) -> None:
    time = datetime.now().astimezone().strftime("%H:%M:%S")
    print(f"{time}  {views.as_line(look)}", flush=True)
