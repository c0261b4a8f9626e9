"""`daebus gateway`: chosen actions and channels over HTTP."""

from __future__ import annotations

import logging
import re
from typing import Annotated

import typer

from daebus import settings
from daebus.bus.connection import check_url
from daebus.errors import SettingsError
from daebus.logs import show_logs
from daebus.operate import options, output
from daebus.operate.gateway.exposed import Exposed
from daebus.operate.running import LogLevel
from daebus.operate.web.extra import check_installed

#: How long requests may take at a stop by default, in seconds.
GRACE_S = 10.0

#: What a start without --expose is told.
_NOTHING = (
    "nothing is exposed, so there is nothing to do. Name what clients may call, such as "
    "--expose calculator for all actions of a service or --expose shop.get_order for one, or "
    "--channel 'events.*' for what is published"
)


def gateway(
    *,
    expose: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERVICE[.ACTION]",
            help="An action that clients may call, or all of a service; patterns such as "
            "'shop.get_*' too, and SERVICE/ACTION where the service's name has a dot. Repeatable.",
            show_default=False,
        ),
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANNEL",
            help="A channel that clients may listen to, or a pattern. Repeatable.",
            show_default=False,
        ),
    ] = None,
    publish: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANNEL",
            help="A channel that clients may publish to, over its WebSocket. Repeatable.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any.")] = 8080,
    token: Annotated[
        str | None,
        typer.Option(
            help="What clients must send as 'Authorization: Bearer TOKEN'. Better in the "
            "environment's DAEBUS_GATEWAY_TOKEN, which other users cannot read.",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name that clients may reach it by; on loopback only loopback's own are, "
            "elsewhere all. Repeatable.",
            show_default=False,
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Web pages that may use it, such as https://app.example.com. Repeatable.",
            show_default=False,
        ),
    ] = None,
    max_timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="The longest wait for a response.")
    ] = 60.0,
    max_body: Annotated[
        int, typer.Option(min=1, metavar="BYTES", help="The largest body of a request.")
    ] = 1024 * 1024,
    max_requests: Annotated[
        int, typer.Option(min=1, help="How many requests may be under way.")
    ] = 1000,
    max_streams: Annotated[
        int, typer.Option(min=1, help="How many streams of events may be open.")
    ] = 100,
    max_sockets: Annotated[int, typer.Option(min=1, help="How many WebSockets may be open.")] = 100,
    max_connections: Annotated[
        int, typer.Option(min=1, help="How many connections may be open, idle ones too.")
    ] = 2000,
    keep_alive: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="How long an idle connection is kept. A proxy before it should close its own "
            "ones earlier.",
        ),
    ] = 5,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How long requests may still take at a stop. Else DAEBUS_GRACE, else 10.",
            show_default=False,
        ),
    ] = None,
    show_errors: Annotated[
        bool,
        typer.Option(
            "--show-errors", help="Tell clients what a handler raised; else only the log has it."
        ),
    ] = False,
    url: options.Url = None,
    log_level: Annotated[
        LogLevel, typer.Option(case_sensitive=False, help="What is logged to stderr.")
    ] = LogLevel.INFO,
) -> None:
    """Let programs that speak HTTP call chosen actions, until Ctrl-C or SIGTERM.

    POST /services/SERVICE/actions/ACTION calls an action: the body is its
    payload, the answer its result. With 'Accept: text/event-stream' each
    response comes as an event. GET /channels/CHANNEL is a WebSocket, or a stream
    of events. /docs shows what there is, /openapi.json tells it to programs,
    /services lists who is alive; /live and /ready are for probes.

    Nothing is reachable but what is named here. It needs the packages of
    daebus's extra web.

    Examples:
      daebus gateway --expose calculator
      daebus gateway --expose 'shop.get_*' --channel 'orders.*' --port 9000
      DAEBUS_GATEWAY_TOKEN=... daebus gateway --expose shop --host 0.0.0.0
    """
    check_installed("daebus gateway")
    exposed = Exposed(expose or [], channel or [], publish or [])
    if not (expose or channel or publish):
        raise SettingsError(_NOTHING)
    # Only here: these need the extra.
    from daebus.operate.gateway.app import Door, opener  # noqa: PLC0415
    from daebus.operate.gateway.limits import Limits  # noqa: PLC0415
    from daebus.operate.web.guard import LOOPBACK_NAMES, is_loopback  # noqa: PLC0415
    from daebus.operate.web.server import serve  # noqa: PLC0415

    token = _checked_token(settings.text("gateway_token", token))
    is_private = is_loopback(host)
    if not is_private and token is None:
        output.note(
            f"Warning: whoever can reach {host} can use this gateway. Set DAEBUS_GATEWAY_TOKEN, "
            f"or leave --host at 127.0.0.1 behind a proxy that checks who asks",
            "yellow",
        )
    names = frozenset(name.lower() for name in allow_host or [])
    door = Door(
        url=check_url(settings.server_url(url)),
        exposed=exposed,
        limits=Limits(
            max_body_bytes=max_body,
            max_timeout_s=settings.seconds("max_timeout", max_timeout, 0),
            max_requests=max_requests,
            max_streams=max_streams,
            max_sockets=max_sockets,
        ),
        token=token,
        hosts=names | LOOPBACK_NAMES | {host.lower()} if is_private or names else None,
        origins=[_checked_origin(each) for each in cors or []],
        shows_failures=show_errors,
    )
    show_logs(logging.getLevelNamesMapping()[log_level.name])
    serve(
        opener(door),
        what="gateway",
        host=host,
        port=port,
        grace_s=settings.seconds("grace", grace, GRACE_S),
        is_debug=log_level is LogLevel.DEBUG,
        max_frame_bytes=max_body,
        max_connections=max_connections,
        idle_s=keep_alive,
    )


def _checked_origin(origin: str) -> str:
    """An origin as browsers write it.

    Raises:
        SettingsError: it is none, and would never be met.
    """
    if origin == "*" or re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@]+", origin):
        return origin
    raise SettingsError(
        f"{origin!r} is no origin: write scheme, host and port only, such as "
        f"https://app.example.com, or * for any"
    )


def _checked_token(token: str | None) -> str | None:
    """The token, if it can stand in a header.

    Raises:
        SettingsError: it cannot.
    """
    if token is None or (token.isascii() and token.isprintable() and token.strip() == token != ""):
        return token
    raise SettingsError(
        "the token must be printable ASCII characters, with no space around them, and not empty; "
        "make one with: openssl rand -hex 32"
    )
