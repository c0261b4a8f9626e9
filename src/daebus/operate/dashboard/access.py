"""Who may use the dashboard: the checks before every request, and the headers of every response.

A page in a browser can be reached by what other pages do, so a token alone is not enough: a request
must also name this server as its host (against DNS rebinding), and whatever changes something must
come from the dashboard's own page (against requests forged by other pages).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daebus.operate.dashboard.pages import token_page

#: What this machine calls itself.
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::\d{1,5})?", re.ASCII | re.IGNORECASE)

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Rules:
    """What is asked of a request.

    Args:
        token: what it must know; None: nothing.
        hosts: the names that this server has.
        any_address: whether a bare IP address is one of them, too: where the server listens on
            all that the machine has. DNS rebinding needs a name.
        is_read_only: whether nothing may be changed.
    """

    token: str | None
    hosts: frozenset[str] = LOOPBACK_NAMES
    any_address: bool = False
    is_read_only: bool = False


class Gate:
    """Lets those requests through to an application that keep the rules.

    Args:
        app: the application.
        rules: what is asked.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._answer(Request(scope)) or self._app
            await answer(scope, receive, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _answer(self, request: Request) -> Response | None:
        """What is answered instead of the application; None where it may answer."""
        rules = self._rules
        host = request.headers.get("host", "")
        if not _is_known(host, rules):
            return _refused(
                f"This server is not called {host[:100]!r}. Use the address that it printed."
            )
        if rules.token is not None:
            if request.url.path == "/" and (given := request.query_params.get("token")):
                return _entered(request, rules.token, given)
            if not _knows(request, rules.token):
                return _unknown(request)
        if request.method in {"GET", "HEAD"}:
            return None
        return _change_refused(request, host, rules)


def _is_known(host: str, rules: Rules) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1].lower()
    if name in rules.hosts:
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return rules.any_address


def _entered(request: Request, token: str, given: str) -> Response:
    """The first visit: the token moves from the address bar, where others see it, to a cookie."""
    if not _is_same(given, token):
        return _unknown(request)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(_cookie_name(request), _sign(token), httponly=True, samesite="strict")
    return answer


def _knows(request: Request, token: str) -> bool:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _is_same(bearer, token)
    return _is_same(request.cookies.get(_cookie_name(request), ""), _sign(token))


def _sign(token: str) -> str:
    """What the cookie says: letters and digits, whatever the token is made of."""
    return sha256(b"daebus dashboard " + token.encode()).hexdigest()


def _is_same(given: str, token: str) -> bool:
    """Compared in a time that does not tell how much of it is right."""
    return secrets.compare_digest(given.encode(errors="replace"), token.encode())


def _cookie_name(request: Request) -> str:
    """One for each port: cookies do not know ports, and there may be two dashboards."""
    server = request.scope.get("server") or ("", 0)
    return f"daebus_dashboard_{server[1]}"


def _change_refused(request: Request, host: str, rules: Rules) -> Response | None:
    """Why a request that may change something is not let through; None where it is."""
    if rules.is_read_only:
        return _refused("This dashboard is read-only; start it without --read-only to change that.")
    if not _is_of_own_page(request, host):
        return _refused("This request does not come from the dashboard's own page.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # What a form of another page cannot send.
        return PlainTextResponse("The body must be application/json.", 415)
    return None


def _is_of_own_page(request: Request, host: str) -> bool:
    """Whether the browser says so; what is no browser names its token in a header instead."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None:
        return origin.lower() in {f"http://{host}".lower(), f"https://{host}".lower()}
    return site is not None or "authorization" in request.headers


def _unknown(request: Request) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return token_page()
    return PlainTextResponse(
        "A token is needed: open the address that 'daebus dashboard' printed.", 401
    )


def _refused(text: str) -> Response:
    return PlainTextResponse(text, 403)


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
