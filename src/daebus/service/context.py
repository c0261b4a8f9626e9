"""The message that is being handled here, and the names that stand for its parts.

`request`, `response` and `logger` are for users' handlers. The framework itself passes the
exchange as an argument and never looks here.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, cast

from daebus.bus.shared import handled, home_service
from daebus.errors import OutsideMessage
from daebus.logs import get_logger
from daebus.service.exchange import Exchange
from daebus.service.request import Request
from daebus.service.response import Response

#: The exchange whose handler runs in this thread or task.
current = cast(ContextVar[Exchange | None], handled)


def current_request() -> Request:
    """The request that is being handled here.

    Raises:
        OutsideMessage: none is.
    """
    exchange = current.get()
    if exchange is None:
        raise OutsideMessage("request")
    return exchange.request


def current_response() -> Response:
    """The response to the request that is being handled here.

    Raises:
        OutsideMessage: no request is being handled.
    """
    exchange = current.get()
    if exchange is None:
        raise OutsideMessage("response")
    return exchange.response


def _check_asked_by_a_user(name: str) -> None:
    """Tools look for special attributes everywhere; they are to find none, not an error."""
    if name.startswith("__"):
        raise AttributeError(name)


class _RequestProxy:
    """Stands for the request that is being handled where it is used."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        _check_asked_by_a_user(name)
        return getattr(current_request(), name)

    def __repr__(self) -> str:
        exchange = current.get()
        return "<request: outside a message>" if exchange is None else repr(exchange.request)


class _ResponseProxy:
    """Stands for the response to the request that is being handled where it is used."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        _check_asked_by_a_user(name)
        return getattr(current_response(), name)


class _ContextLogger(logging.LoggerAdapter[logging.Logger]):
    """Tells which service, action and request a record belongs to, in its text and as `extra`."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        facts: dict[str, Any] = {"service": home_service.get()}
        exchange = current.get()
        if exchange is not None:
            facts["action"] = exchange.request.action or exchange.request.channel
            facts["request_id"] = exchange.request.request_id
        kwargs["extra"] = {**facts, **(kwargs.get("extra") or {})}
        shown = " ".join(str(fact) for fact in facts.values() if fact is not None)
        # The percent signs of a name must not be taken for places of arguments.
        return (f"[{shown.replace('%', '%%')}] {msg}" if shown else msg), kwargs


request = cast(Request, _RequestProxy())
response = cast(Response, _ResponseProxy())

#: Logs without the context of a message: for background tasks and threads of your own.
direct_logger = get_logger("daebus.app")

#: Logs with the service's name and the request's id; also usable where there is no message.
logger = _ContextLogger(direct_logger)
