"""Who may speak with a web command: checks of host, origin and token, before anything else.

A page of any web site can make a browser send requests to loopback. So the Host must be one that
the server was meant to be reached by (else a name that points to 127.0.0.1 gets in), and the Origin
must be the server's own, or one that was allowed.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import urlsplit

from daebus.operate.web.http_errors import Problem
from daebus.operate.web.server import App, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address.

    Example:
        >>> is_loopback("127.0.0.2"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class HostGuard:
    """Refuses requests that were meant for another host, or come from a foreign web page.

    Args:
        app: what is guarded.
        hosts: the names that it may be reached by, without ports; None for any.
        origins: the foreign origins that are allowed, such as `https://app.example.com`.
    """

    def __init__(
        self, app: App, hosts: Collection[str] | None, origins: Collection[str] = ()
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app do it."""
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if self._hosts is not None and host and _name(host) not in self._hosts:
            problem = Problem(421, "wrong_host", "This is not the host that was meant", host)
        elif origin and not self._is_allowed(origin, host):
            problem = Problem(403, "foreign_origin", "Pages of this origin are not allowed", origin)
        else:
            await self._app(scope, receive, send)
            return
        await refuse(scope, receive, send, problem)

    def _is_allowed(self, origin: str, host: str) -> bool:
        if origin in self._origins or "*" in self._origins:
            return True
        try:
            return urlsplit(origin).netloc.lower() == host.lower() != ""
        except ValueError:
            return False


class TokenGuard:
    """Refuses requests without the token: `Authorization: Bearer TOKEN`, or a cookie.

    Args:
        app: what is guarded.
        token: the token.
        cookie: the name of a cookie that may hold it instead; None for none.
        open_paths: paths that need no token.
    """

    def __init__(
        self,
        app: App,
        token: str,
        *,
        cookie: str | None = None,
        open_paths: Collection[str] = (),
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._cookie = cookie
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app do it."""
        if scope["path"] in self._open_paths or self.has_token(scope):
            await self._app(scope, receive, send)
            return
        problem = Problem(
            401,
            "no_token",
            "The right token is missing",
            "send it as the header 'Authorization: Bearer TOKEN'",
        )
        await refuse(scope, receive, send, problem, {"www-authenticate": "Bearer"})

    def has_token(self, scope: Scope) -> bool:
        """Whether a request has the token."""
        kind, _, given = _header(scope, b"authorization").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return self._cookie is not None and self.is_token(_cookie(scope, self._cookie))

    def is_token(self, text: str) -> bool:
        """Whether it is the token; takes as long whatever is wrong with it."""
        return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), self._token)


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    problem: Problem,
    headers: dict[str, str] | None = None,
) -> None:
    """Answer a request with a problem; a WebSocket is not opened.

    Args:
        scope: of the request.
        receive: of the request.
        send: of the request.
        problem: what the answer is.
        headers: more headers.
    """
    prefix = "websocket.http" if scope["type"] == "websocket" else "http"
    if scope["type"] == "websocket":
        await receive()  # The client's wish to connect.
    body = problem.body()
    all_headers = {**problem.headers(), **(headers or {}), "content-length": str(len(body))}
    encoded = [(name.encode(), value.encode()) for name, value in all_headers.items()]
    start = {"type": f"{prefix}.response.start", "status": problem.status, "headers": encoded}
    await send(start)
    await send({"type": f"{prefix}.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> str:
    """A header's value; empty if it is not there."""
    for each, value in scope["headers"]:
        if each == name:
            return str(value, "latin-1")
    return ""


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _cookie(scope: Scope, name: str) -> str:
    try:
        found = SimpleCookie(_header(scope, b"cookie")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""
