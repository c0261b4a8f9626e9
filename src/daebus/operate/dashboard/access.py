"""Who may use the dashboard: the checks before every request, and the headers of every response.

What other web sites can make a browser do is the danger here. So the Host must be this server's own
(see `HostGuard`), the token is in a cookie that comes along from other sites only when somebody
follows a link to the dashboard, and whatever changes something must come from its own page.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daebus.operate.dashboard.pages import token_page
from daebus.operate.web.cut_off import CutOff
from daebus.operate.web.guard import HostGuard, TokenGuard, refuse
from daebus.operate.web.http_errors import Problem

#: The page loads its own files and speaks to its own server, and nothing else (CSP Level 3).
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

_STOPPING = Problem(503, "stopping", "The dashboard stops; the request was cancelled")


def guarded(
    app: ASGIApp, *, token: str | None, hosts: Collection[str] | None, is_read_only: bool
) -> ASGIApp:
    """The application behind all its checks.

    Args:
        app: the application.
        token: what a request must know; None: nothing.
        hosts: the names that it may be reached by; None for any.
        is_read_only: whether nothing may be changed.
    """
    inner: ASGIApp = _ChangeGuard(app, is_read_only=is_read_only)
    if token is not None:
        inner = _Door(inner, token)
    return CutOff(_Headers(HostGuard(inner, hosts)), _STOPPING)


class _Door:
    """Lets in who has the token; at the first visit it goes from the address bar to a cookie."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._token = token
        # Cookies do not know ports: dashboards with other tokens must not overwrite this one.
        self._cookie = f"daebus_dashboard_{sha256(token.encode()).hexdigest()[:8]}"
        self._guard = TokenGuard(app, token, cookie=self._cookie)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/":
            await self._guard(scope, receive, send)
            return
        given = Request(scope).query_params.get("token")
        if given is None and self._guard.has_token(scope):
            await self._guard(scope, receive, send)
        elif given is not None and self._guard.is_token(given):
            answer = RedirectResponse("/", 303)
            # "strict" would ask whoever follows the link in a chat or a web mail for the token.
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="lax")
            await answer(scope, receive, send)
        else:
            await token_page(is_wrong=given is not None)(scope, receive, send)


class _ChangeGuard:
    """Refuses what may change something, unless the dashboard's own page asks for it."""

    def __init__(self, app: ASGIApp, *, is_read_only: bool) -> None:
        self._app = app
        self._is_read_only = is_read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_change = scope["type"] == "http" and scope["method"] not in {"GET", "HEAD"}
        problem = self._problem(Request(scope)) if is_change else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await refuse(scope, receive, send, problem)

    def _problem(self, request: Request) -> Problem | None:
        if self._is_read_only:
            return Problem(
                403,
                "read_only",
                "This dashboard is read-only",
                "It was started with --read-only, so it calls, retries and drops nothing.",
            )
        if not _is_of_own_page(request):
            return Problem(403, "foreign_page", "Only the dashboard's own page may do this")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # A form of another site cannot send it.
            return Problem(415, "no_json", "The body must be application/json")
        return None


def _is_of_own_page(request: Request) -> bool:
    """Whether the browser says so; what is no browser names its token in a header instead.

    An Origin that is there was compared with the Host before.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return "origin" in request.headers or "authorization" in request.headers


class _Headers:
    """Adds the headers that keep a browser from doing more than the page needs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"].endswith("http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
