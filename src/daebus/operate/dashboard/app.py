"""The dashboard as an ASGI application: its addresses, and what stands behind each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from daebus.bus.connection import display
from daebus.errors import DaebusError, ServerUnavailable
from daebus.operate.dashboard.access import guarded
from daebus.operate.dashboard.calls import Calls
from daebus.operate.dashboard.dead_letters import DeadLetterDesk
from daebus.operate.dashboard.feed import Feed
from daebus.operate.dashboard.pages import STATIC, dashboard_page
from daebus.operate.dashboard.streaming import Streamed
from daebus.operate.fleet.watch import FleetWatch
from daebus.operate.web.asking import Asking
from daebus.operate.web.http_errors import Problem, problem_of
from daebus.operate.web.server import Ending


@dataclass(frozen=True)
class Setup:
    """What a dashboard shows, and to whom.

    Args:
        url: the server's address.
        folders: where queues and pipelines are looked for.
        place: where services of this machine keep files; None for the user's own place.
        token: what a request must know; None: nothing.
        hosts: the names that it may be reached by; None for any.
        is_read_only: whether it calls, retries and drops nothing.
    """

    url: str
    folders: Sequence[Path]
    place: Path | None
    token: str | None
    hosts: Collection[str] | None
    is_read_only: bool


@asynccontextmanager
async def opened(
    setup: Setup, on_away: Callable[[ServerUnavailable], None], ending: Ending
) -> AsyncIterator[ASGIApp]:
    """The application, while it is open.

    Args:
        setup: what it shows, and to whom.
        on_away: told when the server cannot be reached at the start, which is no reason to end.
        ending: the web server's.

    Raises:
        SettingsError: the server's address makes no sense.
    """
    asking = Asking(setup.url)
    feed = Feed(FleetWatch(setup.url, setup.folders, setup.place), _about(setup))
    feed.start()
    try:
        try:
            await asking.connect()
        except ServerUnavailable as error:
            on_away(error)
        app = _app(setup, feed, asking, ending)
        yield guarded(app, token=setup.token, hosts=setup.hosts, is_read_only=setup.is_read_only)
    finally:
        await feed.stop()
        await asking.close()


def _about(setup: Setup) -> dict[str, object]:
    return {
        "version": version("daebus"),
        "server": display(setup.url),
        "folders": [str(folder) for folder in setup.folders],
        "is_read_only": setup.is_read_only,
    }


def _app(setup: Setup, feed: Feed, asking: Asking, ending: Ending) -> Starlette:
    calls = Calls(asking, ending)
    desk = DeadLetterDesk(setup.url, setup.place, feed)
    return Starlette(
        routes=[
            Route("/", dashboard_page),
            Route("/api/events", partial(_events, feed, ending)),
            Route("/api/contract", calls.contract),
            Route("/api/call", calls.call, methods=["POST"]),
            Route("/api/letters", desk.list),
            Route("/api/letters/one", desk.one),
            Route("/api/letters/retry", desk.retry, methods=["POST"]),
            Route("/api/letters/drop", desk.drop, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={DaebusError: _failed, HTTPException: _refused},
    )


async def _events(feed: Feed, ending: Ending, _request: Request) -> Streamed:
    return Streamed(feed.events(), "text/event-stream", ending, is_endless=True)


async def _failed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, DaebusError)  # noqa: S101 - for the type checker
    return _answer(problem_of(error))


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - for the type checker
    title = HTTPStatus(error.status_code).phrase
    code = title.lower().replace(" ", "_")
    return _answer(Problem(error.status_code, code, title, error.detail), error.headers)


def _answer(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    return Response(problem.body(), problem.status, {**problem.headers(), **(headers or {})})
