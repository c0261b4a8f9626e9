"""`daebus ps`: which services are alive."""

from __future__ import annotations

import time
from collections import Counter
from queue import Empty, SimpleQueue
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from daebus import settings
from daebus.bus.connection import display
from daebus.bus.presence import Replica, TaskRun, find_replicas
from daebus.errors import ServerUnavailable
from daebus.operate import options, output
from daebus.operate.output import ExitCode
from daebus.service.signals import stop_on_signals

#: How often --watch looks, in seconds. Services refresh their figures every 2 s.
LOOK_EVERY_S = 1.0

FIGURES = ("IN PROGRESS", "BACKLOG", "SPILLED", "HANDLED", "ERRORS", "GAPS")
COLUMNS = ("SERVICE", "REPLICAS", "HOST", "PID", "UPTIME", *FIGURES)

#: A terminal that is narrower than this has no room for these.
WIDTH_OF_ALL = 120
WIDE_COLUMNS = ("DELIVERY", "ACTIONS")


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
    one in memory, SPILLED those that wait on disk, GAPS how often the
    connection was lost. Below stands who is not ready, and the last run of each background task, by
    any replica. Replicas say so every 2 s, and are forgotten after 8 s of
    silence. With --json it is one line, an array of objects. When SERVICE is
    named and not alive, the exit code is 1.

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
        output.show(_view(replicas, address, service))
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
                output.show(view)
            try:
                stop.get(timeout=LOOK_EVERY_S)
            except Empty:
                continue
            return


def _view(replicas: list[Replica], address: str, service: str | None) -> RenderableType:
    if not replicas:
        what = "No service is" if service is None else f"No service {service!r} is"
        return Text(f"{what} alive at {display(address)}")
    is_wide = not output.out.is_terminal or output.out.width >= WIDTH_OF_ALL
    table = output.table(
        *COLUMNS,
        *(WIDE_COLUMNS if is_wide else ()),
        figures=FIGURES,
        wrapping={"HOST", "IN PROGRESS", "ACTIONS"},
    )
    replicas_of = Counter(replica.service for replica in replicas)
    for replica in replicas:
        cells = _cells(replica, replicas_of[replica.service])
        table.add_row(*cells[: len(table.columns)])
    views: list[RenderableType] = [table]
    if unready := [replica for replica in replicas if not replica.is_ready]:
        views += [Text(), *map(_trouble_of, unready)]
    if runs := last_runs(replicas):
        views += [Text(), _view_of_runs(runs)]
    return Group(*views)


def _trouble_of(replica: Replica) -> Text:
    who = f"{replica.service} ({replica.host}:{replica.pid})"
    return output.cell(f"{who} is not ready: {'; '.join(replica.troubles)}", "red")


def _cells(replica: Replica, replicas: int) -> list[Text]:
    style_of_errors = "red" if replica.errors else ""
    return [
        output.cell(replica.service, "bold cyan"),
        output.cell(replicas),
        output.cell(replica.host),
        output.cell(replica.pid),
        output.cell(output.span(time.time() - replica.started_at)),
        output.cell(replica.in_progress),
        output.cell(replica.backlog),
        output.cell(f"{replica.spilled:,}", "yellow" if replica.spilled else ""),
        output.cell(f"{replica.handled:,}"),
        output.cell(f"{replica.errors:,}", style_of_errors),
        output.cell(replica.gaps, "red" if replica.gaps else ""),
        output.cell(replica.delivery),
        output.cell(", ".join(replica.actions)),
    ]


def last_runs(replicas: list[Replica]) -> dict[tuple[str, str], tuple[Replica, TaskRun]]:
    """The newest run of each background task, by service and task, with the replica that ran it."""
    found: dict[tuple[str, str], tuple[Replica, TaskRun]] = {}
    for replica in replicas:
        for name, run in replica.tasks.items():
            key = (replica.service, name)
            if key not in found or found[key][1].started_at < run.started_at:
                found[key] = (replica, run)
    return dict(sorted(found.items()))


def _view_of_runs(runs: dict[tuple[str, str], tuple[Replica, TaskRun]]) -> Table:
    table = output.table(
        "SERVICE",
        "BACKGROUND TASK",
        "LAST RUN",
        "TOOK",
        "BY",
        "RESULT",
        figures={"TOOK"},
        wrapping={"BY", "RESULT"},
    )
    for (service, name), (replica, run) in runs.items():
        is_over = run.duration_s is not None
        result = run.error or ("ok" if is_over else "under way")
        table.add_row(
            output.cell(service, "bold cyan"),
            output.cell(name),
            output.cell(f"{output.span(time.time() - run.started_at)} ago"),
            output.cell(f"{run.duration_s:.2f} s" if run.duration_s is not None else ""),
            output.cell(f"{replica.host}:{replica.pid}"),
            output.cell(result, "red" if run.error else ""),
        )
    return table
