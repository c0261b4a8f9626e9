"""`daebus run`: serve an app until it is told to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from daebus import settings
from daebus.bus.connection import check_url
from daebus.errors import DaebusError
from daebus.logs import get_logger, show_logs
from daebus.operate import options, output
from daebus.operate.loading import load_app, own_frames
from daebus.operate.output import ExitCode
from daebus.operate.reloading import run_reloading
from daebus.service.app import Daebus
from daebus.service.periodic import checked
from daebus.service.routes import Place, Routes
from daebus.service.threads import Threads

log = get_logger(__name__)

#: The settings that options set which have another name.
SETTING_OF = {"workers": "max_workers"}


class Delivery(StrEnum):
    """How requests arrive."""

    PUBSUB = "pubsub"
    STREAM = "stream"


class Overflow(StrEnum):
    """What becomes of a message that finds no room in memory."""

    SPILL = "spill"
    REJECT = "reject"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:APP",
            help="The app: module:app, or module:make_app for a function that makes it.",
            show_default=False,
        ),
    ],
    *,
    service: Annotated[
        str | None,
        typer.Option(help="The service's name; the app's own if left out.", show_default=False),
    ] = None,
    url: options.Url = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many messages are handled at once in threads. "
            "Else DAEBUS_MAX_WORKERS, else 10.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many worker processes run the handlers that ask for one. "
            "Else DAEBUS_PROCESSES, else the number of cores.",
            show_default=False,
        ),
    ] = None,
    delivery: Annotated[
        Delivery | None,
        typer.Option(
            case_sensitive=False,
            help="How requests arrive: pubsub, at most once; or stream, at least once, from an "
            "inbox on the server. Else DAEBUS_DELIVERY, else pubsub.",
            show_default=False,
        ),
    ] = None,
    overflow: Annotated[
        Overflow | None,
        typer.Option(
            case_sensitive=False,
            help="A message that finds no room in memory: spill it to disk, or reject it. "
            "Else DAEBUS_OVERFLOW, else spill.",
            show_default=False,
        ),
    ] = None,
    spool: options.Spool = None,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How long what is in progress may take at a stop. Else DAEBUS_GRACE, else 10.",
            show_default=False,
        ),
    ] = None,
    metrics_port: options.MetricsPort = None,
    metrics_host: options.MetricsHost = None,
    log_level: Annotated[
        LogLevel, typer.Option(case_sensitive=False, help="What is logged to stderr.")
    ] = LogLevel.INFO,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Start again when a .py file below this directory changes."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only import the app and check its handlers.")
    ] = False,
) -> None:
    """Serve an app until Ctrl-C or SIGTERM, then finish what is in progress.

    A second Ctrl-C ends at once. What the code itself sets, such as Daebus("x",
    max_workers=5), stands above these options, and they stand above the
    environment.

    Examples:
      daebus run service:app
      DAEBUS_URL=embedded:// daebus run service:app --reload
      daebus run shop.orders:make_app --service orders --workers 50
      daebus run shop.orders:app --delivery stream --processes 4
      daebus run service:app --metrics-port 9100
      daebus run service:app --check
    """
    if url is not None:
        settings.set_for_process("url", check_url(url))
    asked = {
        "workers": workers,
        "processes": processes,
        "delivery": delivery and delivery.value,
        "overflow": overflow and overflow.value,
        # Absolute, because it stands in the environment of other processes, too.
        "spool": spool and spool.absolute(),
        "grace": grace,
        "metrics_port": metrics_port,
        "metrics_host": metrics_host,
    }
    for option, value in asked.items():
        if value is not None:
            settings.set_for_process(SETTING_OF.get(option, option), value)
    if reload:
        names = ["--service", service] if service else []
        raise typer.Exit(run_reloading(["run", target, *names, "--log-level", log_level.value]))
    app = load_app(target)
    show_logs(logging.getLevelNamesMapping()[log_level.name])
    _warn_of_overruled(app, {"url": url, **asked})
    if check:
        _check(app)
    else:
        _serve(app, service)


def _serve(app: Daebus, service: str | None) -> None:
    try:
        app.run(service)
    except DaebusError:
        raise
    except Exception as error:  # noqa: BLE001 - an on_start or on_stop function may raise anything
        output.fail(f"the app failed:\n{own_frames(error, skip=(__file__,))}")
        raise typer.Exit(ExitCode.ERROR) from None


def _check(app: Daebus) -> None:
    """Whether all handlers can be served, without a server."""
    registry = app.registry
    routes = Routes(registry).by_key.values()
    for task in registry.background.values():
        checked(task)
    Threads(
        list(registry.threads.values()),
        goes_on=app.is_running,
        stopping=threading.Event(),
        enter=_enter_nothing,
    )
    output.say(f"The app {app.name!r} can be served.", "green")
    for noun, names in (
        ("actions", list(registry.actions)),
        ("channels", [listener.channel for listener in registry.listeners]),
        ("in worker processes", [route.name for route in routes if route.place is Place.PROCESS]),
        ("background tasks", list(registry.background)),
        ("threads", list(registry.threads)),
    ):
        if names:
            output.say(f"  {noun}: {', '.join(names)}")


def _enter_nothing() -> None:
    """No thread is started."""


def _warn_of_overruled(app: Daebus, asked: Mapping[str, object]) -> None:
    """Say which options have no effect, because the code sets the same."""
    used = {
        "url": app._url or asked["url"],  # noqa: SLF001 - the CLI knows every part
        "workers": app._settings.max_workers,  # noqa: SLF001
        "processes": app._settings.processes,  # noqa: SLF001
        "delivery": app._settings.delivery,  # noqa: SLF001
        "overflow": app._settings.overflow,  # noqa: SLF001
        "spool": app._settings.spool,  # noqa: SLF001
        "grace": app._settings.grace_s,  # noqa: SLF001
        "metrics_port": app._settings.metrics_port,  # noqa: SLF001
        "metrics_host": app._settings.metrics_host,  # noqa: SLF001
    }
    for option, value in asked.items():
        if value is not None and value != used[option]:
            log.warning(
                "--%s has no effect: the app's code sets it itself", option.replace("_", "-")
            )
