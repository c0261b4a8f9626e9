"""`daebus dashboard`: serve the page until it is told to stop."""

from __future__ import annotations

from typing import Annotated

import typer

from daebus.operate import options
from daebus.operate.web import extra

#: Where the page is found if nobody says something else.
HOST, PORT = "127.0.0.1", 8080


def dashboard(
    *,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="The address to listen on; another one lets others in."
        ),
    ] = HOST,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes any that is free.")
    ] = PORT,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            help="What a browser must know. Else the environment's DAEBUS_DASHBOARD_TOKEN, which "
            "other users of this machine cannot see, else a new one each time.",
            show_default=False,
        ),
    ] = None,
    no_token: Annotated[
        bool,
        typer.Option("--no-token", help="Let in whoever is on this machine; on loopback only."),
    ] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Only show: call, retry and drop nothing.")
    ] = False,
    folder: options.Folders = None,
    url: options.Url = None,
    spool: options.Spool = None,
) -> None:
    """Show services, queues and pipelines in a browser, until Ctrl-C.

    The first line of the output is the address to open. There a service's
    actions can be called, and dead letters can be read, retried and dropped,
    by whoever has the token. Nobody but this machine can reach it, unless
    --host says so. It needs the extra web.

    Examples:
      daebus dashboard
      daebus dashboard --port 0 --folder ./orders --folder ./events
      DAEBUS_DASHBOARD_TOKEN=$(cat token) daebus dashboard --read-only
      ssh -t -L 8080:127.0.0.1:8080 server daebus dashboard
    """
    extra.check_installed("daebus dashboard")
    from daebus.operate.dashboard.running import run  # noqa: PLC0415 - needs the extra

    run(
        url=url,
        folders=folder or [],
        spool=spool,
        host=host,
        port=port,
        token=token,
        is_open=no_token,
        is_read_only=read_only,
    )
