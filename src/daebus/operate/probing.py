"""`daebus probe`: ask a service on this machine whether it is ready, or live."""

from __future__ import annotations

import http.client
import time
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer

from daebus import settings
from daebus.errors import SettingsError
from daebus.logs import printable
from daebus.operate import output
from daebus.operate.output import ExitCode
from daebus.service.probe_file import LIVE, READY

#: How long a service may take to answer, in seconds.
ANSWER_S = 5.0


def probe(
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The service's probe file. Else DAEBUS_PROBE_FILE.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="The service's metrics port. Else DAEBUS_METRICS_PORT.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where that port is. Else DAEBUS_METRICS_HOST, else 127.0.0.1.",
            show_default=False,
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Whether it is live, instead of whether it is ready.")
    ] = False,
    max_age: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="A file that is older says that the service is not live."
        ),
    ] = 10.0,
) -> None:
    """Tell whether a service of this machine is ready: exit code 0 if it is, else 1.

    For probes that run a command. Kubernetes asks the port itself, and a shell
    can read the file, both with less effort than a command that starts Python.

    Examples:
      daebus probe --port 9100
      daebus probe --file /run/orders/probe --live
      DAEBUS_PROBE_FILE=/run/orders/probe daebus probe
    """
    if file is not None and port is not None:
        raise SettingsError("--file and --port are two ways to ask; name one of them")
    if file is None and port is None:
        named = settings.text("probe_file", None)
        file, port = Path(named) if named else None, settings.port("metrics_port", None)
    if file is not None:
        is_well, why = _read(file, max_age_s=max_age, is_live_enough=live)
    elif port:
        address = settings.text("metrics_host", host) or "127.0.0.1"
        is_well, why = _ask(address, port, "/live" if live else "/ready")
    else:
        raise SettingsError("name the service's probe file with --file, or its port with --port")
    for line in why.splitlines():
        output.say(printable(line))
    raise typer.Exit(ExitCode.OK if is_well else ExitCode.ERROR)


def _read(file: Path, *, max_age_s: float, is_live_enough: bool) -> tuple[bool, str]:
    try:
        with file.open(errors="replace") as opened:
            text = opened.read(10_000)
        age_s = time.time() - file.stat().st_mtime
    except OSError as error:
        return False, f"{file}: {error.strerror or error}"
    if age_s > max_age_s:
        return False, f"{file} was not written for {age_s:.0f} s"
    state = text.partition("\n")[0]
    return state == READY or (is_live_enough and state == LIVE), text


def _ask(host: str, port: int, path: str) -> tuple[bool, str]:
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read(10_000).decode(errors="replace")
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        return False, f"{host}:{port}: {error}"
    finally:
        connection.close()
    return answer.status == HTTPStatus.OK, text
