"""`daebus run`: serve an app until it is told to stop."""

from __future__ import annotations

import logging
import threading
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
from daebus.service.routes import Routes
from daebus.service.threads import Threads

log = get_logger(__name__)


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
            help="How many messages are handled at once. Else DAEBUS_MAX_WORKERS, else 10.",
            show_default=False,
        ),
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How long what is in progress may take at a stop. Else DAEBUS_GRACE, else 10.",
            show_default=False,
        ),
    ] = None,
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
      daebus run service:app --check
    """
    if url is not None:
        settings.set_for_process("url", check_url(url))
    if workers is not None:
        settings.set_for_process("max_workers", workers)
    if grace is not None:
        settings.set_for_process("grace", grace)
    if reload:
        names = ["--service", service] if service else []
        raise typer.Exit(run_reloading(["run", target, *names, "--log-level", log_level.value]))
    app = load_app(target)
    show_logs(logging.getLevelNamesMapping()[log_level.name])
    _warn_of_overruled(app, url, workers, grace)
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
    Routes(registry)
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
        ("background tasks", list(registry.background)),
        ("threads", list(registry.threads)),
    ):
        if names:
            output.say(f"  {noun}: {', '.join(names)}")


def _enter_nothing() -> None:
    """No thread is started."""


def _warn_of_overruled(
    app: Daebus, url: str | None, workers: int | None, grace: float | None
) -> None:
    """Say which options have no effect, because the code sets the same."""
    for option, asked, used in (
        ("--url", url, app._url or url),  # noqa: SLF001 - the CLI knows every part
        ("--workers", workers, app._settings.max_workers),  # noqa: SLF001
        ("--grace", grace, app._settings.grace_s),  # noqa: SLF001
    ):
        if asked is not None and asked != used:
            log.warning("%s has no effect: the app's code sets it itself", option)
