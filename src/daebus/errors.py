"""Everything that daebus raises, and how an error travels on the wire.

    DaebusError
    ├── SettingsError (ValueError)           a setting or an address makes no sense
    ├── RegistrationError (ValueError)       a handler cannot be registered as asked
    ├── OutsideMessage (RuntimeError)        request or response used where no message is handled
    ├── AlreadyAnswered (RuntimeError)       a second final response to one request
    ├── BadMessage (ValueError)              a message that breaks the rules of the wire
    │   └── TooLarge                         … because it is larger than the limit
    ├── CallTimeout (TimeoutError)           no final reply came within the deadline
    ├── ServiceUnavailable (ConnectionError) nobody serves this name
    │   └── ServerUnavailable                the Redis or Valkey server cannot be reached
    │       └── ConnectionLost               … and what became of a call under way is unknown
    │           └── ReplicaLost              … because the replica that had it has died
    ├── InboxFull                            a durable message was not stored: no room in the inbox
    │   └── ServerFull                       … or in the server's memory
    └── RemoteError                          the service answered with an error
        ├── BadRequest, UnknownAction        the request was refused
        ├── Overloaded, Expired, ServiceStopping   … before its handler was started
        ├── HandlerTimeout                   the handler passed its time limit
        ├── WorkerDied                       the worker process died each time that it was tried
        └── CallCancelled                    the caller cancelled it

On the wire an error is a code and a text, never a Python name. `REMOTE_ERRORS` is the one table
of codes; a code that it does not know becomes a plain `RemoteError`.
"""

from __future__ import annotations

from typing import Any, ClassVar


def _restore(kind: type[DaebusError], args: tuple[Any, ...], facts: dict[str, Any]) -> DaebusError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class DaebusError(Exception):
    """The root of every error that daebus raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle by facts, because the signatures differ from `args`."""
        return _restore, (type(self), self.args, self.__dict__)


class SettingsError(DaebusError, ValueError):
    """A setting, an address or a name makes no sense; the text says which and what is allowed."""


class RegistrationError(DaebusError, ValueError):
    """A handler cannot be registered: its name is taken, or its signature cannot be served."""


class OutsideMessage(DaebusError, RuntimeError):
    """`request` or `response` was used where no message is being handled."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"{name} was used outside a message. It exists only while an @app.action or "
            f"@app.listen handler runs, in that handler's own thread or task; pass the values "
            f"that you need to other threads."
        )


class AlreadyAnswered(DaebusError, RuntimeError):
    """A handler sent something after its final response."""

    def __init__(self, action: str | None, request_id: str | int | None) -> None:
        self.action = action
        self.request_id = request_id
        super().__init__(
            f"the request {request_id!r} for action {action!r} already has its final response. "
            f"Send progress with response.send(..., final=False) and the result last."
        )


class BadMessage(DaebusError, ValueError):
    """A message is not the JSON that it should be, or too deep; `reason` says what is wrong."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class TooLarge(BadMessage):
    """A message is larger than the limit; nothing was sent."""

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes
        super().__init__(
            f"a message of {size_bytes:,} bytes is over the limit of {max_bytes:,} bytes. "
            f"Send a reference to the data, split it into a stream, or raise max_message_bytes "
            f"at both ends."
        )


class CallTimeout(DaebusError, TimeoutError):
    """No final reply came within the deadline. Whether the handler ran is not known."""

    def __init__(self, service: str, action: str, timeout_s: float) -> None:
        self.service = service
        self.action = action
        self.timeout_s = timeout_s
        super().__init__(
            f"no final reply from service {service!r}, action {action!r}, within {timeout_s:g} s"
        )


class ServiceUnavailable(DaebusError, ConnectionError):
    """Nobody serves this name: the request was not received by anyone."""

    def __init__(self, service: str) -> None:
        self.service = service
        super().__init__(
            f"no service {service!r} is listening. Start it, or look with 'daebus ps' which "
            f"services are alive on this server."
        )


