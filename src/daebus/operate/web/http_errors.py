"""What an error of daebus is in HTTP: a status, and a body as RFC 9457 has it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from daebus.errors import (
    BadMessage,
    CallTimeout,
    Code,
    ConnectionLost,
    DaebusError,
    InboxFull,
    RemoteError,
    ReplicaLost,
    ServerUnavailable,
    ServiceUnavailable,
    SettingsError,
    TooLarge,
)

CONTENT_TYPE = "application/problem+json"

#: After so long a client may try again that was refused for lack of room, in seconds.
RETRY_AFTER_S = 1


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error, as a client of the web commands gets it."""

    status: int
    #: The error's name for programs; that of the wire where it has one.
    code: str
    #: What the status means, the same each time.
    title: str
    #: What happened this time.
    detail: str = ""
    service: str | None = None
    action: str | None = None

    def body(self) -> bytes:
        """The body of the response."""
        return msgspec.json.encode(self)

    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        headers = {"content-type": CONTENT_TYPE}
        if self.status == 503:  # noqa: PLR2004 - Service Unavailable
            headers["retry-after"] = str(RETRY_AFTER_S)
        return headers


#: Where nobody said whether the request ran: the status, the code and the title of each error.
#: The first class that fits counts.
_LOCAL: list[tuple[type[DaebusError], int, str, str]] = [
    (ReplicaLost, 502, "replica_lost", "The replica died; whether the request ran is unknown"),
    (
        ConnectionLost,
        502,
        "connection_lost",
        "The connection to the server was lost; whether the request ran is unknown",
    ),
    (ServerUnavailable, 503, "server_unavailable", "The Redis or Valkey server is away"),
    (ServiceUnavailable, 404, "unknown_service", "Nobody serves this name"),
    (CallTimeout, 504, "timeout", "No response came in time; the handler may have run"),
    (InboxFull, 503, "inbox_full", "The service's inbox takes nothing more"),
    (TooLarge, 413, "too_large", "The message is too large"),
    (BadMessage, 400, "bad_json", "The body is not JSON that can be sent"),
    (SettingsError, 400, "bad_request", "The request makes no sense"),
]

#: The codes of the wire. Others are of later versions, or a handler's own: they are its failure.
_REMOTE: dict[str, tuple[int, str]] = {
    Code.BAD_REQUEST: (422, "The payload is not what the action takes"),
    Code.UNKNOWN_ACTION: (404, "The service has no such action"),
    Code.OVERLOADED: (503, "The service is overloaded; the request was not started"),
    Code.STOPPING: (503, "The service is stopping; the request did not finish"),
    Code.EXPIRED: (504, "The time was over before the handler was done"),
    Code.HANDLER_TIMEOUT: (504, "The handler ran longer than it may"),
    Code.WORKER_DIED: (502, "The worker process died each time that it tried"),
    # Not registered, but what gRPC's mapping and the usual proxies take for it.
    Code.CANCELLED: (499, "The request was cancelled"),
    Code.ERROR: (500, "The service answered with an error"),
    Code.HANDLER_ERROR: (500, "The handler failed"),
}


#: What a client reads instead of what the service said, where that is not meant for it.
_HIDDEN = {
    Code.HANDLER_ERROR: "the service's log has the reason",
    Code.UNKNOWN_ACTION: "look at /services for those that there are",
}


def problem_of(error: DaebusError, *, shows_failures: bool = True) -> Problem:
    """What an error is in HTTP.

    Args:
        error: the error.
        shows_failures: whether the client may read what a handler raised, which may name files
            or tables that are nobody's business, which other actions there are, and where the
            server is.

    Example:
        >>> problem_of(CallTimeout("shop", "order", 2.0)).status
        504
    """
    facts: dict[str, Any] = {
        "service": getattr(error, "service", None),
        "action": getattr(error, "action", None),
    }
    if isinstance(error, RemoteError):
        status, title = _REMOTE.get(error.code, (500, "The service answered with an error"))
        hidden = None if shows_failures else _HIDDEN.get(error.code)
        detail = error.message if hidden is None else hidden
        return Problem(status, error.code, title, detail, **facts)
    for kind, status, code, title in _LOCAL:
        if isinstance(error, kind):
            # Of these the text has the server's address.
            is_hidden = not shows_failures and code in {"connection_lost", "server_unavailable"}
            return Problem(status, code, title, "" if is_hidden else str(error), **facts)
    return Problem(500, "error", "The request failed", str(error), **facts)
