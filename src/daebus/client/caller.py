"""DaebusCaller: call the actions of a service and get its replies."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import msgspec

from daebus import settings, tracing
from daebus.bus.connection import check_url
from daebus.channels import check_service_name
from daebus.client.calling import Calling
from daebus.client.envelopes import Envelopes
from daebus.errors import RemoteError
from daebus.messages import MAX_MESSAGE_BYTES

#: How long a call waits for its final reply by default, in seconds.
TIMEOUT_S = 30.0


class DaebusCaller:
    """Calls one service. Any number of threads may share one caller.

    All callers of a process share one connection to their server; a caller itself costs nothing.
    It connects with its first call, and again after `close` or a lost connection.

    Args:
        service: the service's name.
        url: the server's address; None for the running service's own, else `DAEBUS_URL`, else
            `redis://localhost:6379`.
        timeout: how long a call waits for its final reply, in seconds (`DAEBUS_TIMEOUT`, 30.0).
        max_message_bytes: larger requests are refused (`DAEBUS_MAX_MESSAGE_BYTES`, 1 MiB).
        traces: make a span of OpenTelemetry for each request (`DAEBUS_TRACES`, off).

    Raises:
        SettingsError: a value makes no sense, or traces are wanted and the package for them is not
            installed; the text says which.

    Example:
        >>> with DaebusCaller("calculator") as calculator:
        ...     calculator.call("add", {"a": 1, "b": 2})
        3
    """

    def __init__(
        self,
        service: str,
        url: str | None = None,
        *,
        timeout: float | None = None,
        max_message_bytes: int | None = None,
        traces: bool | None = None,
    ) -> None:
        self.service = check_service_name(service)
        self._calling = _kind_of_calling(traces)(
            self.service,
            check_url(url) if url is not None else None,
            settings.seconds("timeout", timeout, TIMEOUT_S),
            Envelopes(
                settings.whole_number("max_message_bytes", max_message_bytes, MAX_MESSAGE_BYTES)
            ),
        )

    def call(
        self,
        action: str,
        payload: Any = msgspec.UNSET,
        *,
        timeout: float | None = None,
        headers: dict[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Call an action and wait for its result.

        Args:
            action: the action's name.
            payload: any value that msgspec encodes as JSON; left out, the handler reads `{}`.
            timeout: seconds to wait; the caller's own if None. The service learns what remains of
                it, and does not start what nobody waits for any more. In a handler, no call waits
                longer than the handler's own caller.
            headers: passed along as `request.headers`.
            idempotency_key: a text that stands for what is to be done once. Within the service's
                `deduplication` time a call of the same action with the same key gets the first
                one's result or error, whatever its payload, and the handler does not run again;
                while it still runs, the call waits for it. Use it to repeat a call whose outcome
                is unknown.

        Returns:
            The payload of the final response.

        Raises:
            RemoteError: the service answered with an error; see its subclasses.
            TimeoutError: no final response came in time; the handler may have run.
            ServiceUnavailable: nobody serves this name, or the server cannot be reached
                (`ServerUnavailable`), or the connection broke meanwhile (`ConnectionLost`), or the
                replica died that had the request (`ReplicaLost`).
            InboxFull: the service has an inbox, and as much waits there as it may hold.
            BadMessage: the payload cannot be sent as JSON, or is too large (`TooLarge`).

        Example:
            >>> calculator.call("add", {"a": 1, "b": 2}, timeout=1.0)
            3
        """
        return self._calling.call(action, payload, timeout, headers, idempotency_key)

    def submit(
        self,
        action: str,
        payload: Any = msgspec.UNSET,
        *,
        timeout: float | None = None,
        headers: dict[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Future[Any]:
        """Call an action without waiting: many calls may be under way at once.

        Callbacks of the future run in the thread that reads replies; they must not block.

        Args:
            action: the action's name.
            payload: as for `call`.
            timeout: seconds until the future ends with `TimeoutError`; the caller's own if None.
            headers: as for `call`.
            idempotency_key: as for `call`.

        Returns:
            A future with what `call` returns or raises. Its `cancel()` tells the service, too:
            the request is dropped if it was not started; if it was, see `cancel`.

        Raises:
            ServerUnavailable: the server cannot be reached.
            TimeoutError: the time of the handler that makes this call is over.
            BadMessage: the payload cannot be sent as JSON, or is too large (`TooLarge`).

        Example:
            >>> futures = [calculator.submit("add", {"a": n, "b": 1}) for n in range(3)]
            >>> [future.result() for future in futures]
            [1, 2, 3]
        """
        return self._calling.submit(action, payload, timeout, headers, idempotency_key)

    def stream(
        self,
        action: str,
        payload: Any = msgspec.UNSET,
        *,
        timeout: float | None = None,
        headers: dict[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Iterator[Any]:
        """Call an action and yield each response: those that are not final, then the final one.

        Args:
            action: the action's name.
            payload: as for `call`.
            timeout: seconds to wait for the first response, and again for each further one.
            headers: as for `call`.
            idempotency_key: as for `call`; a repeat gets the final response only.

        Yields:
            The payload of each response, the final one last. To close the iterator before that
            cancels the request.

        Raises:
            RemoteError: the service answered with an error.
            TimeoutError: the next response did not come in time.
            ServiceUnavailable: as for `call`; also when a part was lost with a connection.

        Example:
            >>> for progress in reports.stream("build", {"year": 2026}):
            ...     print(progress)
            50
            done
        """
        return self._calling.stream(action, payload, timeout, headers, idempotency_key)

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel a submitted call, like `future.cancel()`: its result is not wanted any more.

        A request that was not started is dropped, an `async def` handler is cancelled, a worker
        process is ended. A thread cannot be stopped: it may look at `request.is_cancelled`.

        Args:
            future: what `submit` gave.

        Returns:
            Whether it was cancelled; False when the result had come before.
        """
        return future.cancel()

    # --- the calls of the seeds ---

    def send_request(
        self, action: str, payload: Any = msgspec.UNSET, timeout: float | None = None
    ) -> Any:
        """Call an action; an error that the service answers is returned instead of raised.

        Args:
            action: the action's name.
            payload: as for `call`.
            timeout: as for `call`.

        Returns:
            The payload of the final response, or `{"status": "error", "error": "…"}`.

        Raises:
            TimeoutError: as for `call`.
            ServiceUnavailable: as for `call`.
            BadMessage: as for `call`.
        """
        try:
            return self.call(action, payload, timeout=timeout)
        except RemoteError as error:
            return {"status": "error", "error": error.message}

    def send_message(
        self,
        action: str,
        payload: Any = msgspec.UNSET,
        timeout: float | None = None,
        *,
        expires: float | None = None,
        headers: dict[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Ask for an action without wanting a reply.

        One replica gets it. A service with `delivery="stream"` handles it later if it is down now.

        Args:
            action: the action's name.
            payload: as for `call`.
            timeout: seconds to wait for the server; the caller's own if None.
            expires: seconds within which the service must start it, else it is dropped.
            headers: as for `call`.
            idempotency_key: as for `call`.

        Returns:
            1 when a replica received it or the service's inbox has it; 0 when no service of this
            name is alive, nor has an inbox.

        Raises:
            ServerUnavailable: the server cannot be reached.
            TimeoutError: the server did not answer in time.
            InboxFull: the service has an inbox, and as much waits there as it may hold.
            BadMessage: as for `call`.
        """
        return self._calling.send(
            action, payload, timeout, headers, idempotency_key, expires=expires
        )

    def send_to_service(self, payload: Any, action: str, timeout: float | None = None) -> int:
        """The same as `send_message`, with the payload first."""
        return self.send_message(action, payload, timeout)

    # --- the connection ---

    def close(self) -> None:
        """Give the connection back; the last caller closes it. The next call connects again.

        What then is under way in other threads ends with `ServiceUnavailable`: handlers that share
        a caller leave it open, or close it in an `on_stop` function.
        """
        self._calling.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _kind_of_calling(traces: bool | None) -> type[Calling]:  # noqa: FBT001 - None is the third case
    if not tracing.is_wanted(traces):
        return Calling
    from daebus.client.traced_calling import TracedCalling  # noqa: PLC0415 - an extra

    return TracedCalling