class ServerUnavailable(ServiceUnavailable):
    """The Redis or Valkey server cannot be reached, or refused the connection."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        ConnectionError.__init__(self, f"cannot use the server at {address}: {reason}")


class ConnectionLost(ServerUnavailable):
    """The connection broke while a call was under way: whether the call ran is unknown."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, f"the connection was lost ({reason}), so the outcome is unknown")


class ReplicaLost(ConnectionLost):
    """The replica that had the request has died: whether the call ran is unknown."""

    def __init__(self, service: str, action: str) -> None:
        self.service = service
        self.action = action
        self.address = ""
        self.reason = "the replica has died"
        ConnectionError.__init__(
            self,
            f"the replica of service {service!r} that had the request for {action!r} has died, so "
            f"the outcome is unknown",
        )


class InboxFull(DaebusError):
    """A durable message was not stored, because as many wait as the service's inbox may hold."""

    def __init__(self, service: str, reason: str) -> None:
        self.service = service
        self.reason = reason
        super().__init__(f"the message for service {service!r} was not stored: {reason}")


class ServerFull(InboxFull):
    """A durable message was not stored, because the server has no memory left for it."""


class RemoteError(DaebusError):
    """The service answered with an error.

    Attributes:
        message: what the service said.
        code: the error's name on the wire, such as `handler_error`.
        service: the service that was called.
        action: the action that was asked for.
    """

    code: str = "error"

    def __init__(self, message: str, *, code: str, service: str, action: str) -> None:
        self.message = message
        self.code = code
        self.service = service
        self.action = action
        super().__init__(f"service {service!r}, action {action!r}: {message}")


class BadRequest(RemoteError):
    """The service could not read the request, or a field had the wrong type."""


class UnknownAction(RemoteError):
    """The service is alive and has no such action."""


class Overloaded(RemoteError):
    """The service's backlog is full: the handler was not started; try again later."""


class Expired(RemoteError, TimeoutError):
    """The deadline passed before the handler was started, or while it was running."""


class ServiceStopping(RemoteError):
    """The service stopped before the handler was done, or before it was started."""


class HandlerTimeout(RemoteError):
    """The handler ran longer than the time limit of its action."""


class WorkerDied(RemoteError):
    """The worker process that ran the handler died, as often as it was tried."""


class CallCancelled(RemoteError):
    """The caller cancelled the request before its handler was done."""


class Code:
    """The error codes of the wire."""

    ERROR: ClassVar = "error"  # what a handler says with response.error
    HANDLER_ERROR: ClassVar = "handler_error"  # what a handler raises
    BAD_REQUEST: ClassVar = "bad_request"
    UNKNOWN_ACTION: ClassVar = "unknown_action"
    OVERLOADED: ClassVar = "overloaded"
    EXPIRED: ClassVar = "expired"
    STOPPING: ClassVar = "stopping"
    HANDLER_TIMEOUT: ClassVar = "handler_timeout"
    WORKER_DIED: ClassVar = "worker_died"
    CANCELLED: ClassVar = "cancelled"


#: What a code of the wire becomes at the caller. Other codes become a plain RemoteError.
REMOTE_ERRORS: dict[str, type[RemoteError]] = {
    Code.BAD_REQUEST: BadRequest,
    Code.UNKNOWN_ACTION: UnknownAction,
    Code.OVERLOADED: Overloaded,
    Code.EXPIRED: Expired,
    Code.STOPPING: ServiceStopping,
    Code.HANDLER_TIMEOUT: HandlerTimeout,
    Code.WORKER_DIED: WorkerDied,
    Code.CANCELLED: CallCancelled,
}


def remote_error(code: str, message: str, *, service: str, action: str) -> RemoteError:
    """Build the error that stands for an error reply."""
    kind = REMOTE_ERRORS.get(code, RemoteError)
    return kind(message, code=code, service=service, action=action)
