"""A small HTTP server for what watches this process: probes of its health, and its metrics.

The standard library parses the requests. Its servers are not used: they take up to half a second to
stop, let any number of connections in, and give one that trickles as long as it likes.
"""

from __future__ import annotations

import itertools
import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from time import monotonic
from typing import Any, NamedTuple, cast

from turbo_queue.alarm import Alarm
from turbo_queue.errors import SettingsError
from turbo_queue.escapes import printable
from turbo_queue.forks import watch
from turbo_queue.settings import LOOPBACK

logger = logging.getLogger(__name__)

#: The path of each page.
LIVE, READY, METRICS = "/live", "/ready", "/metrics"

#: How long a connection may last, in seconds; Prometheus waits for ten.
CONNECTION_S = 10.0

#: How many connections there may be at once; the oldest is cut for one more, so that those who
#: hold theirs open cannot keep out a probe.
MOST_CONNECTIONS = 16

#: How many are answered at once at most, with those that were cut while their page was made; more
#: wait to be taken, or whoever asks faster than pages are made would fill the memory with threads.
MOST_ANSWERS = 64

#: How long it rests when there is no descriptor or thread for a connection, in seconds.
_REST_S = 0.1

PLAIN = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What a page says."""

    status: HTTPStatus
    content_type: str
    body: bytes


#: Makes an answer; called in a thread of the connection, by several at once.
Page = Callable[[], Answer]


def plain(status: HTTPStatus, text: str) -> Answer:
    """An answer in plain text."""
    return Answer(status, PLAIN, f"{text}\n".encode())


def probe(troubles: Callable[[], Sequence[str]]) -> Page:
    r"""A page that is 200 `ok` while there are no troubles, else 503 with one on each line.

    Args:
        troubles: Says what is wrong now. Quick, and safe from any thread.

    Example:
        >>> answer = probe(lambda: ["the disk is full"])()
        >>> int(answer.status), answer.body
        (503, b'the disk is full\n')
    """

    def page() -> Answer:
        if not (found := troubles()):
            return plain(HTTPStatus.OK, "ok")
        lines = [printable(trouble) for trouble in found]
        return plain(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(lines))

    return page


def page_or_why_not(make: Callable[[], Page]) -> Page:
    """The page that `make` makes; if a package for it is missing, one that says so (501)."""
    try:
        return make()
    except ImportError as error:
        logger.warning("%s", error, extra={"event": "metrics.missing"})
        answer = plain(HTTPStatus.NOT_IMPLEMENTED, str(error))
        return lambda: answer


class StatusPort:
    r"""Serves pages over HTTP, to GET and HEAD alone.

    Args:
        pages: By their paths.
        port: Where it listens; 0: at any port that is free.
        host: The address or name that it listens at.
        name: What its threads are called.

    Example:
        >>> from urllib.request import urlopen
        >>> port = StatusPort({"/ready": probe(list)}, port=0)
        >>> port.start()
        >>> urlopen(f"{port.url}/ready").read()
        b'ok\n'
        >>> port.join(1.0)
    """

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        port: int,
        host: str = LOOPBACK,
        name: str = "turbo-queue-status",
    ) -> None:
        self._pages = dict(pages)
        self._port = port
        self._host = host
        self._name = name
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        #: The connections, oldest first, and when each is overdue.
        self._open: dict[socket.socket, float] = {}
        self._answering = 0
        #: Whether there was no descriptor or thread for the last connection.
        self._lacks = False
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self) -> None:
        """Listen, and start the thread that answers.

        Raises:
            SettingsError: the port cannot be had, or there is no such address here.
        """
        try:
            self._listener = _listen(self._host, self._port)
        except (OSError, OverflowError, UnicodeError) as error:
            raise SettingsError(
                f"the metrics port {self._port} at {self._host!r} cannot be opened: "
                f"{_why(error)}. Choose another metrics_port, or 0 for any that is free"
            ) from error
        self._listener.settimeout(0)
        self._alarm = Alarm()
        watch(self)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is to be found, without a path."""
        host, port = cast("socket.socket", self._listener).getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def request_stop(self) -> None:
        """Take no more connections. For any thread; may be called again."""
        self._stopping.set()
        if self._listener is not None:
            self._alarm.ring()

    def join(self, timeout_s: float) -> None:
        """Stop; answers that have begun have so many seconds to be sent."""
        self.request_stop()
        if self._listener is None:
            return
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        end = monotonic() + timeout_s
        for thread in threading.enumerate():
            if thread.name.startswith(f"{self._name}-"):
                thread.join(max(0.0, end - monotonic()))

    def after_fork(self) -> None:
        """Let go of the port, which is the parent's (see `forks`)."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    # --- the thread that takes connections ---

    def _serve(self) -> None:
        listener = cast("socket.socket", self._listener)
        with selectors.DefaultSelector() as selector, listener:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._alarm, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for key, _ in selector.select(self._cut_overdue()):
                    if key.fileobj is listener:
                        self._accept(listener)
        self._alarm.close()

    def _cut_overdue(self) -> float | None:
        """Cut what is overdue; give the seconds until the next one is."""
        now = monotonic()
        with self._lock:
            for connection, overdue_at in list(self._open.items()):
                if overdue_at > now:
                    return overdue_at - now
                self._cut(connection)
        return None

    def _accept(self, listener: socket.socket) -> None:
        if self._answering >= MOST_ANSWERS:
            self._stopping.wait(_REST_S)
            return
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return  # It has gone again.
        except OSError as error:
            self._rest(f"a connection cannot be taken: {error}")
            return
        with self._lock:
            if len(self._open) >= MOST_CONNECTIONS:
                self._cut(next(iter(self._open)))
            self._open[connection] = monotonic() + CONNECTION_S
            self._answering += 1
        name = f"{self._name}-{next(self._numbers)}"
        try:
            threading.Thread(
                target=self._answer, args=(connection,), name=name, daemon=True
            ).start()
        except RuntimeError as error:  # The system has no thread to give now.
            self._rest(f"a connection cannot be answered: {error}")
            self._free(connection)
        else:
            self._lacks = False

    def _rest(self, why: str) -> None:
        """Wait for what the system has not; said once, until it has."""
        if not self._lacks:
            logger.warning("%s", why)
        self._lacks = True
        self._stopping.wait(_REST_S)

    def _cut(self, connection: socket.socket) -> None:
        """End a connection; its thread then frees it. Under the lock, so that it is not closed."""
        self._open.pop(connection)
        _shut_down(connection)

    # --- the threads of the connections ---

    def _answer(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(CONNECTION_S)
            _Exchange(connection, self._pages)
        except OSError:
            pass  # Whoever asked has gone, or took too long.
        finally:
            self._free(connection)

    def _free(self, connection: socket.socket) -> None:
        with self._lock:
            self._answering -= 1
            self._open.pop(connection, None)
            _shut_down(connection)
            connection.close()


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    server_version, sys_version = "turbo-queue", ""

    def __init__(self, connection: socket.socket, pages: Mapping[str, Page]) -> None:
        self._pages = pages
        super().__init__(connection, ("", 0), cast("Any", None))  # It has no server to ask.

    def do_GET(self) -> None:
        """Answer with a page."""
        path = self.path.partition("?")[0]
        page = self._pages.get(path)
        if page is None:
            self._send(plain(HTTPStatus.NOT_FOUND, f"there are {', '.join(self._pages)}"))
            return
        try:
            answer = page()
        except Exception:
            # A figure that cannot be had must not end the thread without an answer.
            logger.exception("the page %s failed", path, extra={"event": "status.error"})
            answer = plain(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed; see the log")
        self._send(answer)

    def do_HEAD(self) -> None:
        """Answer with the head of the page alone."""
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request, in plain text and without repeating what it said."""
        del message, explain
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:  # A method that there is no `do_…` for.
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self.request_version = "HTTP/1.0"  # Else some answers would have no head, as in 1991.
        self._send(plain(status, status.phrase))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is inherited
        """Log nothing: there is a probe every few seconds."""

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return socket.create_server(address[:2], family=family)


def _why(error: Exception) -> str:
    """What the system says, without the address, which Python repeats."""
    number = getattr(error, "errno", None) or 0
    return os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)


def _shut_down(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # It has gone.
