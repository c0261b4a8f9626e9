"""How the dashboard starts: what it shows to whom, and the address that is told."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, urlsplit

from daebus import settings
from daebus.bus.connection import check_url
from daebus.errors import SettingsError
from daebus.logs import show_logs
from daebus.operate import output
from daebus.operate.dashboard.app import Setup, opened
from daebus.operate.fleet.watch import folders_to_watch
from daebus.operate.web.guard import LOOPBACK_NAMES, is_loopback
from daebus.operate.web.server import serve

#: How long calls that are under way may still take when it ends, in seconds.
GRACE_S = 1.0

#: The shortest token that may be chosen, in characters. One that is made has 32 bytes.
LEAST_TOKEN = 8


def run(
    *,
    url: str | None,
    folders: Sequence[Path],
    spool: Path | None,
    host: str,
    port: int,
    token: str | None,
    is_open: bool,
    is_read_only: bool,
) -> None:
    """Serve the dashboard until Ctrl-C or SIGTERM. The arguments are those of the command.

    Raises:
        SettingsError: one of them makes no sense, or the address cannot be listened on.
    """
    place = settings.text("spool", None if spool is None else str(spool))
    own_place = None if place is None else Path(place)
    chosen = None if is_open else _token(token)
    if is_open:
        _check_open(host, token)
    setup = Setup(
        url=check_url(settings.server_url(url)),
        folders=folders_to_watch(folders, own_place),
        place=own_place,
        token=chosen,
        hosts=None if _is_any(host) else LOOPBACK_NAMES | {host.lower()},
        is_read_only=is_read_only,
    )
    show_logs(logging.WARNING)
    serve(
        partial(opened, setup, lambda error: output.note(f"Not there yet: {error}")),
        what="dashboard",
        host=host,
        port=port,
        grace_s=GRACE_S,
        on_ready=lambda address: _tell(address, host, chosen),
    )


def _token(given: str | None) -> str:
    """The token that was chosen, or a new one.

    Raises:
        SettingsError: it is too weak.
    """
    chosen = settings.text("dashboard_token", given)
    if chosen is None:
        return secrets.token_urlsafe(32)
    if len(chosen) < LEAST_TOKEN or not re.fullmatch("[!-~]+", chosen):
        raise SettingsError(
            f"the token must have {LEAST_TOKEN} characters or more, without spaces, all ASCII; "
            f"leave it out, and a good one is made"
        )
    return chosen


def _check_open(host: str, token: str | None) -> None:
    """Raise where everybody is to get in, and that makes no sense."""
    if token is not None:
        raise SettingsError("--token and --no-token contradict each other; choose one of them")
    if not is_loopback(host):
        raise SettingsError(
            f"--no-token is for loopback only, and {host!r} is an address that others reach"
        )


def _is_any(host: str) -> bool:
    """Whether it stands for all addresses of this machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _tell(address: str, host: str, token: str | None) -> None:
    """Print the address to open, with the token."""
    if not is_loopback(host):
        output.note(
            "Others can reach this address, and there is no TLS: who listens on the way reads the "
            "token. Use an SSH tunnel or a proxy with TLS where you do not trust the network.",
            "yellow",
        )
    if _is_any(host):  # No address to open.
        name = "[::1]" if ":" in host else "127.0.0.1"
        address = f"http://{name}:{urlsplit(address).port}"
    query = "" if token is None else f"?token={quote(token, safe='')}"
    output.say(f"{address}/{query}", "bold")
