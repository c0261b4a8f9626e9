"""A small web server for the commands that need one: ASGI over uvicorn, and how it ends.

Needs the extra `web`: import it behind `extra.check_installed`.

The first Ctrl-C or SIGTERM stops accepting, ends what has no end by itself, and lets the requests
that run finish within the grace time. The second ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import Any, Self

import uvicorn

from daebus.errors import SettingsError
from daebus.logs import get_logger
from daebus.operate import output
from daebus.operate.web.connections import BACKLOG, connections, room_for, web_sockets
from daebus.service.signals import stop_on_signals

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A client that takes nothing for so long is cut off by the kernel, in seconds (Linux: tcp(7)).
STALLED_AFTER_S = 30

#: How many connections may be open by default.
MAX_CONNECTIONS = 2_000

#: How long each may wait for its next request by default, in seconds.
IDLE_S = 5

#: What the server has beyond the grace time to end what does not end, in seconds.
CUT_S = 2

#: What uvicorn logs as errors, though any client can cause it: that a WebSocket was refused, and
#: that a text frame is no UTF-8.
_CLIENTS_DOINGS = frozenset(
    {
        "ASGI callable returned without completing handshake.",
        "Invalid UTF-8 sequence received from client.",
    }
)


class ClientGone(Exception):
    """The client went away, or the server's grace time is over: nobody waits for the response."""


class Ending:
    """The end of a server, as those see it who answer its requests."""

    def __init__(self) -> None:
        #: Set when nothing new is begun any more.
        self.has_begun = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._endless: set[asyncio.Task[None]] = set()

    def begin(self, grace_s: float) -> None:
        """End what has no end; the rest has the grace time. Called in the loop's thread."""
        self.has_begun.set()
        _cancel(self._endless)
        asyncio.get_running_loop().call_later(grace_s, _cancel, self._running)

    def unless_gone(self, receive: Receive, *, is_endless: bool = False) -> _UnlessGone:
        """Cancel what stands in an `async with` block when its client goes away.

        The request's body must have been read.

        Args:
            receive: the ASGI function; nobody else may use it meanwhile.
            is_endless: what never ends by itself is cancelled when the server begins to stop,
                anything else when its grace time is over.

        Raises:
            ClientGone: instead of the cancellation, after the block.
        """
        if is_endless and self.has_begun.is_set():
            raise ClientGone
        return _UnlessGone(self._endless if is_endless else self._running, receive)


class _UnlessGone:
    """Watches the client while a block runs; see `Ending.unless_gone`."""

    def __init__(self, group: set[asyncio.Task[None]], receive: Receive) -> None:
        self._group = group
        self._receive = receive
        self._is_gone = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - an ASGI application runs in a task
        self._task = task
        self._cancelling = task.cancelling()
        self._watch = asyncio.create_task(_wait_until_gone(self._receive))
        self._watch.add_done_callback(self._on_gone)
        self._group.add(self._watch)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._group.discard(self._watch)
        self._watch.remove_done_callback(self._on_gone)
        self._watch.cancel()
        if not self._is_gone or self._task.uncancel() > self._cancelling:
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise ClientGone from error

    def _on_gone(self, _watch: asyncio.Task[None]) -> None:
        self._is_gone = True
        self._task.cancel()


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] not in {"http.disconnect", "websocket.disconnect"}:
        pass


def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        task.cancel()


def serve(
    open_app: Callable[[Ending], AbstractAsyncContextManager[App]],
    *,
    what: str,
    host: str,
    port: int,
    grace_s: float,
    is_debug: bool = False,
    max_frame_bytes: int = 1024 * 1024,
    max_connections: int = MAX_CONNECTIONS,
    idle_s: int = IDLE_S,
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """Serve an app until Ctrl-C or SIGTERM.

    Args:
        open_app: opens what the app needs, gives the ASGI application, and closes it all at the
            end; what it raises at its start comes through.
        what: the app's name in the line that says that it is ready, such as `gateway`.
        host: the address to listen on.
        port: the port; 0 for any that is free.
        grace_s: how long requests may still take when it ends, in seconds.
        is_debug: whether each request is logged.
        max_frame_bytes: larger frames of WebSockets close them.
        max_connections: how many may be open; fewer, if the system allows no more.
        idle_s: how long a connection may wait for its next request, in seconds.
        on_ready: told the address, such as `http://127.0.0.1:8080`, before that line is printed.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    ending = Ending()
    _set_up_logging(is_debug=is_debug)
    if (most := room_for(max_connections)) < max_connections:
        output.note(f"Only {most:,} connections: the system allows no more open files", "yellow")

    async def run(listening: socket.socket) -> None:
        async with open_app(ending) as app:
            config = uvicorn.Config(
                app,
                http=connections(most),
                ws=web_sockets(),
                backlog=BACKLOG,
                lifespan="off",
                log_config=None,  # The logging is the program's.
                access_log=is_debug,
                server_header=False,
                proxy_headers=False,
                ws_max_size=max_frame_bytes,
                ws_per_message_deflate=False,
                timeout_keep_alive=idle_s,
                timeout_graceful_shutdown=math.ceil(grace_s) + CUT_S,
            )
            server = _Server(config, lambda: _say_ready(what, host, listening, on_ready))
            with stop_on_signals(_stopper(server, ending, grace_s)):
                await server.serve(sockets=[listening])

    with _listen(host, port) as listening:
        asyncio.run(run(listening))
    output.note("Stopped")


class _Server(uvicorn.Server):
    """Says when it is ready, and leaves the signals alone."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _stopper(server: _Server, ending: Ending, grace_s: float) -> Callable[[], None]:
    """What a signal calls, in a thread of its own."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True
        ending.begin(grace_s)

    return lambda: _call_soon(loop, stop)


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        pass  # It has ended already.


def _say_ready(
    what: str, host: str, listening: socket.socket, on_ready: Callable[[str], object] | None
) -> None:
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{listening.getsockname()[1]}"
    if on_ready is not None:
        on_ready(url)
    output.note(f"{what} is ready at {url}; Ctrl-C ends it")


def _listen(host: str, port: int) -> socket.socket:
    """A socket that is bound.

    Raises:
        SettingsError: the address is taken, or none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        # With the protocol: else asyncio leaves out TCP_NODELAY, and each answer takes 40 ms.
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it.
                stalled_ms = STALLED_AFTER_S * 1000
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stalled_ms)
            listening.bind(address)
        except BaseException:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(
            f"cannot listen on {host!r}, port {port}: {reason}. Choose another --port "
            f"(0 takes any that is free) or --host"
        ) from None
    return listening


def _set_up_logging(*, is_debug: bool) -> None:
    """Let uvicorn's records go where those of daebus go; what any client can cause, not at all."""
    for name in ("uvicorn.error", "uvicorn.access"):
        target = get_logger(name)
        target.setLevel(logging.DEBUG if is_debug else logging.ERROR)
        if not is_debug:
            target.addFilter(_is_no_clients_doing)
        if not target.hasHandlers():
            target.handlers = list(logging.getLogger("daebus").handlers)


def _is_no_clients_doing(record: logging.LogRecord) -> bool:
    return record.msg not in _CLIENTS_DOINGS
