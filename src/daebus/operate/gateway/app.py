"""The gateway's routes: what each address answers, and how errors become answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from time import monotonic
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from daebus import settings
from daebus.bus.presence import Replica
from daebus.contracts import ActionContract, Contract
from daebus.errors import DaebusError, ServiceUnavailable
from daebus.logs import describe, get_logger
from daebus.messages import MAX_MESSAGE_BYTES, WIRE_VERSION
from daebus.operate.gateway.actions import Actions
from daebus.operate.gateway.channels import Channels
from daebus.operate.gateway.exposed import Exposed
from daebus.operate.gateway.limits import STOPPING, Limits, Refused
from daebus.operate.gateway.openapi import openapi
from daebus.operate.gateway.page import page
from daebus.operate.gateway.shown import shown
from daebus.operate.web.asking import LOOK_EVERY_S, Asking
from daebus.operate.web.cut_off import CutOff
from daebus.operate.web.guard import HostGuard, TokenGuard
from daebus.operate.web.http_errors import Problem, problem_of
from daebus.operate.web.server import App, ClientGone, Ending, Receive, Scope, Send

log = get_logger(__name__)

#: What needs no token: the probes tell nothing, and the page is the same for all.
OPEN_PATHS = frozenset({"/live", "/ready", "/docs"})


@dataclass(frozen=True, kw_only=True)
class Door:
    """What one gateway is started with."""

    url: str
    exposed: Exposed
    limits: Limits
    token: str | None = None
    #: The names that it may be reached by; None for any.
    hosts: frozenset[str] | None = None
    origins: list[str] = field(default_factory=list)
    shows_failures: bool = False


def opener(door: Door) -> Callable[[Ending], AbstractAsyncContextManager[App]]:
    """What opens the gateway, for `serve`."""

    @asynccontextmanager
    async def open_app(ending: Ending) -> AsyncIterator[App]:
        # A message is more than its payload: small bodies must not make it too large.
        usual = settings.whole_number("max_message_bytes", None, MAX_MESSAGE_BYTES)
        most = max(door.limits.max_body_bytes, usual)
        async with Asking(door.url, max_message_bytes=most) as asking:
            yield _app(door, asking, ending)

    return open_app


def _app(door: Door, asking: Asking, ending: Ending) -> App:
    actions = Actions(asking, door.exposed, door.limits, ending, shows_failures=door.shows_failures)
    channels = Channels(asking, door.exposed, door.limits, ending)
    views = _Views(door, asking, ending)
    routes = [
        Route("/services/{service}/actions/{action:path}", _Endpoint(actions), methods=["POST"]),
        Route("/services/{service}", views.service),
        Route("/services", views.services),
        WebSocketRoute("/channels/{channel:path}", _Endpoint(channels.socket)),
        Route("/channels/{channel:path}", _Endpoint(channels.events), methods=["GET"]),
        Route("/openapi.json", views.document),
        Route("/docs", views.docs),
        Route("/live", views.live),
        Route("/ready", views.ready),
    ]
    app: App = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _on_http_exception,
            Refused: _on_refused,
            ClientGone: _on_client_gone,
            DaebusError: views.on_daebus_error,
            Exception: _on_failure,
        },
    )
    if door.token is not None:
        app = TokenGuard(app, door.token, open_paths=OPEN_PATHS)
    if door.origins:
        app = CORSMiddleware(
            app,
            allow_origins=door.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],
        )
    return CutOff(HostGuard(app, door.hosts, door.origins), STOPPING)


class _Endpoint:
    """An ASGI application for a route, which takes a function for something else."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class ServiceView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A service that is alive, as a client sees it."""

    service: str
    replicas: int
    actions: list[str]


