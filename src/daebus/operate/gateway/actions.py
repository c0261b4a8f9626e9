"""`POST /services/SERVICE/actions/ACTION`: a call, a stream of events, or a message."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from daebus import settings
from daebus.client.caller import TIMEOUT_S
from daebus.client.loop_calls import LoopStream
from daebus.errors import DaebusError, ServiceUnavailable
from daebus.operate.gateway.exposed import Exposed
from daebus.operate.gateway.limits import STOPPING, Limits, Refused, Slots
from daebus.operate.gateway.requests import (
    asked_timeout_s,
    passed_headers,
    read_body,
    wants_events,
    wants_no_answer,
)
from daebus.operate.web.asking import Asking, raw_json
from daebus.operate.web.event_stream import (
    KEEP_ALIVE,
    KEEP_ALIVE_S,
    EventWriter,
    event,
    next_within,
)
from daebus.operate.web.http_errors import Problem, problem_of
from daebus.operate.web.server import ClientGone, Ending, Receive, Scope, Send


@dataclass
class _Call:
    """What a client asks of a service."""

    service: str
    action: str
    payload: msgspec.Raw
    options: dict[str, Any]


class Actions:
    """Calls actions for clients.

    Args:
        asking: who calls.
        exposed: what may be called.
        limits: how much.
        ending: the end of the server.
        shows_failures: see `problem_of`.
    """

    def __init__(
        self,
        asking: Asking,
        exposed: Exposed,
        limits: Limits,
        ending: Ending,
        *,
        shows_failures: bool,
    ) -> None:
        self._asking = asking
        self._exposed = exposed
        self._limits = limits
        self._ending = ending
        self._shows_failures = shows_failures
        self._timeout_s = settings.seconds("timeout", None, TIMEOUT_S)
        self._calls = Slots(limits.max_requests, "requests")
        self._streams = Slots(limits.max_streams, "streams")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; errors are raised, and become answers elsewhere."""
        request = Request(scope, receive)
        with self._calls.one():
            call = await self._read(request)
            if wants_events(request):
                with self._streams.one():
                    await self._stream(call, receive, send)
                return
            answer = await (self._send if wants_no_answer(request) else self._call)(call, receive)
            await answer(scope, receive, send)

    async def _read(self, request: Request) -> _Call:
        service, action = request.path_params["service"], request.path_params["action"]
        if not self._exposed.has_action(service, action):
            raise Refused(_not_exposed(service, action))
        body = await read_body(request, self._limits.max_body_bytes)
        return _Call(
            service,
            action,
            raw_json(body),
            {
                "timeout_s": asked_timeout_s(request, self._timeout_s, self._limits.max_timeout_s),
                "headers": passed_headers(request),
                "idempotency_key": request.headers.get("idempotency-key"),
            },
        )

    async def _call(self, call: _Call, receive: Receive) -> Response:
        async with self._ending.unless_gone(receive):
            result = await self._asking.caller(call.service).call_raw(
                call.action, call.payload, **call.options
            )
        return Response(bytes(result), media_type="application/json")

    async def _send(self, call: _Call, _receive: Receive) -> Response:
        caller = self._asking.caller(call.service)
        if await caller.send_raw(call.action, call.payload, **call.options) == 0:
            raise ServiceUnavailable(call.service)
        return Response(status_code=202)

    async def _stream(self, call: _Call, receive: Receive, send: Send) -> None:
        """Send each response as an event.

        An error that comes first is the answer's status, like that of a plain call; one that comes
        later is an event.
        """
        events = EventWriter(send)
        try:
            async with self._ending.unless_gone(receive):
                responses = await self._asking.caller(call.service).stream_raw(
                    call.action, call.payload, **call.options
                )
                with closing(responses):
                    await _write_all(responses, events)
        except (DaebusError, ClientGone) as error:
            if not events.is_begun:
                raise
            await events.write(event("error", self._problem_of(error).body()))
        await events.end()

    def _problem_of(self, error: DaebusError | ClientGone) -> Problem:
        if isinstance(error, ClientGone):
            return STOPPING  # Else nobody is there to read it.
        return problem_of(error, shows_failures=self._shows_failures)


async def _write_all(responses: LoopStream, events: EventWriter) -> None:
    while True:
        reply = await next_within(responses, KEEP_ALIVE_S)
        if reply is None:
            await events.write(KEEP_ALIVE)
        elif reply.final:
            await events.write(event("result", bytes(reply.payload)))
            return
        else:
            await events.write(event("message", bytes(reply.payload), reply.seq))


def _not_exposed(service: str, action: str) -> Problem:
    return Problem(
        404,
        "not_exposed",
        "This gateway does not expose this action",
        "name it with --expose, where the gateway is started",
        service,
        action,
    )
