"""`/channels/CHANNEL`: what is published, as a WebSocket or as Server-Sent Events."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import msgspec
from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketDisconnect

from daebus.channels import is_pattern
from daebus.errors import BadMessage, DaebusError
from daebus.operate.gateway.exposed import Exposed
from daebus.operate.gateway.limits import Limits, Refused, Slots
from daebus.operate.gateway.requests import wants_events
from daebus.operate.web.asking import Asking, raw_json
from daebus.operate.web.event_stream import (
    KEEP_ALIVE,
    KEEP_ALIVE_S,
    EventWriter,
    event,
    next_within,
)
from daebus.operate.web.fan_out import Listener, TooSlow
from daebus.operate.web.guard import refuse
from daebus.operate.web.http_errors import Problem, problem_of
from daebus.operate.web.server import ClientGone, Ending, Receive, Scope, Send

#: Why a WebSocket is closed (RFC 6455, 7.4.1, and the registry of IANA).
NOT_ALLOWED, BAD_FRAME, FAILED, TRY_LATER = 1008, 1007, 1011, 1013


class Channels:
    """Passes on what is published.

    Args:
        asking: who listens.
        exposed: what may be listened to.
        limits: how much.
        ending: the end of the server.
    """

    def __init__(self, asking: Asking, exposed: Exposed, limits: Limits, ending: Ending) -> None:
        self._asking = asking
        self._exposed = exposed
        self._ending = ending
        self._streams = Slots(limits.max_streams, "streams")
        self._sockets = Slots(limits.max_sockets, "WebSockets")

    # --- Server-Sent Events ---

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET; errors are raised, and become answers elsewhere."""
        request = Request(scope, receive)
        channel = request.path_params["channel"]
        if not self._exposed.has_channel(channel):
            raise Refused(_not_exposed(channel))
        if request.method == "HEAD":  # A stream has no end that could be waited for.
            problem = Problem(405, "method_not_allowed", "Method Not Allowed")
            raise Refused(problem, {"allow": "GET"})
        if not wants_events(request):
            detail = "ask for 'Accept: text/event-stream', or open a WebSocket"
            raise Refused(Problem(406, "not_acceptable", "A channel is a stream", detail))
        with self._streams.one():
            async with AsyncExitStack() as stack:
                listener = await self._asking.listen([channel])
                stack.push_async_callback(listener.close)
                await self._send_events(listener, channel, receive, send)

    async def _send_events(
        self, listener: Listener, channel: str, receive: Receive, send: Send
    ) -> None:
        events = EventWriter(send)
        try:
            async with self._ending.unless_gone(receive, is_endless=True):
                # So that the client knows that it listens from here on.
                await events.write(KEEP_ALIVE)
                while True:
                    message = await next_within(listener, KEEP_ALIVE_S)
                    data = KEEP_ALIVE if message is None else _event_of(channel, *message)
                    await events.write(data)
        except TooSlow:
            await events.write(event("error", _too_slow().body()))
        except ClientGone:
            pass  # Or the gateway stops, and there is more to come at another one.
        await events.end()

    # --- WebSockets ---

    async def socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket until either side ends it."""
        try:
            await self._open(WebSocket(scope, receive, send), scope["path_params"]["channel"])
        except Refused as refused:
            await refuse(scope, receive, send, refused.problem)
        except DaebusError as error:  # Of `listen`: what comes later closes the WebSocket.
            await refuse(scope, receive, send, problem_of(error, shows_failures=False))
        except WebSocketDisconnect:
            pass  # Before it was opened.

    async def _open(self, websocket: WebSocket, channel: str) -> None:
        listens, publishes = self._exposed.has_channel(channel), self._exposed.may_publish(channel)
        if not (listens or publishes):
            raise Refused(_not_exposed(channel))
        with self._sockets.one():
            async with AsyncExitStack() as stack:
                listener = None
                if listens:
                    listener = await self._asking.listen([channel])
                    stack.push_async_callback(listener.close)
                await websocket.accept()
                await self._serve(websocket, channel, listener, publishes=publishes)

    async def _serve(
        self, websocket: WebSocket, channel: str, listener: Listener | None, *, publishes: bool
    ) -> None:
        """Send and receive until one of both is over; that one says how to close."""
        tasks = {asyncio.create_task(self._receive(websocket, channel, publishes=publishes))}
        if listener is not None:
            tasks.add(asyncio.create_task(_send_all(websocket, channel, listener)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        closing = [task.result() for task in done]
        if all(closing):
            code, reason = closing[0] or (FAILED, "")
            await _close(websocket, code, reason)

    async def _receive(
        self, websocket: WebSocket, channel: str, *, publishes: bool
    ) -> tuple[int, str] | None:
        """Publish what the client sends; None when it has gone."""
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            if not publishes:
                return NOT_ALLOWED, "this gateway does not publish to this channel"
            data = message.get("bytes") or (message.get("text") or "").encode()
            try:
                await self._asking.publish(channel, _json(data))
            except BadMessage as error:
                return BAD_FRAME, _short(error.reason)
            except DaebusError as error:
                problem = problem_of(error, shows_failures=False)
                return TRY_LATER, _short(problem.detail or problem.title)


async def _send_all(
    websocket: WebSocket, channel: str, listener: Listener
) -> tuple[int, str] | None:
    """Send each message as a text frame; None when the client has gone."""
    try:
        async for name, data in listener:
            await websocket.send_text(_frame(channel, name, data).decode(errors="replace"))
    except TooSlow:
        return TRY_LATER, "read too slowly: messages were dropped"
    except WebSocketDisconnect:
        return None
    return FAILED, ""


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    try:
        await websocket.close(code, reason)
    except (WebSocketDisconnect, RuntimeError):
        pass  # The client was faster.


def _frame(channel: str, name: str, data: bytes) -> bytes:
    """A message; what came by a pattern says on which channel it was published."""
    if not is_pattern(channel):
        return data
    return msgspec.json.encode({"channel": name, "payload": _payload(data)})


def _event_of(channel: str, name: str, data: bytes) -> bytes:
    return event("message", _frame(channel, name, data).decode(errors="replace").encode())


def _payload(data: bytes) -> msgspec.Raw | str:
    """JSON as it is; what is none, as a text."""
    try:
        return raw_json(data) if data else ""
    except BadMessage:
        return data.decode(errors="replace")


def _json(data: bytes) -> msgspec.Raw:
    if not data:
        raise BadMessage("an empty frame is not JSON")
    return raw_json(data)


def _short(text: str) -> str:
    """As much of a text as a close frame has room for: 123 bytes."""
    return text.encode()[:120].decode(errors="ignore")


def _not_exposed(channel: str) -> Problem:
    return Problem(
        404,
        "not_exposed",
        "This gateway does not expose this channel",
        f"{channel[:200]!r} is not among what --channel named where the gateway was started",
    )


def _too_slow() -> Problem:
    detail = "messages came faster than they were read, and were dropped"
    return Problem(503, "too_slow", "The client reads too slowly", detail)
