"""DaebusCaller: call the actions of a service and get its replies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from daebus import settings
from daebus.bus import shared
from daebus.bus.connection import check_url
from daebus.bus.link import Link
from daebus.bus.shared import handled
from daebus.channels import check_service_name
from daebus.client.calls import Call, FutureCall, MessageCall, StreamCall, WaitingCall
from daebus.client.destinations import Destination
from daebus.client.envelopes import Envelopes, inherited_s
from daebus.client.replies import Replies, replies_of
from daebus.deadline import Deadline
from daebus.errors import CallTimeout, RemoteError, SettingsError
from daebus.messages import MAX_MESSAGE_BYTES, decode_payload

#: How long a call waits for its final reply by default, in seconds.
TIMEOUT_S = 30.0

C = TypeVar("C", bound=Call)


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

    Raises:
        SettingsError: a value makes no sense; the text says which.

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
    ) -> None:
        self.service = check_service_name(service)
        self._url = check_url(url) if url is not None else None
        self._timeout_s = settings.seconds("timeout", timeout, TIMEOUT_S)
        self._envelopes = Envelopes(
            settings.whole_number("max_message_bytes", max_message_bytes, MAX_MESSAGE_BYTES)
        )
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._replies: Replies | None = None
        self._destination: Destination | None = None

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
        timeout_s = self._seconds(action, timeout)
        self._check_thread()
        call, replies, deadline = self._send(
            WaitingCall, action, payload, timeout_s, headers, idempotency_key=idempotency_key
        )
        try:
            replies.link.read_until(call.is_done, deadline)
            reply = call.wait(deadline, timeout_s)
        except CallTimeout:
            replies.forget(call.request_id)  # The service knows the deadline by itself.
            raise
        finally:
            if not call.is_done():  # Ctrl-C came.
                replies.cancel(call.request_id)
                replies.finish_cancelling()
        if reply.status == "error":
            raise call.error_of(reply)
        return decode_payload(reply.payload)

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
        timeout_s = self._seconds(action, timeout)
        call, _, _ = self._send(
            FutureCall, action, payload, timeout_s, headers, idempotency_key=idempotency_key
        )
        call.timeout_s = timeout_s
        return call.future

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
        timeout_s = self._seconds(action, timeout)
        self._check_thread()
        call, replies, _ = self._send(
            StreamCall, action, payload, timeout_s, headers, idempotency_key=idempotency_key
        )
        responses = self._responses(call, replies, timeout)
        next(responses)  # From here on, whatever ends it cancels the call.
        return responses

    def _responses(
        self, call: StreamCall, replies: Replies, timeout: float | None
    ) -> Iterator[Any]:
        try:
            yield None
            while True:
                reply = call.next(self._seconds(call.action, timeout))
                if reply.status == "error":
                    raise call.error_of(reply)
                yield decode_payload(reply.payload)
                if reply.final:
                    return
        finally:
            replies.cancel(call.request_id)  # If the final reply has not come.

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
        timeout_s = self._own_seconds(timeout)
        deadline = Deadline.after(timeout_s)
        link = self._borrowed_link()
        link.ensure_up(deadline)
        replies = replies_of(link)
        destination = self._find_destination(replies)
        call = MessageCall(destination, action, replies.new_id(), replies)
        expires_s = None if expires is None else settings.seconds("expires", expires, 0)
        envelope = self._envelopes.make(action, payload, expires_s, headers, idempotency_key)
        if idempotency_key is not None:
            envelope.request_id = call.request_id  # Tells a redelivery from a repeat.
        destination.send(call, self._envelopes.encode(envelope))
        return call.wait(deadline, timeout_s)

    def send_to_service(self, payload: Any, action: str, timeout: float | None = None) -> int:
        """The same as `send_message`, with the payload first."""
        return self.send_message(action, payload, timeout)

    # --- the connection ---

    def close(self) -> None:
        """Give the connection back; the last caller closes it. The next call connects again."""
        with self._lock:
            link, replies = self._link, self._replies
            self._link = self._replies = self._destination = None
        if replies is not None:
            replies.finish_cancelling()
        if link is not None:
            shared.give_back(link)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(
        self,
        make: Callable[[Destination, str, str, Replies], C],
        action: str,
        payload: Any,
        timeout_s: float,
        headers: dict[str, str] | None,
        *,
        idempotency_key: str | None,
    ) -> tuple[C, Replies, Deadline]:
        """Send a request and expect its reply."""
        deadline = Deadline.after(timeout_s)
        replies, destination, remaining_s = self._replies, self._destination, timeout_s
        if replies is None or destination is None or not replies.is_ready:
            replies, destination = self._connect(deadline)
            remaining_s = deadline.at_s - monotonic()
        call = make(destination, action, replies.new_id(), replies)
        envelope = self._envelopes.make(action, payload, remaining_s, headers, idempotency_key)
        envelope.reply_to = replies.channel
        envelope.request_id = call.request_id
        if call.is_stream:
            envelope.stream = True
        replies.send(call, self._envelopes.encode(envelope), destination, deadline)
        return call, replies, deadline

    def _own_seconds(self, timeout: float | None) -> float:
        return self._timeout_s if timeout is None else settings.seconds("timeout", timeout, 0)

    def _seconds(self, action: str, timeout: float | None) -> float:
        timeout_s = self._timeout_s if timeout is None else self._own_seconds(timeout)
        message = handled.get()
        if message is None:
            return timeout_s
        return inherited_s(message, self.service, action, timeout_s)

    def _connect(self, deadline: Deadline) -> tuple[Replies, Destination]:
        """Borrow the shared link and subscribe to the reply channel, or wait for that."""
        replies = replies_of(self._borrowed_link())
        replies.ensure_subscribed(deadline)
        destination = self._find_destination(replies)
        self._replies = replies
        return replies, destination

    def _find_destination(self, replies: Replies) -> Destination:
        """What is known of the service on this link, kept for the next call."""
        self._destination = destination = replies.directory.destination(self.service)
        return destination

    def _borrowed_link(self) -> Link:
        with self._lock:
            if self._link is None or self._link.is_closed:
                self._link = shared.borrow(shared.resolve_url(self._url))
        self._check_thread()
        return self._link

    def _check_thread(self) -> None:
        """Refuse to wait in the thread that would have to read the reply."""
        if self._link is not None and self._link.is_reader():
            raise SettingsError(
                "a callback of a future runs in the thread that reads replies, so it cannot wait "
                "for one itself; use submit, or hand the work to another thread"
            )
