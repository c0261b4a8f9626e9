"""`daebus ps`: which services are alive."""

from __future__ import annotations

import time
from collections import Counter
from queue import Empty, SimpleQueue
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from daebus import settings
from daebus.bus.connection import display
from daebus.bus.presence import Replica, find_replicas
from daebus.errors import ServerUnavailable
from daebus.logs import printable
from daebus.operate import options, output
from daebus.operate.output import ExitCode
from daebus.service.signals import stop_on_signals

#: How often --watch looks, in seconds. Services refresh their figures every 2 s.
LOOK_EVERY_S = 1.0

#: The table's width where there is no terminal that has one, in characters.
PLAIN_WIDTH = 200

#: A terminal that is narrower has no room for the names of the actions.
WIDTH_WITH_ACTIONS = 110


def ps(
    service: Annotated[
        str | None,
        typer.Argument(metavar="SERVICE", help="Only this service.", show_default=False),
    ] = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")
    ] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Show the services that are alive: a line for each replica.

    IN PROGRESS are the messages in a handler now, BACKLOG those that wait for
    one, GAPS how often the connection was lost. Replicas say so every 2 s, and
    are forgotten after 8 s of silence. With --json it is one line, an array of
    objects. When SERVICE is named and not alive, the exit code is 1.

    Examples:
      daebus ps
      daebus ps calculator --watch
      daebus ps --json | jq '.[].service'
    """
    address = settings.server_url(url)
    if watch:
        _watch(address, service, as_json=as_json)
        return
    replicas = find_replicas(address, service)
    if as_json:
        output.show_json(replicas)
    else:
        _print(_view(replicas, address, service))
    if service is not None and not replicas:
        raise typer.Exit(ExitCode.ERROR)


def _watch(address: str, service: str | None, *, as_json: bool) -> None:
    find_replicas(address, service)  # An address that never worked is an error, not a view.
    stop: SimpleQueue[None] = SimpleQueue()
    with (
        stop_on_signals(lambda: stop.put(None)),
        Live(console=output.out, auto_refresh=False, screen=output.out.is_terminal) as live,
    ):
        while True:
            try:
                replicas = find_replicas(address, service)
            except ServerUnavailable as error:
                view: RenderableType = Text(str(error), "red")
            else:
                view = _view(replicas, address, service)
                if as_json:
                    output.show_json(replicas)
            if output.out.is_terminal and not as_json:
                live.update(view, refresh=True)
            elif not as_json:
                _print(view)
            try:
                stop.get(timeout=LOOK_EVERY_S)
            except Empty:
                continue
            return


def _print(view: RenderableType) -> None:
    is_terminal = output.out.is_terminal
    console = output.out if is_terminal else Console(width=PLAIN_WIDTH, highlight=False)
    console.print(view, soft_wrap=False)


def _view(replicas: list[Replica], address: str, service: str | None) -> RenderableType:
    if not replicas:
        what = "No service is" if service is None else f"No service {service!r} is"
        return Text(f"{what} alive at {display(address)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("SERVICE", "REPLICAS", "HOST", "PID", "UPTIME"):
        table.add_column(name, no_wrap=True)
    for name in ("IN PROGRESS", "BACKLOG", "HANDLED", "ERRORS", "GAPS"):
        table.add_column(name, justify="right", no_wrap=True)
    if not output.out.is_terminal or output.out.width >= WIDTH_WITH_ACTIONS:
        table.add_column("ACTIONS", min_width=16)
    replicas_of = Counter(replica.service for replica in replicas)
    for replica in replicas:
        cells = _cells(replica, replicas_of[replica.service])
        table.add_row(*cells[: len(table.columns)])
    return table


def _cells(replica: Replica, replicas: int) -> list[Text]:
    style_of_errors = "red" if replica.errors else ""
    return [
        _text(replica.service, "bold cyan"),
        _text(replicas),
        _text(replica.host),
        _text(replica.pid),
        _text(uptime(time.time() - replica.started_at)),
        _text(replica.in_progress),
        _text(replica.backlog),
        _text(f"{replica.handled:,}"),
        _text(f"{replica.errors:,}", style_of_errors),
        _text(replica.gaps, "red" if replica.gaps else ""),
        _text(", ".join(replica.actions)),
    ]


def _text(value: object, style: str = "") -> Text:
    # What stands in a presence key was written by others: no control character may get out.
    return Text(printable(str(value)), style)


def uptime(seconds: float) -> str:
    """A time in its two largest units.

    Example:
        >>> uptime(59.9), uptime(3_700), uptime(180_000)
        ('59s', '1h 1m', '2d 2h')
    """
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or parts or unit == "s":
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])
