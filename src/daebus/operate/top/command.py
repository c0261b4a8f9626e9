"""`daebus top`: what is running, live."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from daebus import settings
from daebus.bus.presence import REFRESH_S
from daebus.errors import SettingsError
from daebus.operate import options, output
from daebus.operate.fleet.views import Fleet
from daebus.operate.fleet.watch import FleetWatch, folders_to_watch
from daebus.operate.output import ExitCode
from daebus.operate.top.places import PLACE_COLUMNS, PLACE_ORDER, place_rows
from daebus.operate.top.rows import (
    SERVICE_COLUMNS,
    Order,
    Row,
    matching,
    ordered,
    service_rows,
    shown,
)
from daebus.service.signals import stop_on_signals

#: `--once` waits so long at least, in seconds: by then every replica has said again how it is.
FIRST_RATES_S = REFRESH_S + 0.5


class SortColumn(StrEnum):
    """The names of the columns of services."""

    SERVICE = "service"
    READY = "ready"
    REQUESTS = "requests"
    P50 = "p50"
    P99 = "p99"
    ERRORS = "errors"
    BUSY = "busy"
    BACKLOG = "backlog"
    SPILLED = "spilled"
    INBOX = "inbox"
    DEAD = "dead"


def top(
    *,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="The time between two looks.")
    ] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print it once and end, instead of a live view.")
    ] = False,
    folder: options.Folders = None,
    sort: Annotated[
        SortColumn, typer.Option(metavar="COLUMN", help="Sort the services by this column.")
    ] = SortColumn.SERVICE,
    wanted: Annotated[
        str,
        typer.Option("--filter", metavar="TEXT", help="Only what has this text in its name."),
    ] = "",
    url: options.Url = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Show all that is running, live: services, queues and pipelines.

    Services are those of the server, with requests a second, latencies (from a
    message's arrival to the end of its handling), errors, and where messages
    wait. Queues and pipelines are those of this machine's disk. Press ? for the
    keys. A server that is away is waited for.

    Replicas say every 2 s how they are, so rates are those of the last 2 s, or
    of the interval if that is longer. --once takes as long to know them. With
    --json it is one line, for programs. Columns to sort by: service, ready,
    requests, p50, p99, errors, busy, backlog, spilled, inbox, dead.

    Examples:
      daebus top
      daebus top --sort requests --folder ./orders --folder ./queues
      daebus top --once --json | jq '.services[] | select(.errors_per_s > 0)'
    """
    address = settings.server_url(url)
    place = settings.text("spool", None if spool is None else str(spool))
    spool_folder = None if place is None else Path(place)
    watch = FleetWatch(address, folders_to_watch(folder or [], spool_folder), spool_folder)
    order = Order([column.name for column in SERVICE_COLUMNS].index(sort.value))
    if once:
        _show_once(watch, interval, order, wanted, as_json=as_json)
    elif as_json:
        raise SettingsError("--json is for one look; add --once")
    else:
        _show_live(watch, interval, order, wanted)


def _show_live(watch: FleetWatch, interval_s: float, order: Order, wanted: str) -> None:
    if not (output.out.is_terminal and sys.stdin.isatty()):
        raise SettingsError("a live view needs a terminal; print one look with --once")
    try:
        from daebus.operate.top.view import Top  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise SettingsError(
            "the live view needs the package textual; install it with: pip install 'daebus[top]'; "
            "'daebus top --once' works without it"
        ) from None
    Top(watch, interval_s, order, wanted).run()


def _show_once(
    watch: FleetWatch, interval_s: float, order: Order, wanted: str, *, as_json: bool
) -> None:
    stopped = Event()
    with stop_on_signals(stopped.set):
        fleet = watch.look()
        if fleet.trouble is None and not stopped.wait(max(interval_s, FIRST_RATES_S)):
            fleet = watch.look()
    watch.close()
    if stopped.is_set():
        return
    fleet.services = ordered(
        matching(fleet.services, lambda view: view.service, wanted), SERVICE_COLUMNS, order
    )
    fleet.queues = matching(fleet.queues, lambda view: view.name, wanted)
    fleet.pipelines = matching(fleet.pipelines, lambda view: view.name, wanted)
    if as_json:
        output.show_json(fleet)
    else:
        _show_tables(fleet, order)
    if fleet.trouble is not None:
        output.fail(shown(fleet.trouble))
        raise typer.Exit(ExitCode.UNREACHABLE)


def _show_tables(fleet: Fleet, order: Order) -> None:
    services = _table([column.title for column in SERVICE_COLUMNS], service_rows(fleet, order))
    places = _table([column.title for column in PLACE_COLUMNS], place_rows(fleet, PLACE_ORDER))
    parts = [table for table in (services, places) if table.row_count]
    if parts:
        output.show(Group(*[part for table in parts for part in (table, Text())][:-1]))
    elif fleet.trouble is None:
        output.say(f"No service is alive at {fleet.address}, and no queue is in the folders")


def _table(titles: list[str], rows: list[Row]) -> Table:
    table = output.table(*titles, figures=titles[1:])
    for row in rows:
        table.add_row(*row.cells)
    return table