class _Views:
    """What tells about the services, and about the gateway."""

    def __init__(self, door: Door, asking: Asking, ending: Ending) -> None:
        self._door = door
        self._asking = asking
        self._ending = ending
        self._describing = asyncio.Lock()
        self._document = b""
        self._described_at = float("-inf")

    async def services(self, _request: Request) -> Response:
        """The services that are exposed and alive, with their actions."""
        replicas = await self._alive()
        return _json({"services": [self._view(name, replicas[name]) for name in sorted(replicas)]})

    async def service(self, request: Request) -> Response:
        """One of them, with the types of its actions."""
        name = request.path_params["service"]
        found = (await self._alive()).get(name)
        if found is None:
            raise ServiceUnavailable(name)
        contract = await self._contract(name, found)
        return _json({**msgspec.to_builtins(self._view(name, found)), "contract": contract})

    async def document(self, _request: Request) -> Response:
        """The OpenAPI document, as it was a second ago at most: that of many services is large."""
        async with self._describing:
            if monotonic() - self._described_at > LOOK_EVERY_S:
                self._document = msgspec.json.encode(await self._describe())
                self._described_at = monotonic()
            document = self._document
        return Response(document, media_type="application/json")

    async def _describe(self) -> dict[str, Any]:
        alive = await self._alive()
        contracts = await asyncio.gather(
            *(self._contract(name, alive[name]) for name in sorted(alive))
        )
        return openapi(
            contracts,
            self._door.exposed,
            version=version("daebus"),
            needs_token=self._door.token is not None,
        )

    async def docs(self, _request: Request) -> Response:
        """The page that shows it."""
        return Response(page().body, headers=page().headers, media_type="text/html")

    async def live(self, _request: Request) -> Response:
        """Whether the process answers."""
        return _json({"is_live": True})

    async def ready(self, _request: Request) -> Response:
        """Whether it can do its work: the server is there, and it does not stop."""
        trouble = None
        if not self._asking.is_connected:
            trouble = "no connection to the server"
        elif self._ending.has_begun.is_set():
            trouble = "the gateway stops"
        if trouble is not None:
            raise Refused(Problem(503, "not_ready", "The gateway is not ready", trouble))
        return _json({"is_ready": True})

    async def on_daebus_error(self, _request: Request, error: Exception) -> Response:
        """What a service, or the way to it, answered."""
        assert isinstance(error, DaebusError)  # noqa: S101 - registered for these
        return _answer(problem_of(error, shows_failures=self._door.shows_failures))

    async def _alive(self) -> dict[str, list[Replica]]:
        found: dict[str, list[Replica]] = {}
        for replica in await self._asking.replicas():
            if self._door.exposed.has_service(replica.service):
                found.setdefault(replica.service, []).append(replica)
        return found

    def _view(self, name: str, replicas: list[Replica]) -> ServiceView:
        actions = {action for replica in replicas for action in replica.actions}
        return ServiceView(
            service=name,
            replicas=len(replicas),
            actions=sorted(each for each in actions if self._door.exposed.has_action(name, each)),
        )

    async def _contract(self, name: str, replicas: list[Replica]) -> Contract:
        """What is exposed of a service's contract; names without types if it tells none."""
        try:
            return shown(await self._asking.contract(name), self._door.exposed)
        except DaebusError as error:
            log.debug("no contract of %r: %s", name, describe(error), extra={"event": "contract"})
            actions = [ActionContract(name=each) for each in self._view(name, replicas).actions]
            return Contract(service=name, wire_version=WIRE_VERSION, actions=actions)


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    """No such address, or not that way: the status says it."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for these
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    return _answer(Problem(error.status_code, code, str(error.detail)), dict(error.headers or {}))


async def _on_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - registered for these
    return _answer(error.problem, error.headers)


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    """Nobody is there to read it, unless the grace time was over."""
    return _answer(STOPPING)


async def _on_failure(_request: Request, _error: Exception) -> Response:
    """A fault of the gateway's own; the server logs it with its traceback."""
    return _answer(Problem(500, "gateway_error", "The gateway failed; its log has the reason"))


def _answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(problem.body(), problem.status, {**problem.headers(), **(headers or {})})


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
