"""Connections of clients: how many there may be, and how long one may take to ask for something.

uvicorn bounds neither. A client that opens connections and says nothing would take all files that
the process may open; then nobody else gets in, and the server cannot be reached either.
"""

from __future__ import annotations

import asyncio
import resource
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

from daebus.logs import Incidents, get_logger
from daebus.operate.web.http_errors import Problem

log = get_logger(__name__)

#: How long a client may take to send the headers of a request, in seconds. Between two requests
#: the keep-alive time counts, until the first byte of the next.
HEADERS_S = 10.0

#: Bytes that a client has not taken yet, beyond which its pings have no answer.
MAX_UNSENT = 65_536

#: Frames of which one message may be made.
MAX_FRAMES = 10_000

#: Connections that asyncio accepts at a time, before any of them is looked at.
BACKLOG = 100

#: Files that the process needs besides: its connections to the server, and those that are refused,
#: of which some times the backlog may be on their way.
OTHER_FILES = 500

_incidents = Incidents(log)


class _Connection(H11Protocol):
    """One connection. h11 bounds the headers of a request; httptools, if installed, does not."""

    #: How many there may be.
    most = 0

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            _incidents.report(
                "connections_full",
                f"{self.most:,} connections are open, which is as many as may be: more are refused",
            )
            detail = f"{self.most:,} connections are open, which is as many as may be"
            self._refuse(Problem(503, "too_many_connections", "The server is full", detail))
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        # What `websockets` cannot read uvicorn leaves without an answer, and without a time limit.
        if not getattr(self.transport.get_protocol(), "handshake_initiated", True):
            self._refuse(Problem(400, "bad_request", "The WebSocket's handshake makes no sense"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _refuse(self, problem: Problem) -> None:
        """Answer what was not even read, and end it."""
        body = problem.body()
        headers = {**problem.headers(), "content-length": str(len(body)), "connection": "close"}
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        status = f"{problem.status} {HTTPStatus(problem.status).phrase}"
        self.transport.write(f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode() + body)
        self.transport.close()

    def _watch(self) -> None:
        """Give the client its time, if it is the one who has to go on."""
        if self._is_answering():
            self._stop_watching()
        elif self._late is None:
            self._late = self.loop.call_later(HEADERS_S, self._on_late)

    def _stop_watching(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_answering(self) -> bool:
        """Whether a request is under way here, or the connection has become a WebSocket."""
        is_other = self.transport.get_protocol() is not self
        return is_other or (self.cycle is not None and not self.cycle.response_complete)

    def _on_late(self) -> None:
        self._late = None
        if not self._is_answering():
            self.transport.close()


class _Bounds:
    """A mixin for a connection that has become a WebSocket: what uvicorn keeps of it."""

    conn: Any
    frames: list[bytes]
    transport: asyncio.Transport

    def handle_cont(self, event: Any) -> None:
        """Take a further frame of a message; those without content have no other bound."""
        if len(self.frames) < MAX_FRAMES:
            super().handle_cont(event)  # type: ignore[misc]
        else:
            self.transport.abort()

    def handle_ping(self) -> None:
        """Answer a ping, unless the client takes no answers: they would fill the memory.

        Not each ping must have an answer (RFC 6455, 5.5.3).
        """
        pongs = b"".join(self.conn.data_to_send())
        if self.transport.get_write_buffer_size() < MAX_UNSENT:
            self.transport.write(pongs)


def web_sockets() -> type[asyncio.Protocol]:
    """What uvicorn makes of each WebSocket."""
    return type("WebSocket", (_Bounds, cast("type", AutoWebSocketsProtocol)), {})


def connections(most: int) -> type[asyncio.Protocol]:
    """What uvicorn makes of each connection.

    Args:
        most: how many may be open; further ones are told so, and closed.
    """
    return type("Connection", (_Connection,), {"most": most})


def room_for(most: int) -> int:
    """How many connections the process may open files for, at most as many as are wanted.

    More files than the process may open now are allowed it, as far as the system lets it.

    Args:
        most: as many are wanted.
    """
    files, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + OTHER_FILES
    if files == resource.RLIM_INFINITY or files >= wanted:
        return most
    files = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, ceiling))
    except (OSError, ValueError):  # The system has a ceiling that it does not tell (macOS).
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    # Where there are very few, some for clients count more than to be safe from a rush of them.
    return min(most, max(files - OTHER_FILES, files // 4))
