"""Open a connection to the server, and the bare socket that carries the path of a message.

redis-py knows addresses, TLS, passwords and the handshake, so it opens the connection. From then
on daebus drives the socket itself: one system call for a whole receive, one for a whole send.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import struct
import threading
from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import quote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from daebus.bus import embedded, sentinel
from daebus.errors import ServerUnavailable, SettingsError
from daebus.settings import DEFAULT_URL

#: How long a receive waits before it gives the reader thread a turn to look at the link, seconds.
RECEIVE_WAIT_S = 1.0

#: How long to wait for the server to accept a connection and to answer the handshake, seconds.
CONNECT_TIMEOUT_S = 5.0

_SCHEMES = (
    "redis://",
    "rediss://",
    "valkey://",
    "valkeys://",
    "unix://",
    *sentinel.SCHEMES,
    "embedded://",
)


def display(url: str) -> str:
    """The address as it may be shown: without its password, and without its query.

    All before the last `@` counts as user and password, also when a character of the password
    that should have been escaped makes the address unreadable.
    """
    scheme, separator, place = url.partition("://") if "://" in url else ("", "", url)
    user = ""
    if not place.startswith("/"):  # A unix socket's path may have an @ in its name.
        credentials, at, place = place.rpartition("@")
        name, colon, _ = credentials.partition(":")
        user = f"{name if colon else ''}{colon}***@" if at else ""
    return scheme + separator + user + re.split("[?#]", place, maxsplit=1)[0]


def check_url(url: str) -> str:
    """Return `url`, or raise `SettingsError` when it is no server address."""
    if not isinstance(url, str) or not url.startswith(_SCHEMES):
        shown = display(url) if isinstance(url, str) else repr(type(url))
        raise SettingsError(
            f"{shown} is no server address; it begins with one of {', '.join(_SCHEMES)}"
        )
    if url.startswith(sentinel.SCHEMES):
        sentinel.check_sentinel_url(url, display(url))
    elif not url.startswith("embedded://"):
        try:
            _check_database(url)
            # Its options are looked at only where a connection is made, which opens nothing yet.
            redis.ConnectionPool.from_url(_for_redis(url)).make_connection()
        except (ValueError, TypeError, redis.RedisError) as error:
            raise _unreadable(url, error) from None
    return url


def _check_database(url: str) -> None:
    """Redis-py takes a database that is no number for the first one."""
    parts = urlsplit(url)
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdecimal():
        raise ValueError(f"{database!r} is no number of a database")


def _for_redis(url: str) -> str:
    """The address with a scheme that redis-py knows."""
    return "redis" + url.removeprefix("valkey") if url.startswith("valkey") else url


def _unreadable(url: str, error: Exception) -> SettingsError:
    # The error's text may hold a piece of the password that was taken for a port, say.
    escape = "; look at all behind its host, and escape the password: / is %2F, @ is %40"
    reason = escape if "@" in url else f": {error}"
    return SettingsError(f"{display(url)} is no server address{reason}")


def client(url: str, *, protocol: int = 3, timeout_s: float = CONNECT_TIMEOUT_S) -> redis.Redis:
    """A redis-py client for this address: for keys and administration, not for messages.

    Its own retries are off: redis-py repeats a command whose reply was lost, which would run it
    twice, and it gives up when its budget is spent; daebus decides both itself.

    Raises:
        SettingsError: the address makes no sense.
        ServerUnavailable: the bundled server of `embedded://` cannot be started, or no Sentinel
            names the master.
    """
    check_url(url)
    if url.startswith("embedded://"):
        url = f"unix://{quote(str(embedded.ensure_server()))}"
    elif url.startswith(sentinel.SCHEMES):
        url = sentinel.master_url(url, display(url))
    try:
        return redis.Redis.from_url(
            _for_redis(url),
            protocol=protocol,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(url, error) from None


class Wire(ABC):
    """A connected socket, as the link uses it: receives wait, sends never do."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @abstractmethod
    def receive_into(self, buffer: bytearray) -> int:
        """Receive what is there, at least one byte; -1 when nothing came for `RECEIVE_WAIT_S`.

        Raises:
            OSError: the connection is broken; closed by the other side too.
        """

    @abstractmethod
    def send(self, data: bytes | memoryview) -> int:
        """Send as much as fits into the socket's buffer now, maybe nothing."""

    def wait_writable(self, timeout_s: float) -> bool:
        """Wait until `send` can go on."""
        return _poll(self._sock, select.POLLOUT, timeout_s)

    def wait_readable(self, timeout_s: float) -> bool:
        """Wait until there is something to receive."""
        return _poll(self._sock, select.POLLIN, timeout_s)

    def close(self) -> None:
        """Close; a receive in another thread ends."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)  # close() alone does not wake that thread.
        except OSError:
            pass  # It was not connected any more.
        self._sock.close()

    def abandon(self) -> None:
        """Close this process's end only: the parent of a fork goes on with the connection."""
        self._sock.close()


