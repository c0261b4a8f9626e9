"""`daebus dashboard`: serve the page until it is told to stop."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Collection
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from daebus import settings
from daebus.bus.connection import check_url
from daebus.errors import SettingsError
from daebus.logs import show_logs
from daebus.operate import options, output, web_extra

#: How long calls that are under way may still take when it ends, in seconds.
GRACE_S = 1.0

#: The shortest token that may be chosen, in characters. One that is made has 32 bytes.
LEAST_TOKEN = 8

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
    web_extra.check_installed("daebus dashboard")
    from daebus.operate.dashboard.app import Setup, opened  # noqa: PLC0415 - an optional extra
    from daebus.operate.fleet_watch import folders_to_watch  # noqa: PLC0415 - … and its company
    from daebus.operate.web_server import serve  # noqa: PLC0415 - an optional extra

    place = settings.text("spool", None if spool is None else str(spool))
    own_place = None if place is None else Path(place)
    secret = _token(token, is_wanted=not no_token, host=host)
    setup = Setup(
        url=check_url(settings.server_url(url)),
        folders=folders_to_watch(folder or [], own_place),
        place=own_place,
        token=secret,
        hosts=_names(host),
        is_read_only=read_only,
    )
    show_logs(logging.WARNING)
    serve(
        partial(opened, setup, lambda error: output.note(f"Not there yet: {error}")),
        what="dashboard",
        host=host,
        port=port,
        grace_s=GRACE_S,
        on_ready=lambda address: _tell(address, secret, host),
    )


def _token(given: str | None, *, is_wanted: bool, host: str) -> str | None:
    """What a browser must know; None: nothing.

    Raises:
        SettingsError: it is too weak, or none is wanted where others can get in.
    """
    from daebus.operate.web_guard import is_loopback  # noqa: PLC0415 - an optional extra

    if not is_wanted:
        if given is not None:
            raise SettingsError("--token and --no-token contradict each other; choose one of them")
        if not is_loopback(host):
            raise SettingsError(
                f"--no-token is for loopback only, and {host!r} is an address that others reach"
            )
        return None
    chosen = settings.text("dashboard_token", given)
    if chosen is None:
        return secrets.token_urlsafe(32)
    if len(chosen) < LEAST_TOKEN or not re.fullmatch("[!-~]+", chosen):
        raise SettingsError(
            f"the token must have {LEAST_TOKEN} characters or more, without spaces, all ASCII; "
            f"leave it out, and a good one is made"
        )
    return chosen


def _names(host: str) -> Collection[str] | None:
    """The names that the dashboard may be reached by; None for any."""
    from daebus.operate.web_guard import LOOPBACK_NAMES  # noqa: PLC0415 - an optional extra

    return None if _is_any(host) else LOOPBACK_NAMES | {host.lower()}


def _is_any(host: str) -> bool:
    """Whether it stands for all addresses of this machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _tell(address: str, token: str | None, host: str) -> None:
    from daebus.operate.web_guard import is_loopback  # noqa: PLC0415 - an optional extra

    if not is_loopback(host):
        output.note(
            "Others can reach this address, and there is no TLS: who listens on the way reads the "
            "token. Use an SSH tunnel or a proxy with TLS where you do not trust the network.",
            "yellow",
        )
    if _is_any(host):  # No address to open.
        name = "[::1]" if ":" in host else "127.0.0.1"
        address = f"http://{name}:{address.rpartition(':')[2]}"
    query = "" if token is None else f"?token={quote(token, safe='')}"
    output.say(f"{address}/{query}", "bold")