class PlainWire(Wire):
    """A TCP or unix socket. The kernel itself ends a receive that waits: one system call."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.settimeout(None)
        timeval = struct.pack("ll", int(RECEIVE_WAIT_S), int(RECEIVE_WAIT_S % 1 * 1_000_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    def receive_into(self, buffer: bytearray) -> int:
        """See `Wire`."""
        try:
            count = self._sock.recv_into(buffer)
        except BlockingIOError:
            return -1
        if count == 0:
            raise ConnectionResetError("the server closed the connection")
        return count

    def send(self, data: bytes | memoryview) -> int:
        """See `Wire`."""
        try:
            return self._sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0


class TlsWire(Wire):
    """A TLS socket. OpenSSL's object is not made for two threads at once, so a lock guards it."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self._lock = threading.Lock()
        sock.settimeout(0)

    def receive_into(self, buffer: bytearray) -> int:
        """See `Wire`."""
        while True:
            try:
                with self._lock:
                    count = self._sock.recv_into(buffer)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not _poll(self._sock, select.POLLIN, RECEIVE_WAIT_S):
                    return -1
                continue
            if count == 0:
                raise ConnectionResetError("the server closed the connection")
            return count

    def send(self, data: bytes | memoryview) -> int:
        """See `Wire`."""
        try:
            with self._lock:
                return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0


def _poll(sock: socket.socket, events: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(sock, events)
    return bool(poller.poll(timeout_s * 1000))


def connect(url: str, name: str) -> Wire:
    """Connect, authenticate and hand over the bare socket, speaking RESP3.

    Args:
        url: the server's address.
        name: the connection's name in the server's CLIENT LIST.

    Raises:
        SettingsError: the address makes no sense.
        ServerUnavailable: nobody answers there, or the server refuses.
    """
    connection: Any = client(url).connection_pool.make_connection()
    connection.client_name = name
    try:
        connection.connect()
        if url.startswith(sentinel.SCHEMES):
            sentinel.check_master(connection, display(url))
    except redis.AuthenticationError as error:
        raise ServerUnavailable(
            display(url), f"it refuses the user or password ({error})"
        ) from None
    except (redis.RedisError, OSError) as error:
        raise ServerUnavailable(display(url), advice(url, error)) from None
    # The handshake's replies have all been read, so nothing is left in redis-py's own buffer.
    sock = connection._sock  # noqa: SLF001 - redis-py has no public way to take the socket over
    connection._sock = None  # noqa: SLF001 - … nor to let go of it without closing it
    return TlsWire(sock) if isinstance(sock, ssl.SSLSocket) else PlainWire(sock)


def advice(url: str, error: Exception) -> str:
    """Why the server cannot be used, and for the default address both ways out."""
    reason = str(error).rstrip(".")
    if "writing to socket" in reason or "closed by server" in reason:
        # The server says why, but a write that fails comes before its text can be read.
        reason += "; it closes a new connection at once when it has its max number of clients"
    if url == DEFAULT_URL:
        return (
            f"{reason}. Start a Redis or Valkey server there, or set DAEBUS_URL=embedded:// to "
            f"use the bundled one"
        )
    return reason
